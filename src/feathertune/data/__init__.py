"""Texts and labels: reading, splitting, encoding, batching. Layer 1; knows no model."""
