"""Loss curves of runs as one SVG: training loss against tokens, bits per byte where they were measured.

Owns the drawing; reads the logs that `pgtrain.training.train` writes. Equal logs give equal bytes. Plain SVG and
no plotting library, because a picture is drawn at the end of every run and loading one takes longer than a tiny run's
last steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from pgpack.errors import DataError
from pgpack.files import replace_file

from .run_log import read_log

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 64, 40, 48
HEADING = 34  # pixels above the frame, for the title
COLOURS = ("#0b5cad", "#b54708", "#6941c6", "#0e7569", "#9b1c5a", "#4d5a68")
INK, TITLE_INK, GRID = "#52606d", "#1f2933", "#e4e7eb"
SMOOTHING = 0.02  # a curve is the exponential mean over about this share of its rows
MAX_POINTS = 600


@dataclass(frozen=True)
class LossCurve:
    """One run: (tokens, nats) of every step, smoothed, and (tokens, bpb) of every evaluation. `n_damaged`: lines of
    its log that are left out."""

    name: str
    losses: tuple[tuple[float, float], ...]
    measured: tuple[tuple[float, float], ...]
    n_damaged: int = 0


def read_curve(log: Path, name: str | None = None) -> LossCurve:
    """The curve in a log of `pgtrain run`; damaged lines and a half one at the end of a killed run are left out.

    Raises: DataError when the file holds no step.
    """
    found = [row for _, row in read_log(log)]
    rows = [row for row in found if row is not None]
    losses = [(float(row.tokens), float(row.loss)) for row in rows]
    measured = [(float(row.tokens), float(row.val_bpb)) for row in rows if row.val_bpb is not None]
    if not losses:
        raise DataError(f"{log} holds no step of a run; give the OUT.log.jsonl of `pgtrain run`")
    own = name or log.name.removesuffix(".log.jsonl")
    return LossCurve(own, tuple(_smooth(losses)), tuple(measured), len(found) - len(rows))


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Exponential means without the pull of the first value, thinned to about MAX_POINTS."""
    keep = 1.0 - 1.0 / max(1.0, SMOOTHING * len(points))
    total = weight = 0.0
    smoothed = []
    for tokens, loss in points:
        total, weight = keep * total + loss, keep * weight + 1.0
        smoothed.append((tokens, total / weight))
    step = max(1, len(smoothed) // MAX_POINTS)
    return smoothed[:-1:step] + smoothed[-1:]


def draw_curves(curves: Sequence[LossCurve]) -> str:
    """The SVG text: training loss on the left axis (lines), bits per byte on the right one (dots), with a title, and
    the last figures of each run in words for who cannot see it."""
    if not curves:
        raise DataError("there is no loss curve to draw; give at least one log")
    x_axis = _Axis([x for c in curves for x, _ in c.losses], LEFT, WIDTH - RIGHT, from_zero=True)
    left = _Axis([y for c in curves for _, y in c.losses], HEIGHT - BOTTOM, TOP)
    bpb = [y for c in curves for _, y in c.measured]
    right = _Axis(bpb, HEIGHT - BOTTOM, TOP) if bpb else None
    title = escape(
        f"Training loss of {curves[0].name}" if len(curves) == 1 else f"Training loss of {len(curves)} runs"
    )
    size = f'width="{WIDTH}" height="{HEIGHT + HEADING}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 {-HEADING} {WIDTH} {HEIGHT + HEADING}" '
        f'role="img" font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{title}</title>",
        f"<desc>Against training tokens. {escape('; '.join(map(_ending, curves)))}.</desc>",
        f'<rect y="{-HEADING}" {size} fill="#ffffff"/>',
        f'<text x="{LEFT - 48}" y="-8" font-size="16" font-weight="bold" fill="{TITLE_INK}">{title}</text>',
    ]
    parts += _frame(x_axis, left, right)
    for index, curve in enumerate(curves):
        parts += _curve(curve, COLOURS[index % len(COLOURS)], index, x_axis, left, right)
    return "\n".join([*parts, "</svg>"]) + "\n"


def picture_path(checkpoint: Path) -> Path:
    """Where the run that writes `checkpoint` draws its curve: OUT.loss.svg."""
    return checkpoint.with_suffix(".loss.svg")


def write_curves(path: Path, curves: Sequence[LossCurve]) -> None:
    """Draw into an .svg file."""
    replace_file(path, draw_curves(curves).encode())


class _Axis:
    """Values to pixels, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], start: float, stop: float, from_zero: bool = False) -> None:
        low, high = 0.0 if from_zero else min(values), max(values)
        if high <= low:
            low, high = low - 0.5, low + 0.5
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        self.low = math.floor(low / step + 1e-9) * step
        self.high = math.ceil(high / step - 1e-9) * step
        self.start, self.stop, self.step = start, stop, step

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    @property
    def unit(self) -> str:
        """What the letter behind counts means, where they have one."""
        letter = _count(self.high)[-1]
        return {"k": " (k = thousand)", "M": " (M = million)", "G": " (G = billion)"}.get(letter, "")

    def ticks(self) -> list[float]:
        return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]


def _frame(x_axis: _Axis, left: _Axis, right: _Axis | None) -> list[str]:
    bottom, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in left.ticks():
        y = f"{left.at(tick):.1f}"
        parts.append(f'<line x1="{LEFT}" x2="{end}" y1="{y}" y2="{y}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{tick:.6g}</text>')
    for tick in x_axis.ticks():
        parts.append(f'<text x="{x_axis.at(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{_count(tick)}</text>')
    parts.append(
        f'<text x="{(LEFT + end) / 2}" y="{HEIGHT - 10}" text-anchor="middle">training tokens{x_axis.unit}</text>'
    )
    parts.append(f'<text x="{LEFT - 48}" y="{TOP - 16}">nats per token (line)</text>')
    if right is not None:
        for tick in right.ticks():
            parts.append(f'<text x="{end + 8}" y="{right.at(tick):.1f}" dy="4">{tick:.6g}</text>')
        parts.append(f'<text x="{WIDTH - 8}" y="{TOP - 16}" text-anchor="end">bits per byte (dots)</text>')
    return parts


def _curve(curve: LossCurve, colour: str, index: int, x_axis: _Axis, left: _Axis, right: _Axis | None) -> list[str]:
    points = " ".join(f"{x_axis.at(x):.1f},{left.at(y):.1f}" for x, y in curve.losses)
    parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>']
    if right is not None:
        parts += [
            f'<circle cx="{x_axis.at(x):.1f}" cy="{right.at(y):.1f}" r="3.5" fill="{colour}">'
            f"<title>{escape(curve.name)}: {y:.4f} bits per byte</title></circle>"
            for x, y in curve.measured
        ]
    y = TOP + 14 + 17 * index
    halo = 'paint-order="stroke" stroke="#ffffff" stroke-width="4"'
    place = f'x="{WIDTH - RIGHT - 8}" y="{y}" text-anchor="end"'
    parts.append(f'<text {place} fill="{colour}" {halo}>{escape(_ending(curve))}</text>')
    return parts


def _ending(curve: LossCurve) -> str:
    """How a run ended, in words."""
    last = f", {curve.measured[-1][1]:.4f} bpb" if curve.measured else ""
    lacks = f", damaged lines left out: {curve.n_damaged}" if curve.n_damaged else ""
    return f"{curve.name}: {curve.losses[-1][1]:.3f} nats{last}{lacks}"


def _count(value: float) -> str:
    """12,000,000 as 12M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.6g}{unit}"
    return f"{value:.6g}"
