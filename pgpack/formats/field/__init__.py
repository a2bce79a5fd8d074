"""The field's own files: what the challenge's submissions write, written and read here byte for byte alike.

torch is not needed. Nothing in a file is executed, and nothing decodes to more than the caller
allows.
"""
