"""Serve several adapters on one encoder, with shared tensors and mixed batches."""
