"""`pgpack sweep` where no text is known: sizes against the error of the weights, under its own names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.progress import shown
from pgpack.tables import clipped, table

from ..screen.output import emit_json, format_bytes

if TYPE_CHECKING:
    from pgpack.bench.bench import Bench
    from pgpack.recipe.spaces import Candidate
    from pgpack.sweep.weight_space import Point

NO_LOSS = (
    "no text is known, so no loss is measured: sizes are set against the error of the decoded weights{hessians}; "
    "for bits per byte give --val GLOB --tokenizer FILE.model (and --model FILE.py:build if it is asked for)"
)


def has_text(bench: Bench) -> bool:
    """Whether a loss can be measured: the checkpoint names its text, or a flag does."""
    return bench.options.val is not None or "data_defaults" in bench.checkpoint.metadata


def sweep_weights(
    bench: Bench, candidates: Sequence[Candidate], out: Path, budget: int | None, is_default: bool, as_json: bool
) -> None:
    """Measure, write and show. Raises BudgetExceeded when nothing fits."""
    from pgpack.errors import BudgetExceeded
    from pgpack.sweep.weight_space import best_under, run, without_hessians

    calibration = bench.file_calibration if bench.options.calibration is not None else None
    hessians = " and, by your Hessians, the loss it is expected to cost" if calibration else ""
    bench.note(NO_LOSS.format(hessians=hessians))
    if is_default and calibration is None:
        candidates = without_hessians(candidates)
    measurer = dataclasses.replace(bench.measurer(evaluate=False), calibrate=lambda recipe: calibration)
    with shown(bench.progress, len(candidates), "recipe", "sweeping") as bar:
        points, n_new = run(bench.checkpoint, candidates, calibration, out, measurer.pack, lambda point: bar.update())
    best = best_under(points, budget)
    if best is None and budget is not None:
        sizes = [point.n_bytes for point in points if point.n_bytes is not None]
        smallest = f"the smallest artifact takes {min(sizes):,}" if sizes else "no recipe could be packed"
        raise BudgetExceeded(f"nothing fits {budget:,} bytes: {smallest}")
    if best is not None:
        _write_best(bench, best, out)
    _show(points, n_new, best, out, budget, as_json)


def _write_best(bench: Bench, best: Point, out: Path) -> None:
    from pgpack.recipe.text import parse_recipe
    from pgpack.study.study import BEST_FILE

    from .pack import Packed, needed_calibration, write_packed

    recipe = parse_recipe(best.recipe)
    artifact = bench.measurer(evaluate=False).pack(recipe)
    write_packed(out / BEST_FILE, Packed(recipe, artifact, needed_calibration(bench, recipe), None, None), bench)


def _show(
    points: Sequence[Point], n_new: int, best: Point | None, out: Path, budget: int | None, as_json: bool
) -> None:
    from pgpack.sweep.weight_space import POINTS_FILE, frontier

    front = frontier(points)
    failed = [point for point in points if point.error]
    if as_json:
        emit_json(
            {
                "out": str(out),
                "measured": "weights",
                "budget": budget,
                "n_points": len(points),
                "n_new": n_new,
                "n_failed": len(failed),
                "frontier": [dataclasses.asdict(point) for point in front],
                "best": dataclasses.asdict(best) if best else None,
            }
        )
        return
    rows = [
        (
            "*" if point == best else "",
            point.n_bytes,
            point.relative_error,
            point.expected_loss,
            clipped(point.label or point.recipe, 96),
        )
        for point in front
    ]
    click.echo(table(("", "bytes", "relative error", "expected loss", "name or recipe"), rows))
    click.echo(f"{len(front)} of {len(points)} recipes are on the frontier of bytes and weight error, {n_new} new")
    if failed:
        click.echo(f"{len(failed)} failed, the first: {clipped(failed[0].error or '', 200)}")
    if best:
        within = f" within {format_bytes(budget)}" if budget else ""
        click.echo(f"* best{within}: {format_bytes(best.n_bytes or 0)}; its loss is not known")
        click.echo(f"artifact  {out / 'best.pgpack'}")
    click.echo(f"points    {out / POINTS_FILE}")
