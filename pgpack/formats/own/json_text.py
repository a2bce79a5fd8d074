"""The JSON of a header, read strictly: one meaning for every text, in bounded memory.

Refuses a byte order mark, bytes that are not UTF-8, a key twice, NaN and infinity, and, before anything is parsed,
deep nesting and more items than a header has.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import numpy as np

MAX_DEPTH = 16  # of brackets; a header has 7
MAX_ITEMS = 1 << 22  # brackets, commas and colons; a tensor takes about 50
CHUNK = 1 << 20  # bytes looked at together
_QUOTE, _COMMA, _COLON = b'",:'
_OPENING, _CLOSING = b"[{", b"]}"


def parse_object(text: bytes) -> dict[str, Any]:
    """The object that `text` holds. Raises ValueError, a sentence, for anything else."""
    _check_size(text)
    try:
        document = json.loads(text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check_size(text: bytes) -> None:
    """Raises ValueError where brackets nest too deep or items are too many; what stands in strings does not count."""
    plain = np.frombuffer(text.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    quotes = depth = items = 0
    for start in range(0, plain.size, CHUNK):
        piece = plain[start : start + CHUNK]
        quoted = np.cumsum(piece == _QUOTE)
        outside = (quoted + quotes) & 1 == 0
        opening = np.isin(piece, list(_OPENING)) & outside
        closing = np.isin(piece, list(_CLOSING)) & outside
        depths = np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int64)
        items += int(opening.sum()) + int((np.isin(piece, (_COMMA, _COLON)) & outside).sum())
        if depth + int(depths.max()) > MAX_DEPTH:
            raise ValueError(f"its brackets nest deeper than {MAX_DEPTH}")
        if items > MAX_ITEMS:
            raise ValueError(f"it has more than {MAX_ITEMS} items")
        quotes += int(quoted[-1])
        depth += int(depths[-1])
