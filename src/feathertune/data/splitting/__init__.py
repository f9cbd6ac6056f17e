"""Train, validation and test rows."""
