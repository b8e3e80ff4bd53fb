"""A generator in, files for others out: a page, safetensors, ONNX, a repository of the Hub. Knows no run."""
