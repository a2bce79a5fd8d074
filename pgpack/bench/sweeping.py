"""A sweep: many recipes measured on the checkpoints of one study, which can be continued.

    recipes or a search --what the study lacks--> trials, a row each --> best artifacts, tables, pictures, page

Owns the order of these. Prints nothing: notes go where those of the first bench go. Stopping it at any moment loses
the trials in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pgpack.cache.options import CacheOptions
from pgpack.errors import BudgetExceeded
from pgpack.fit.budget import fit_budget
from pgpack.fit.effort import DEFAULT, LEVELS, Effort
from pgpack.fit.every_seed import every_seed
from pgpack.progress import Bar, shown, waiting
from pgpack.recipe.spaces import Candidate
from pgpack.report.outputs import write_outputs
from pgpack.study.card import STUDY_FILE, known_card, refuse_others
from pgpack.study.frontier import Metric
from pgpack.study.journal import TRIALS_FILE, Journal, Lines
from pgpack.study.reuse import Reuse, reuse
from pgpack.study.study import Study, recording
from pgpack.study.tensor_bytes import TensorBytes
from pgpack.study.trial import Trial
from pgpack.sweep.executors.jobs import Job
from pgpack.sweep.executors.placement import Placement, Work, open_executor
from pgpack.sweep.pace import Pace
from pgpack.sweep.runner import OnTrial, jobs_of, new_jobs, record, run_jobs
from pgpack.sweep.samplers.base import Search, SearchTask, search
from pgpack.sweep.searching import Answers, asked_first
from pgpack.sweep.space import Space, in_our_format, without_hessians

from .benches import Benches
from .best import write_best
from .blueprint import blueprint_of
from .card import checkpoints_of, completed, default_metric_of, study_card
from .doomed import refuse_doomed, refuse_hopeless
from .pricing import prices
from .workpiece import Workpiece

TUNED = "tuned to a budget of"
Live = Callable[[Study, Pace, int | None], AbstractContextManager[OnTrial]]
"""Shows a sweep while it runs: (what was known before, pace, budget) -> what is told each new trial."""


@contextmanager
def unseen(study: Study, pace: Pace, budget: int | None) -> Iterator[OnTrial]:
    """Shows nothing."""
    yield pace.saw


@dataclass(frozen=True)
class Sweep:
    """What is asked of the study in `out`: all `candidates`, or what `search` asks for.

    `space` and `search_flags` are what its card says of them, `metric` what its trials are compared by (None: as
    before, in a new study by KL, without text by the error of the weights). `fill`: one more recipe is tuned to the
    budget, with `effort`.
    `retry_failed`: trials that failed before are measured again. Units: `budget` bytes.
    """

    out: Path
    candidates: Sequence[Candidate] = ()
    search: SearchTask | None = None
    budget: int | None = None
    fill: bool = False
    effort: Effort = LEVELS[DEFAULT]
    retry_failed: bool = False
    placement: Placement = field(default_factory=Placement)
    cache: CacheOptions = field(default_factory=CacheOptions)
    space: str = ""
    search_flags: str = ""
    metric: Metric | None = None

    def known(self, study: Study) -> Study:
        """The study without the rows that are to be measured again, those of damaged lines of tensors.jsonl too."""
        lost = TensorBytes(self.out).scan().lost(study.trials)
        return (study.without_failed() if self.retry_failed else study).without(lost)

    def begun(self, benches: Benches) -> Search | None:
        """The search from its beginning, led by the metric that the study's trials are compared by; None without one.

        Raises: as `SearchTask.begin`; StudyError for a card that cannot be read.
        """
        if self.search is None:
            return None
        card, _ = known_card(self.out / STUDY_FILE)
        metric = self.metric or (card and card.metric) or default_metric_of(benches)
        return replace(self.search, metric=metric).begin()


@dataclass(frozen=True)
class Swept:
    """A finished study: how many trials were there before and how many are new, and the row of its best recipe.

    `on_text`: trials were measured on text, not on the error of their weights.
    """

    study: Study
    on_text: bool
    n_skipped: int
    n_new: int
    best: Trial | None
    files: tuple[Path, ...]
    artifacts: tuple[Path, ...]


def sweep(benches: Benches, asked: Sweep, live: Live = unseen) -> Swept:
    """Measure what is missing, then write tables, pictures, page and best artifacts.

    Raises: StudyError where the folder holds another study or somebody else writes there; WorkersLost.
    """
    if (before := known_card(asked.out / STUDY_FILE)[0]) is not None:
        refuse_others(asked.out, before, checkpoints_of(benches))  # before text and model are read
    refuse_doomed(benches.first, [candidate.recipe for candidate in asked.candidates])
    if asked.fill and asked.budget is not None and not (asked.out / TRIALS_FILE).is_file():
        refuse_hopeless(benches.first.checkpoint, asked.budget)
    if not benches.first.has_text:
        benches.first.tell_what_lacks()
    card = study_card(benches, asked.budget, asked.space, asked.search_flags, asked.metric)
    begun = asked.begun(benches)
    jobs = jobs_of(asked.candidates, benches.settings())
    new: list[Trial] = []
    with recording(asked.out, card, partial(completed, benches)) as (study, journal):
        known = asked.known(study)
        missing = list(new_jobs(benches, jobs, known))
        taken_out = _taken_out(study, journal.found)
        account = _reused(study, benches, jobs, missing, taken_out).sentences() if begun is None else taken_out
        for line in account if begun is None else (asked.search_flags, *account):
            benches.first.note(line)
        if line := _left_out(study, benches):
            benches.first.note(line)
        if missing or begun is not None:
            _measure(benches, missing, begun, known, journal, asked, new.append, live)
        if asked.fill and not any(trial.label == f"{TUNED} {asked.budget}" for trial in study.trials):
            _fill(benches, asked.budget or 0, asked.effort, known, journal, new.append)
        TensorBytes(asked.out).tidy()
        study = Study.load(asked.out)  # still under the lock: nobody else writes these files meanwhile
        with waiting(benches.first.progress, "writing the best artifact, pictures and report"):
            best, artifacts, breakdown = write_best(benches, study)
            files = write_outputs(study, breakdown)
    return Swept(study, benches.first.has_text, len(jobs) - len(missing), len(new), best, files, artifacts)


def study_of(
    bench: Workpiece, to: Path, space: Space | None = None, budget: int | None = None, metric: Metric | None = None
) -> Study:
    """The study in `to` of one checkpoint under all recipes of `space` (None: the default), measured where it lacks
    them. With a budget the default space's last recipe is tuned to it. Units: bytes.

    Raises: as `sweep`.
    """
    space = Space() if space is None else space
    benches = Benches((replace(bench, keep_in=to),))
    asked = Sweep(to, budget=budget, fill=fills(benches, space, budget), space=space.text, metric=metric)
    return sweep(benches, replace(asked, candidates=grid_of(benches, space))).study


def fills(benches: Benches, space: Space, budget: int | None) -> bool:
    """Whether one more recipe is tuned to the budget: where no space is named."""
    bench = benches.first
    return budget is not None and space.is_default and (bench.has_text or not bench.options.strict)


def grid_of(benches: Benches, space: Space) -> Sequence[Candidate]:
    """All recipes of a space; of the default one those whose artifact holds what the checkpoint does, its companions
    too, and, where nothing can be calibrated and that is refused (`strict`), those that need no Hessians."""
    candidates, bench = space.candidates(benches.tensors), benches.first
    companions = [*dict.fromkeys(name for each in benches.all for name in each.checkpoint.carried)]
    if companions and space.is_default:
        candidates = in_our_format(candidates)
    elif companions and len(in_our_format(candidates)) < len(candidates):
        bench.note(
            f"the field's files hold weights alone: their sizes leave {', '.join(companions)} out, ours do not"
        )
    lacks_hessians = bench.options.strict and not bench.has_text and bench.options.calibration is None
    return without_hessians(candidates) if space.is_default and lacks_hessians else candidates


def reused(benches: Benches, asked: Sweep) -> Reuse:
    """What `sweep` would reuse, without measuring anything or keeping others from writing."""
    found = Journal(asked.out / TRIALS_FILE).scan()
    study = Study.load(asked.out, found.trials)
    known = asked.known(study)
    begun = asked.begun(benches)
    if begun is not None:
        jobs = asked_first(benches, begun.sampler, known)
    else:
        jobs = jobs_of(asked.candidates, benches.settings())
    return _reused(study, benches, jobs, list(new_jobs(benches, jobs, known)), _taken_out(study, found))


def _left_out(study: Study, benches: Benches) -> str:
    """A sentence on checkpoints of the study that this run is not given; '' where all are."""
    given = {bench.checkpoint.digest for bench in benches.all}
    others = [card.checkpoint for card in study.meta.checkpoints if card.checkpoint_digest not in given]
    if not others:
        return ""
    what = f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} of the study too and not given"
    return f"{what}: a new recipe counts once it is measured on every checkpoint"


def _taken_out(study: Study, found: Lines) -> tuple[str, ...]:
    """What was damaged in the study's folder and is measured again, for people."""
    return (*found.sentences(), *TensorBytes(study.directory).scan().sentences(study.trials))


