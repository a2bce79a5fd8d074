"""Runs a sweep: every candidate recipe becomes one row of the journal, and work that recipes share is done once.

    candidate -> key known? -> quantize -> encode -> decode -> evaluate -> append one row
                               (each but decoding is looked up in a `pgpack.cache.store` first)

A failing recipe is a row with its error. Ctrl-C or a kill loses at most the trials in flight. Where trials are
measured is an executor's business (`executors`); the rows are written here, by the one process that holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from pgpack.errors import PgpackError
from pgpack.loss.evaluator import BitsPerByte
from pgpack.loss.intervals import unpack_floats
from pgpack.measure import Measurer
from pgpack.recipe.spaces import Candidate
from pgpack.study.journal import Journal
from pgpack.study.study import Study
from pgpack.study.tensor_bytes import TensorBytes
from pgpack.study.trial import Trial
from pgpack.sweep.executors.dispatch import shared_work
from pgpack.sweep.executors.here import SerialExecutor
from pgpack.sweep.executors.jobs import Executor, Job, Open, Setting, job_key

OnTrial = Callable[[Trial], None]


def run_jobs(
    local: Open,
    jobs: Iterable[Job],
    study: Study,
    journal: Journal,
    on_trial: OnTrial = lambda trial: None,
    executor: Executor | None = None,
) -> tuple[Trial, ...]:
    """Measure every job that the study has no row for; returns all new trials.

    `local` opens measurers in this process, for keys. `on_trial` is told each new trial once the row is on disk.
    `executor`: where they are measured; without one, here, in their order.
    """
    return record(executor or SerialExecutor(local), tuple(new_jobs(local, jobs, study)), journal, on_trial)


def jobs_of(candidates: Iterable[Candidate], settings: Sequence[Setting] = (Setting(),)) -> list[Job]:
    """Every candidate on every setting; jobs that share a quantization follow each other, and the same quantization
    of the next checkpoint follows that."""
    batches: dict[Hashable, list[Job]] = {}
    for candidate in candidates:
        for setting in settings:
            job = Job(candidate, setting)
            batches.setdefault(shared_work(job), []).append(job)
    return [job for batch in batches.values() for job in batch]


def trial_loss(trial: Trial) -> BitsPerByte:
    """The loss of a trial, without the lengths of the text. Raises: PgpackError for a failed one."""
    if trial.nats is None or trial.bpb is None:
        raise PgpackError(f"trial {trial.key[:12]} has no measured loss")
    return BitsPerByte(
        trial.nats,
        trial.bpb,
        trial.kl,
        0,
        0,
        trial.eval_s or 0.0,
        trial.bpb_se,
        trial.kl_se,
        unpack_floats(trial.block_excess) if trial.block_excess else (),
    )


def new_jobs(local: Open, jobs: Iterable[Job], study: Study) -> Iterator[Job]:
    """The jobs whose keys the study has no row for, each key once. What the study knows of equal weights is told to
    the measurers."""
    finished, told = set(study.finished_keys), set[Setting]()
    for job in jobs:
        measurer = local(job.setting)
        if job.setting not in told:
            told.add(job.setting)
            remember(measurer, study)
        key = job_key(measurer, job)
        if key not in finished:
            finished.add(key)
            yield job


def remember(measurer: Measurer, study: Study) -> None:
    """Tell `measurer` the losses of the study's rows that are of its checkpoint and text."""
    if measurer.evaluator is None:
        return
    own = (measurer.checkpoint.digest, measurer.evaluator.digest)
    for trial in (*study.trials, *study.partial):
        known = trial.ok and trial.nats is not None and trial.weights_digest
        if known and (trial.checkpoint_digest, trial.evaluator_digest) == own:
            measurer.know(trial.weights_digest or "", trial_loss(trial))


def record(executor: Executor, jobs: Iterable[Job], journal: Journal, on_trial: OnTrial) -> tuple[Trial, ...]:
    """Run `jobs` and append every outcome to `journal`, in the order in which they come, the bytes of each tensor
    beside it; returns the trials."""
    new, kept = [], TensorBytes(journal.path.parent)
    for measured in executor.run(jobs):
        kept.append(measured.trial.key, measured.tensors)
        journal.append(measured.trial)
        new.append(measured.trial)
        on_trial(measured.trial)
    return tuple(new)
