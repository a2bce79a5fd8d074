"""Recipes and sizes of the packed checkpoint: what is varied, and what stays as it is.

    blocks' matrices  quantizer | codec     varied
    all else          fp16                  equal in all of them, and not counted

Owns the codecs by name. Sizes are those of the blocks' matrices with their steps and tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.replication.packing import Bench, Packed
from pgpack.loss.evaluator import Tensors

CODECS = {
    "zstd": "raw|zstd(level=22)",
    "brotli": "raw|brotli(quality=11)",
    "lzma": "raw|lzma(preset=9)",
    "zlib": "raw|zlib(level=9)",
    "bits": "bitpack",
    "rans": "rans",
}


@dataclass(frozen=True)
class Sized:
    """A packed checkpoint. Units: bytes and bits per weight of the matrices; their relative squared error."""

    packed: Packed
    matrix_bytes: int
    n_weights: int
    mse: float

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.matrix_bytes / self.n_weights


def recipe(quantizer: str, codec: str, blocks: str = "*") -> str:
    """The recipe text; `codec` is a name of CODECS, `blocks` a glob of block numbers.

    What is not a matrix of a block goes raw into a stream of its own: shares of a stream that tensors of other kinds
    are in are estimates.
    """
    globs = (f"blocks.{blocks}.{module}.*.weight" for module in ("attn", "mlp"))
    matrices = "; ".join(f"{glob}={quantizer}|{CODECS[codec]}" for glob in globs)
    return f"{matrices}; *=cast(dtype=fp16)"


class MatrixBench(Bench):
    """A checkpoint whose matrices, those of `blocks`, are packed in many ways."""

    def __init__(self, path: Path, max_tokens: int, blocks: str = "*") -> None:
        super().__init__(path, max_tokens)
        self.blocks = blocks

    @cached_property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        return dict(self.checkpoint.items())

    @cached_property
    def matrices(self) -> list[str]:
        """Names of the matrices that are varied."""
        globs = [f"blocks.{self.blocks}.{module}.*.weight" for module in ("attn", "mlp")]
        return [name for name in self.weights if any(fnmatchcase(name, glob) for glob in globs)]

    def sized(self, quantizer: str, codec: str) -> Sized:
        """The checkpoint under the recipe of these two."""
        result = self.packed(recipe(quantizer, codec, self.blocks))
        shares, decoded = result.artifact.report.tensors, result.artifact.decoded.tensors()
        return Sized(
            result,
            sum(shares[name] for name in self.matrices),
            sum(self.weights[name].size for name in self.matrices),
            relative_error(self.weights, decoded, self.matrices),
        )


def relative_error(original: Tensors, decoded: Tensors, names: Iterable[str]) -> float:
    """Squared error over squared norm, all of `names` together."""
    error = norm = 0.0
    for name in names:
        error += float(np.square(decoded[name] - original[name], dtype=np.float64).sum())
        norm += float(np.square(original[name], dtype=np.float64).sum())
    return error / norm
