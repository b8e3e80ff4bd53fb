"""Arrays in, pictures out. Independent of runs."""
