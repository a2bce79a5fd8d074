"""How a model learns while it is measured, as plain values. Refuses torch, so that a plan prints at once."""

from __future__ import annotations

from dataclasses import dataclass

from pgpack.errors import DataError

KINDS = ("sgd", "lora")
FROZEN_PARTS = ("all", "scalars")


@dataclass(frozen=True)
class TTTConfig:
    """How a model learns while it is measured.

    sgd: all weights but those of the first `freeze_blocks` physical blocks, SGD with momentum. lora: W + B A beside
    every matrix of the blocks that are not frozen, rank `rank`, B = 0 at the start, Adam; with document-isolated
    evaluation the adapters start anew at every document. The rate falls as a cosine over the chunks of a text, or of
    a document. `frozen_part` scalars leaves the matrices of frozen blocks free, which is the freeze that #1546 ran.
    Units: `chunk_tokens` targets; `batch_tokens` targets per training step.
    Source: defaults of #1493 (sgd) and #77 (lora).
    """

    kind: str = "sgd"
    chunk_tokens: int = 32_768
    epochs: int = 3
    lr: float = 0.005
    momentum: float = 0.9
    grad_clip: float = 1.0
    freeze_blocks: int = 0
    frozen_part: str = "all"
    batch_tokens: int = 32_768
    rank: int = 8
    seed: int = 1337

    @classmethod
    def of_kind(cls, kind: str) -> TTTConfig:
        """The defaults of a kind."""
        return cls() if kind == "sgd" else cls(kind, chunk_tokens=256, epochs=1, lr=0.01, batch_tokens=256)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"unknown kind of test-time training {self.kind!r}; known: {', '.join(KINDS)}")
        if self.frozen_part not in FROZEN_PARTS:
            raise DataError(f"unknown frozen_part {self.frozen_part!r}; known: {', '.join(FROZEN_PARTS)}")
        for name in ("chunk_tokens", "batch_tokens", "rank"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} of test-time training is {getattr(self, name)}, must be at least 1")
        for name in ("epochs", "lr", "momentum", "grad_clip", "freeze_blocks"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} of test-time training is {getattr(self, name)}, must not be negative")
