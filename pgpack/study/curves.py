"""Monotone curves through measured points, with corners where they turn, and the mean distance between two of them.

    knots (x ascending, y) --broken at corners--> pieces, each a monotone cubic --integral over [low, high]--> mean

A curve that stands still at its end (bytes grow, the loss hardly falls) turns by a corner there. One cubic through it
would bend the piece before as well, by as much as a tenth of its bytes; so pieces end at corners, those of the other
curve included, that both are interpolated alike.
Source: Fritsch and Butland 1984 (PCHIP). Where we differ: corners.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Curve: TypeAlias = NDArray[np.float64]  # (n, 2): x ascending, y
CORNER = 100.0  # slopes on both sides of a corner differ by more than this factor; measured dials turn by up to 35


def corners(curve: Curve) -> NDArray[np.float64]:
    """The knots at which the slope changes by more than `CORNER`. Shape: curve (n, 2), strictly monotone; (k,)."""
    slopes = np.abs(np.diff(curve[:, 1]) / np.diff(curve[:, 0]))
    turns = np.abs(np.diff(np.log(slopes)))
    found: NDArray[np.float64] = curve[1:-1, 0][turns > np.log(CORNER)]
    return found


def mean_difference(first: Curve, second: Curve, low: float, high: float) -> float:
    """Mean of second minus first over [low, high], which both curves span. Shape: (n, 2) each, strictly monotone."""
    breaks = sorted({*corners(first).tolist(), *corners(second).tolist()})
    return _mean(second, breaks, low, high) - _mean(first, breaks, low, high)


def straight_difference(first: Curve, second: Curve) -> float:
    """As `mean_difference`, over all that both span, with straight lines between the points: fast, and moved by
    noise as the cubics are. NaN where they share nothing."""
    low, high = max(first[0, 0], second[0, 0]), min(first[-1, 0], second[-1, 0])
    if not low < high:
        return float("nan")
    knots = np.unique(np.clip(np.concatenate([first[:, 0], second[:, 0]]), low, high))
    gap = np.interp(knots, second[:, 0], second[:, 1]) - np.interp(knots, first[:, 0], first[:, 1])
    return float(np.sum(np.diff(knots) * (gap[1:] + gap[:-1])) / (2 * (high - low)))


def _mean(curve: Curve, breaks: Iterable[float], low: float, high: float) -> float:
    from scipy.interpolate import PchipInterpolator  # 0.2 s to import, and only BD-rate needs it

    own = _pieces(curve, corners(curve).tolist())
    inner = [x for x in breaks if curve[0, 0] < x < curve[-1, 0]]
    added = [(x, _value(own, x)) for x in inner if x not in curve[:, 0]]
    knots = np.array(sorted([*map(tuple, curve.tolist()), *added]))
    total = 0.0
    for piece in _pieces(knots, inner):
        start, end = max(low, piece[0, 0]), min(high, piece[-1, 0])
        if start < end:
            total += float(PchipInterpolator(piece[:, 0], piece[:, 1]).integrate(start, end))
    return total / (high - low)


def _pieces(curve: Curve, breaks: Iterable[float]) -> list[Curve]:
    """The curve cut at knots; the knots belong to both sides."""
    at = [0, *np.searchsorted(curve[:, 0], list(breaks)).tolist(), len(curve) - 1]
    return [curve[start : end + 1] for start, end in pairwise(at)]


def _value(pieces: Iterable[Curve], x: float) -> float:
    from scipy.interpolate import PchipInterpolator

    piece = next(piece for piece in pieces if piece[0, 0] <= x <= piece[-1, 0])
    return float(PchipInterpolator(piece[:, 0], piece[:, 1])(x))
