"""Runs a sweep: every candidate recipe becomes one row of the journal, and work that recipes share is done once.

    candidate -> key known? -> quantize -> encode -> decode -> evaluate -> append one row
                               (each but decoding is looked up in a `pgpack.cache.store` first)

A failing recipe is a row with its error. Ctrl-C or a kill loses at most the trials in flight. Where trials are
measured is an executor's business (`executors`); the rows are written here, by the one process that holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pgpack.cache.entries import LOSS, loss_bytes
from pgpack.cache.store import Cache, cache_key
from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import PgpackError
from pgpack.loss.evaluator import BitsPerByte, Evaluator
from pgpack.loss.intervals import unpack_floats
from pgpack.pack import Artifact, Trainer, pack
from pgpack.recipe.recipe import Recipe, infos
from pgpack.recipe.spaces import Candidate
from pgpack.study.journal import Journal, Study
from pgpack.study.trial import Trial
from pgpack.sweep.executors.dispatch import shared_work
from pgpack.sweep.executors.here import Executor, Job, Open, SerialExecutor, Setting, job_key

__all__ = ["Measurer", "jobs_of", "new_jobs", "record", "run_jobs", "trial_loss"]

Calibrate = Callable[[Recipe], Calibration | None]
OnTrial = Callable[[Trial], None]


@dataclass
class Measurer:
    """Measures recipes on one checkpoint; work that they share is done once and kept in `cache`.

    `calibrate` gives the calibration that a recipe asks for (called only for recipes that need Hessians); `trainer`
    as in `pgpack.pack.pack`. `model_digest`: sha256 hex of what the evaluator's digest leaves out (the model and its
    code, the KL's reference, device and libraries); without it losses are kept in memory only.
    """

    checkpoint: Checkpoint
    evaluator: Evaluator | None
    calibrate: Calibrate
    cache: Cache = field(default_factory=Cache)
    trainer: Trainer | None = None
    model_digest: str | None = None

    def needs_calibration(self, recipe: Recipe) -> bool:
        governed = recipe.resolve(infos(self.checkpoint.stored_shapes))
        return any(rule.policy.needs_hessian for rule in governed.values())

    def pack(self, recipe: Recipe) -> Artifact:
        """The artifact of `recipe`. Raises whatever `pgpack.pack.pack` does."""
        calibration = self.calibrate(recipe) if self.needs_calibration(recipe) else None
        return pack(self.checkpoint, recipe, calibration, cache=self.cache, trainer=self.trainer)

    def evaluate(self, artifact: Artifact) -> BitsPerByte | None:
        """Loss of the decoded artifact; measured once per set of decoded weights. None without an evaluator."""
        evaluator = self.evaluator
        if evaluator is None:
            return None
        return self.cache.recall(
            "evaluation",
            self._loss_key(evaluator, artifact.weights_digest),
            LOSS,
            lambda: evaluator.evaluate(artifact.decoded.tensors()),
            on_disk=self.model_digest is not None,
        )

    def fp32_loss(self) -> BitsPerByte:
        """Loss of the checkpoint itself. Raises PgpackError without an evaluator."""
        evaluator = self.evaluator
        if evaluator is None:
            raise PgpackError("the loss of a checkpoint needs an evaluator; give text with --val and --tokenizer")
        return self.cache.recall(
            "evaluation",
            self._loss_key(evaluator, f"checkpoint {self.checkpoint.digest}"),
            LOSS,
            lambda: evaluator.evaluate(dict(self.checkpoint.items())),
            on_disk=self.model_digest is not None,
        )

    def know(self, weights_digest: str, loss: BitsPerByte) -> None:
        """Take over a loss that this evaluator measured before; it is kept in memory only."""
        if self.evaluator is not None:
            self.cache.hold("evaluation", self._loss_key(self.evaluator, weights_digest), loss_bytes(loss))

    def _loss_key(self, evaluator: Evaluator, weights_digest: str) -> str:
        return cache_key(weights_digest, evaluator.digest, self.model_digest)


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
    if executor is None:
        executor = SerialExecutor(local)
    return record(executor, tuple(new_jobs(local, jobs, study)), journal, on_trial)


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
    """Run `jobs` and append every outcome to `journal`, in the order in which they come; returns the trials."""
    new = []
    for measured in executor.run(jobs):
        journal.append(measured.trial)
        new.append(measured.trial)
        on_trial(measured.trial)
    return tuple(new)
