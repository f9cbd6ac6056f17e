"""A comparison: the plan, its runs, statistics and the verdict. Layer 4."""
