"""Token ids and batches."""
