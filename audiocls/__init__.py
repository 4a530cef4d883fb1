"""audiocls: audio classifiers straight from PCM, with the spectrogram inside the model."""

__version__ = "0.1.0"
