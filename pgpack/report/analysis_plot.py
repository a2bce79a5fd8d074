"""An `Analysis` as a picture: what every block contributes, what it mixes, which skips are open, what projections do.

What a checkpoint does not have gets no panel; where its blocks have no scales their norms stand for contributions.
matplotlib is loaded when a picture is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgpack.checkpoint.analysis import Analysis, Block
from pgpack.errors import DataError
from pgpack.picture import COLOURS, GRID, SOFT_INK, STYLE, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def described(analysis: Analysis) -> str:
    """The picture in words."""
    ratio = "" if analysis.ratio is None else f"; the largest contribution is {analysis.ratio:.3g} times the smallest"
    titles = ", ".join(title for title, _ in _panels(analysis))
    return f"{analysis.n_params:,} parameters in {len(analysis.blocks)} blocks. {titles}{ratio}."


def analysis_figure(analysis: Analysis, title: str) -> Figure:
    """A panel for each thing that is known, four at most on 10 x 7 inches.

    Raises: DataError where nothing is.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = _panels(analysis)
    if not panels:
        raise DataError("nothing of this checkpoint can be drawn; leave -o out: tables are of any checkpoint")
    rows, columns = (len(panels) + 1) // 2, min(2, len(panels))
    with rc_context(STYLE):
        figure = Figure(figsize=(5 * columns, 3.5 * rows), dpi=100, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.12)  # type: ignore[call-arg, union-attr]
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        for number, (panel, draw) in enumerate(panels):
            axes = figure.add_subplot(rows, columns, number + 1)
            axes.set_title(panel, loc="left", fontsize=11, pad=26)  # room for a legend
            draw(axes, analysis)
    return figure


def _panels(analysis: Analysis) -> list[tuple[str, Callable[[Axes, Analysis], None]]]:
    """(title, what draws it) of what the checkpoint has."""
    blocks = analysis.blocks
    ratio = "" if analysis.ratio is None else f", largest / smallest {analysis.ratio:.3g}"
    contributing = any(block.contribution is not None for block in blocks)
    normed = any(block.attn_norm is not None or block.mlp_norm is not None for block in blocks)
    known = (
        (f"Contribution of blocks{ratio}", _contributions, contributing),
        ("Norm of output projections", _norms, normed and not contributing),
        ("Spread of query gains over heads", _gains, any(block.q_gain_std is not None for block in blocks)),
        ("What a block reads", _mixes, any(block.x0 is not None for block in blocks)),
        ("Effective weight of skips", _skips, bool(analysis.skips)),
    )
    return [(title, draw) for title, draw, found in known if found]


def _prepare(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _labelled(axes: Axes, blocks: list[Block]) -> list[int]:
    """Positions of the blocks, with their numbers below (and the run after a point)."""
    names = [str(block.index) if block.run is None else f"{block.index}.{block.run}" for block in blocks]
    axes.set_xticks(range(len(blocks)), names)
    return list(range(len(blocks)))


def _contributions(axes: Axes, analysis: Analysis) -> None:
    blocks = [block for block in analysis.blocks if block.contribution is not None]
    _prepare(axes, "block", "|W| x mean scale")
    at = _labelled(axes, blocks)
    attn, mlp = ([getattr(block, side) for block in blocks] for side in ("attn", "mlp"))
    axes.bar(at, attn, color=COLOURS[0], width=0.7, label="attention")
    axes.bar(at, mlp, bottom=attn, color=COLOURS[1], width=0.7, label="MLP")
    legend_above(axes)


def _norms(axes: Axes, analysis: Analysis) -> None:
    _prepare(axes, "block", "|W|, Frobenius")
    at = _labelled(axes, list(analysis.blocks))
    for side, label, shift, colour in (("attn_norm", "attention", -0.19, 0), ("mlp_norm", "MLP", 0.19, 1)):
        heights = [getattr(block, side) or 0.0 for block in analysis.blocks]
        axes.bar([x + shift for x in at], heights, color=COLOURS[colour], width=0.36, label=label)
    legend_above(axes)


def _gains(axes: Axes, analysis: Analysis) -> None:
    blocks = [block for block in analysis.blocks if block.q_gain_std is not None]
    _prepare(axes, "block", "standard deviation")
    axes.bar(_labelled(axes, blocks), [block.q_gain_std or 0.0 for block in blocks], color=COLOURS[2], width=0.7)


def _mixes(axes: Axes, analysis: Analysis) -> None:
    blocks = [block for block in analysis.blocks if block.x0 is not None]
    _prepare(axes, "block", "mean share")
    at = _labelled(axes, blocks)
    axes.plot(at, [block.keep or 0.0 for block in blocks], "o-", color=COLOURS[0], label="of the stream")
    axes.plot(at, [block.x0 or 0.0 for block in blocks], "s-", color=COLOURS[1], label="of the embedding")
    axes.axhline(0.0, color=SOFT_INK, linewidth=0.8)
    legend_above(axes)


def _skips(axes: Axes, analysis: Analysis) -> None:
    """Innermost to the left."""
    skips = analysis.skips
    _prepare(axes, "skip, innermost first", "weight x (1 - gate)")
    axes.bar(range(len(skips)), [skip.effective for skip in skips], color=COLOURS[3], width=0.7)
    axes.set_xticks(range(len(skips)))
