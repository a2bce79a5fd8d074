"""How sure the losses of a study's trials are, and by how much two of them differ on the same text.

    Trial.bpb_se, kl_se, block_excess --> half widths of the difference to the fp32 model
    block_excess of two trials, block_bytes of the card --> their paired difference

Owns what makes two rows comparable, and the text of an interval. Refuses nothing: a row that lacks its blocks (of an
older pgpack, of one block, failed) has no interval, and rows of other texts or checkpoints have no difference.
What these intervals say: how far the loss would move on another text of the same kind. They are paired by blocks of
the text, and know nothing of other seeds of a training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pgpack.loss.intervals import LEVEL, Estimate, bpb_difference, student_quantile, unpack_floats

from .trial import Trial

MOST_DECIMALS = 8
PLAIN = 1e-4  # losses below are written as 3.7e-05, and their intervals as well


def half_width(trial: Trial, metric: str) -> float | None:
    """The 95 % interval of a trial's loss above the fp32 model is that +- this; None where it is unknown.

    Units: bits per byte for `bpb`, paired with the fp32 model's; nats per token for `kl` and `nats`.
    """
    error = trial.kl_se if metric == "kl" else trial.bpb_se
    if not trial.ok or error is None or trial.block_excess is None:
        return None
    if metric == "nats":  # of one text, so that the ratio is that of its bytes and tokens
        error *= trial.nats / trial.bpb if trial.nats and trial.bpb else 0.0
    n_blocks = len(unpack_floats(trial.block_excess))
    return student_quantile(LEVEL, n_blocks - 1) * error if n_blocks > 1 else None


def half_widths(trial: Trial) -> tuple[float | None, float | None]:
    """Those of bits per byte and of KL."""
    return half_width(trial, "bpb"), half_width(trial, "kl")


def paired_difference(trial: Trial, other: Trial, block_bytes: Sequence[int]) -> Estimate | None:
    """Bits per byte of one trial above another's, block by block of one text; equal weights differ by 0 +- 0.

    `block_bytes`: those of the card. None where a row lacks its blocks, or where checkpoint, text or blocks differ.
    """
    if not (trial.ok and other.ok and trial.block_excess and other.block_excess):
        return None
    if any(getattr(trial, name) != getattr(other, name) for name in ("checkpoint_digest", "evaluator_digest")):
        return None
    excess, below = unpack_floats(trial.block_excess), unpack_floats(other.block_excess)
    if not len(excess) == len(below) == len(block_bytes):
        return None
    return bpb_difference(excess, below, block_bytes)


def decimals(width: float | None, least: int = 4) -> int:
    """Decimals that show two digits of a half width: at least `least`, which is also for one that is not known."""
    if not width:
        return least
    return min(MOST_DECIMALS, max(least, 1 - math.floor(math.log10(width))))


def half_width_text(width: float | None, of: float | None = None) -> str:
    """A half width as tables show it behind the loss that it is `of`, in the same notation: `0.0012`, `0.0000034`;
    of a loss of 3.7e-05 `3.4e-06`; `-` where unknown."""
    if width is None:
        return "-"
    return f"{width:.1e}" if of is not None and 0 < abs(of) < PLAIN else f"{width:.{decimals(width)}f}"


def difference_text(value: float, half_width: float | None) -> str:
    """A difference and its half width as tables show them: `+0.0123 +-0.0004`."""
    digits = decimals(half_width)
    return f"{value:+.{digits}f}" + ("" if half_width is None else f" +-{half_width:.{digits}f}")
