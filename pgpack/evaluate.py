"""What an evaluation is: decoded tensors in, bits per byte out.

pgpack never evaluates a model itself; whoever owns the model implements `Evaluator`
(`pgtrain.bpb.TextEvaluator` does for the challenge's models and for any `nn.Module`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class BitsPerByte:
    """One measured loss.

    Units: `nats` and `kl` are per token; `bpb` = nats * n_tokens / (ln 2 * n_text_bytes);
    `kl` is KL(fp32 model || this model), None when there is no reference model.
    """

    nats: float
    bpb: float
    kl: float | None
    n_tokens: int
    n_text_bytes: int
    eval_s: float

    def as_row(self) -> dict[str, Any]:
        """Field name -> value, as trial rows and `--json` print it."""
        return dict(self.__dict__)


class Evaluator(Protocol):
    """Measures tensors on one fixed text in one fixed way."""

    @property
    def digest(self) -> str:
        """sha256 hex of the evaluated tokens and the way they are evaluated; equal digests compare exactly."""
        ...

    def evaluate(self, tensors: Tensors) -> BitsPerByte:
        """Loss of the model that holds `tensors` (name -> float32 array, every tensor of the checkpoint)."""
        ...
