"""Kinds of label: one name, several names, or a number; what reading and splitting do differently for each."""
