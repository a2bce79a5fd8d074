"""`pgpack sweep`: many recipes measured, as a study that can be continued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions
from pgpack.cache.options import CacheOptions
from pgpack.progress import progress_bar

from ..options.cache import cache_options, opened, say_shared
from ..options.executor import ExecutorFlags, executor_options
from ..options.recipe import one_of
from ..options.search import SearchFlags, search_options
from ..options.sizes import SIZE
from ..options.space import AXES, SpaceFlags, axis_options
from ..options.text import text_options
from ..screen.live_table import shown_live
from ..screen.output import EXIT_RESUMABLE, note, shared_options
from ..screen.stopping import stopping
from .blueprint import blueprint_of
from .sweep_benches import Benches
from .sweep_best import write_best
from .sweep_card import study_card, with_fp32
from .sweep_plan import reused, search_of, show_dry_run, show_reuse
from .sweep_show import Ended, nothing_fits, show_ended
from .sweep_weights import has_text, sweep_weights

if TYPE_CHECKING:
    from pgpack.recipe.spaces import Candidate
    from pgpack.study.journal import Journal
    from pgpack.study.study import Study
    from pgpack.study.trial import Trial
    from pgpack.sweep.executors.jobs import Job
    from pgpack.sweep.runner import OnTrial
    from pgpack.sweep.samplers.base import Search

TUNED = "tuned to a budget of"

EPILOG = """\b
Examples:
  pgpack sweep model.safetensors --budget 16MB --out study
  pgpack sweep model.safetensors --bits 4,5,6 --clip-sigmas 8:16:2 --codec brotli:11,rans --out study
  pgpack sweep model.safetensors --recipe 'role:control=cast; *=gptq(bits={4:6},clip={8,12})|rans' --out study
  pgpack sweep model.safetensors --search surrogate --trials 40 --out study
  pgpack sweep seed1.safetensors seed2.safetensors seed3.safetensors --budget 16MB --out study
  pgpack sweep model.safetensors --preset sdclip-brotli --out baseline
