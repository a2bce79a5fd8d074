"""Labels in a chart: each near its point, none over another, and no leader across another or through a label.

Owns where they go. Refuses a label that has no such place, unless it must be there: the page names every point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .frontier import Points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Place = tuple[float, float]
OFFSETS: tuple[Place, ...] = tuple(
    (radius * x, radius * y)
    for radius in (10, 18, 30, 46, 64)
    for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1), (0.2, 1.4), (0.2, -1.4), (1.5, 0.4), (-1.5, 0.4))
)  # points
HIDDEN, DOT = 1000.0, 6.0  # what it costs to cover a label or cross a leader, and to cover or touch a dot
TOUCH = 6.0  # pixels between a leader and a dot's middle


@dataclass(frozen=True)
class Label:
    """Words at a point (bytes, loss). `must`: it is placed whatever it covers."""

    n_bytes: float
    loss: float
    text: str
    colour: str
    bold: bool = False
    must: bool = False


class Placer:
    """Places labels one after the other; the first choose first. Needs a figure whose layout is fixed.

    `dots`: what labels should rather not cover, `taken`: what they may not. Units: pixels.
    """

    def __init__(self, axes: Axes, dots: Points, taken: Iterable[Bbox]) -> None:
        self._axes = axes
        self._dots = dots
        self._taken = list(taken)
        self._leaders: list[tuple[Place, Place]] = []

    def place(self, label: Label) -> Annotation | None:
        """The label in the picture; None where it found no place and need not be there."""
        scale = self._axes.figure.dpi / 72
        x, y = self._axes.transData.transform((label.n_bytes, label.loss))
        size, weight = (11.5, "bold") if label.bold else (10.0, "normal")
        probe = self._axes.text(0, 0, label.text, fontsize=size, fontweight=weight)
        width, height = probe.get_window_extent().size
        probe.remove()
        boxes = [_box((x, y), offset, width, height, scale) for offset in OFFSETS]
        leaders = [((x, y), _nearest(box, (x, y))) for box in boxes]
        costs = [self._cost(*each) + 0.4 * n for n, each in enumerate(zip(boxes, leaders, strict=True))]
        choice = int(np.argmin(costs))
        if costs[choice] >= HIDDEN and not label.must:
            return None
        box, (_, end) = boxes[choice], leaders[choice]
        self._taken.append(box)
        self._leaders.append(leaders[choice])
        at = ((end[0] - box.x0) / width, (end[1] - box.y0) / height)
        leader = {
            "arrowstyle": "-",
            "color": label.colour,
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 4,
            "relpos": at,
        }
        right, up = OFFSETS[choice]
        return self._axes.annotate(
            label.text, (label.n_bytes, label.loss), xytext=(right, up), textcoords="offset points",
            ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top", arrowprops=leader,
            bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            zorder=6, fontsize=size, fontweight=weight, color=label.colour,
        )  # fmt: skip

    def _cost(self, box: Bbox, leader: tuple[Place, Place]) -> float:
        frame = self._axes.get_window_extent()
        outside = not (box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1)
        covered = box.count_overlaps(self._taken)
        crossed = sum(crosses(leader, other) for other in self._leaders)
        through = sum(_through(leader, other) for other in self._taken)
        under = sum(_through(other, box) for other in self._leaders)
        near = box.padded(3)
        dots = self._dots
        dotted = (dots[:, 0] > near.x0) & (dots[:, 0] < near.x1) & (dots[:, 1] > near.y0) & (dots[:, 1] < near.y1)
        n_dots = int(dotted.sum()) + _met(leader, dots)
        return HIDDEN * (3 * outside + covered + crossed + through + under) + DOT * n_dots


def crosses(one: tuple[Place, Place], other: tuple[Place, Place]) -> bool:
    """True when two segments have a point in common that is no end of both."""

    def side(a: Place, b: Place, c: Place) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    (a, b), (c, d) = one, other
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def _met(leader: tuple[Place, Place], dots: Points) -> int:
    """How many dots a leader touches besides the one that it begins at: it would seem to be of them."""
    start, along = np.array(leader[0]), np.subtract(leader[1], leader[0])
    offsets = dots - start
    share = np.clip(offsets @ along / max(1.0, float(along @ along)), 0, 1)
    gaps = np.hypot(*(offsets - share[:, None] * along).T)
    return int(np.sum((gaps < TOUCH) & (np.hypot(*offsets.T) > 2 * TOUCH)))


def _through(leader: tuple[Place, Place], box: Bbox) -> bool:
    corners: Sequence[Place] = ((box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1))
    sides = zip(corners, (*corners[1:], corners[0]), strict=True)
    return bool(box.contains(*leader[0]) or box.contains(*leader[1]) or any(crosses(leader, side) for side in sides))


def _nearest(box: Bbox, point: Place) -> Place:
    return float(np.clip(point[0], box.x0, box.x1)), float(np.clip(point[1], box.y0, box.y1))


def _box(anchor: Place, offset: Place, width: float, height: float, scale: float) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = anchor[0] + scale * offset[0], anchor[1] + scale * offset[1]
    left = x if offset[0] > 0 else x - width
    bottom = y if offset[1] > 0 else y - height
    return Bbox.from_bounds(left, bottom, width, height)
