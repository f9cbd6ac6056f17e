"""Rows of files: formats, columns, texts and labels."""
