"""Sizes as people write them: 16MB, 16M, 16e6, 15.9MiB, 400kB, 123456, and 90% of the fp32 size; counts: 500k, 7B.

Decimal units are powers of 1000, binary of 1024. The B of a size is a byte, that of a count a billion.
"""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{letter}{ending}": 1000**power for power, letter in enumerate("kmg", 1) for ending in ("", "b")},
    **{f"{letter}i{ending}": 1024**power for power, letter in enumerate("kmg", 1) for ending in ("", "b")},
}
_COUNTED = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_GROUPED = r"\d{1,3}(?:,\d{3})+|\d{1,3}(?:_\d{3})+|\d+"
_SIZE = re.compile(rf"((?:{_GROUPED})(?:\.\d+)?(?:e\+?\d{{1,2}})?)\s*([A-Za-z]*|%)", re.ASCII | re.IGNORECASE)
_NAMED = "16MB, 16M, 16e6, 15.9MiB, 400kB or 123456"
Size = int | str  # bytes, or text such as "16MB" or "90%"


def is_unit(text: str) -> bool:
    """Whether the text is the unit of a size alone: MB, KiB, %."""
    return text == "%" or _UNITS.get(text.lower(), 1) > 1


def is_share(text: str) -> bool:
    """Whether the text is a share of a whole, such as 90%."""
    return text.strip().endswith("%")


def parse_size(text: str, whole: int | None = None) -> int:
    """Whole bytes that `text` names: a number and an optional unit (k, M, G; kB, MB, GB; KiB, MiB, GiB), or %.

    The case of the unit does not matter, and digits may be grouped by three, as 16_000_000 or 16,000,000: 12,5% is
    refused, not read as 125%. What is left of a byte is dropped. Units: `whole` bytes, what a share is of.
    Raises: ValueError, one sentence, for anything else, for less than a byte, for bytes and a half, and for a share
    where there is no whole.
    """
    from decimal import Decimal

    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match and match[2] != "%" else None
    if match is None or (unit is None and match[2] != "%"):
        point = " (the decimal mark is a point)" if "," in text else ""
        share = "" if whole is None else ", or 90% of the fp32 size"
        raise ValueError(f"{text!r} is not a size{point}; write for example {_NAMED}{share}")
    number = Decimal(re.sub("[_,]", "", match[1]))
    if unit is None:
        if whole is None:
            raise ValueError(f"{text!r} is a share, and there is no fp32 size that it is of; write {_NAMED}")
        number, unit = number * whole / 100, 1000
    else:
        number *= unit
    n_bytes = int(number)
    if n_bytes == 0 or (unit == 1 and n_bytes != number):
        raise ValueError(f"{text!r} is {number:f} bytes; expected a whole number above 0")
    return n_bytes


def parse_count(text: str) -> int:
    """How many `text` says, of tokens or parameters: digits, grouped or not, and an optional k, M, B (or G) or T.

    Raises: ValueError, one sentence, for anything else, a unit of bytes and a part of one among it.
    """
    from decimal import Decimal

    plain = text.strip()
    if re.fullmatch(r"-\d+", plain, re.ASCII):
        return int(plain)
    match = _SIZE.fullmatch(plain)
    factor = _COUNTED.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a whole number; write for example 500000, 500k, 1.5M, 7B or 9e9")
    number = Decimal(re.sub("[_,]", "", match[1])) * factor
    if number != int(number):
        raise ValueError(f"{text!r} is {number:f}; expected a whole number")
    return int(number)


def spoken_size(n_bytes: int) -> str:
    """A size as people say it: 15.98 MB, 400 kB, 12 B. Decimal units, three or four digits."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.4g} {unit}"
    return f"{n_bytes} B"


def bytes_of(size: Size, whole: int | None = None) -> int:
    """A size in bytes, given as such or as text. Raises: ValueError as `parse_size`."""
    return parse_size(size, whole) if isinstance(size, str) else size
