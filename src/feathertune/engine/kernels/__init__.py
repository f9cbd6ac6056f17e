"""Fast layers with gradients by hand, each with a slow reference."""
