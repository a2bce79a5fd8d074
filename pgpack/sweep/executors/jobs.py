"""A job is a recipe on a setting; this module measures one, and states what an executor of many promises.

    jobs (an iterator, drawn from as workers fall free) --> Executor.run --> Measured, in order of completion

Executors never touch the journal: whoever runs one writes the rows. What goes wrong with a recipe is a failed trial;
what goes wrong with all of them (no such checkpoint, no scheduler) is raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pgpack.errors import InputChanged, PgpackError, RoundTripError
from pgpack.loss.intervals import pack_floats
from pgpack.recipe.spaces import Candidate
from pgpack.study.trial import Trial, timestamp, trial_key
from pgpack.version import __version__

from .peak import begin_peak, peak_bytes

if TYPE_CHECKING:
    from pgpack.measure import Measurer
    from pgpack.pack import Artifact


@dataclass(frozen=True)
class Setting:
    """What a trial is measured on. `checkpoint`: which one of a study with several, counted from 0; `text_share`: the
    first part of the study's text that is evaluated, 1 for all of it."""

    checkpoint: int = 0
    text_share: float = 1.0


@dataclass(frozen=True)
class Job:
    """One trial to measure."""

    candidate: Candidate
    setting: Setting = Setting()


@dataclass(frozen=True, eq=False)
class Measured:
    """What became of a job; `tensors`: bytes of each tensor in the artifact."""

    job: Job
    trial: Trial
    tensors: Mapping[str, int] = field(default_factory=dict)


Open = Callable[[Setting], "Measurer"]  # pickled for executors with other processes: paths and flags, never tensors


class Subjects(Protocol):
    """The checkpoints of a sweep: called with a setting they give its measurer in this process, opened once."""

    def __call__(self, setting: Setting) -> Measurer: ...

    def settings(self, text_share: float = 1.0) -> Sequence[Setting]:
        """Every checkpoint on the first `text_share` of the text."""


class Executor(Protocol):
    """Measures jobs, here or elsewhere. A context manager: its workers end with the block."""

    @property
    def n_workers(self) -> int:
        """How many trials it measures at a time, as things are now."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Measured]:
        """Every job's outcome exactly once, in any order.

        An iterator of jobs is drawn from only as far as workers are free, so one that looks at outcomes that were
        yielded before (a sampler) works. Raises: PgpackError when no trial can be measured any more.
        """

    def __enter__(self) -> Executor: ...

    def __exit__(self, *exc: object) -> None: ...


def job_key(measurer: Measurer, job: Job) -> str:
    """The key of the row that `measure` makes of a job, found without measuring."""
    key: str = _fields(measurer, job)["key"]
    return key


def failed(measurer: Measurer, job: Job, error: str) -> Trial:
    """The row of a job that could not be measured."""
    return Trial(**{**_fields(measurer, job), "error": error}, status="failed", created=timestamp())


def measure(measurer: Measurer, job: Job) -> Measured:
    """Pack, decode and evaluate a job's recipe. What goes wrong with it is a failed trial.

    Raises: RoundTripError, a bug in pgpack; InputChanged; PgpackError with nothing to measure by.
    """
    fields = _fields(measurer, job)
    if "error" in fields:
        return Measured(job, Trial(**fields, status="failed", created=timestamp()))
    is_marked = begin_peak()
    try:
        artifact = measurer.pack(job.candidate.recipe)
        start = time.perf_counter()
        losses = _losses(measurer, artifact)
        eval_s = time.perf_counter() - start
    except (RoundTripError, InputChanged):
        raise
    except (PgpackError, MemoryError, ArithmeticError) as error:
        return Measured(job, failed(measurer, job, str(error) or type(error).__name__))
    trial = Trial(
        **fields,
        created=timestamp(),
        status="ok",
        n_bytes=artifact.n_bytes,
        **losses,
        weights_digest=artifact.weights_digest,
        quantize_s=artifact.quantize_s,
        encode_s=artifact.encode_s,
        decode_s=artifact.decode_s,
        eval_s=eval_s,
        peak_bytes=peak_bytes() if is_marked else None,
    )
    return Measured(job, trial, artifact.report.tensors)


def _fields(measurer: Measurer, job: Job) -> dict[str, Any]:
    """What a job's row says whatever comes of it, with `error` where the recipe cannot be measured at all.

    A recipe that does not fit the checkpoint, or whose calibration is missing, has a key without calibration.
    """
    recipe = job.candidate.recipe
    fields: dict[str, Any] = {
        "recipe": str(recipe),
        "recipe_digest": recipe.digest,
        "label": job.candidate.label,
        "checkpoint_digest": measurer.checkpoint.digest,
        "evaluator_digest": measurer.digest,
        "text_share": job.setting.text_share,
    }
    digest = None
    try:
        calibration = measurer.calibrate(recipe) if measurer.needs_calibration(recipe) else None
        digest = fields["calibration_digest"] = calibration.digest if calibration else None
    except InputChanged:
        raise
    except (PgpackError, MemoryError) as error:
        fields["error"] = str(error) or type(error).__name__
    fields["key"] = trial_key(measurer.checkpoint.digest, recipe.digest, digest, measurer.digest, __version__)
    return fields


def _losses(measurer: Measurer, artifact: Artifact) -> dict[str, Any]:
    """The fields of a row that say what packing costs: measured on text, else on the weights."""
    loss = measurer.evaluate(artifact)
    if loss is None:
        assert measurer.weights is not None
        return {**measurer.weights.of(artifact.records)}
    fields = {name: getattr(loss, name) for name in ("bpb", "nats", "kl", "bpb_se", "kl_se")}
    return {**fields, "block_excess": pack_floats(loss.block_excess)}
