"""`pgpack sweep`: many recipes measured, as a study that can be continued."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .blueprint import blueprint_of
from .cache_options import CacheFlags, cache_options, say_shared
from .executor_options import ExecutorFlags, executor_options, open_executor
from .live_table import distinct_names, shown_live
from .output import EXIT_RESUMABLE, emit_json, format_bytes, note, shared_options
from .progress import progress_bar
from .recipe_options import one_of
from .search_options import Answers, SearchFlags, sampler_of, search_options
from .sizes import SIZE
from .space_options import AXES, SpaceFlags, axis_options, candidates_of
from .stopping import stopping
from .sweep_card import missing_of, study_card, with_fp32
from .sweep_plan import reused, show_dry_run, show_reuse
from .sweep_weights import has_text, sweep_weights
from .tables import clipped, table
from .text_options import Bench, TextFlags, text_options

if TYPE_CHECKING:
    from pgpack.pack import Artifact
    from pgpack.search_space import Candidate
    from pgpack.sweep.journal import Journal, Study
    from pgpack.sweep.runner import Measurer
    from pgpack.sweep.samplers.base import Sampler
    from pgpack.sweep.trial import Trial

TUNED = "tuned to a budget of"

EPILOG = """\b
Examples:
  pgpack sweep model.safetensors --budget 16MB --out study
  pgpack sweep model.safetensors --bits 4,5,6 --clip-sigmas 8:16:2 --codec brotli:11,rans --out study
  pgpack sweep model.safetensors --recipe 'role:control=cast; *=gptq(bits={4:6},clip={8,12})|rans' --out study
  pgpack sweep model.safetensors --search surrogate --trials 40 --out study
  pgpack sweep model.safetensors --preset sdclip-brotli --out baseline
