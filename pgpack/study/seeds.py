"""One recipe on several checkpoints (seeds of one training): what it costs on the worst and how far they differ.

    rows of a recipe, one to a checkpoint --> Across: largest bytes, mean loss, spread --> one point of the frontier

A size counts as large as the largest of its artifacts, because every seed has to fit; a loss is the mean. A recipe
that was not measured on all checkpoints yet is no point, one that failed on any of them failed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pgpack.loss.intervals import pack_floats, ratio, unpack_floats
from pgpack.tables import csv_text

from .card import StudyMeta
from .trial import Trial

FIGURES = ("n_bytes", "bpb", "kl")
TIMES = ("quantize_s", "encode_s", "decode_s", "eval_s")


@dataclass(frozen=True)
class Spread:
    """Of one figure over checkpoints. Units: the figure's; `sd` with n - 1, 0 for one checkpoint."""

    mean: float
    sd: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        return Spread(math.fsum(values) / len(values), sd, min(values), max(values))


@dataclass(frozen=True)
class Across:
    """A recipe on all checkpoints of a study. `trials`: its rows, in the order of the checkpoints; `trial`: the row
    that stands for them, whose key is that of no measurement. The spreads are None where one of the rows failed, that
    of `kl` also where it was not measured."""

    trial: Trial
    trials: tuple[Trial, ...]
    n_bytes: Spread | None
    bpb: Spread | None
    kl: Spread | None


def across(meta: StudyMeta, trials: Sequence[Trial]) -> tuple[Across, ...]:
    """Every recipe that has a row on all checkpoints of the card, in the order of first measurement.

    Of two rows of a recipe on one checkpoint (other calibration, other pgpack) the later counts.
    """
    digests = [each.checkpoint_digest for each in meta.checkpoints]
    rows: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        rows.setdefault(trial.recipe_digest, {})[trial.checkpoint_digest] = trial
    whole = [[found[digest] for digest in digests] for found in rows.values() if found.keys() >= set(digests)]
    return tuple(_across(group, meta.block_bytes) for group in whole)


def together(trials: Sequence[Trial], block_bytes: Sequence[int] = ()) -> Trial:
    """The row that stands for rows of one recipe on several checkpoints; a single row stands for itself.

    Bytes: the largest. Losses: the means, with the standard error of a mean over checkpoints on one text, whose
    blocks they share: from the mean excess of each block, for the KL (whose blocks are not kept) the mean of the
    standard errors, which is an upper bound. Times: sums. Raises: ValueError without a row.
    """
    if len(trials) == 1:
        return trials[0]
    first, errors = trials[0], [trial.error or "failed" for trial in trials if not trial.ok]
    excess = _mean_excess(trials)
    bpb_se = _mean(trials, "bpb_se")
    times: dict[str, Any] = {name: _sum(trials, name) for name in TIMES}
    if excess and len(excess) == len(block_bytes):
        bpb_se = ratio(np.array(excess) / math.log(2), block_bytes).standard_error
    return dataclasses.replace(
        first,
        key=_digest(trial.key for trial in trials),
        checkpoint_digest=_digest(trial.checkpoint_digest for trial in trials),
        calibration_digest=None,
        weights_digest=None,
        label=next((trial.label for trial in trials if trial.label), ""),
        status="failed" if errors else "ok",
        error=f"on {len(errors)} of {len(trials)} checkpoints: {errors[0]}" if errors else None,
        n_bytes=None if errors else max(trial.n_bytes or 0 for trial in trials),
        bpb=_mean(trials, "bpb"),
        nats=_mean(trials, "nats"),
        kl=_mean(trials, "kl"),
        ideal_bits=_mean(trials, "ideal_bits"),
        bpb_se=bpb_se,
        kl_se=_mean(trials, "kl_se"),
        block_excess=pack_floats(excess),
        created=max(trial.created for trial in trials),
        peak_bytes=max((trial.peak_bytes for trial in trials if trial.peak_bytes), default=None),
        **times,
    )


def seeds_csv(points: Iterable[Across]) -> str:
    """Every recipe with the spread of its figures as CSV text with a header; empty where one of its rows failed."""
    figures = [field.name for field in dataclasses.fields(Spread)]
    cells = [(name, figure) for name in FIGURES for figure in figures]
    rows = (
        [
            *(getattr(getattr(point, name), figure, None) for name, figure in cells),
            len(point.trials),
            point.trial.recipe,
        ]
        for point in points
    )
    return csv_text([*("_".join(cell) for cell in cells), "n_checkpoints", "recipe"], rows)


def _across(trials: Sequence[Trial], block_bytes: Sequence[int]) -> Across:
    spreads = {}
    for name in FIGURES:
        values = [getattr(trial, name) for trial in trials if trial.ok]
        known = len(values) == len(trials) and None not in values
        spreads[name] = Spread.of(values) if known else None
    return Across(together(trials, block_bytes), tuple(trials), **spreads)


def _mean(trials: Sequence[Trial], name: str) -> float | None:
    """The mean of a field that all have, else None."""
    total = _sum(trials, name)
    return None if total is None else total / len(trials)


def _sum(trials: Sequence[Trial], name: str) -> float | None:
    values = [getattr(trial, name) for trial in trials]
    return None if None in values else math.fsum(values)


def _mean_excess(trials: Sequence[Trial]) -> tuple[float, ...]:
    """By block of the text; empty where a row lacks it or has other blocks."""
    blocks = [unpack_floats(trial.block_excess) for trial in trials if trial.block_excess]
    if len(blocks) < len(trials) or len({len(each) for each in blocks}) != 1:
        return ()
    return tuple(np.mean(blocks, axis=0).tolist())


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(["pgpack-across", *parts]).encode()).hexdigest()
