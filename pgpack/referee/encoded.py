"""How much of a text is no text: packed bytes in base 64 or 85, in literals, comments, or between lines of a log.

A block of 4 KiB of prose, code or logs is compressed to 0.2 to 0.62 of its bytes, in base 64 to 0.75, in base 85 to
0.82. Of code, numbers count too: a module that is nothing but digits is a table of weights. Limits: hex, and tables
of results (.csv, .tsv, .json), whose numbers a person reads as well.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

BLOCK, LEAST = 4096, 512  # bytes; of a last block
PACKED = 0.67  # of a block's bytes that are left when it is compressed
NUMBERS = 0.9  # of a block's characters are those of numbers and of what parts them
_NUMERIC = re.compile(rb"[-+0-9.,eE\s\[\]()]")


def encoded_bytes(text: bytes, *, is_code: bool = False) -> int:
    """Bytes of a text in blocks that hold packed bytes, or, of code, nothing but numbers."""
    return sum(map(len, _encoded(text, is_code)))


def _encoded(text: bytes, is_code: bool) -> Iterator[bytes]:
    for start in range(0, len(text), BLOCK):
        block = text[start : start + BLOCK]
        if len(block) < LEAST:
            continue
        is_packed = len(zlib.compress(block, 6)) > PACKED * len(block)
        if is_packed or (is_code and len(_NUMERIC.findall(block)) > NUMBERS * len(block)):
            yield block
