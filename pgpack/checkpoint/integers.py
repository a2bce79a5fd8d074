"""Integers that are much of a file and no mask: said, since weights of a kind that nobody knows look like that.

Owns the share of the bytes from which it is said. Names of known kinds of packed weights are refused by `scales`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pgpack.tables import counted

SHARE = 0.1  # of the bytes: token tables and masks of an ordinary model are less
INTEGER = re.compile(r"u?int(\d+)")
SIGNED = "int8"  # of weights: masks have no sign
NO_WEIGHTS = re.compile(r"mask|position|(^|[._])(ids?|index|indices)\b", re.IGNORECASE)
WIDTHS = {"float64": 8, "complex64": 8, "complex128": 16, "float16": 2, "bfloat16": 2, "float8": 1, "bool": 1}


def of_integers(shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str], file: str) -> tuple[str, ...]:
    """A sentence on the integers in a file; none where they are few. `dtypes`: as in `Stored`."""
    n_bytes = {name: _width(dtypes.get(name, "")) * math.prod(shape) for name, shape in shapes.items()}
    found = [name for name, shape in shapes.items() if _may_be_weights(name, shape, dtypes.get(name, ""))]
    share = sum(n_bytes[name] for name in found) / max(1, sum(n_bytes.values()))
    if share < SHARE:
        return ()
    of = "x".join(map(str, shapes[found[0]]))
    are = f"{counted(len(found), 'tensor')} of integers (first: {found[0]}, {dtypes[found[0]]} {of})"
    return (
        f"{file}: {are}, {share:.0%} of the bytes, are packed bit for bit; should they be weights that were "
        "quantized, give the model that it was made from",
    )


def _may_be_weights(name: str, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether a tensor is of integers and neither a number, nor square as masks are, nor named as what counts."""
    sides = [length for length in shape if length > 1]
    square = len(sides) > 1 and sides[-1] == sides[-2] and not name.endswith(".weight") and dtype != SIGNED
    return INTEGER.fullmatch(dtype) is not None and bool(sides) and not square and NO_WEIGHTS.search(name) is None


def _width(dtype: str) -> int:
    """Bytes of a value."""
    found = INTEGER.fullmatch(dtype)
    return int(found[1]) // 8 if found else WIDTHS.get(dtype, 4)
