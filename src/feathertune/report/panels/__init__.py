"""Panels of the report, one module each."""
