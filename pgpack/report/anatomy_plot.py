"""An `Anatomy` as pictures: bits per weight of every kind of tensor over depth, and what each kind takes and costs.

    depth   x: layer, y: bits per weight; a line for each kind, its name at the end of it
    kinds   a pair of bars for each kind: its share of the file's bytes, and its share of the loss where that is known

matplotlib is loaded when a picture is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgpack.inspect import Anatomy, TensorAnatomy
from pgpack.picture import COLOURS, GRID, INK, SOFT_INK, STYLE, apart, legend_above
from pgpack.tables import counted_are

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RELATIVE = "relative squared error"  # a unit of losses that have no sum
MARKERS = "os^DvP"
MAX_LINES = 9  # kinds with a line of their own, those with most weights
MAX_KINDS, LEAST_SHARE = 12, 0.005  # pairs of bars; what is smaller is one pair
DEPTH_TITLE = "Bits per weight of each kind of tensor over depth"
LEAST_GAP = 0.055  # between names at the ends of lines, as a share of the axis


@dataclass(frozen=True)
class Kind:
    """Tensors of one kind, such as all `attn.c_q`: their bytes, weights and loss (None where it is unknown)."""

    name: str
    n_bytes: int
    numel: int
    loss: float | None

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.n_bytes / max(1, self.numel)


def kinds_of(anatomy: Anatomy) -> list[Kind]:
    """The kinds of tensors by falling bytes; the last is all that are below LEAST_SHARE or beyond MAX_KINDS."""
    found: dict[str, list[TensorAnatomy]] = {}
    for tensor in anatomy.tensors:
        found.setdefault(tensor.part, []).append(tensor)
    kinds = sorted((_kind(name, tensors) for name, tensors in found.items()), key=lambda kind: -kind.n_bytes)
    large = [kind for kind in kinds if kind.n_bytes >= LEAST_SHARE * anatomy.n_bytes][: MAX_KINDS - 1]
    if len(kinds) <= len(large) + 1:
        return kinds
    few = {kind.name for kind in large}
    rest = [tensor for tensor in anatomy.tensors if tensor.part not in few]
    return [*large, _kind(f"{len(kinds) - len(large)} smaller kinds", rest)]


def _kind(name: str, tensors: Sequence[TensorAnatomy]) -> Kind:
    losses = [tensor.loss for tensor in tensors if tensor.loss is not None]
    n_bytes, numel = (sum(values) for values in zip(*((t.n_bytes, t.numel) for t in tensors), strict=True))
    return Kind(name, n_bytes, numel, sum(losses) if losses else None)


def _whole_loss(anatomy: Anatomy) -> float:
    """What quantizing all tensors adds; 0 where that is not known (relative errors of tensors have no sum)."""
    return 0.0 if anatomy.loss_unit == RELATIVE else sum(tensor.loss or 0.0 for tensor in anatomy.tensors)


def kinds_figure(anatomy: Anatomy, title: str, width: float = 10.0) -> Figure:
    """Bars, the largest kind first. Units: `width` inches of 100 pixels."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    kinds = kinds_of(anatomy)
    whole = _whole_loss(anatomy)
    has_loss = whole > 0
    with rc_context(STYLE):
        height = 1.5 + (0.52 if has_loss else 0.32) * len(kinds)
        figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
        axes = figure.subplots()
        _prepare(axes, title, "% of the whole", "", axis="x")
        thick = 0.38 if has_loss else 0.7
        at = [row - thick / 2 if has_loss else row for row in range(len(kinds))]
        shares = [100 * kind.n_bytes / max(1, anatomy.n_bytes) for kind in kinds]
        _bars(axes, at, shares, thick, COLOURS[0], "bytes")
        if has_loss:
            losses = [100 * (kind.loss or 0.0) / whole for kind in kinds]
            _bars(axes, [row + thick for row in at], losses, thick, COLOURS[1], "loss", hatch="///")
            legend_above(axes)
        axes.set_yticks(range(len(kinds)), [kind.name for kind in kinds])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.invert_yaxis()
        axes.margins(x=0.12)
    return figure


def _bars(
    axes: Axes, at: Sequence[float], shares: Sequence[float], thick: float, colour: str, name: str, hatch: str = ""
) -> None:
    """Bars with their figures; the hatch tells them apart without colour."""
    bars = axes.barh(at, shares, thick, color=colour, label=name, hatch=hatch, edgecolor="white", linewidth=0)
    axes.bar_label(bars, [f"{share:.1f}" for share in shares], padding=4, fontsize=11, color=SOFT_INK)


