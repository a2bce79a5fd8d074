"""Tokens of shards, deterministic batches from them, and the overlap between two texts.

Owns everything that holds tokens in memory; the files themselves are described in `pgpack.text.shard_files`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import DataError, InputChanged
from pgpack.files import Unchanged, replace_file
from pgpack.tables import counted_are

from .corpus_record import check_shards
from .shard_files import HEADER_INTS, MAGIC, VERSION, VERSION_32, Layout, read_layout

SHARD_TOKENS = 100_000_000
WINDOW = 64  # tokens that are looked for in another text
Tokens = NDArray[np.unsignedinteger[Any]]  # uint16 where the vocabulary fits, else uint32: `token_dtype`


def token_dtype(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """What holds the tokens of a vocabulary."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def shards_of(tokens: Tokens, folder: Path, name: str) -> list[tuple[Path, bytes]]:
    """Paths and contents of `NAME_000000.bin`, `NAME_000001.bin`, ... of at most 10^8 tokens each.

    32 bits a token where they are uint32, else 16.
    """
    version, dtype = (VERSION_32, "<u4") if tokens.dtype == np.uint32 else (VERSION, "<u2")
    found = []
    for index, start in enumerate(range(0, max(len(tokens), 1), SHARD_TOKENS)):
        part = tokens[start : start + SHARD_TOKENS]
        header = np.zeros(HEADER_INTS, dtype="<i4")
        header[:3] = MAGIC, version, len(part)
        found.append((folder / f"{name}_{index:06d}.bin", header.tobytes() + part.astype(dtype).tobytes()))
    return found


def write_shards(tokens: Tokens, folder: Path, name: str) -> list[Path]:
    """Write `shards_of` the tokens, each in one step; their paths come back."""
    shards = shards_of(tokens, folder, name)
    for path, data in shards:
        replace_file(path, data)
    return [path for path, _ in shards]


def read_tokens(paths: Sequence[Path], vocab_size: int | None = None) -> Tokens:
    """All tokens of the shards in order; with `vocab_size`, tokens outside the vocabulary are refused.

    Raises: DataError, also where shards that `pgtrain data` wrote hold other tokens by now.
    """
    parts: list[Tokens] = []
    unchanged = Unchanged(paths)
    for path in paths:
        layout = read_layout(path)
        part = np.fromfile(path, dtype=layout.dtype, count=layout.n_tokens, offset=layout.offset)
        if part.size != layout.n_tokens:
            raise InputChanged(f"{path} was cut while it was read; run the same command again once it is whole")
        if layout.bare:
            _require_bare(path, part, vocab_size)
        parts.append(_within(path, part, layout, vocab_size))
    unchanged.check()
    by_path = dict(zip(paths, parts, strict=True))
    check_shards(paths, lambda some: digest_tokens(np.concatenate([by_path[path] for path in some])))
    widest = max(part.dtype.itemsize for part in parts)
    dtype = token_dtype(vocab_size) if vocab_size is not None else np.uint16 if widest == 2 else np.uint32
    return np.concatenate(parts).astype(dtype, copy=False)


def _require_bare(path: Path, numbers: Tokens, vocab_size: int | None) -> None:
    """Raises: DataError where numbers without a header may be something else than tokens of 16 bits."""
    lacks = None
    if vocab_size is None:
        lacks = "and no vocabulary says whether its numbers are tokens"
    elif token_dtype(vocab_size) is not np.uint16:
        lacks = f"and tokens of a vocabulary of {vocab_size:,} do not fit into 16 bits"
    elif len(numbers) > 1 and not numbers[1::2].any():
        lacks = "and every second number of 16 bits is 0, as of wider ones"
    if lacks is not None:
        raise DataError(
            f"{path} has no header of a token shard, {lacks}; store the tokens as .npy, which says its type"
        )


def _within(path: Path, numbers: NDArray[np.integer[Any]], layout: Layout, vocab_size: int | None) -> Tokens:
    """The numbers of a file as tokens. Raises: DataError where one is none."""
    least, most = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    if least < 0 or most >= 1 << 32:
        raise DataError(f"{path} holds {least if least < 0 else most}, which is no token")
    if vocab_size is not None and len(numbers) and most >= vocab_size:
        held = f"holds token {most}" + (", read as uint16 without a header" if layout.bare else "")
        raise DataError(
            f"{path} {held}, the vocabulary ends at {vocab_size - 1}; shards and tokenizer do not belong together"
        )
    if layout.dtype in ("<u2", "<u4"):
        return numbers  # type: ignore[return-value]
    return numbers.astype(token_dtype(most + 1 if vocab_size is None else vocab_size))


def digest_tokens(tokens: Tokens) -> str:
    """sha256 hex of the tokens, little-endian: four bytes each where they are uint32, else two."""
    dtype = "<u4" if tokens.dtype == np.uint32 else "<u2"
    return hashlib.sha256(np.ascontiguousarray(tokens, dtype=dtype).data).hexdigest()