"""


@click.command("sweep", epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@axis_options
@click.option("--budget", type=SIZE, metavar="BYTES", help="The size to be best at, such as 16MB.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the study.")
@click.option("--resume", is_flag=True, help="Go on with the study in --out; an error when there is none.")
@click.option("--retry-failed", is_flag=True, help="Measure trials that failed before once more.")
@click.option("--dry-run", is_flag=True, help="Print the recipes (with --resume: what is reused) and stop.")
@search_options
@executor_options
@text_options
@cache_options
@shared_options
def command(
    *,
    checkpoint: Path,
    space: SpaceFlags,
    budget: int | None,
    out: Path,
    resume: bool,
    retry_failed: bool,
    dry_run: bool,
    search: SearchFlags,
    workers: ExecutorFlags,
    text: TextFlags,
    cache: CacheFlags,
    as_json: bool,
    quiet: bool,
) -> int:
    """Pack, decode and evaluate CHECKPOINT under many recipes, and draw the frontier of bytes and loss.

    Without a space a sensible one is explored; with --budget its last recipe is tuned to it. Lists are
    written a,b,c and ranges lo:hi:step. The folder gets trials.jsonl, frontier.csv, .svg, .png, report.html and
    best.pgpack. Where no text is known, sizes are set against the error of the weights instead (distortion.csv).
    After Ctrl-C or a kill the same command goes on: it says what it reuses, no trial is repeated.
    """
    one_of(
        {"--space": space.space, "--recipe": space.recipe, "--preset": space.preset, AXES: space.axes or None}, False
    )
    if resume and not (out / "study.json").is_file() and not (out / "distortion.jsonl").is_file():
        raise click.UsageError(f"--resume: {out} holds no study; leave --resume out to begin one")
    if dry_run and not search.is_grid:
        raise click.UsageError(f"--dry-run: what --search {search.name} asks for depends on what it is told")
    if dry_run and not resume:
        show_dry_run(checkpoint, space, as_json)
        return 0
    from pgpack.checkpoint import load_checkpoint
    from pgpack.recipe import infos

    loaded = load_checkpoint(checkpoint)
    tensors = infos(loaded.stored_shapes)
    sampler = None if search.is_grid else sampler_of(search, space, tensors, budget)
    candidates = candidates_of(space, tensors) if sampler is None else []
    bench = Bench(checkpoint, loaded, text, quiet, keep_in=out, cache=cache.open(quiet))
    if not has_text(bench):
        if dry_run:
            raise click.UsageError("--dry-run --resume is for studies with text; this sweep measures weights alone")
        if workers.scheduler is not None or (workers.jobs or 1) > 1:
            note("sizes against the error of the weights are measured in this process alone", quiet)
        if sampler is not None:
            raise click.UsageError(f"--search {search.name} needs a loss, and no text is known: give --val")
        sweep_weights(bench, candidates, out, budget, space.is_default, as_json)
        return 0
    fill = budget if budget is not None and space.is_default else None
    task = _Task(out, budget, space.as_text(), fill, retry_failed, workers, cache, sampler, search.as_text())
    if dry_run:
        _explain(bench, candidates, task, as_json)
        return 0
    last_word = f"stopped; repeat the same command to go on, or look at what is there: pgpack frontier {out}"
    with stopping(last_word) as stop:
        try:
            ended = _run(bench, candidates, task)
        except KeyboardInterrupt:
            stop.say()
            return EXIT_RESUMABLE
    _show(ended, as_json)
    if ended.best is None and budget is not None:
        raise _nothing_fits(ended.study, budget)
    return 0


@dataclass(frozen=True)
class _Task:
    """Where the study lies and what is asked of it; `fill`: the budget that a last recipe must fill."""

    out: Path
    budget: int | None
    space: str
    fill: int | None
    retry_failed: bool
    workers: ExecutorFlags
    cache: CacheFlags
    sampler: Sampler | None = None
    search: str = ""

    def known(self, study: Study) -> Study:
        """The study without the rows that are to be measured again."""
        return replace(study, trials=tuple(t for t in study.trials if t.ok)) if self.retry_failed else study


@dataclass(frozen=True)
class Ended:
    """A finished study: how many trials were there before and how many are new, and its best one."""

    study: Study
    n_skipped: int
    n_new: int
    best: Trial | None
    files: tuple[Path, ...]


def _run(bench: Bench, candidates: Sequence[Candidate], task: _Task) -> Ended:
    """Measure what is missing, then write tables, pictures, page and best artifact."""
    from pgpack.sweep.journal import Study, recording
    from pgpack.sweep.outputs import write_outputs

    measurer = bench.measurer()
    card = study_card(bench, task.budget, task.space, task.search, measurer)
    with recording(task.out, card, partial(with_fp32, measurer)) as (study, journal):
        known = task.known(study)
        missing = missing_of(measurer, candidates, known)
        skipped = len(candidates) - len(missing)
        for line in reused(study, candidates, missing).sentences() if task.sampler is None else (task.search,):
            note(line, bench.quiet)
        keeper = _Keeper(task.budget)
        if task.fill is not None and any(t.label == f"{TUNED} {task.fill}" for t in study.trials):
            task = replace(task, fill=None)
        if missing or task.fill is not None or task.sampler is not None:
            _measure(bench, measurer, missing, known, journal, keeper, task)
            if task.fill is not None:
                _fill(measurer, task.fill, known, journal, keeper, bench.quiet)
        study = Study.load(task.out)  # still under the lock: nobody else writes these files meanwhile
        best, breakdown = _write_best(bench, study, keeper)
        files = write_outputs(study, breakdown)
    say_shared(bench.cache, bench.quiet)
    return Ended(study, skipped, keeper.n_new, best, files)


def _explain(bench: Bench, candidates: Sequence[Candidate], task: _Task, as_json: bool) -> None:
    """What the run would reuse, without measuring anything or keeping others from writing."""
    from pgpack.sweep.journal import Study

    study = Study.load(task.out)
    show_reuse(reused(study, candidates, missing_of(bench.measurer(), candidates, task.known(study))), as_json)


def _loss(trial: Trial) -> float:
    """KL to the fp32 model, or bits per byte without one: the order of `pgpack.frontier.ranking`."""
    loss = trial.kl if trial.kl is not None else trial.bpb
    return math.inf if loss is None else loss


class _Keeper:
    """Remembers the best artifact that was packed in this run, so that it need not be packed again."""

    def __init__(self, budget: int | None) -> None:
        self.budget, self.n_new = budget, 0
        self.best: tuple[Trial, Artifact] | None = None

    def take(self, trial: Trial, artifact: Artifact | None) -> None:
        self.n_new += 1
        if artifact is None or trial.bpb is None or (self.budget is not None and artifact.n_bytes > self.budget):
            return
        if self.best is None or (_loss(trial), artifact.n_bytes) < (_loss(self.best[0]), self.best[1].n_bytes):
            self.best = (trial, artifact)


def _measure(
    bench: Bench,
    measurer: Measurer,
    candidates: Sequence[Candidate],
    study: Study,
    journal: Journal,
    keeper: _Keeper,
    task: _Task,
) -> None:
    from pgpack.sweep.executors import Job
    from pgpack.sweep.pace import Pace
    from pgpack.sweep.runner import run_sweep

    jobs = [Job(candidate) for candidate in candidates]
    blueprint = blueprint_of(bench, task.out, task.cache)
    with open_executor(task.workers, blueprint, lambda setting: measurer, jobs, bench.quiet) as executor:
        pace = Pace(jobs, executor.n_workers)
        with shown_live(study.trials, pace, task.budget, bench.quiet) as show:

            def on_trial(trial: Trial, artifact: Artifact | None) -> None:
                keeper.take(trial, artifact)
                show(trial)

            if task.sampler is not None:
                from pgpack.sweep.samplers.base import search

                search(task.sampler, Answers(measurer, study, journal, executor, on_trial))
            else:
                run_sweep(measurer, candidates, study, journal, on_trial, executor)


def _fill(measurer: Measurer, budget: int, study: Study, journal: Journal, keeper: _Keeper, quiet: bool) -> None:
    """One more trial: the recipe whose steps fill the budget best."""
    from pgpack.errors import BudgetExceeded
    from pgpack.search_space import Candidate
    from pgpack.sweep.budget import fit_budget
    from pgpack.sweep.runner import run_sweep

    with progress_bar(None, "artifact", "tuning to the budget", quiet) as bar:
        try:
            fitted = fit_budget(measurer, budget, note=lambda line: bar.update())
        except BudgetExceeded:
            return
    run_sweep(measurer, [Candidate(fitted.recipe, f"{TUNED} {budget}")], study, journal, keeper.take)


def _write_best(bench: Bench, study: Study, keeper: _Keeper) -> tuple[Trial | None, list[tuple[str, int]]]:
    """Write best.pgpack and its manifest; (the best trial, the bytes of its parts)."""
    from pgpack.anatomy import ANATOMY_FILE
    from pgpack.artifact.manifest import manifest_path, read_manifest
    from pgpack.errors import FormatError
    from pgpack.frontier import best_under, ranking
    from pgpack.recipe_text import parse_recipe
    from pgpack.sweep.outputs import BEST_FILE, write_anatomy
    from pgpack.sweep.runner import trial_loss
    from pgpack.sweep.storage import refusing

    from .pack import Packed, needed_calibration, write_packed

    best = best_under(study.trials, study.meta.budget, ranking(study.trials))
    path = study.directory / BEST_FILE
    if best is None:  # an artifact of an earlier budget would pass for the best of this one
        for stale in (path, manifest_path(path), study.directory / ANATOMY_FILE):
            stale.unlink(missing_ok=True)
        return None, []
    try:
        written = read_manifest(path) if path.is_file() else None
    except FormatError:
        written = None
    if written is None or (written.recipe_digest, written.weights_digest) != (
        best.recipe_digest,
        best.weights_digest,
    ):
        recipe = parse_recipe(best.recipe)
        if keeper.best and keeper.best[0].key == best.key:
            artifact = keeper.best[1]
        else:
            artifact = bench.measurer(evaluate=False).pack(recipe)
        evaluator = bench.text.evaluator()
        packed = Packed(recipe, artifact, needed_calibration(bench, recipe), trial_loss(best), evaluator)
        with refusing(path, "write it"):
            write_packed(path, packed, bench)
        write_anatomy(study.directory, artifact, bench.checkpoint, recipe, packed.calibration)
        written = read_manifest(path)
    assert written is not None
    return best, [item for part in written.sizes.values() for item in part.items()]


def _nothing_fits(study: Study, budget: int) -> Exception:
    from pgpack.errors import BudgetExceeded

    sizes = [trial.n_bytes for trial in study.trials if trial.ok and trial.n_bytes is not None]
    if not sizes:
        return BudgetExceeded(f"no trial succeeded; look at the errors in {study.directory}/trials.jsonl")
    return BudgetExceeded(
        f"nothing fits {budget:,} bytes: the smallest artifact takes {min(sizes):,}, {min(sizes) - budget:,} too many"
    )


def _row(trial: Trial) -> dict[str, Any]:
    fields = ("n_bytes", "bpb", "nats", "kl", "label", "recipe", "recipe_digest")
    return {field: getattr(trial, field) for field in fields}


def _show(ended: Ended, as_json: bool) -> None:
    from pgpack.frontier import pareto

    study, front = ended.study, pareto(ended.study.trials)
    failed = sum(not trial.ok for trial in study.trials)
    best_file = study.directory / "best.pgpack"
    if as_json:
        emit_json(
            {
                "out": str(study.directory),
                "budget": study.meta.budget,
                "fp32_bpb": study.meta.fp32_bpb,
                "n_trials": len(study.trials),
                "n_new": ended.n_new,
                "n_skipped": ended.n_skipped,
                "n_failed": failed,
                "frontier": [_row(trial) for trial in front],
                "best": _row(ended.best) if ended.best else None,
                "files": [str(path) for path in (*ended.files, *([best_file] if ended.best else []))],
            }
        )
        return
    rows = [
        (
            "*" if ended.best and trial.key == ended.best.key else "",
            trial.n_bytes,
            f"{trial.bpb:.4f}",
            "-" if trial.kl is None else f"{trial.kl:.5f}",
            clipped(name, 96),
        )
        for trial, name in zip(front, distinct_names(front), strict=True)
    ]
    click.echo(table(("", "bytes", "bits/byte", "KL", "name or recipe"), rows))
    fp32 = study.meta.fp32_bpb
    click.echo(
        f"{len(front)} of {len(study.trials)} trials are on the frontier, {failed} failed; "
        f"fp32 {fp32:.4f} bits per byte in {format_bytes(study.meta.fp32_n_bytes or 0)}"
    )
    if ended.best:
        within = f" within {format_bytes(study.meta.budget)}" if study.meta.budget else ""
        by_kl = "" if ended.best.kl is None else f" by KL, {ended.best.kl:.4g} nats per token"
        click.echo(
            f"* best{within}{by_kl}: {ended.best.bpb:.4f} bits per byte in {format_bytes(ended.best.n_bytes or 0)}"
        )
        click.echo(f"artifact  {best_file}")
    click.echo(f"report    {study.directory / 'report.html'}")
