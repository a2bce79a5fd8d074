"""Numbers of one model from its rows per virtual layer and module, and how alike the patterns of seeds are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from experiments.replication.rows import Row

EARLY = 3  # virtual layers 0-2 are those for which #433 reports an attention gamma above zero at the end


def of_places(rows: Sequence[Row]) -> dict[str, float]:
    """Means and largest values by module, early against late, attention against MLP."""
    found: dict[str, float] = {}
    for side in ("attn", "mlp"):
        own = [row for row in rows if row["side"] == side]
        for what in ("gamma", "share", "rank"):
            values = {int(row["layer"]): float(row[what]) for row in own}
            found[f"{what}_{side}"] = fmean(values.values())
            found[f"{what}_{side}_max"] = max(values.values())
            early = fmean(value for layer, value in values.items() if layer < EARLY)
            late = fmean(value for layer, value in values.items() if layer >= EARLY)
            found[f"{what}_{side}_early_over_late"] = early / max(late, 1e-12)
    for what in ("gamma", "share", "rank"):
        found[f"{what}_mean"] = (found[f"{what}_attn"] + found[f"{what}_mlp"]) / 2
        found[f"{what}_attn_over_mlp"] = found[f"{what}_attn"] / max(found[f"{what}_mlp"], 1e-12)
    return found


def pattern_agreement(rows: Sequence[Row]) -> dict[int, float]:
    """Correlation of each seed's log gammas with the mean of the other seeds'."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(int(row["seed"]), []).append(math.log(float(row["gamma"])))
    found = {}
    for seed, own in by_seed.items():
        others = np.mean([values for other, values in by_seed.items() if other != seed], axis=0)
        found[seed] = float(np.corrcoef(own, others)[0, 1])
    return found
