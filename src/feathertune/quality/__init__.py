"""Data quality: the checks of `feathertune inspect`, and the cleaned copy of ``--fix``."""
