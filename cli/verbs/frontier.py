"""`pgpack frontier`: the frontier of one study or of several together, and the figures that compare two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.errors import BudgetExceeded, StudyError
from pgpack.files import replace_file
from pgpack.sizes import Size
from pgpack.tables import clipped, counted

from ..options.metric import metric_option
from ..options.numbers import FiniteNumber
from ..options.types import PATH, resolved, size
from ..options.types import budget as budget_size
from ..screen.output import Screen, claim_output, format_bytes, picked, screen_options

if TYPE_CHECKING:
    from pgpack.study.frontier import Metric
    from pgpack.study.study import Study
    from pgpack.study.trial import Trial
    from pgpack.study.view import FrontierView

SUFFIXES = (".svg", ".png", ".csv", ".html")
EXPORT_SUFFIXES = (".csv", ".parquet")


@click.command("frontier")
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=PATH)
@metric_option("Loss that points are compared by [default: that of the studies, else kl].")
@click.option("--bd-rate", "with_bd_rate", is_flag=True, help="Mean size difference at equal loss of the second DIR.")
@click.option(
    "--budget", type=budget_size, metavar="SIZE", help="Mark the best point within SIZE, such as 16MB or 10%."
)
@click.option("--reference-bytes", type=size, metavar="SIZE", help="Corner of the hypervolume: bytes.")
@click.option("--reference-loss", type=FiniteNumber(), metavar="LOSS", help="Corner of the hypervolume: loss.")
@click.option("-o", "--output", type=PATH, help="Write a .svg, .png, .csv or .html file.")
@click.option("--export", type=PATH, help="Write all trials as a .csv or .parquet file.")
@click.option("--force", is_flag=True, help="Replace the output files.")
@screen_options
def command(
    directories: tuple[Path, ...],
    metric: Metric | None,
    with_bd_rate: bool,
    budget: Size | None,
    reference_bytes: int | None,
    reference_loss: float | None,
    output: Path | None,
    export: Path | None,
    force: bool,
    screen: Screen,
) -> None:
    """The trials that no other trial beats in both bytes and loss, over all studies DIR together.

    The loss is that of --metric, of the studies where they were given one: kl, nats per token to the fp32 model, is
    mostly far less noisy than bits per byte (bpb) or nats per token (nats); error is of the weights, without text.
    Give the folders (-o) of `pgpack sweep`. Without a --reference the hypervolume's corner is the
    largest size and loss on any of the frontiers, so it compares only within one call.

    \b
    Example: one study as a table and a picture
      pgpack frontier study --budget 16MB -o frontier.svg
    Example: how much smaller is B at equal KL? (A is the anchor)
      pgpack frontier A B --bd-rate --metric kl --json
    Example: every trial, failed ones too, as a table for other programs
      pgpack frontier A B --export trials.csv
    """
    from pgpack.study.study import Study, frontier_of

    if with_bd_rate and len(directories) != 2:
        raise click.UsageError(f"--bd-rate compares exactly two studies; {len(directories)} given (anchor first)")
    if output is not None:
        _check_name("-o", output, SUFFIXES)
        if output.suffix == ".html" and len(directories) != 1:
            raise click.UsageError(f"-o {output}: a report page shows one study; {len(directories)} given")
        claim_output(output, force)
    if export is not None:
        _check_name("--export", export, EXPORT_SUFFIXES)
        if export == output:
            raise click.UsageError(f"--export and -o both name {export}; give two names")
        claim_output(export, force)
        if export.suffix == ".parquet":
            from pgpack.study.export import require_parquet

            require_parquet()
    measured = [Study.load(directory) for directory in directories]
    names = _names(measured)
    studies = {name: study.merged for name, study in zip(names, measured, strict=True)}
    if len({study.meta.evaluator_digest for study in measured}) > 1:
        screen.note("note: the studies were evaluated on different texts or in different ways; losses do not compare")
    if len({study.meta.checkpoint_digest for study in measured}) > 1:
        screen.note("note: the studies are of different checkpoints")
    if export is not None:
        from pgpack.study.export import write_export

        write_export(list(zip(names, measured, strict=True)), export)
        screen.note(f"wrote {counted(sum(len(study.trials) for study in measured), 'trial')} to {export}")
    view = frontier_of(studies, metric, resolved(budget, _fp32_bytes(measured)))
    metric = view.metric
    result = _measure(studies, view, (reference_bytes, reference_loss))
    for study in result["studies"]:
        if study["n_trials"] > study["n_failed"] and not study["n_frontier"]:
            screen.note(f"note: no trial of {study['name']} has a measured {metric}; none is among the points")
    result |= _bd_rate(names, measured, metric) if with_bd_rate else {"bd_rate": None}
    if output is not None:
        _write(output, studies, view)
        screen.note(f"wrote {output}")
    text = _table(view, result["frontier"], len(studies) > 1)
    screen.show(result, text, "", view.caption, *_summary(result, metric), *view.remarks)
    click.get_current_context().exit(_exit_code(result))


def _exit_code(result: Mapping[str, Any]) -> int:
    return BudgetExceeded.exit_code if result["budget"] is not None and result["best"] is None else 0


def _check_name(flag: str, path: Path, suffixes: Sequence[str]) -> None:
    if path.suffix not in suffixes:
        raise click.UsageError(f"{flag} {path}: expected a name that ends in {', '.join(suffixes)}")


def _measure(
    studies: Mapping[str, Study], view: FrontierView, reference: tuple[int | None, float | None]
) -> dict[str, Any]:
    """Frontier, best point and hypervolumes as the JSON document; also what the table is made of."""
    from pgpack.study.frontier import hypervolume, loss_of, points_of

    metric = view.metric
    home = {id(trial): name for name, study in studies.items() for trial in study.trials}
    if not view.points:
        directories = ", ".join(str(study.directory) for study in studies.values())
        raise StudyError(f"no trial of {directories} has a measured {metric}")
    fronts = {name: points_of(study.frontier(metric).points, metric) for name, study in studies.items()}
    sizes, losses = zip(*(point for front in fronts.values() for point in front.tolist()), strict=True)
    n_bytes, loss = reference
    corner = (float(max(sizes) if n_bytes is None else n_bytes), max(losses) if loss is None else loss)

    def row(trial: Trial) -> dict[str, Any]:
        return {"study": home[id(trial)], **view.row(trial)}

    return {
        "metric": metric,
        "subject": view.subject,
        "budget": view.budget,
        "studies": [
            {
                "name": name,
                "directory": str(study.directory),
                **picked(study.meta, "checkpoint_digest", "evaluator_digest"),
                "n_checkpoints": len(study.meta.checkpoints),
                "n_trials": len(study.trials),
                "n_failed": study.frontier(metric).n_failed,
                "n_frontier": len(fronts[name]),
                "hypervolume": hypervolume(fronts[name], corner),
            }
            for name, study in studies.items()
        ],
        "reference": {"n_bytes": corner[0], "loss": corner[1]},
        "hypervolume": hypervolume(points_of(view.points, metric), corner),
        "frontier": [row(trial) for trial in view.points],
        "best": None if view.best is None else row(view.best),
        "best_loss": None if view.best is None else loss_of(view.best, metric),
    }


def _bd_rate(names: Sequence[str], studies: Sequence[Study], metric: Metric) -> dict[str, Any]:
    """BD-rate of the second study to the first, and its interval. Raises: StudyError where they do not compare."""
    from pgpack.study.rates import rate_between

    found = rate_between(studies[0], studies[1], metric)
    return {
        "bd_rate": {"anchor": names[0], "test": names[1], **asdict(found.rate)},
        "bd_rate_interval": None if found.interval is None else asdict(found.interval),
        "bd_rate_still": found.n_still,
        "bd_rate_plateaus": [asdict(each) for each in found.plateaus],
        "bd_rate_with_plateaus": found.percent_with_them,
    }


def _fp32_bytes(studies: Sequence[Study]) -> int | None:
    """The size of the unpacked model, where it is that of all."""
    sizes = {study.meta.fp32_n_bytes for study in studies}
    return sizes.pop() if len(sizes) == 1 else None


def _names(studies: Sequence[Study]) -> list[str]:
    """Directory names where they tell the studies apart, else the paths as given."""
    short = [study.directory.resolve().name for study in studies]
    return short if len(set(short)) == len(short) else [str(study.directory) for study in studies]


def _write(output: Path, studies: Mapping[str, Study], view: FrontierView) -> None:
    if output.suffix == ".html":
        from pgpack.report.outputs import read_anatomy, read_breakdown
        from pgpack.report.page import write_report

        (study,) = studies.values()
        shown = replace(study, meta=replace(study.meta, budget=view.budget))
        of_best = view.budget == study.meta.budget  # of another budget another trial is the best
        parts = (read_breakdown(study), read_anatomy(study.directory)) if of_best else ((), None)
        write_report(shown, output, *parts)
    elif output.suffix == ".csv":
        replace_file(output, view.to_csv().encode())
    else:
        from pgpack.study.plot import write_picture

        write_picture(replace(view, title=clipped(view.title, 80)).picture, output)


def _table(view: FrontierView, rows: Sequence[Mapping[str, Any]], several: bool) -> str:
    """The view's own table, and of every point the study that it is of and how far above the best one it is."""
    from pgpack.study.comparison import difference_text

    by_point = {id(trial): row for trial, row in zip(view.points, rows, strict=True)}
    compared = any(row["above_best"] for row in rows)
    more = [*(["study"] if several else []), *(["bits/byte above best"] if compared else [])]

    def more_of(trial: Trial) -> Sequence[str]:
        row = by_point[id(trial)]
        above = difference_text(**row["above_best"]) if row["above_best"] else "-"
        return [*([row["study"]] if several else []), *([above] if compared else [])]

    return view.table(more=more, more_of=more_of)


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
            f"* best {metric} within {format_bytes(budget)}: {result['best_loss']:.6g} in "
            f"{format_bytes(best['n_bytes'])}, "
            f"{100 * best['n_bytes'] / budget:.2f} % of the budget"
        )
    elif budget is not None:
        excess = result["frontier"][0]["n_bytes"] - budget
        lines.append(
            f"nothing fits {format_bytes(budget)}: the smallest artifact is {format_bytes(excess)} too large"
        )
    corner = result["reference"]
    for study in result["studies"]:
        count = counted(int(study["n_trials"]), "trial")
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
            f"{rate['loss_low']:.6g} to {rate['loss_high']:.6g} ({rate['n_anchor']} and {rate['n_test']} points), "
            f"{100 * rate['shared']:.0f} % of the losses that either reaches"
        )
        if result["bd_rate_still"]:
            lines.append(
                f"{result['bd_rate_still']} points at the ends of the curves are left out: what they lower the loss "
                "by is within the interval"
            )
        lines += [
            f"{each['of']} stands still from {each['low']:,} to {each['high']:,} B ({each['n_sizes']} sizes, "
            f"{metric} {each['loss']:.6g}), and its curve is drawn past that; with it the BD-rate is "
            f"{result['bd_rate_with_plateaus']:+.2f} %"
            for each in result["bd_rate_plateaus"]
        ]
    interval = result.get("bd_rate_interval")
    if interval is not None:
        drawn = "blocks of the text" if interval["paired"] else "every trial's own error, which makes it wide"
        lines.append(
            f"95 % interval of the BD-rate: {interval['low']:+.2f} to {interval['high']:+.2f} %, by drawing {drawn}"
        )
    return lines
