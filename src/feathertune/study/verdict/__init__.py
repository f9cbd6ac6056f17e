"""Summarise the runs of a study and recommend a method."""
