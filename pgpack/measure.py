"""One checkpoint measured under recipes: pack, decode, evaluate; what recipes share is done once and kept.

recipe --pack--> artifact --decode--> tensors --evaluate--> BitsPerByte
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from pgpack.cache.entries import LOSS, loss_bytes
from pgpack.cache.store import Cache, cache_key
from pgpack.calibration.calibration import Calibration
from pgpack.calibration.coverage import Shares, covered, no_shares
from pgpack.calibration.distortion import WeightError
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.loss.evaluator import BitsPerByte, Evaluator
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe

from .errors import PgpackError
from .pack import Artifact, Trainer, pack, pack_applied


def _silent(line: str) -> None:
    pass


@dataclass
class Measurer:
    """Measures recipes on one checkpoint; work that they share is done once and kept in `cache`.

    `calibrate` gives the calibration that a recipe asks for (called only for recipes that need Hessians), None where
    there is nothing to calibrate on; what it lacks is assumed (`pgpack.calibration.coverage`), which `note` is told,
    or refused where `strict`. `trainer` as in `pgpack.pack.pack`. `model_digest`: sha256 hex of what the evaluator's
    digest leaves out (the model and its code, the KL's reference, device and libraries); without it losses are kept
    in memory only. `weights` measures where there is no evaluator. `threads` as in
    `pgpack.pack.quantize`, `shares` as in `covered`.
    """

    checkpoint: Checkpoint
    evaluator: Evaluator | None
    calibrate: Callable[[Recipe], Calibration | None]
    cache: Cache = field(default_factory=Cache)
    trainer: Trainer | None = None
    model_digest: str | None = None
    weights: WeightError | None = None
    strict: bool = False
    note: Callable[[str], None] = _silent
    threads: int = 1
    shares: Shares = no_shares

    @property
    def digest(self) -> str:
        """Of the way of measuring: the evaluator's, where no text is known that of the weights' error.

        Raises: PgpackError without either.
        """
        judge = self.evaluator or self.weights
        if judge is None:
            raise PgpackError("a sweep needs an evaluator; give text with --text, or --val and --tokenizer")
        return judge.digest

    def needs_calibration(self, recipe: Recipe) -> bool:
        return apply(recipe, self.checkpoint.stored_shapes).needs_calibration

    def pack(self, recipe: Recipe) -> Artifact:
        """The artifact of `recipe`. Raises whatever `pgpack.pack.pack` does."""
        calibration = self.calibrate(recipe) if self.needs_calibration(recipe) else None
        if self.strict:
            return pack(self.checkpoint, recipe, calibration, cache=self.cache, trainer=self.trainer)
        whole = covered(self.checkpoint, recipe, calibration, self.shares)
        self.note(whole.note)
        return pack_applied(
            self.checkpoint,
            whole.applied,
            whole.calibration,
            cache=self.cache,
            trainer=self.trainer,
            threads=self.threads,
        )

    def evaluate(self, artifact: Artifact) -> BitsPerByte | None:
        """Loss of the decoded artifact; measured once per set of decoded weights. None without an evaluator."""
        evaluator = self.evaluator
        if evaluator is None:
            return None
        return self._recalled(evaluator, artifact.weights_digest, artifact.decoded.tensors)

    def fp32_loss(self) -> BitsPerByte:
        """Loss of the checkpoint itself. Raises PgpackError without an evaluator."""
        evaluator = self.evaluator
        if evaluator is None:
            raise PgpackError(
                "the loss of a checkpoint needs an evaluator; give text with --text, or --val and --tokenizer"
            )
        weights = f"checkpoint {self.checkpoint.digest}"
        return self._recalled(evaluator, weights, lambda: dict(self.checkpoint.items()))

    def know(self, weights_digest: str, loss: BitsPerByte) -> None:
        """Take over a loss that this evaluator measured before; it is kept in memory only."""
        if self.evaluator is not None:
            self.cache.hold("evaluation", self._loss_key(self.evaluator, weights_digest), loss_bytes(loss))

    def _recalled(
        self, evaluator: Evaluator, weights_digest: str, tensors: Callable[[], dict[str, NDArray[Any]]]
    ) -> BitsPerByte:
        key, on_disk = self._loss_key(evaluator, weights_digest), self.model_digest is not None
        return self.cache.recall("evaluation", key, LOSS, lambda: evaluator.evaluate(tensors()), on_disk=on_disk)

    def _loss_key(self, evaluator: Evaluator, weights_digest: str) -> str:
        return cache_key(weights_digest, evaluator.digest, self.model_digest)
