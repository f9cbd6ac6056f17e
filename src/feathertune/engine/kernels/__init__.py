"""Fast layers with hand-written gradients, each with a slow reference."""
