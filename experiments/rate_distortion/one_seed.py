"""The short bench of one seed's model: BD-rates by name, and every point as a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from experiments.replication.found import Found
from experiments.replication.training import Trained

from .laboratory import open_laboratory
from .rows import Row, rate
from .short import measure_short

MAX_TOKENS = 8192
POINT = ("curve", "dial", "n_bytes", "kl", "bpb", "mse", "recipe")


def measure_seed(trained: Trained, seed: int) -> Found:
    """Curves of one model; points already measured are read from beside its checkpoint."""
    path = trained.path("model", seed)
    laboratory = open_laboratory(path, path.stem, path.with_suffix(".points"), MAX_TOKENS)
    bench = measure_short(laboratory, trained.scale == "full")
    found = Found(seed)
    for rows in (bench.engine, *bench.peers.values(), *bench.changed.values()):
        for row in rows:
            values = dataclasses.asdict(row)
            found.add("points", seed=seed, **{name: values[name] for name in POINT})
    for name, rows in bench.peers.items():
        for metric in ("kl", "bpb"):
            _put_rate(found, f"against {name}.{metric}", rows, bench.engine, metric)
    for name, rows in bench.changed.items():
        _put_rate(found, f"{name}.kl", bench.engine, rows, "kl")
    found.put("gap", {"bits": bench.gap.measured - bench.gap.bound, "measured": bench.gap.measured})
    return found


def _put_rate(found: Found, name: str, anchor: Sequence[Row], test: Sequence[Row], metric: str) -> None:
    """In percent; curves that do not overlap say nothing, and the claim that needs them fails by name."""
    percent = rate(anchor, test, metric)
    if percent is not None:
        found.values[name] = percent