def _reused(
    study: Study, benches: Benches, jobs: Sequence[Job], missing: Sequence[Job], taken_out: Sequence[str]
) -> Reuse:
    """The account of what `study`'s folder already holds of `jobs`."""
    folder = study.directory
    kept = ["the fp32 loss"] if study.trials and study.meta.fp32_bpb is not None else []
    kept += sorted(path.name for path in folder.glob("calibration-*.safetensors"))
    digests = [bench.checkpoint.digest for bench in benches.all]
    wanted, lacking = (
        [(digests[job.setting.checkpoint], job.candidate.recipe.digest, job.setting.text_share) for job in some]
        for some in (jobs, missing)
    )
    return reuse(study, wanted, lacking, kept, taken_out)


def _measure(
    benches: Benches,
    jobs: Sequence[Job],
    begun: Search | None,
    study: Study,
    journal: Journal,
    asked: Sweep,
    count: OnTrial,
    live: Live,
) -> None:
    """Measure `jobs`, which the study has no rows for, or what the search that has `begun` asks for."""
    n_unknown = 0 if begun is None else begun.n_trials * len(benches.all)
    work = Work.of(jobs) if begun is None else Work(n_unknown, n_unknown)
    blueprint = blueprint_of(benches, asked.out, asked.cache)
    bench = benches.first
    with open_executor(asked.placement, blueprint, benches, work, bench.options.device, bench.note) as executor:
        pace = Pace(jobs, executor.n_workers, n_unknown, prices(benches, asked.cache))
        with live(study, pace, asked.budget) as show:

            def on_trial(trial: Trial) -> None:
                count(trial)
                show(trial)

            if begun is None:
                record(executor, jobs, journal, on_trial)
                return
            search(begun.sampler, Answers(benches, study, journal, executor, pace, on_trial))
            pace.end()


def _fill(benches: Benches, budget: int, effort: Effort, study: Study, journal: Journal, count: OnTrial) -> None:
    """One more recipe: the one whose steps fill the budget best, on the checkpoint whose artifact is the largest."""
    settings = benches.settings()
    with shown(benches.first.progress, None, "artifact", "tuning to the budget") as bar:
        try:
            measurer = every_seed([benches(setting) for setting in settings])
            fitted = fit_budget(measurer, budget, bar=Bar(bar.update), effort=effort, metric=study.meta.metric)
        except BudgetExceeded:
            return
    run_jobs(benches, jobs_of([Candidate(fitted.recipe, f"{TUNED} {budget}")], settings), study, journal, count)
