"""Quantities that need the model to run: blocks taken out, artifacts at each clip, projections covered, learning."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from experiments.replication.packing import Bench
from experiments.replication.rows import Row
from pgpack.loss.sliding import EvaluationWay
from pgtrain.training.ttt import TTTEvaluator
from pgtrain.training.ttt_config import TTTConfig

CLIPS = (3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 12.85, 16.0, 20.0)
TEXT_TOKENS = 8192
REMOVAL_TOKENS = 4096
LEARNING = TTTConfig(chunk_tokens=1024, epochs=3, lr=0.01, batch_tokens=512)
FREEZES = {
    "all_learn": LEARNING,
    "frozen": replace(LEARNING, freeze_blocks=2),
    "scalars_frozen": replace(LEARNING, freeze_blocks=2, frozen_part="scalars"),
}


def recipe(clip: float = 12.85, first: str = "") -> str:
    """The study's packer: int6 GPTQ at `clip`, the table int8 at 20, what is no matrix fp16, shuffle, brotli.

    Rules of `first` come before the others.
    """
    return (
        f"role:control=cast(dtype=fp16); {first}*tok_emb*=gptq(bits=8,clip=20); *=gptq(bits=6,clip={clip:g}); "
        "@container=torch_sdclip(stride=2)|brotli(quality=11,lgwin=22)"
    )


def removals(path: Path) -> list[float]:
    """Bits per byte that the loss rises by when a block adds nothing to the stream, block by block."""
    bench = Bench(path, REMOVAL_TOKENS)
    evaluator, tensors = bench.text.evaluator(), bench.tensors
    whole = evaluator.evaluate(tensors).bpb
    blocks = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")})
    scales = [[f"blocks.{block}.{side}_scale" for side in ("attn", "mlp")] for block in blocks]
    silent = [{name: np.zeros_like(tensors[name]) for name in names} for names in scales]
    return [evaluator.evaluate(tensors | without).bpb - whole for without in silent]


def boundary_importance(rises: list[float]) -> dict[str, float]:
    """What the first and the last block are worth against the median block."""
    usual = statistics.median(rises)
    return {"first_importance": rises[0] / usual, "last_importance": rises[-1] / usual}


def agreement(rises: list[float], contributions: list[float]) -> float:
    """Rank correlation (Spearman) of what blocks are worth and what their weights contribute."""
    ranks = [np.argsort(np.argsort(values)) for values in (rises, contributions)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def clip_curve(bench: Bench, run: str, seed: int) -> list[Row]:
    """Bytes and loss at every clip of the blocks' matrices.

    The table is int8 by its largest values: at 20 standard deviations its error would hide all that a clip changes.
    """
    points = {clip: bench.packed(recipe(clip, "*tok_emb*=rtn(bits=8); ")) for clip in CLIPS}
    return [
        {"run": run, "seed": seed, "clip": clip, "n_bytes": point.n_bytes, "bpb": point.bpb, "kl": point.kl}
        for clip, point in points.items()
    ]


def curve_measures(rows: list[Row]) -> dict[str, float]:
    """What tighter clips cost and bring."""
    by_clip = {float(row["clip"]): (float(row["n_bytes"]), float(row["kl"])) for row in rows}
    sizes = [by_clip[clip][0] for clip in CLIPS]
    falls = [later < earlier for earlier, later in pairwise(sizes)]
    return {
        "size_of_12_over_12.85": by_clip[12.0][0] / by_clip[12.85][0],
        "kl_of_12_over_12.85": by_clip[12.0][1] / by_clip[12.85][1],
        "size_falls": sum(falls) / len(falls),
        "best_clip": min(CLIPS, key=lambda clip: by_clip[clip][1]),
        "kl_of_3_over_best": by_clip[3.0][1] / min(kl for _, kl in by_clip.values()),
        "size_of_3_over_12.85": by_clip[3.0][0] / by_clip[12.85][0],
    }


def coverage(bench: Bench) -> dict[str, float]:
    """Projections as fp16, as that packer left them, against int6 GPTQ like every other matrix."""
    raw = bench.packed(recipe(first="*embed_proj*=cast(dtype=fp16); *head_proj*=cast(dtype=fp16); "))
    covered = bench.packed(recipe())
    names = ("embed_proj.weight", "head_proj.weight")
    fp16 = 2 * sum(math.prod(bench.checkpoint.shapes[name]) for name in names)
    return {
        "passthrough_bytes": fp16,
        "saved_bytes": raw.n_bytes - covered.n_bytes,
        "saved_of_passthrough": (raw.n_bytes - covered.n_bytes) / fp16,
        "saved_of_artifact": (raw.n_bytes - covered.n_bytes) / raw.n_bytes,
        "covered_bpb_less_raw": covered.bpb - raw.bpb,
    }


def learning(path: Path, freezes: Iterable[str]) -> dict[str, float]:
    """What learning from scored text changes the loss by, for each way to freeze the first two blocks."""
    bench = Bench(path, TEXT_TOKENS)
    text = bench.text.evaluator(way=EvaluationWay())
    tensors = bench.tensors
    fixed = text.evaluate(tensors).bpb
    return {f"learning_{name}": TTTEvaluator(text, FREEZES[name]).evaluate(tensors).bpb - fixed for name in freezes}
