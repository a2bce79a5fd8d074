"""The checksum of a row of JSON: its last key, CRC-32 of the line as it reads without it, as 8 hex digits.

    {"step": 3, "loss": 5.25}  <->  {"step": 3, "loss": 5.25, "crc32": "9c0a3a5e"}

A change of one byte anywhere in a line never fits. `start` binds a row to a line before it, by whose CRC-32 its own
begins.
"""

from __future__ import annotations

import re
import zlib

_LAST_KEY = re.compile(r'(.*), "crc32": "([0-9a-f]{8})"}')


def crc32(line: str, start: int = 0) -> str:
    """CRC-32 of a line as 8 hex digits."""
    return f"{zlib.crc32(line.encode(), start):08x}"


def with_checksum(line: str, start: int = 0) -> str:
    """A JSON object of at least one key, with the checksum behind the others."""
    return f'{line[:-1]}, "crc32": "{crc32(line, start)}"}}'


def checksum_fits(line: str, start: int = 0) -> bool | None:
    """Whether a row ends in the checksum of the rest of it; None where it ends in no checksum."""
    found = _LAST_KEY.fullmatch(line)
    return None if found is None else crc32(f"{found[1]}}}", start) == found[2]
