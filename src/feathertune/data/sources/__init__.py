"""Where texts come from: files, samples, the hub."""