"""


@click.command("sweep", epilog=EPILOG)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@axis_options
@click.option(
    "--budget", type=SIZE, metavar="BYTES", help="The size to be best at, such as 16MB, on every checkpoint."
)
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
    checkpoints: tuple[Path, ...],
    space: SpaceFlags,
    budget: int | None,
    out: Path,
    resume: bool,
    retry_failed: bool,
    dry_run: bool,
    search: SearchFlags,
    workers: ExecutorFlags,
    text: BenchOptions,
    cache: CacheOptions,
    as_json: bool,
    quiet: bool,
) -> int:
    """Pack, decode and evaluate CHECKPOINT under many recipes, and draw the frontier of bytes and loss.

    Without a space a sensible one is explored; with --budget its last recipe is tuned to it. Lists are
    written a,b,c and ranges lo:hi:step. The folder gets trials.jsonl, frontier.csv, .svg, .png, report.html and
    best.pgpack. Where no text is known, sizes are set against the error of the weights instead (distortion.csv).
    Several checkpoints (seeds) are measured under the same recipes: a recipe's size is that of its largest artifact,
    its loss the mean.
    After Ctrl-C or a kill the same command goes on: it says what it reuses, no trial is repeated.
    """
    one_of(
        {"--space": space.space, "--recipe": space.recipe, "--preset": space.preset, AXES: space.axes or None}, False
    )
    if resume and not (out / "study.json").is_file() and not (out / "distortion.jsonl").is_file():
        raise click.UsageError(f"--resume: {out} holds no study; leave --resume out to begin one")
    if dry_run and not resume:
        show_dry_run(checkpoints, space.read(), search, budget, as_json)
        return 0
    benches = Benches(checkpoints, text, quiet, out, opened(cache, quiet))
    measured = has_text(benches.first)
    n_windows = benches.first.text.n_windows if measured else None
    named = space.read()
    found = None if search.is_grid else search_of(search, named, benches.tensors, budget, n_windows)
    candidates = named.candidates(benches.tensors) if found is None else []
    if not measured:
        _check_weights_alone(benches, search, workers, dry_run)
        sweep_weights(benches.first, candidates, out, budget, space.is_default, as_json)
        return 0
    fill = budget if budget is not None and space.is_default else None
    task = _Task(out, budget, named.text, fill, retry_failed, workers, cache, found, search.as_text())
    if dry_run:
        _explain(benches, candidates, task, as_json)
        return 0
    last_word = f"stopped; repeat the same command to go on, or look at what is there: pgpack frontier {out}"
    with stopping(last_word) as stop:
        try:
            ended = _run(benches, candidates, task)
        except KeyboardInterrupt:
            stop.say()
            return EXIT_RESUMABLE
    show_ended(ended, as_json)
    if ended.best is None and budget is not None:
        raise nothing_fits(ended.study, budget)
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
    cache: CacheOptions
    search: Search | None = None
    search_text: str = ""

    def known(self, study: Study) -> Study:
        """The study without the rows that are to be measured again."""
        return study.without_failed() if self.retry_failed else study


def _check_weights_alone(benches: Benches, search: SearchFlags, workers: ExecutorFlags, dry_run: bool) -> None:
    """Refuse what needs a loss, where no text is known."""
    if dry_run:
        raise click.UsageError("--dry-run --resume is for studies with text; this sweep measures weights alone")
    if len(benches.all) > 1:
        raise click.UsageError("several checkpoints are compared by loss, and no text is known: give --val")
    if not search.is_grid:
        raise click.UsageError(f"--search {search.name} needs a loss, and no text is known: give --val")
    if workers.scheduler is not None or (workers.jobs or 1) > 1:
        note("sizes against the error of the weights are measured in this process alone", benches.quiet)


def _run(benches: Benches, candidates: Sequence[Candidate], task: _Task) -> Ended:
    """Measure what is missing, then write tables, pictures, page and best artifacts."""
    from pgpack.report.outputs import write_outputs
    from pgpack.study.study import Study, recording
    from pgpack.sweep.runner import jobs_of, new_jobs

    card = study_card(benches, task.budget, task.space, task.search_text)
    jobs = jobs_of(candidates, benches.settings())
    n_new = 0

    def count(trial: Trial) -> None:
        nonlocal n_new
        n_new += 1

    with recording(task.out, card, partial(with_fp32, benches)) as (study, journal):
        known = task.known(study)
        missing = list(new_jobs(benches, jobs, known))
        account = reused(study, benches, jobs, missing).sentences() if task.search is None else (task.search_text,)
        for line in account:
            note(line, benches.quiet)
        if missing or task.search is not None:
            _measure(benches, missing, known, journal, task, count)
        if task.fill is not None and not any(t.label == f"{TUNED} {task.fill}" for t in study.trials):
            _fill(benches, task.fill, known, journal, count)
        study = Study.load(task.out)  # still under the lock: nobody else writes these files meanwhile
        best, artifacts, breakdown = write_best(benches, study)
        files = write_outputs(study, breakdown)
    say_shared(benches.cache, benches.quiet)
    return Ended(study, len(jobs) - len(missing), n_new, best, files, artifacts)


def _explain(benches: Benches, candidates: Sequence[Candidate], task: _Task, as_json: bool) -> None:
    """What the run would reuse, without measuring anything or keeping others from writing."""
    from pgpack.study.study import Study
    from pgpack.sweep.runner import jobs_of, new_jobs
    from pgpack.sweep.searching import asked_first

    study = Study.load(task.out)
    known = task.known(study)
    if task.search is not None:
        jobs = asked_first(benches, task.search.sampler, known)
    else:
        jobs = jobs_of(candidates, benches.settings())
    show_reuse(reused(study, benches, jobs, list(new_jobs(benches, jobs, known))), as_json)


def _measure(
    benches: Benches, jobs: Sequence[Job], study: Study, journal: Journal, task: _Task, count: OnTrial
) -> None:
    """Measure `jobs`, which the study has no rows for, or what a search asks for."""
    from pgpack.sweep.executors.placement import Placement, Work, open_executor
    from pgpack.sweep.pace import Pace
    from pgpack.sweep.runner import record
    from pgpack.sweep.samplers.base import search
    from pgpack.sweep.searching import Answers

    n_unknown = 0 if task.search is None else task.search.n_trials * len(benches.all)
    work = Work.of(jobs) if task.search is None else Work(n_unknown, n_unknown)
    blueprint = blueprint_of(benches, task.out, task.cache)
    placement = Placement(task.workers.jobs, task.workers.scheduler)
    say = partial(note, quiet=benches.quiet)
    with open_executor(placement, blueprint, benches, work, blueprint.text.device, say) as executor:
        pace = Pace(jobs, executor.n_workers, n_unknown)
        with shown_live(study, pace, task.budget, benches.quiet) as show:

            def on_trial(trial: Trial) -> None:
                count(trial)
                show(trial)

            if task.search is None:
                record(executor, jobs, journal, on_trial)
                return
            search(task.search.sampler, Answers(benches, study, journal, executor, pace, on_trial))
            pace.end()


def _fill(benches: Benches, budget: int, study: Study, journal: Journal, count: OnTrial) -> None:
    """One more recipe: the one whose steps fill the budget best, on the checkpoint whose artifact is the largest."""
    from pgpack.errors import BudgetExceeded
    from pgpack.fit.budget import fit_budget
    from pgpack.fit.every_seed import every_seed
    from pgpack.recipe.spaces import Candidate
    from pgpack.sweep.runner import jobs_of, run_jobs

    settings = benches.settings()
    with progress_bar(None, "artifact", "tuning to the budget", benches.quiet) as bar:
        try:
            measurer = every_seed([benches(setting) for setting in settings])
            fitted = fit_budget(measurer, budget, note=lambda line: bar.update())
        except BudgetExceeded:
            return
    run_jobs(benches, jobs_of([Candidate(fitted.recipe, f"{TUNED} {budget}")], settings), study, journal, count)
