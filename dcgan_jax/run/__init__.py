"""One run on disk, from start to end."""
