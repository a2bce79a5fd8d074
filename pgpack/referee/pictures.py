"""Whether a picture is one: noise that is stored as pixels cannot be compressed, a figure can."""

from __future__ import annotations

import struct

SOME = 1 << 20  # bytes below which nobody looks
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's kinds of colour


def is_noise(head: bytes, n_bytes: int) -> bool:
    """Whether a PNG file of some size has no header, or as many bytes as its pixels have uncompressed."""
    if n_bytes < SOME or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    length, kind, width, height, depth, colour = struct.unpack(">I4sIIBB", head[8:26].ljust(18, b"\0"))
    if kind != b"IHDR" or length != 13 or colour not in _CHANNELS:
        return True
    n_bits: int = width * height * depth * _CHANNELS[colour]
    return 8 * n_bytes > 0.97 * n_bits
