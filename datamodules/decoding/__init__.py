"""Audio files to PCM: which files there are, what they say of themselves, and what they hold."""
