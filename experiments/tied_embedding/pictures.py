"""The pictures of the page, from results/ alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from experiments.replication.figures import chart, drawing, prepare
from experiments.replication.results import Results
from experiments.replication.rows import Row, by
from pgpack.picture import COLOURS, SOFT_INK

BLUE, ORANGE, PURPLE, GREEN, RED, GREY = COLOURS
Line = tuple[str, str, str, str]  # run, what it is called, colour, style
CONTROLS: tuple[Line, ...] = (
    ("tied", "tied", BLUE, "o-"),
    ("untied", "untied", ORANGE, "s-"),
    ("unscaled", "no 1/√(layer+1)", PURPLE, "^-"),
    ("undecayed", "no weight decay", GREEN, "D-"),
    ("early", "after 10 steps", GREY, "v:"),
)
DECOUPLED: tuple[Line, ...] = (
    ("tied", "tied", BLUE, "o-"),
    ("narrow-12", "12/16 of the width", ORANGE, "s-"),
    ("narrow-14", "14/16 of the width", PURPLE, "^-"),
    ("full-width", "full width", GREEN, "D-"),
    ("learned", "12/16, trained", RED, "v--"),
)
LOSS_RUNS = ("untied", "narrow-12", "narrow-14", "combination", "refunded", "full-width", "learned", "gaussian",
             "residual", "tied-no-x0", "residual-no-x0", "tied-free-skips", "residual-free-skips")  # fmt: skip


def draw(results: Results) -> None:
    """Everything, as PNG and SVG."""
    for picture in (profiles, worth, losses, rotations, clips):
        picture(results)


def profiles(results: Results) -> None:
    """Shape of the contributions: each block's over the mean of its run, means over seeds."""
    by_seed = by(results.rows("blocks"), ("run", "seed"), "contribution")
    with drawing(results.folder / "profiles", 10, 5.2) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        prepare(left, "Tied or not, blocks weaken towards the end", "block", "contribution / mean of the model")
        prepare(right, "Decoupling evens out the ends a little", "block", "")
        for axes, lines in ((left, CONTROLS), (right, DECOUPLED)):
            for run, name, colour, style in lines:
                own = [values for (of, _), values in by_seed.items() if of == run]
                shapes = [[value / fmean(values) for value in values] for values in own]
                means = [fmean(values) for values in zip(*shapes, strict=True)]
                axes.plot(range(len(means)), means, style, color=colour, label=name, markersize=5)
            axes.set_xticks(range(len(means)))
            axes.axhline(1.0, color=SOFT_INK, linewidth=0.8)
            axes.legend(frameon=False, fontsize=10, loc="upper right")


def worth(results: Results) -> None:
    """What a block's weights contribute, and what the loss rises by without it."""
    rows = [row for row in results.rows("removals") if row["run"] == "tied"]
    with drawing(results.folder / "worth", 10, 4.6) as figure:
        left, right = figure.subplots(1, 2)
        prepare(left, "Weights: block after block a little less", "block", "contribution (norm x mean scale)")
        prepare(right, "Loss: the first block matters most", "block", "rise without the block (bits per byte)")
        for axes, name, colour in ((left, "contribution", BLUE), (right, "bpb_rise", ORANGE)):
            values = {int(block): each for (block,), each in by(rows, ("block",), name).items()}
            axes.bar(list(values), [fmean(each) for each in values.values()], color=colour, width=0.7, alpha=0.85)
            for block, each in values.items():
                axes.plot([block] * len(each), each, "o", color="white", markeredgecolor=colour, markersize=5)
            axes.set_xticks(list(values))
        left.text(0.99, 0.97, "bars: mean of three seeds; dots: seeds", transform=left.transAxes, ha="right",
                  va="top", fontsize=9.5, color=SOFT_INK)  # fmt: skip


def losses(results: Results) -> None:
    """Loss of every run against the tied baseline of the same seed."""
    measured = {run: results.measures[f"{run}.bpb_less_tied"] for run in LOSS_RUNS}
    runs = sorted(LOSS_RUNS, key=lambda run: -measured[run].mean)
    title = "What each change costs against the tied baseline of the same seed"
    with chart(results.folder / "losses", title, "bits per byte less tied (left is better)", "", 4.8) as axes:
        for row, run in enumerate(runs):
            mean, values = measured[run].mean, measured[run].values
            colour = RED if min(values) > 0 else BLUE if max(values) < 0 else GREY
            axes.plot([0, mean], [row, row], color=colour, linewidth=2, alpha=0.6)
            axes.plot(values, [row] * len(values), "o", color=colour, markersize=6)
        axes.set_yticks(range(len(runs)), runs)
        axes.axvline(0.0, color=SOFT_INK, linewidth=1)
        axes.grid(False, axis="y")


def _each_seed(
    axes: Axes, rows: Sequence[Row], x: str, y: str, factor: float = 1.0, style: str = "-", **look: Any
) -> None:
    """One line per seed; the first bears the label."""
    ys = by(rows, ("seed",), y)
    for (seed,), xs in by(rows, ("seed",), x).items():
        axes.plot(xs, [factor * value for value in ys[(seed,)]], style, **look)
        look.pop("label", None)


def rotations(results: Results) -> None:
    """Singular values of the input projection at the start and at the end."""
    rows = [row for row in results.rows("singular") if row["tensor"] == "embed_proj.weight"]
    panels = (
        ("narrow-12", "In no optimizer, as #1546:\nas they were drawn"),
        ("learned", "Trained from orthogonal:\nequal no longer"),
        ("gaussian", "Trained from Gaussian:\nnot drawn to equality"),
    )
    with drawing(results.folder / "rotations", 10, 4.4) as figure:
        for axes, (run, title) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            prepare(axes, title, "rank", "singular value of embed_proj" if run == "narrow-12" else "")
            for when, colour, width in (("start", GREY, 3.5), ("end", ORANGE, 1.6)):
                own = [row for row in rows if (row["run"], row["when"]) == (run, when)]
                _each_seed(axes, own, "rank", "value", color=colour, linewidth=width, label=when)
            axes.set_ylim(0, 2.0)
            axes.legend(frameon=False, loc="upper right")


def clips(results: Results) -> None:
    """Bytes and divergence of one recipe over its clip."""
    rows = results.rows("clips")
    with drawing(results.folder / "clips", 10, 4.4) as figure:
        left, right = figure.subplots(1, 2)
        x_name = "k, standard deviations at which int6 ends"
        prepare(left, "A tighter clip makes the file larger", x_name, "kB (10³ bytes)")
        prepare(right, "Too tight, it is worse as well", x_name, "KL (millinats per token)")
        for axes, name, factor, colour in ((left, "n_bytes", 1e-3, BLUE), (right, "kl", 1e3, ORANGE)):
            look = {"color": colour, "markersize": 4, "linewidth": 1.4, "alpha": 0.8}
            _each_seed(axes, rows, "clip", name, factor, "o-", **look)
            axes.axvline(12.85, color=SOFT_INK, linewidth=0.9, linestyle="--")
            axes.set_ylim(bottom=0)
            axes.annotate("12.85, the field's", (12.85, 0), xytext=(4, 6), textcoords="offset points", fontsize=9.5,
                          color=SOFT_INK)  # fmt: skip
