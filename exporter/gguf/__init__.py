"""GGUF, the file of llama.cpp: what it holds of a model, and how it is written and read."""
