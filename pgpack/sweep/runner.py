"""Runs a sweep: every candidate recipe becomes one row of the journal, and work that recipes share is done once.

    candidate -> key known? -> quantize (cached by tensor and quantizer) -> encode -> decode -> evaluate
                 (cached by the digest of the decoded weights) -> append one row

A failing recipe is a row with its error. Ctrl-C or a kill loses at most the trial in flight.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..calibration import Calibration
from ..checkpoint import Checkpoint
from ..errors import PgpackError, RoundTripError
from ..evaluate import BitsPerByte, Evaluator
from ..pack import Artifact, Tuner, pack
from ..quantizers.base import Encoding
from ..recipe import Recipe, infos
from ..search_space import Candidate
from ..unpack import unpack
from .journal import Journal, Study
from .trial import Trial, timestamp, trial_key

CACHE_BYTES = 1 << 30


class EncodingCache(MutableMapping[tuple[Any, ...], Encoding]):
    """Quantized matrices, least recently used first to go once `limit` bytes are held."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.n_bytes = 0
        self._held: OrderedDict[tuple[Any, ...], Encoding] = OrderedDict()

    def __getitem__(self, key: tuple[Any, ...]) -> Encoding:
        self._held.move_to_end(key)
        return self._held[key]

    def __setitem__(self, key: tuple[Any, ...], encoding: Encoding) -> None:
        self.pop(key, None)
        self._held[key] = encoding
        self.n_bytes += _size(encoding)
        while self.n_bytes > self.limit and len(self._held) > 1:
            self.n_bytes -= _size(self._held.popitem(last=False)[1])

    def __delitem__(self, key: tuple[Any, ...]) -> None:
        self.n_bytes -= _size(self._held.pop(key))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def _size(encoding: Encoding) -> int:
    return sum(part.symbols.nbytes + sum(a.nbytes for a in part.grid.arrays.values()) for part in encoding.parts)


Calibrate = Callable[[Recipe], Calibration | None]


@dataclass
class Measurer:
    """Measures recipes on one checkpoint, sharing quantized tensors and evaluations between them.

    `calibrate` gives the calibration that a recipe asks for (called only for recipes that need Hessians); `tuner` as
    in `pgpack.pack.pack`.
    """

    checkpoint: Checkpoint
    evaluator: Evaluator | None
    calibrate: Calibrate
    cache: EncodingCache = field(default_factory=EncodingCache)
    losses: dict[str, BitsPerByte] = field(default_factory=dict)
    tuner: Tuner | None = None

    def needs_calibration(self, recipe: Recipe) -> bool:
        governed = recipe.resolve(infos(self.checkpoint.stored_shapes))
        return any(rule.policy.needs_hessian for rule in governed.values())

    def pack(self, recipe: Recipe) -> Artifact:
        """The artifact of `recipe`. Raises whatever `pgpack.pack.pack` does."""
        calibration = self.calibrate(recipe) if self.needs_calibration(recipe) else None
        return pack(self.checkpoint, recipe, calibration, cache=self.cache, tuner=self.tuner)

    def evaluate(self, artifact: Artifact) -> BitsPerByte | None:
        """Loss of the decoded artifact; measured once per set of decoded weights. None without an evaluator."""
        if self.evaluator is None:
            return None
        if artifact.weights_digest not in self.losses:
            loss = self.evaluator.evaluate(unpack(artifact.data).tensors())
            self.losses[artifact.weights_digest] = loss
        return self.losses[artifact.weights_digest]


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
            measurer.losses.setdefault(
                trial.weights_digest, BitsPerByte(trial.nats, trial.bpb, trial.kl, 0, 0, trial.eval_s or 0.0)
            )
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
