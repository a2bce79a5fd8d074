"""`pgpack pack`: checkpoint -> artifact and manifest."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions
from pgpack.cache.options import CacheOptions
from pgpack.fit.effort import DEFAULT, LEVELS, Effort
from pgpack.progress import waiting
from pgpack.sizes import Size
from pgpack.tables import counted, decimals, table

from ..options.cache import cache_options
from ..options.dry_run import fact_lines, rates_here
from ..options.effort import effort_option
from ..options.metric import metric_option
from ..options.numbers import WholeNumber
from ..options.output import output_option
from ..options.recipe import RecipeFlags, one_of, recipe_options
from ..options.submission import SubmissionFlags, require_alone, submission_options
from ..options.text import bench_of, say_idle, strict_option, text_options
from ..options.types import PATH, refuse_split_size, resolved
from ..options.types import budget as budget_size
from ..screen.output import (
    ARTIFACT,
    Screen,
    claim_output,
    format_bytes,
    note,
    picked,
    refuse_other_format,
    screen_options,
)

if TYPE_CHECKING:
    from pgpack.bench.explained import KindLoss
    from pgpack.bench.packed import Packed
    from pgpack.bench.workpiece import Workpiece
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.pack import Artifact
    from pgpack.study.frontier import Metric

LARGEST = 8  # tensors shown

EPILOG = """\b
Examples:
  pgpack pack model.safetensors --budget 16MB -o model.pgpack
  pgpack pack model.safetensors --budget 500kB --compensate 120 -o model.pgpack
  pgpack pack model.safetensors --preset sdclip-brotli -o baseline.ptz
  pgpack pack model.safetensors --recipe 'role:control=cast; *=gptq(bits=6,clip=12.85)|rans' \\
      --calibration hessians.safetensors -o model.pgpack
  pgpack pack model.safetensors --budget 16MB --submission my_record \\
      --train-script train_gpt.py --log train.log --about about.json
