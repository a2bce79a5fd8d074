"""Files that were split into parts, told by their names.

model.ptz.part0, model.ptz.part1 --numbers taken out--> model.ptz.part*: both, in their order
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PART = re.compile(r"(?<![a-z])(?:part|shard|chunk|split|piece)[-_.]?(?:\d+|a[a-z]$)|\d{5}-of-\d{5}|\.\d{3}$", re.I)


def whole_name(name: str) -> str:
    """The name that all parts of one file share; of a file that is no part, its own."""
    return _PART.sub("*", name)


def splits(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The shared name -> its parts in order, where there are two and more whose numbers leave none out."""
    found: dict[str, list[str]] = {}
    for name in names:
        if _PART.search(name):
            found.setdefault(whole_name(name), []).append(name)
    ordered = {whole: tuple(sorted(parts, key=_order)) for whole, parts in found.items()}
    return {whole: parts for whole, parts in ordered.items() if len(parts) > 1 and _follow(parts)}


def _order(name: str) -> tuple[int, str]:
    found = _PART.search(name)
    digits = re.search(r"\d+", found[0]) if found else None
    return (int(digits[0]) if digits else -1, found[0][-2:].lower() if found else "")


def _follow(parts: tuple[str, ...]) -> bool:
    numbers = [number for number, _ in map(_order, parts)]
    return -1 in numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers)))
