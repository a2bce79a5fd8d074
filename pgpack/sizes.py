"""Sizes as people write them: 16MB, 400kB, 1.5MiB, 123456. Decimal units are powers of 1000, binary of 1024."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_SIZE = re.compile(r"(\d[\d_,]*(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
Size = int | str  # bytes, or text such as "16MB"


def parse_size(text: str) -> int:
    """Whole bytes that `text` names: a number and an optional unit B, kB, MB, GB, KiB, MiB or GiB.

    The case of the unit does not matter, and digits may be grouped as 16_000_000 or 16,000,000.
    Raises: ValueError, one sentence, for anything else, for 0, and for fractions of a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size; write for example 16MB, 400kB, 1.5MiB or 123456")
    n_bytes = Decimal(re.sub("[_,]", "", match[1])) * unit
    if n_bytes != int(n_bytes) or n_bytes == 0:
        raise ValueError(f"{text!r} is {n_bytes:f} bytes; expected a whole number above 0")
    return int(n_bytes)


def spoken_size(n_bytes: int) -> str:
    """A size as people say it: 15.98 MB, 400 kB, 12 B. Decimal units, three or four digits."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.4g} {unit}"
    return f"{n_bytes} B"


def bytes_of(size: Size) -> int:
    """A size in bytes, given as such or as text. Raises: ValueError as `parse_size`."""
    return parse_size(size) if isinstance(size, str) else size
