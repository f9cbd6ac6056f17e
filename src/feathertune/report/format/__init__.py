"""Numbers and settings as text."""
