"""The PCM store: shards and their table, written by any number of processes, read by any number without a lock."""
