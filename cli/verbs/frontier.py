"""`pgpack frontier`: the frontier of one study or of several together, and the figures that compare two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.files import replace_file

from ..options.sizes import SIZE
from ..screen.output import emit_json, format_bytes, note, refuse_overwrite, shared_options
from ..screen.tables import clipped, table

if TYPE_CHECKING:
    from pgpack.study.frontier import Metric
    from pgpack.study.study import Study
    from pgpack.study.trial import Trial

SUFFIXES = (".svg", ".png", ".csv", ".html")
EXPORT_SUFFIXES = (".csv", ".parquet")
ROW_FIELDS = ("n_bytes", "bpb", "nats", "kl", "label", "recipe", "recipe_digest")


@click.command("frontier")
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--metric", type=click.Choice(["bpb", "kl"]), default="bpb", show_default=True, help="The loss.")
@click.option("--bd-rate", "with_bd_rate", is_flag=True, help="Mean size difference at equal loss of the second DIR.")
@click.option("--budget", type=SIZE, metavar="SIZE", help="Mark the best point within SIZE, such as 16MB.")
@click.option("--reference-bytes", type=SIZE, metavar="SIZE", help="Corner of the hypervolume: bytes.")
@click.option("--reference-loss", type=float, metavar="LOSS", help="Corner of the hypervolume: loss.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a .svg, .png, .csv or .html file.")
@click.option("--export", type=click.Path(path_type=Path), help="Write all trials as a .csv or .parquet file.")
@click.option("--force", is_flag=True, help="Replace the output files.")
@shared_options
def command(
    directories: tuple[Path, ...],
    metric: Metric,
    with_bd_rate: bool,
    budget: int | None,
    reference_bytes: int | None,
    reference_loss: float | None,
    output: Path | None,
    export: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """The trials that no other trial beats in both bytes and loss, over all studies DIR together.

    Give the --out directories of `pgpack sweep`. Without a --reference the hypervolume's corner is the
    largest size and loss on any of the frontiers, so it compares only within one call.

    \b
    Example: one study as a table and a picture
      pgpack frontier study --budget 16MB -o frontier.svg
    Example: how much smaller are B's artifacts at equal KL? (A is the anchor; negative is smaller)
      pgpack frontier A B --bd-rate --metric kl --json
    Example: every trial, failed ones too, as a table for pandas, polars or a spreadsheet
      pgpack frontier A B --export trials.csv
    """
    from pgpack.study.seeds import merged
    from pgpack.study.study import Study

    _check_usage(directories, with_bd_rate, output, force)
    _check_export(export, output, force)
    if reference_loss is not None and not math.isfinite(reference_loss):
        raise click.UsageError(f"--reference-loss {reference_loss} is not a finite number")
    measured = [Study.load(directory) for directory in directories]
    studies = [merged(study) for study in measured]
    _note_differences(studies, quiet)
    if export is not None:
        from pgpack.study.export import write_export

        write_export(list(zip(_names(studies), measured, strict=True)), export)
        note(f"wrote {sum(len(study.trials) for study in measured)} trials to {export}", quiet)
    if budget is None:
        budget = _shared([study.meta.budget for study in studies])
    result = _measure(studies, metric, budget, (reference_bytes, reference_loss))
    result["bd_rate"] = _bd_rate(studies, metric) if with_bd_rate else None
    if output is not None:
        _write(output, studies, metric, budget)
        note(f"wrote {output}", quiet)
    if as_json:
        emit_json(result)
    else:
        click.echo(_rendered(result, metric))


def _check_usage(directories: Sequence[Path], with_bd_rate: bool, output: Path | None, force: bool) -> None:
    if with_bd_rate and len(directories) != 2:
        raise click.UsageError(f"--bd-rate compares exactly two studies; {len(directories)} given (anchor first)")
    if output is None:
        return
    if output.suffix not in SUFFIXES:
        raise click.UsageError(f"-o {output}: expected a name that ends in {', '.join(SUFFIXES)}")
    if output.suffix == ".html" and len(directories) != 1:
        raise click.UsageError(f"-o {output}: a report page shows one study; {len(directories)} given")
    refuse_overwrite(output, force)


def _check_export(export: Path | None, output: Path | None, force: bool) -> None:
    if export is None:
        return
    if export.suffix not in EXPORT_SUFFIXES:
        raise click.UsageError(f"--export {export}: expected a name that ends in {', '.join(EXPORT_SUFFIXES)}")
    if export == output:
        raise click.UsageError(f"--export and -o both name {export}; give two names")
    refuse_overwrite(export, force)
    if export.suffix == ".parquet":
        from pgpack.study.export import require_parquet

        require_parquet()


def _note_differences(studies: Sequence[Study], quiet: bool) -> None:
    if len({study.meta.evaluator_digest for study in studies}) > 1:
        note("note: the studies were evaluated on different texts or in different ways; losses do not compare", quiet)
    if len({study.meta.checkpoint_digest for study in studies}) > 1:
        note("note: the studies are of different checkpoints", quiet)


def _measure(
    studies: Sequence[Study], metric: Metric, budget: int | None, reference: tuple[int | None, float | None]
) -> dict[str, Any]:
    """Frontier, best point and hypervolumes as the JSON document; also what the table is made of."""
    from pgpack.errors import StudyError
    from pgpack.study.frontier import best_under, hypervolume, pareto, points_of

    trials = [trial for study in studies for trial in study.trials]
    home = {id(trial): name for name, study in zip(_names(studies), studies, strict=True) for trial in study.trials}
    frontier = pareto(trials, metric)
    if not frontier:
        raise StudyError(f"no trial of {', '.join(str(s.directory) for s in studies)} has a measured {metric}")
    fronts = [points_of(pareto(study.trials, metric), metric) for study in studies]
    corners = [corner for front in fronts for corner in front.tolist()]
    corner = (
        float(max(n_bytes for n_bytes, _ in corners)) if reference[0] is None else float(reference[0]),
        max(loss for _, loss in corners) if reference[1] is None else reference[1],
    )
    best = best_under(trials, budget, metric)
    row = partial(_row, home=home, best=best, block_bytes=_block_bytes(studies, best))
    return {
        "metric": metric,
        "budget": budget,
        "studies": [
            {
                "name": name,
                "directory": str(study.directory),
                "checkpoint_digest": study.meta.checkpoint_digest,
                "evaluator_digest": study.meta.evaluator_digest,
                "n_checkpoints": len(study.meta.checkpoints),
                "n_trials": len(study.trials),
                "n_failed": sum(not trial.ok for trial in study.trials),
                "n_frontier": len(front),
                "hypervolume": hypervolume(front, corner),
            }
            for name, study, front in zip(_names(studies), studies, fronts, strict=True)
        ],
        "reference": {"n_bytes": corner[0], "loss": corner[1]},
        "hypervolume": hypervolume(points_of(frontier, metric), corner),
        "frontier": [row(trial) for trial in frontier],
        "best": None if best is None else row(best),
    }


def _row(trial: Trial, home: Mapping[int, str], best: Trial | None, block_bytes: Sequence[int]) -> dict[str, Any]:
    """A point of the frontier with what is known of its errors; `best` is what it is compared with."""
    from pgpack.study.comparison import half_width, paired_difference

    above = None if best is None else paired_difference(trial, best, block_bytes)
    return {
        "study": home[id(trial)],
        **{field: getattr(trial, field) for field in ROW_FIELDS},
        "bpb_half_width": half_width(trial, "bpb"),
        "kl_half_width": half_width(trial, "kl"),
        "above_best": above and {"value": above.value, "half_width": above.half_width()},
    }


def _block_bytes(studies: Sequence[Study], best: Trial | None) -> Sequence[int]:
    """Of the text that `best` was evaluated on; empty where no card has them."""
    texts = [study.meta for study in studies if best and study.meta.evaluator_digest == best.evaluator_digest]
    return next((meta.block_bytes for meta in texts if meta.block_bytes), ())


def _bd_rate(studies: Sequence[Study], metric: Metric) -> dict[str, Any]:
    from dataclasses import asdict

    from pgpack.study.frontier import bd_rate, points_of

    anchor, test = studies
    rate = bd_rate(points_of(anchor.trials, metric), points_of(test.trials, metric), metric)
    names = _names(studies)
    return {"anchor": names[0], "test": names[1], **asdict(rate)}


def _names(studies: Sequence[Study]) -> list[str]:
    """Directory names where they tell the studies apart, else the paths as given."""
    short = [study.directory.resolve().name for study in studies]
    return short if len(set(short)) == len(short) else [str(study.directory) for study in studies]


def _shared(values: Sequence[Any]) -> Any:
    """The value that all have in common; None when they differ."""
    return values[0] if len(set(values)) == 1 else None


def _write(output: Path, studies: Sequence[Study], metric: Metric, budget: int | None) -> None:
    if output.suffix == ".html":
        from dataclasses import replace

        from pgpack.report.page import write_report

        (study,) = studies
        write_report(replace(study, meta=replace(study.meta, budget=budget)), output)
    elif output.suffix == ".csv":
        from pgpack.study.frontier import frontier_csv, pareto

        trials = [trial for study in studies for trial in study.trials]
        replace_file(output, frontier_csv(pareto(trials, metric)).encode())
    else:
        from pgpack.report.plot import Curve, FrontierPicture, write_picture

        names = _names(studies)
        curves = tuple(Curve(name, study.trials) for name, study in zip(names, studies, strict=True))
        fp32_bpb = _shared([study.meta.fp32_bpb for study in studies])
        title = f"Frontier of {', '.join(names)}"
        write_picture(FrontierPicture(curves, clipped(title, 80), metric, budget, fp32_bpb), output)


def _rendered(result: dict[str, Any], metric: Metric) -> str:
    from pgpack.study.comparison import difference_text, half_width_text

    several, by_kl = len(result["studies"]) > 1, metric == "kl"
    best = result["best"]
    headings = ["", *(["study"] if several else []), "bytes", "bpb", "+-", "above best"]
    headings += ["KL", *(["+-"] if by_kl else []), "name", "recipe"]
    rows = [
        [
            "*" if row == best else "",
            *([row["study"]] if several else []),
            row["n_bytes"],
            f"{row['bpb']:.4f}",
            half_width_text(row["bpb_half_width"]),
            difference_text(**row["above_best"]) if row["above_best"] else "-",
            row["kl"],
            *([half_width_text(row["kl_half_width"])] if by_kl else []),
            row["label"],
            row["recipe"],
        ]
        for row in result["frontier"]
    ]
    return "\n".join([table(headings, rows), "", *_summary(result, metric)])


def _summary(result: dict[str, Any], metric: Metric) -> list[str]:
    lines = []
    best, budget = result["best"], result["budget"]
    if any(row["bpb_half_width"] is not None for row in result["frontier"]):
        above = "" if best is None else " and of the bits per byte above the best point, marked *"
        lines.append(
            f"+-: 95 % interval of the loss above the fp32 model{above}; paired by blocks of the text, "
            "for the sampling of the text alone"
        )
    if budget is not None and best is not None:
        lines.append(
            f"* best {metric} within {format_bytes(budget)}: {best[metric]:.6g} in {format_bytes(best['n_bytes'])}, "
            f"{100 * best['n_bytes'] / budget:.2f} % of the budget"
        )
    elif budget is not None:
        excess = result["frontier"][0]["n_bytes"] - budget
        lines.append(
            f"nothing fits {format_bytes(budget)}: the smallest artifact is {format_bytes(excess)} too large"
        )
    corner = result["reference"]
    for study in result["studies"]:
        count = f"{study['n_trials']} trials"
        if study["n_checkpoints"] > 1:
            count = f"{study['n_trials']} recipes on {study['n_checkpoints']} checkpoints (largest size, mean loss)"
        lines.append(
            f"{study['name']}: {count}, {study['n_failed']} failed, {study['n_frontier']} on its "
            f"frontier; hypervolume {study['hypervolume']:.6g} bytes x {metric} "
            f"below {corner['n_bytes']:,.0f} B, {corner['loss']:.6g}"
        )
    rate = result["bd_rate"]
    if rate is not None:
        lines.append(
            f"BD-rate of {rate['test']} to {rate['anchor']}: {rate['percent']:+.2f} % bytes at equal {metric}, over "
            f"{rate['loss_low']:.6g} to {rate['loss_high']:.6g} ({rate['n_anchor']} and {rate['n_test']} points)"
        )
    return lines
