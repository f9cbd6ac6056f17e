"""Train a prepared model: gradient, optimizer, loop, checkpoints, processes, head."""
