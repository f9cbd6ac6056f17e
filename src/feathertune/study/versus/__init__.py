"""Compare two finished studies."""
