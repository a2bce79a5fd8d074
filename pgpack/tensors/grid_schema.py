"""What a header may say of a grid: its parameters, the dtype of its symbols, its arrays, and what comes out.

    kind, parameters, layouts of symbols and arrays --values_of--> Values

Everything is checked on layouts alone, before any array is made; what only the values tell (finite steps, bools of 0
and 1) is `check_values`. Refuses with a ValueError of one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import SymbolLayout
from .raw_values import RAW_DTYPES, RawValues
from .trellis import POLYNOMIALS

SIGNED = ("|i1", "<i2", "<i4", "<i8")
UNSIGNED = ("|u1", "<u2", "<u4")
FLOATS = ("<f2", "<f4")
MAX_GROUP = (1 << 31) - 1  # columns
MAX_STEP = float(np.finfo(np.float32).max)
MIN_STEP = float(np.finfo(np.float32).smallest_subnormal)

Params = Mapping[str, Any]
Layouts = Mapping[str, SymbolLayout]


@dataclass(frozen=True)
class Values:
    """What a grid gives: `count` values of numpy type `dtype`, of which a part may leave the last `spare` unused."""

    count: int
    dtype: str = "float32"
    spare: int = 0

    @property
    def n_bytes(self) -> int:
        return self.count * np.dtype(self.dtype).itemsize


def values_of(kind: str, params: Params, symbols: SymbolLayout, arrays: Layouts) -> Values:
    """What the grid gives for symbols of this layout, which is that before any symbol transform.

    Raises ValueError where kind, parameters, symbols or arrays are not as FORMAT.md says.
    """
    if not isinstance(kind, str) or kind not in SCHEMAS:
        raise ValueError(f"unknown grid {str(kind)[:40]!r}; this version decodes {', '.join(SCHEMAS)}")
    return SCHEMAS[kind](params, symbols, arrays)


def check_values(kind: str, params: Params, symbols: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises ValueError where a floating array is not finite, or a bool is neither 0 nor 1."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"an array {name} of a grid {kind} is not finite")
    if kind == "raw" and params.get("dtype") == "bool" and symbols.size and int(symbols.max()) > 1:
        raise ValueError(f"a bool is stored as {int(symbols.max())}, expected 0 or 1")


def _raw(params: Params, symbols: SymbolLayout, arrays: Layouts) -> Values:
    _only("raw", params, arrays, ("dtype",), {})
    dtype = params.get("dtype")
    if not isinstance(dtype, str) or dtype not in RAW_DTYPES:
        raise ValueError(f"raw values need a dtype of {', '.join(RAW_DTYPES)}")
    if symbols.dtype != RAW_DTYPES[dtype]:
        raise ValueError(f"raw values of {dtype} are symbols of {RAW_DTYPES[dtype]}, found {symbols.dtype}")
    if not dtype.startswith("complex"):
        return Values(symbols.size, RawValues(dtype).values_dtype)
    if symbols.shape[-1:] != (2,):
        raise ValueError("complex values are pairs of symbols along a last axis of 2")
    return Values(symbols.size // 2, dtype)


def _uniform(params: Params, symbols: SymbolLayout, arrays: Layouts) -> Values:
    _only("uniform", params, arrays, ("group",), {"scales": 2})
    rows, cols = _matrix("uniform", symbols, SIGNED)
    _scales("uniform", arrays["scales"], rows, cols, _group("uniform", params, 0), one=True)
    return Values(symbols.size, spare=max(0, cols - 1))


def _mean_scaled(params: Params, symbols: SymbolLayout, arrays: Layouts) -> Values:
    _only("mean_scaled", params, arrays, ("group",), {"scales": 2})
    rows, cols = _matrix("mean_scaled", symbols, SIGNED[:-1])  # sums of 64 bits would not hold magnitudes of 64
    _scales("mean_scaled", arrays["scales"], rows, cols, _group("mean_scaled", params, 1), one=False)
    return Values(symbols.size)


def _codebook(params: Params, symbols: SymbolLayout, arrays: Layouts) -> Values:
    _only("codebook", params, arrays, ("group",), {"table": 2, "scales": 2})
    rows, cols = _matrix("codebook", symbols, UNSIGNED)
    table, scales, group = arrays["table"], arrays["scales"], _group("codebook", params, 0)
    length, width = table.shape
    if table.dtype not in FLOATS or not width or (symbols.size and not length):
        raise ValueError(f"a codebook of shape {table.shape} and dtype {table.dtype} holds no values")
    if scales.shape != (0, 0):
        _scales("codebook", scales, rows, cols, group, one=True)
    elif scales.dtype not in FLOATS:
        raise ValueError(f"the scales of a codebook are {scales.dtype}, expected {' or '.join(FLOATS)}")
    return Values(symbols.size * width, spare=width - 1)


def _trellis(params: Params, symbols: SymbolLayout, arrays: Layouts) -> Values:
    _only("trellis", params, arrays, ("step", "states"), {"columns": 1, "rows": 1, "trims": 1})
    rows, cols = _matrix("trellis", symbols, SIGNED)
    step, states = params.get("step"), params.get("states")
    if type(step) not in (int, float) or not MIN_STEP <= step <= MAX_STEP:  # type: ignore[operator]
        raise ValueError("the step of a trellis is a finite positive number that float32 holds")
    if type(states) is not int or states not in POLYNOMIALS:
        raise ValueError(f"the states of a trellis are one of {', '.join(map(str, POLYNOMIALS))}")
    for name, length in (("columns", cols), ("rows", rows), ("trims", rows)):
        if arrays[name].dtype != "|i1" or arrays[name].shape not in ((0,), (length,)):
            raise ValueError(f"the {name} of a trellis are {length} int8 exponents, or none")
    return Values(symbols.size)


SCHEMAS: dict[str, Callable[[Params, SymbolLayout, Layouts], Values]] = {
    "raw": _raw,
    "uniform": _uniform,
    "mean_scaled": _mean_scaled,
    "codebook": _codebook,
    "trellis": _trellis,
}


def _only(kind: str, params: Params, arrays: Layouts, names: tuple[str, ...], ranks: Mapping[str, int]) -> None:
    """Raises ValueError for a parameter outside `names`, or arrays that are not those of `ranks`."""
    if not params.keys() <= set(names):
        raise ValueError(f"a grid {kind} has no parameters but {', '.join(names)}")
    if arrays.keys() != ranks.keys():
        raise ValueError(f"a grid {kind} has the arrays {', '.join(ranks) or 'none'}, and no other")
    for name, rank in ranks.items():
        if len(arrays[name].shape) != rank:
            raise ValueError(
                f"an array {name} of a grid {kind} has {rank} dimensions, found {len(arrays[name].shape)}"
            )


def _matrix(kind: str, symbols: SymbolLayout, dtypes: tuple[str, ...]) -> tuple[int, int]:
    """Rows and columns of the symbols."""
    if len(symbols.shape) != 2 or symbols.dtype not in dtypes:
        raise ValueError(
            f"a grid {kind} decodes matrices of {', '.join(dtypes)}, found {len(symbols.shape)}-D {symbols.dtype}"
        )
    return symbols.shape[0], symbols.shape[1]


def _group(kind: str, params: Params, least: int) -> int:
    group = params.get("group", 0)
    if type(group) is not int or not least <= group <= MAX_GROUP:
        raise ValueError(f"the group of a grid {kind} is a whole number of columns, {least} to {MAX_GROUP}")
    return group


def _scales(kind: str, scales: SymbolLayout, rows: int, cols: int, group: int, one: bool) -> None:
    """One scale per row and group of columns; where `one`, a single scale will do."""
    n_groups = math.ceil(cols / group) if group else 1
    if scales.dtype not in FLOATS or not (scales.shape == (rows, n_groups) or (one and scales.shape == (1, 1))):
        raise ValueError(
            f"the scales of a grid {kind} of {rows} x {cols} symbols are {rows} x {n_groups} of f2 or f4, "
            f"found {scales.shape} of {scales.dtype}"
        )
