"""Recipes and sizes of the packed checkpoint: what is varied, and what stays as it is.

    blocks' matrices  quantizer | codec     varied
    all else          fp16                  equal in all of them, and not counted

Owns the codecs by name. Sizes are those of the blocks' matrices with their steps and tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from experiments.replication.packing import Bench, Packed, relative_error

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


class MatrixBench(Bench):
    """A checkpoint whose matrices, those of `blocks` (a glob of numbers), are packed in many ways."""

    def __init__(self, path: Path, max_tokens: int, blocks: str = "*") -> None:
        super().__init__(path, max_tokens)
        self.globs = [f"blocks.{blocks}.{module}.*.weight" for module in ("attn", "mlp")]
        self.matrices = [name for name in self.tensors if any(fnmatchcase(name, glob) for glob in self.globs)]

    def sized(self, quantizer: str, codec: str) -> Sized:
        """The checkpoint with its matrices through `quantizer` and a codec of CODECS.

        What is not a matrix of a block goes raw into a stream of its own: shares of a stream that tensors of other
        kinds are in are estimates.
        """
        matrices = "; ".join(f"{glob}={quantizer}|{CODECS[codec]}" for glob in self.globs)
        result = self.packed(f"{matrices}; *=cast(dtype=fp16)")
        shares, decoded = result.artifact.report.tensors, result.artifact.decoded.tensors()
        return Sized(
            result,
            sum(shares[name] for name in self.matrices),
            sum(self.tensors[name].size for name in self.matrices),
            relative_error(self.tensors, decoded, self.matrices),
        )
