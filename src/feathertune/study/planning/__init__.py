"""Plan a study: methods, sizes, search spaces and runs."""
