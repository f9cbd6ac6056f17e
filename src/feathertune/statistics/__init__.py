"""Intervals, paired tests and equivalence over test rows and seeds."""
