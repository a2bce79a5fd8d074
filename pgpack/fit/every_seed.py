"""Several checkpoints as one that a budget is fitted to: a recipe is as large as its largest artifact."""

from __future__ import annotations

from collections.abc import Sequence

from pgpack.loss.evaluator import BitsPerByte
from pgpack.measure import Measurer
from pgpack.pack import Artifact
from pgpack.recipe.recipe import Recipe


def every_seed(measurers: Sequence[Measurer]) -> Measurer:
    """A measurer whose artifacts are the largest over `measurers`, of equal shapes; a single one is itself."""
    return measurers[0] if len(measurers) == 1 else _EverySeed(measurers)


class _EverySeed(Measurer):
    """Statistics and shapes are the first one's; an artifact's loss is that of the checkpoint it was made of."""

    def __init__(self, measurers: Sequence[Measurer]) -> None:
        first = measurers[0]
        super().__init__(first.checkpoint, first.evaluator, first.calibrate, first.cache, first.trainer)
        self._measurers = tuple(measurers)
        self._maker: dict[str, Measurer] = {}

    def pack(self, recipe: Recipe) -> Artifact:
        """The largest artifact of `recipe`."""
        made = [(measurer.pack(recipe), measurer) for measurer in self._measurers]
        self._maker |= {artifact.weights_digest: measurer for artifact, measurer in made}
        return max((artifact for artifact, _ in made), key=lambda artifact: artifact.n_bytes)

    def evaluate(self, artifact: Artifact) -> BitsPerByte | None:
        """The loss of an artifact that `pack` made."""
        return self._maker[artifact.weights_digest].evaluate(artifact)
