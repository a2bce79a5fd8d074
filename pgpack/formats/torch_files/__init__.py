"""Torch's own files, written byte for byte as torch does and read as data: nothing in a file is executed."""
