"""safetensors files, read and written a tensor at a time."""
