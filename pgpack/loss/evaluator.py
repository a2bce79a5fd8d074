"""What an evaluation is: decoded tensors in, bits per byte out.

pgpack never evaluates a model itself; whoever owns the model implements `Evaluator`
(`pgpack.loss.bpb.TextEvaluator` does for the challenge's models and for any `nn.Module`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgpack.errors import DataError
from pgpack.tables import counted, counted_are

from .intervals import ratio

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class BitsPerByte:
    """One measured loss.

    Units: `nats` and `kl` are per token; `bpb` = nats * n_tokens / (ln 2 * n_text_bytes);
    `kl` is KL(fp32 model || this model), None when there is no reference model.
    `bpb_se`, `kl_se`: standard errors, over blocks of the text, of the bits per byte above the reference and of `kl`
    (`pgpack.loss.intervals`). `block_excess`: nats above the reference in each block, whose text has
    `block_bytes` bytes; both empty without a reference.
    """

    nats: float
    bpb: float
    kl: float | None
    n_tokens: int
    n_text_bytes: int
    eval_s: float
    bpb_se: float | None = None
    kl_se: float | None = None
    block_excess: tuple[float, ...] = ()
    block_bytes: tuple[int, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """Field name -> value, as `--json` prints it: without blocks, and without errors that are not known."""
        unknown = {name for name in ("bpb_se", "kl_se") if self.__dict__[name] is None}
        hidden = {"block_excess", "block_bytes"} | unknown
        return {name: value for name, value in self.__dict__.items() if name not in hidden}


def with_errors(
    loss: BitsPerByte, excess: ArrayLike, kl: ArrayLike, n_bytes: ArrayLike, n_tokens: ArrayLike
) -> BitsPerByte:
    """The loss with its standard errors, from sums over the blocks that begin at the windows `block_starts`.

    Shape: (n_blocks,) each. Units: `excess` nats above the reference model; `kl` nats.
    """
    difference = np.asarray(excess, np.float64)
    return dataclasses.replace(
        loss,
        bpb_se=ratio(difference / math.log(2.0), n_bytes).standard_error,
        kl_se=ratio(kl, n_tokens).standard_error,
        block_excess=tuple(difference.tolist()),
        block_bytes=tuple(np.asarray(n_bytes, np.int64).tolist()),
    )


class Evaluator(Protocol):
    """Measures tensors on one fixed text in one fixed way."""

    @property
    def digest(self) -> str:
        """sha256 hex of the evaluated tokens and the way they are evaluated; equal digests compare exactly."""

    def evaluate(self, tensors: Tensors) -> BitsPerByte:
        """Loss of the model that holds `tensors` (name -> float32 array, every tensor of the checkpoint)."""


def whole_windows(n_tokens: int, seq_len: int, max_tokens: int | None = None) -> int:
    """Windows of `seq_len` that `n_tokens` give, of at most `max_tokens` scored ones; the last token only follows.

    Raises: DataError when not one window is left.
    """
    n_scored = n_tokens - 1 if max_tokens is None else min(n_tokens - 1, max_tokens)
    if n_scored < seq_len:
        found = counted_are(n_tokens, "validation token")
        if max_tokens is not None:
            found = f"{counted(n_tokens, 'validation token')}, of which at most {max_tokens} are scored, are"
        raise DataError(
            f"{found} too few for one window of {seq_len}; "
            "give more text, a larger --max-tokens or a shorter --seq-len"
        )
    return n_scored // seq_len
