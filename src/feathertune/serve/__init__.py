"""Serve bundles over HTTP: one encoder in memory, the texts of all clients in common passes."""
