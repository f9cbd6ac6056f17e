"""Format numbers and settings as text."""
