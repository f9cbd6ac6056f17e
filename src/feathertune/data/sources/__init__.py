"""Data sources: files, samples and the hub."""
