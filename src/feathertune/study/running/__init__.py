"""Execute the runs of a study."""
