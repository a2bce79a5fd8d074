"""An `Analysis` as a picture: what every block contributes, what it mixes, which skips are open, what projections do.

Panels without data say so. matplotlib is loaded when a picture is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgpack.checkpoint.analysis import Analysis, Block
from pgpack.picture import COLOURS, GRID, SOFT_INK, STYLE, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def described(analysis: Analysis) -> str:
    """The picture in words."""
    ratio = "" if analysis.ratio is None else f"; the largest contribution is {analysis.ratio:.3g} times the smallest"
    return (
        f"{analysis.n_params:,} parameters in {len(analysis.blocks)} blocks: contribution of attention and MLP, "
        f"spread of query gains, what a block reads, {len(analysis.skips)} skips{ratio}."
    )


def analysis_figure(analysis: Analysis, title: str) -> Figure:
    """Four panels, 10 x 7 inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(10, 7), dpi=100, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.12)  # type: ignore[call-arg, union-attr]
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        contributions, heads, mixes, outside = figure.subplots(2, 2).flat
        _contributions(contributions, analysis)
        _gains(heads, analysis)
        _mixes(mixes, analysis)
        _skips(outside, analysis)
    return figure


def _prepare(axes: Axes, title: str, x: str, y: str, found: bool) -> None:
    axes.set_title(title, loc="left", fontsize=11, pad=26)  # room for a legend
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not found:
        axes.text(0.5, 0.5, "not in this checkpoint", transform=axes.transAxes, ha="center", color=SOFT_INK)
        axes.set_xticks([])
        axes.set_yticks([])


def _labelled(axes: Axes, blocks: list[Block]) -> list[int]:
    """Positions of the blocks, with their numbers below (and the run after a point)."""
    names = [str(block.index) if block.run is None else f"{block.index}.{block.run}" for block in blocks]
    axes.set_xticks(range(len(blocks)), names)
    return list(range(len(blocks)))


def _contributions(axes: Axes, analysis: Analysis) -> None:
    blocks = [block for block in analysis.blocks if block.contribution is not None]
    ratio = "" if analysis.ratio is None else f", largest / smallest {analysis.ratio:.3g}"
    _prepare(axes, f"Contribution of blocks{ratio}", "block", "|W| x mean scale", bool(blocks))
    if not blocks:
        return
    at = _labelled(axes, blocks)
    attn, mlp = ([getattr(block, side) for block in blocks] for side in ("attn", "mlp"))
    axes.bar(at, attn, color=COLOURS[0], width=0.7, label="attention")
    axes.bar(at, mlp, bottom=attn, color=COLOURS[1], width=0.7, label="MLP")
    legend_above(axes)


def _gains(axes: Axes, analysis: Analysis) -> None:
    blocks = [block for block in analysis.blocks if block.q_gain_std is not None]
    _prepare(axes, "Spread of query gains over heads", "block", "standard deviation", bool(blocks))
    if blocks:
        axes.bar(_labelled(axes, blocks), [block.q_gain_std or 0.0 for block in blocks], color=COLOURS[2], width=0.7)


def _mixes(axes: Axes, analysis: Analysis) -> None:
    blocks = [block for block in analysis.blocks if block.x0 is not None]
    _prepare(axes, "What a block reads", "block", "mean share", bool(blocks))
    if not blocks:
        return
    at = _labelled(axes, blocks)
    axes.plot(at, [block.keep or 0.0 for block in blocks], "o-", color=COLOURS[0], label="of the stream")
    axes.plot(at, [block.x0 or 0.0 for block in blocks], "s-", color=COLOURS[1], label="of the embedding")
    axes.axhline(0.0, color=SOFT_INK, linewidth=0.8)
    legend_above(axes)


def _skips(axes: Axes, analysis: Analysis) -> None:
    """Skips where there are some, else nothing; innermost to the left."""
    skips = analysis.skips
    _prepare(axes, "Effective weight of skips", "skip, innermost first", "weight x (1 - gate)", bool(skips))
    if skips:
        axes.bar(range(len(skips)), [skip.effective for skip in skips], color=COLOURS[3], width=0.7)
        axes.set_xticks(range(len(skips)))
