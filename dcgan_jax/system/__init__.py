"""What lies beneath: errors, files, signals, processes, the cache."""
