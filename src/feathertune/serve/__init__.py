"""Serve bundles over HTTP: one encoder in memory, and texts of all clients batched together."""