@dataclass(frozen=True, eq=False)
class BatchSampler:
    """Batches that depend on the seed and the step number only: resuming needs no other state.

    Every epoch cuts the stream into windows of `seq_len` at a new random offset and visits each window once,
    in a new random order. Raises: DataError when the text is shorter than two windows.
    """

    tokens: Tokens
    seq_len: int
    batch_tokens: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_tokens < self.seq_len or self.batch_tokens % self.seq_len:
            raise DataError(f"{self.batch_tokens} tokens per batch is not a multiple of the sequence, {self.seq_len}")
        if self.windows < 1:
            raise DataError(
                f"{counted_are(len(self.tokens), 'training token')} too few for sequences of {self.seq_len}; "
                "give more text or a shorter --seq-len"
            )

    @property
    def windows(self) -> int:
        """Windows per epoch: as many as fit whatever the offset."""
        return (len(self.tokens) - 1) // self.seq_len - 1

    @property
    def batch_size(self) -> int:
        return self.batch_tokens // self.seq_len

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(inputs, targets) of step 0, 1, 2, ... Shape: (batch_size, seq_len) int64 each."""
        rows = []
        for index in range(step * self.batch_size, (step + 1) * self.batch_size):
            epoch, position = divmod(index, self.windows)
            start = self._start(epoch, position)
            rows.append(self.tokens[start : start + self.seq_len + 1])
        block = np.stack(rows).astype(np.int64)
        return block[:, :-1], block[:, 1:]

    def _start(self, epoch: int, position: int) -> int:
        offset, order = _epoch_order(self.seed, epoch, self.seq_len, self.windows)
        return offset + int(order[position]) * self.seq_len


@dataclass(frozen=True, eq=False)
class DocumentSampler(BatchSampler):
    """Batches whose sequences begin where documents begin, as `BatchSampler` otherwise.

    The stream is covered from left to right: after a sequence comes the last document start that it contains, so that
    the document it cut is seen whole, or its own end where a longer document goes on. Every token of an epoch is a
    target at least once; tokens of cut documents come twice.
    """

    document_token: int

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where the sequences of an epoch begin."""
        begins = np.flatnonzero(self.tokens == self.document_token)
        last, start = len(self.tokens) - 1 - self.seq_len, 0
        starts = []
        while start <= last:
            starts.append(start)
            at = int(np.searchsorted(begins, start + self.seq_len, side="right")) - 1
            start = int(begins[at]) if at >= 0 and begins[at] > start else start + self.seq_len
        return np.array(starts, dtype=np.int64)

    @property
    def windows(self) -> int:
        return len(self.starts)

    def _start(self, epoch: int, position: int) -> int:
        return int(self.starts[_epoch_order(self.seed, epoch, 1, self.windows)[1][position]])


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, seq_len: int, windows: int) -> tuple[int, NDArray[np.int64]]:
    generator = np.random.default_rng((seed, epoch))
    return int(generator.integers(seq_len)), generator.permutation(windows)


def overlap_fraction(calib: Tokens, val: Tokens, width: int = WINDOW) -> float:
    """Share of validation windows of `width` tokens that occur somewhere in the calibration text.

    Above 2^18 windows an evenly spaced sample of that many is looked up. 64-bit rolling hashes: the chance of
    a false hit is below 1e-4 even for 10^10 pairs. Returns 0.0 when either text is shorter than a window.
    """
    n_windows = len(val) - width + 1
    if n_windows < 1 or len(calib) < width:
        return 0.0
    hashes = _window_hashes(val, width)
    wanted = np.sort(hashes[:: max(1, n_windows >> 18)])
    hit = np.zeros(len(wanted), dtype=bool)
    chunk = 1 << 20
    for start in range(0, len(calib) - width + 1, chunk):
        hit |= are_in(wanted, np.sort(_window_hashes(calib[start : start + chunk + width - 1], width)))
    return float(hit.mean())


def repeated(tokens: Tokens, others: Tokens, width: int = WINDOW) -> NDArray[np.bool_]:
    """Which tokens lie in a window of `width` tokens that occurs in `others`. Shape: (n,) as `tokens`."""
    covered = np.zeros(len(tokens) + 1, dtype=np.int32)
    if len(others) >= width:
        present = np.sort(_window_hashes(others, width))
        chunk = 1 << 20
        for start in range(0, len(tokens) - width + 1, chunk):
            hashes = _window_hashes(tokens[start : start + chunk + width - 1], width)
            found = start + np.flatnonzero(are_in(hashes, present))
            np.add.at(covered, found, 1)
            np.add.at(covered, found + width, -1)
    return np.cumsum(covered[:-1]) > 0


def are_in(wanted: NDArray[np.uint64], present: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `wanted` occur in `present`, sorted and not empty. By bisection: np.isin takes 15 times as long."""
    places = np.minimum(np.searchsorted(present, wanted), len(present) - 1)
    return present[places] == wanted  # type: ignore[no-any-return]


def _window_hashes(tokens: Tokens, width: int) -> NDArray[np.uint64]:
    """Hash of every window, all arithmetic modulo 2^64: sum of scrambled token * odd^(position from the end).

    Differences of one running sum of token * odd^-k, times odd^k: an odd number has an inverse modulo 2^64.
    """
    odd = 0x9E3779B97F4A7C15
    with np.errstate(over="ignore"):
        up, down = (np.multiply.accumulate(np.full(len(tokens), x, np.uint64)) for x in (odd, pow(odd, -1, 1 << 64)))
        sums = np.cumsum(_scrambled(tokens) * down, dtype=np.uint64)
        hashes: NDArray[np.uint64] = sums[width - 1 :].copy()
        hashes[1:] -= sums[:-width]
        hashes *= up[width - 1 :]
    return hashes


def _scrambled(tokens: Tokens) -> NDArray[np.uint64]:
    """64 well mixed bits of every token. Source: the finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    bits = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
