"""The page of a budget's sizes: the surface, the law with its errors, the sentence; and its picture.

Owns which points a law is fitted to and what it is held to: models, budgets and token counts that it has not seen.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pgpack.fit.size_law import FORMS, REPLICATES, Float64, Point, SizeLaw, advise, fit_law, held_out_errors
from pgpack.picture import COLOURS, GRID, INK, SOFT_INK, STYLE, figure_bytes
from pgpack.sizes import spoken_size

from .measuring import Packed, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_TOKENS = 1 << 18  # of models: runs of 128 steps learn faster and faster, as no power of their tokens does
Errors = dict[str, dict[str, Float64]]


def points_of(rows: Sequence[Row]) -> list[Point]:
    """What a law is fitted to."""
    return [
        Point(f"{row.layers}x{row.dim}, {row.n_tokens}, {row.seed}", row.n_params, row.n_tokens, each.bits, each.bpb)
        for row in rows
        for each in row.packed
        if row.n_tokens >= LEAST_TOKENS
    ]


def errors_of(rows: Sequence[Row], form: str) -> dict[str, Float64]:
    """What a form says too much of what it was not fitted to, in bits per byte.

    `models`, `budgets`, `token counts`: each left out once; the others: the end of a span, which is extrapolated to.
    """
    points = points_of(rows)
    models = {point.model for point in points}
    sizes, tokens = ({getattr(point, name) for point in points} for name in ("n_params", "n_tokens"))
    budgets = sorted({each.budget for row in rows for each in row.packed})

    def budget_of(point: Point) -> int:
        n_bytes = point.bits * point.n_params / 8
        return next(budget for budget in budgets if n_bytes <= budget)

    def pooled(of: Callable[[Point], object], values: set[object]) -> Float64:
        groups = {str(value): lambda point, value=value: of(point) == value for value in values}
        return np.concatenate(list(held_out_errors(points, form, groups).values()))

    found = {
        "models": pooled(lambda p: p.model, set(models)),
        "budgets": pooled(budget_of, {budget_of(point) for point in points}),
        "token counts": pooled(lambda p: p.n_tokens, set(tokens)),
    }
    ends: dict[str, Callable[[Point], bool]] = {
        "the largest model": lambda p: p.n_params == max(sizes),
        "the largest budget": lambda p: budget_of(p) == max(budgets),
        "most tokens": lambda p: p.n_tokens == max(tokens),
    }
    return found | held_out_errors(points, form, ends)


def most_sizes(rows: Sequence[Row]) -> int:
    """The token count that most models have."""
    counts = Counter(row.n_tokens for row in rows)
    return max(counts, key=lambda tokens: (counts[tokens], tokens))


def rms(errors: Float64) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(errors).mean()))


def law_of(rows: Sequence[Row], measured_on: str) -> tuple[SizeLaw, Errors]:
    """The law of the form that errs least of models and budgets it has not seen, and the errors of all forms."""
    errors = {form: errors_of(rows, form) for form in FORMS}
    best = min(errors, key=lambda form: rms(np.concatenate([errors[form]["models"], errors[form]["budgets"]])))
    law = fit_law(points_of(rows), best, REPLICATES)
    of_models, of_tokens = (rms(errors[best][name]) for name in ("models", "token counts"))
    return dataclasses.replace(law, error=of_models, token_error=of_tokens, measured_on=measured_on), errors


def markdown(rows: Sequence[Row], law: SizeLaw, errors: Errors) -> str:
    """The page."""
    budgets = sorted({each.budget for row in rows for each in row.packed})
    advices = [advise(law, budget, most_sizes(rows)) for budget in budgets]
    lines = [
        "# Which size for B bytes",
        "",
        f"Written by `make bench-budget-size`: {law.measured_on}. Packed by the trellis engine (8 states), dial "
        "turned to each budget; bits are all bytes of a file by parameter.",
        "",
        *(f"* {advice.sentence}" for advice in advices),
        "",
        "![Loss over parameters, one curve a budget](budget-size.svg)",
        "",
        "## Measured",
        "",
        f"| model | parameters | tokens | seed | fp32 | {' | '.join(map(spoken_size, budgets))} |",
        "|---|---:|---:|---:|---:|" + "---:|" * len(budgets),
    ]
    best: dict[tuple[int, int], float] = {}
    for row in rows:
        for each in row.packed:
            at = row.n_tokens, each.budget
            best[at] = min(each.bpb, best.get(at, each.bpb))
    for row in sorted(rows, key=lambda row: (-row.n_tokens, row.n_params, row.seed)):
        files = {each.budget: each for each in row.packed}
        shown = [_file(files.get(budget), best.get((row.n_tokens, budget))) for budget in budgets]
        lines.append(
            f"| {row.layers} x {row.dim} | {row.n_params:,} | {row.n_tokens:,} | {row.seed} | {row.fp32_bpb:.4f} | "
            f"{' | '.join(shown)} |"
        )
    lines += [
        "",
        "Bold: the best of its tokens and budget.",
        "",
        *_compute(rows),
        "## The law",
        "",
        *_law(law, errors),
    ]
    return "\n".join(lines) + "\n"


def _file(each: Packed | None, best: float | None) -> str:
    if each is None:
        return "-"
    cell = f"{each.bpb:.4f} ({each.bits:.2f} b)"
    return f"**{cell}**" if each.bpb == best else cell


def _compute(rows: Sequence[Row]) -> Iterator[str]:
    """Pairs of about the same parameters times tokens: fewer parameters for longer, or more for less."""
    pairs = [
        (one, other)
        for one, other in itertools.combinations(sorted(rows, key=lambda row: row.n_params), 2)
        if one.seed == other.seed
        and one.n_tokens > other.n_tokens
        and abs(np.log2(one.n_params * one.n_tokens / (other.n_params * other.n_tokens))) < 0.15
    ]
    if not pairs:
        return
    yield from (
        "## At fixed compute",
        "",
        "| parameters, tokens | against | by budget: loss less that of the other |",
    )
    yield "|---|---|---|"
    for one, other in pairs:
        losses = {each.budget: each.bpb for each in other.packed}
        shown = ", ".join(
            f"{spoken_size(each.budget)} {each.bpb - losses[each.budget]:+.3f}"
            for each in one.packed
            if each.budget in losses
        )
        yield f"| {one.n_params:,}, {one.n_tokens:,} | {other.n_params:,}, {other.n_tokens:,} | {shown} |"
    yield ""


def _law(law: SizeLaw, errors: Errors) -> Iterator[str]:
    names = list(dict.fromkeys(name for found in errors.values() for name in found))
    yield (
        f"`{FORMS[law.form].text}`, N in units of {law.origin[0]:,.0f} parameters, D of {law.origin[1]:,.0f} tokens; "
        f"A, B and C as logarithms. Fitted to {LEAST_TOKENS:,} tokens and more. "
        f"Intervals: 95 % of {len(law.replicates)} "
        "fits to models drawn again. Chosen among the forms below by its error on models and budgets that "
        "it has not seen."
    )
    yield ""
    replicates = np.array(law.replicates)
    low, high = np.percentile(replicates, 2.5, axis=0), np.percentile(replicates, 97.5, axis=0)
    unknowns = zip(law.unknowns, low, high, strict=True)
    yield "unknowns in this order: " + ", ".join(f"{x:.3g} ({a:.3g} to {b:.3g})" for x, a, b in unknowns)
    yield ""
    yield f"| error in bits per byte, left out: | {' | '.join(names)} |"
    yield "|---|" + "---:|" * len(names)
    for form, found in errors.items():
        shown = " | ".join(f"{rms(found[name]):.4f}" if name in found else "-" for name in names)
        yield f"| {form} | {shown} |"
    yield ""
    yield (
        "Root mean squares; models, budgets and token counts are left out one at a time, the last ones are "
        "extrapolated to."
    )


def picture(rows: Sequence[Row], law: SizeLaw) -> bytes:
    """Loss over parameters at one token count: measured points, the law's curve of each budget, its best size."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    tokens = most_sizes(rows)
    shown = [row for row in rows if row.n_tokens == tokens]
    budgets = sorted({each.budget for row in shown for each in row.packed})
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 5.6), dpi=100, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for budget, colour in zip(budgets, itertools.cycle(COLOURS)):
            _draw_budget(axes, law, shown, budget, tokens, colour)
        fp32 = sorted((row.n_params, row.fp32_bpb) for row in shown)
        axes.plot(*zip(*fp32, strict=True), "x", color=SOFT_INK, label="fp32", markersize=7)
        axes.set_xscale("log")
        lowest = min(row.fp32_bpb for row in shown)
        axes.set_ylim(lowest - 0.05, lowest + 1.0)
        axes.set_xlabel("parameters")
        axes.set_ylabel("bits per byte")
        axes.set_title(f"Loss of packed files after {tokens:,} training tokens; star: the law's best size", color=INK)
        axes.grid(color=GRID)
        axes.legend(frameon=False)
    about = f"Iso-byte curves of a law fitted to {len(rows)} models; points are measured files."
    return figure_bytes(figure, ".svg", title="Which size for B bytes", description=about)


def _draw_budget(axes: Axes, law: SizeLaw, rows: Sequence[Row], budget: int, tokens: int, colour: str) -> None:
    """The law along b = 8 B / N where it may speak, and the files of a budget."""
    sizes = np.geomspace(law.n_params.least, law.n_params.most, 200)
    bits = 8 * budget / sizes
    told = (bits >= law.bits.least) & (bits <= law.bits.most)
    axes.plot(sizes[told], law.loss(sizes[told], tokens, bits[told]), color=colour)
    files = [(row.n_params, each.bpb) for row in rows for each in row.packed if each.budget == budget]
    axes.plot(*zip(*files, strict=True), "o", color=colour, label=spoken_size(budget), markersize=5.5)
    best = advise(law, budget, tokens)
    axes.plot([best.n_params], [best.bpb], "*", color=colour, markersize=14, markeredgecolor="white")
