"""Several adapters on one encoder: shared tensors and mixed batches."""
