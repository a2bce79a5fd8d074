"""pgpack: pack small language models into a byte budget.

Owns the version and nothing else, so that `import pgpack.unpack` stays cheap and torch-free.
"""

__version__ = "0.1.0"