"""


@click.command("pack", epilog=EPILOG)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=PATH)
@recipe_options
@click.option("--budget", type=budget_size, metavar="SIZE", help="Search for the best that fits: 16MB, 15.9MiB, 10%.")
@effort_option("With --budget: what is spent on it")
@metric_option("With --budget: the loss that decides between what fits [default: kl, without text error].")
@click.option(
    "--compensate",
    type=WholeNumber(0),
    metavar="N",
    help="With --budget: quantize in stages; N optimizer steps on calibration text make up for the errors.",
)
@click.option(
    "--tune",
    type=WholeNumber(0),
    metavar="N",
    help="With --budget: fit the step sizes too, by N optimizer steps on calibration text.",
)
@output_option(type=PATH, help="Artifact to write.")
@submission_options
@click.option("--eval", "evaluate", is_flag=True, help="Measure the decoded artifact and record its loss.")
@click.option(
    "--explain-loss",
    is_flag=True,
    help="Measure what each kind of tensor costs alone, beside what was expected of it.",
)
@click.option("--weights-only", is_flag=True, help="Leave config and tokenizer of a model folder out.")
@click.option("--dry-run", is_flag=True, help="Check the recipe against the checkpoint and stop.")
@click.option("--force", is_flag=True, help="Replace the artifact if it exists.")
@strict_option
@text_options
@cache_options
@screen_options
def command(
    *,
    checkpoints: tuple[Path, ...],
    recipe: RecipeFlags,
    budget: Size | None,
    effort: int | None,
    metric: Metric | None,
    compensate: int | None,
    tune: int | None,
    out: Path | None,
    flags: SubmissionFlags,
    evaluate: bool,
    explain_loss: bool,
    weights_only: bool,
    dry_run: bool,
    force: bool,
    strict: bool,
    text: BenchOptions,
    cache: CacheOptions,
    screen: Screen,
) -> None:
    """Pack CHECKPOINT by a recipe, a preset of the field, or into a byte budget.

    The artifact is decoded once and compared before it is written; OUT.json records what it was made of.
    Of a model folder it also holds what is needed to run it (config, tokenizer, licence), which the budget counts.
    With --budget the step sizes are searched on real bytes, and the loss decides between what fits; exit code 3
    when nothing does.
    With --submission DIR a whole folder is written (README.md, submission.json, a decoder of its own, the script
    packed); --budget is for code and weights together, 16 MB unless it is given, and several checkpoints are seeds.
    Tensors that a recipe wants a Hessian for and that have none are packed by the weights alone, and named.
    """
    text = dataclasses.replace(text, strict=strict)
    searching = (effort, metric, compensate, tune) != (None, None, None, None)
    spent = LEVELS[DEFAULT if effort is None else effort].trained_by(compensate, tune)

    @functools.cache
    def bench(path: Path, in_memory: bool = True) -> Workpiece:
        from pgpack.cache.opening import open_cache
        from pgpack.checkpoint.adapter import open_merged

        kept = open_cache(cache, screen.note, in_memory)
        with waiting(not screen.quiet, f"loading {path}"):
            loaded = open_merged(path, text.base, text.key)
        say_idle(loaded, text, screen, drawn=not recipe.is_given and spent.calib is not None)
        alone = weights_only or flags.submission is not None
        return bench_of(path, loaded.alone() if alone else loaded, text, screen, cache=kept)

    if flags.submission is not None:
        if explain_loss:
            raise click.UsageError("--explain-loss belongs to one artifact, not to a --submission DIR")
        if out is not None or force:
            raise click.UsageError("--submission DIR takes the place of -o and --force; DIR must be new")
        from .pack_submission import run_submission

        one_of(recipe.named, at_least_one=False)
        if recipe.is_given and searching:
            raise click.UsageError(
                "--effort, --metric, --compensate and --tune belong to a search, not to a given recipe"
            )
        recipe.require_own_container()
        run_submission(
            checkpoints, bench, recipe, _of_first(budget, checkpoints, bench), spent, metric, flags, dry_run, screen
        )
        return
    require_alone(flags)
    if len(checkpoints) > 1:
        refuse_split_size(budget, checkpoints)
        raise click.UsageError(
            "several checkpoints are the seeds of a --submission DIR; give one, or measure all with pgpack sweep"
        )
    if out is None:
        raise click.UsageError("give -o FILE for the artifact, or --submission DIR")
    checkpoint = checkpoints[0]
    one_of({**recipe.named, "--budget": budget})
    _require_fitting(budget, recipe, searching)
    _claim(out, force, checkpoint, recipe, dry_run)
    if dry_run:
        _show_dry_run(checkpoint, text, recipe, budget, out, weights_only, spent, metric, cache, screen)
        return
    from pgpack.bench.packed import write_packed
    from pgpack.bench.packing import fit_packed, pack_recipe

    piece = bench(checkpoint, in_memory=budget is not None)
    if explain_loss:
        from pgpack.bench.explained import explained, require_text

        require_text(piece)
    if budget is not None:
        packed = fit_packed(piece, resolved(budget, piece.checkpoint.fp32_bytes) or 0, spent, metric=metric)
    else:
        packed = pack_recipe(piece, recipe.read(piece.checkpoint.stored_shapes), evaluate or explain_loss)
    write_packed(out, packed, piece)
    losses = explained(piece, packed) if explain_loss else []
    _show(out, packed, piece.checkpoint, losses, screen)


def _require_fitting(budget: Size | None, recipe: RecipeFlags, searching: bool) -> None:
    if budget is not None and recipe.passthrough is not None:
        raise click.UsageError("--passthrough belongs to --preset")
    if budget is None and searching:
        raise click.UsageError(
            "--effort, --metric, --compensate and --tune belong to --budget; in a recipe write "
            "@compensate=weights(count=N) or @tune=steps(count=N)"
        )


def _claim(out: Path, force: bool, checkpoint: Path, recipe: RecipeFlags, dry_run: bool) -> None:
    claim_output(out, force, checkpoint, dry_run=dry_run)
    if not recipe.is_of_field:
        refuse_other_format(out, *ARTIFACT)


def _of_first(budget: Size | None, paths: Sequence[Path], bench: Callable[[Path], Workpiece]) -> int | None:
    """A budget in bytes; the checkpoint is opened for a share alone."""
    return budget if not isinstance(budget, str) else resolved(budget, bench(paths[0]).checkpoint.fp32_bytes)


def _show(out: Path, packed: Packed, checkpoint: Checkpoint, losses: list[KindLoss], screen: Screen) -> None:
    artifact, loss = packed.artifact, packed.loss
    bits = 8 * artifact.n_bytes / max(1, checkpoint.n_params)
    document = {
        "artifact": str(out),
        "recipe": str(packed.recipe),
        "recipe_digest": packed.recipe.digest,
        "n_bytes": artifact.n_bytes,
        "bits_per_weight": bits,
        **picked(artifact, "weights_digest", "quantize_s", "encode_s", "decode_s"),
        **(picked(loss, "bpb", "nats", "kl", "eval_s") if loss else {}),
        "sizes": picked(artifact.report, "tensors", "overhead"),
        **({"losses": [dataclasses.asdict(row) for row in losses]} if losses else {}),
    }
    lines = [f"recipe    {packed.recipe}", f"size      {format_bytes(artifact.n_bytes)}, {bits:.3f} bits per weight"]
    if loss:
        kl = "" if loss.kl is None else f", KL {decimals(loss.kl, 5)} nats per token to the checkpoint"
        lines.append(f"loss      {loss.bpb:.5f} bits per byte{kl}")
    lines.append(
        f"times     quantize {artifact.quantize_s:.2f} s, encode {artifact.encode_s:.2f} s, "
        f"decode {artifact.decode_s:.2f} s"
    )
    lines.append(_largest(artifact))
    if losses:
        lines.append(_explained(losses))
    screen.show(document, *lines, f"written to {out}, described by {out.name}.json")


def _largest(artifact: Artifact) -> str:
    """The largest tensors, then the rest and the overhead in one line each; sums to the file."""
    by_size = sorted(artifact.report.tensors.items(), key=lambda item: -item[1])
    numel = {record.name: max(1, math.prod(record.shape)) for record in artifact.records}
    rows: list[tuple[str, int, float | None]] = [
        (name, n_bytes, 8 * n_bytes / numel[name]) for name, n_bytes in by_size[:LARGEST]
    ]
    if rest := by_size[LARGEST:]:
        rest_bytes, rest_numel = sum(n for _, n in rest), sum(numel[name] for name, _ in rest)
        rows.append((counted(len(rest), "more tensor"), rest_bytes, 8 * rest_bytes / rest_numel))
    rows += [(name, n_bytes, None) for name, n_bytes in artifact.report.overhead.items()]
    return table(("where the bytes are", "bytes", "bits/weight"), rows)


def _explained(losses: list[KindLoss]) -> str:
    """What each kind of tensor costs alone, and the sum."""
    rows: list[tuple[str, int, float, float | None, float]] = [
        (row.kind, row.n_bytes, 8 * row.n_bytes / max(1, row.n_values), row.expected, row.measured) for row in losses
    ]
    n_bytes, n_values = sum(row.n_bytes for row in losses), max(1, sum(row.n_values for row in losses))
    expected = sum(row.expected or 0.0 for row in losses)
    rows.append(("sum", n_bytes, 8 * n_bytes / n_values, expected, sum(row.measured for row in losses)))
    return table(("loss by kind, each alone", "bytes", "bits/weight", "KL expected", "KL measured"), rows)


def _show_dry_run(
    path: Path,
    text: BenchOptions,
    recipe: RecipeFlags,
    budget: Size | None,
    out: Path,
    alone: bool,
    spent: Effort,
    metric: Metric | None,
    cache: CacheOptions,
    screen: Screen,
) -> None:
    """What `pack` would do, from names, shapes and companions, none where weights go `alone`; those of an old torch
    file are not read (it takes torch)."""
    from pgpack.bench.costs import budget_cost, grid_cost
    from pgpack.bench.doomed import refuse_hopeless, without_companions
    from pgpack.bench.foreseen import HOPELESS, evaluated_tokens
    from pgpack.bench.sources import ready, require_calibration_text
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.checkpoint.files import opens_without_torch, require_file
    from pgpack.formats.own.companions import packed_size
    from pgpack.recipe.applied import apply

    require_file(path)
    document: dict[str, Any] = {"checkpoint": str(path), "artifact": str(out), "budget": budget}
    if opens_without_torch(path):
        loaded = open_merged(path, text.base, text.key)
        tensors = loaded.stored_shapes
        document |= {"tensors": len(tensors), "n_params": loaded.n_params}
        limit = document["budget"] = resolved(budget, loaded.fp32_bytes)
        if limit is not None:
            carrier = loaded.alone() if alone else loaded
            refuse_hopeless(carrier, limit, without_companions(carrier), HOPELESS)
    else:
        tensors, alone = {}, True
        note("the shapes of a torch file this old are not read in a dry run; the recipe is checked alone")
    if budget is None and (recipe.recipe is not None or tensors):
        chosen = recipe.read(tensors)
        needy = list(apply(chosen, tensors).needs_hessian) if tensors else []
        document |= {"recipe": str(chosen), "recipe_digest": chosen.digest, "needs_hessian": needy}
        alone |= chosen.container.is_field
    if not alone and loaded.carried:
        document["companion_bytes"] = packed_size(loaded.carried)
    costs: list[str] = []
    if tensors:
        evaluated = evaluated_tokens(path, loaded, text)
        if metric not in (None, "error"):
            ready(path, loaded, text)
        if spent != spent.untrained if budget is not None else chosen.trains:
            require_calibration_text(path, loaded, text, "tuning" if budget is None else spent.label)
        rates = rates_here(cache.folder)
        if budget is None:
            cost = grid_cost([chosen], tensors, rates, evaluated)
        else:
            cost = budget_cost(spent, tensors, rates, evaluated)
        costs, document["cost"] = cost.lines(), cost.as_document()
    lines = fact_lines({key: value for key, value in document.items() if key != "cost"})
    screen.show(document, *lines, *costs)
