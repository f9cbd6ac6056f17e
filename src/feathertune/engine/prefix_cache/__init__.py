"""Run the frozen first blocks once and cache their hidden states."""
