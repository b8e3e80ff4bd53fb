"""Errors, files, signals, processes, the cache."""
