"""Runs a sweep: every candidate recipe becomes one row of the journal, and work that recipes share is done once.

    candidate -> key known? -> quantize -> encode -> decode -> evaluate -> append one row
                               (each but decoding is looked up in a `pgpack.cache` first)

A failing recipe is a row with its error. Ctrl-C or a kill loses at most the trial in flight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..cache import Cache, cache_key
from ..cache_entries import LOSS, loss_bytes
from ..calibration import Calibration
from ..checkpoint import Checkpoint
from ..errors import PgpackError, RoundTripError
from ..evaluate import BitsPerByte, Evaluator
from ..pack import Artifact, Trainer, pack
from ..recipe import Recipe, infos
from ..search_space import Candidate
from .journal import Journal, Study
from .trial import Trial, timestamp, trial_key

Calibrate = Callable[[Recipe], Calibration | None]


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


def run_sweep(
    measurer: Measurer,
    candidates: Sequence[Candidate],
    study: Study,
    journal: Journal,
    on_trial: Callable[[Trial, Artifact | None], None] = lambda trial, artifact: None,
) -> tuple[Trial, ...]:
    """Measure every candidate that the study has no row for; returns all new trials.

    `on_trial` is told each new trial and its artifact once the row is on disk.
    """
    if measurer.evaluator is None:
        raise PgpackError("a sweep needs an evaluator; give text to evaluate on with --val and --tokenizer")
    finished = set(study.finished_keys)
    for trial in study.trials:
        if trial.ok and trial.weights_digest and trial.bpb is not None and trial.nats is not None:
            loss = BitsPerByte(trial.nats, trial.bpb, trial.kl, 0, 0, trial.eval_s or 0.0)
            measurer.know(trial.weights_digest, loss)
    new = []
    for candidate in candidates:
        measured, artifact = _measure(measurer, measurer.evaluator, candidate, finished)
        if measured is None:
            continue
        journal.append(measured)
        finished.add(measured.key)
        new.append(measured)
        on_trial(measured, artifact)
    return tuple(new)


def candidate_key(measurer: Measurer, evaluator: Evaluator, recipe: Recipe) -> tuple[str, str | None]:
    """(trial key, calibration digest) of a recipe; the calibration counts only where the recipe uses it."""
    calibration = measurer.calibrate(recipe) if measurer.needs_calibration(recipe) else None
    digest = calibration.digest if calibration else None
    key = trial_key(measurer.checkpoint.digest, recipe.digest, digest, evaluator.digest, __version__)
    return key, digest


def _measure(
    measurer: Measurer, evaluator: Evaluator, candidate: Candidate, finished: set[str]
) -> tuple[Trial | None, Artifact | None]:
    recipe = candidate.recipe
    common: dict[str, Any] = {
        "recipe": str(recipe),
        "recipe_digest": recipe.digest,
        "label": candidate.label,
        "checkpoint_digest": measurer.checkpoint.digest,
        "evaluator_digest": evaluator.digest,
        "created": timestamp(),
    }
    key = trial_key(measurer.checkpoint.digest, recipe.digest, None, evaluator.digest, __version__)
    artifact = None
    try:
        key, common["calibration_digest"] = candidate_key(measurer, evaluator, recipe)
        if key in finished:
            return None, None
        artifact = measurer.pack(recipe)
        start = time.perf_counter()
        loss = measurer.evaluate(artifact)
        assert loss is not None
        eval_s = time.perf_counter() - start
    except RoundTripError:
        raise
    except (PgpackError, MemoryError, ArithmeticError) as error:
        if key in finished:
            return None, None
        message = str(error) or type(error).__name__
        return Trial(key=key, status="failed", error=message, **common), None
    trial = Trial(
        key=key,
        status="ok",
        n_bytes=artifact.n_bytes,
        bpb=loss.bpb,
        nats=loss.nats,
        kl=loss.kl,
        weights_digest=artifact.weights_digest,
        quantize_s=artifact.quantize_s,
        encode_s=artifact.encode_s,
        decode_s=artifact.decode_s,
        eval_s=eval_s,
        **common,
    )
    return trial, artifact