def kinds_title(anatomy: Anatomy) -> str:
    return "Loss by kind of tensor against bytes by kind" if _whole_loss(anatomy) else "Bytes by kind of tensor"


def kinds_words(anatomy: Anatomy) -> str:
    """The bars in words."""
    whole, said = _whole_loss(anatomy), []
    for kind in kinds_of(anatomy):
        loss = f" and {100 * kind.loss / whole:.1f} % of the loss" if whole and kind.loss is not None else ""
        said.append(f"{kind.name}: {100 * kind.n_bytes / max(1, anatomy.n_bytes):.1f} % of the bytes{loss}")
    return "; ".join(said) + "."


# --- depth ---------------------------------------------------------------------------------------------


def depths_of(anatomy: Anatomy) -> dict[str, list[tuple[int, float]]]:
    """Kind -> (layer, bits per weight) by rising layer: matrices in numbered layers, the kinds with most weights."""
    return dict(list(_all_depths(anatomy).items())[:MAX_LINES])


def _undrawn(anatomy: Anatomy) -> str:
    """A remark on the kinds that have no line; '' where all have one."""
    more = len(_all_depths(anatomy)) - MAX_LINES
    return f"{counted_are(more, 'smaller kind')} not drawn" if more > 0 else ""


def _all_depths(anatomy: Anatomy) -> dict[str, list[tuple[int, float]]]:
    """The points of every kind, those with most weights first."""
    weights: dict[str, int] = {}
    points: dict[str, list[tuple[int, float]]] = {}
    for tensor in anatomy.tensors:
        number = tensor.layer.rpartition(".")[2]
        if number.isdecimal() and len(tensor.shape) >= 2 and tensor.role != "control":
            weights[tensor.part] = weights.get(tensor.part, 0) + tensor.numel
            points.setdefault(tensor.part, []).append((int(number), tensor.bits_per_weight))
    return {part: sorted(points[part]) for part in sorted(weights, key=lambda part: -weights[part])}


def depth_figure(anatomy: Anatomy, title: str = DEPTH_TITLE, width: float = 10.0) -> Figure:
    """Lines over depth; the whole file's bits per weight is a line with its name. Units: `width` inches of 100 px."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    lines = depths_of(anatomy)
    with rc_context(STYLE):
        figure = Figure(figsize=(width, 4.6), dpi=100, layout="constrained", facecolor="white")
        axes = figure.subplots()
        _prepare(axes, title, "layer", "bits per weight")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
        ends = []
        for number, (name, points) in enumerate(lines.items()):
            at, bits = zip(*points, strict=True)
            marker, colour = MARKERS[number % len(MARKERS)], COLOURS[number % len(COLOURS)]
            is_second = number >= len(COLOURS)  # of its colour
            dash = ":" if is_second else "-"
            axes.plot(at, bits, marker=marker, color=colour, linestyle=dash, linewidth=1.6, markersize=5, label=name)
            ends.append((bits[-1], f"{name} (dotted)" if is_second else name, colour))
        mean = 8 * anatomy.n_bytes / max(1, sum(tensor.numel for tensor in anatomy.tensors))
        axes.axhline(mean, color=SOFT_INK, linestyle="--", linewidth=1)
        axes.margins(x=0.04, y=0.12)
        if undrawn := _undrawn(anatomy):
            axes.annotate(
                undrawn, (0, 1), xycoords="axes fraction", xytext=(6, -6), textcoords="offset points", va="top",
                fontsize=11, color=SOFT_INK,
            )  # fmt: skip
        _name_ends(axes, [*ends, (mean, "whole file", SOFT_INK)])
    return figure


def depth_words(anatomy: Anatomy) -> str:
    """The lines in words."""
    said = [
        f"{name}: {points[0][1]:.2f} bits in layer {points[0][0]}, {points[-1][1]:.2f} in layer {points[-1][0]}"
        for name, points in depths_of(anatomy).items()
    ]
    return "; ".join(filter(None, (*said, _undrawn(anatomy)))) + "."


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the frame at the heights of their lines' ends, moved apart where they would touch."""
    low, high = axes.get_ylim()
    ends = sorted(ends)
    places = apart([(value - low) / (high - low) for value, _, _ in ends], LEAST_GAP)
    for place, (_, name, colour) in zip(places, ends, strict=True):
        axes.annotate(
            name, (1, place), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=11, color=colour,
        )  # fmt: skip


def _prepare(axes: Axes, title: str, x: str, y: str, axis: str = "both") -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=28 if axis == "x" else 12)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, axis=axis, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
