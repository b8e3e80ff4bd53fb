"""Arrays in, pictures out. Knows no run."""
