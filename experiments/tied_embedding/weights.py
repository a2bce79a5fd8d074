"""Quantities that weights alone give, as `pgpack analyze` reads them, of a trained model or of one at its start."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from experiments.replication.plan import Run
from pgpack.checkpoint.analysis import Analysis
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgtrain.model.gpt import GPT, initialize_

CLIP, BITS = 12.85, 6  # of the study's recipe


def start_of(run: Run) -> Checkpoint:
    """The weights that a run begins with."""
    model = initialize_(GPT(run.model), run.seed)
    return from_tensors({name: tensor.numpy() for name, tensor in model.state_dict().items()})


def middle(values: Sequence[float]) -> float:
    """Mean of the middle third: blocks 3 to 5 of 9, 3 to 6 of 11."""
    n = len(values)
    return statistics.fmean(values[n // 3 : 2 * n // 3])


def profile(analysis: Analysis) -> dict[str, float]:
    """How contributions, scales, gains, mixes, skips and lanes lie over the blocks."""
    found, blocks = analysis.contributions, analysis.blocks
    scales = [(block.attn_scale or 0.0) + (block.mlp_scale or 0.0) for block in blocks]
    gains = [block.q_gain_std or 0.0 for block in blocks]
    outer, rest = analysis.skips[-1].effective, [skip.effective for skip in analysis.skips[:-1]]
    lanes = analysis.lanes
    values = {
        "total": sum(found),
        "ratio": max(found) / min(found),
        "first": found[0],
        "last": found[-1],
        "first_over_middle": found[0] / middle(found),
        "last_over_middle": found[-1] / middle(found),
        "boundary_over_middle": max(found[0], found[-1]) / middle(found),
        "boundary_scale_over_middle": max(scales[0], scales[-1]) / middle(scales),
        "first_gain_spread_over_most": gains[0] / max(gains[1:]),
        "outer_skip": outer,
        "outer_skip_over_least": outer / min(rest),
        "first_lane_crosses": lanes[0].attn_crosses,
        "last_lane_kept": abs(lanes[-1].keep_attn),
        "last_lane_kept_over_other": abs(lanes[-1].keep_attn / lanes[-1].keep_mlp),
    }
    mixes = [abs(block.x0) for block in blocks if block.x0 is not None]
    if mixes:  # the embedding's share at the two boundaries less the largest share inside
        values["x0_boundary_less_inner"] = min(mixes[0], mixes[-1]) - max(mixes[1:-1])
    return values


def rotations(analysis: Analysis) -> dict[str, float]:
    """How far projections are from orthogonal, and from undoing each other; nothing where there are none.

    Spread: std / mean of the singular values, 0 for a rotation however much it shrinks.
    """
    pair = [row for row in analysis.projections if row.name.endswith("_proj.weight")]
    if not pair or analysis.roundtrip is None:
        return {}
    return {
        "singular_spread": statistics.fmean(row.std / row.mean for row in pair),
        "singular_mean": statistics.fmean(row.mean for row in pair),
        "roundtrip": analysis.roundtrip.residual,
        "roundtrip_less_unrelated": analysis.roundtrip.residual - analysis.roundtrip.unrelated,
    }


def singular_values(checkpoint: Checkpoint) -> dict[str, list[float]]:
    """Projection -> its singular values."""
    return {
        name: [float(value) for value in np.linalg.svd(checkpoint.tensor(name), compute_uv=False)]
        for name in ("embed_proj.weight", "head_proj.weight")
    }


def rounding_errors(checkpoint: Checkpoint) -> list[float]:
    """Relative error of rounding every matrix of a block to the study's grid, one number per block.

    Steps of CLIP standard deviations of a row / (2^(BITS - 1) - 1); error over matrices in Frobenius norm.
    Matrices of zeros, as output projections are at the start, count for nothing.
    """
    blocks = sorted({int(name.split(".")[1]) for name in checkpoint.shapes if name.startswith("blocks.")})
    largest, errors = 2 ** (BITS - 1) - 1, []
    for block in blocks:
        squares, lost = 0.0, 0.0
        for name, shape in checkpoint.shapes.items():
            if name.startswith(f"blocks.{block}.") and len(shape) == 2 and name.endswith(".weight"):
                matrix = checkpoint.tensor(name).astype(np.float64)
                steps = CLIP * matrix.std(axis=1, keepdims=True) / largest
                steps[steps == 0] = 1.0
                rounded = np.clip(np.round(matrix / steps), -largest, largest) * steps
                squares += float(np.square(matrix).sum())
                lost += float(np.square(matrix - rounded).sum())
        errors.append((lost / squares) ** 0.5)
    return errors
