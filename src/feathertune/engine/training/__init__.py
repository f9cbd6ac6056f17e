"""Train a prepared model: gradients, optimizer, loop, checkpoints, distributed training, and the head."""
