"""Whether a picture is one: noise stored as pixels cannot be compressed, a figure can. Pictures in notebooks too."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any

from .encoded import encoded_bytes

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


def is_notebook(text: bytes) -> bool:
    """Whether a text is a notebook whose only packed text is the pictures that its cells have drawn."""
    try:
        cells = json.loads(text)["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        drawn = [output.get("data", {}) for output in outputs]
        pictures = [data.pop(kind) for data in drawn for kind in ("image/png", "image/jpeg") if kind in data]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    return all(map(_is_drawn, pictures)) and not encoded_bytes(json.dumps(cells).encode())


def _is_drawn(picture: Any) -> bool:
    text = "".join(picture) if isinstance(picture, list) else picture
    try:
        head = base64.b64decode(text[:4096] if len(text) >= 4096 else text)
    except (binascii.Error, ValueError, TypeError):
        return False
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff")) and not is_noise(head, len(text) * 3 // 4)
