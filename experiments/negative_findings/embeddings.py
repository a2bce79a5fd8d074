"""The embedding table at lower rank (finding 25): spectrum beside a random table, loss after truncation."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from experiments.replication.rows import Found
from experiments.replication.training import Trained

from .recipes import MatrixBench

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)  # of the width
SOURCE_SHAPE = (1024, 512)
TOKENS = 8192


def captured(table: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the squared norm in the leading 1, 2, ... singular directions; the mean row stays in."""
    energy = np.square(np.linalg.svd(table.astype(np.float64), compute_uv=False))
    share: NDArray[np.float64] = np.cumsum(energy) / energy.sum()
    return share


def truncated(table: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """The best approximation of this rank."""
    u, s, vh = np.linalg.svd(table.astype(np.float64), full_matrices=False)
    return np.asarray((u[:, :rank] * s[:rank]) @ vh[:rank], np.float32)


def measure(trained: Trained, seed: int) -> Found:
    """Spectrum and truncation of one checkpoint's table."""
    bench = MatrixBench(trained.path("packed", seed), TOKENS)
    table = bench.tensors["tok_emb.weight"]
    width = table.shape[1]
    normal = partial(np.random.default_rng(seed).normal, size=table.shape)
    learned, random = captured(table), captured(np.asarray(normal(), np.float32))
    found = Found(seed)
    for rank in range(1, width + 1):
        found.add("spectrum", seed=seed, rank=rank, learned=float(learned[rank - 1]), random=float(random[rank - 1]))
    for share in SHARES:
        rank = round(share * width)
        bpb = bench.piece.evaluator.evaluate(bench.tensors | {"tok_emb.weight": truncated(table, rank)}).bpb
        cost = bpb - bench.fp32_bpb
        found.add("truncation", seed=seed, share=share, rank=rank, cost=cost)
        found.values[f"svd.cost_{share:g}"] = cost
    wide = captured(np.random.default_rng(seed).normal(size=SOURCE_SHAPE).astype(np.float32))
    for name, share in (("eighth", 1 / 8), ("half", 1 / 2)):
        for of, energy in (("learned", learned), ("random", random), ("random_source", wide)):
            found.values[f"svd.{of}_{name}"] = float(energy[round(share * len(energy)) - 1])
    return found
