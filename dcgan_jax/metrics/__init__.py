"""Two sets of images in, numbers out. Knows no run."""
