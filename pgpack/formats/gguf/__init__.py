"""GGUF, the files of llama.cpp: fields and tensors as they are, and what they are called elsewhere."""
