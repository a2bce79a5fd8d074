"""How much of a text is no text: packed bytes in base 64 or 85, in literals, comments, or between lines of a log.

A block of 4 KiB of prose, code or logs is compressed to 0.2 to 0.62 of its bytes, in base 64 to 0.75, in base 85 to
0.82. Of code, numbers count too: a module that is nothing but digits is a table of weights. So are `TABLE` bytes of
numbers elsewhere (.json, .tsv) where the code reads them; what only a person reads is results. Limits: hex.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

BLOCK, LEAST = 4096, 512  # bytes; of a last block
PACKED = 0.67  # of a block's bytes that are left when it is compressed
NUMBERS = 0.9  # of a block's characters are those of numbers and of what parts them
TABLE = 1 << 19  # bytes of numbers that are more than the results of a run
_NUMERIC = re.compile(rb"[-+0-9.,eE\s\[\]()]")


def encoded_bytes(text: bytes, *, is_code: bool = False) -> int:
    """Bytes of a text in blocks that hold packed bytes, or, of code, nothing but numbers."""
    return sum(map(len, _encoded(text, is_code)))


def number_bytes(text: bytes) -> int:
    """Bytes of a text in blocks of nothing but numbers; 0 where they are no more than a table of results."""
    found = sum(len(block) for block in _blocks(text) if _is_numbers(block))
    return found if found >= TABLE else 0


def _blocks(text: bytes) -> Iterator[bytes]:
    blocks = (text[start : start + BLOCK] for start in range(0, len(text), BLOCK))
    return (block for block in blocks if len(block) >= LEAST)


def _is_numbers(block: bytes) -> bool:
    return len(_NUMERIC.findall(block)) > NUMBERS * len(block)


def _encoded(text: bytes, is_code: bool) -> Iterator[bytes]:
    for block in _blocks(text):
        is_packed = len(zlib.compress(block, 6)) > PACKED * len(block)
        if is_packed or (is_code and _is_numbers(block)):
            yield block
