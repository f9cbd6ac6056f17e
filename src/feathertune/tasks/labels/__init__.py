"""Kinds of label (one name, several names, or a number), and how each is read and split."""
