"""Data quality: what `feathertune inspect` finds in the rows, and the cleaned copy."""
