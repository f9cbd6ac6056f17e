"""Read, split, encode and batch texts and labels. Layer 1; independent of any model."""
