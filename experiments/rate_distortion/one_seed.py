"""The bench over a short dial on one seed's model, which `make reproduce-rate-distortion` has time for.

Owns which points those are: BD-rates by name, and every point as a row. What a point is, and how it is measured, is
the long bench's (`curves`, `laboratory`). At full scale every ablation and every dial is measured, and training.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.replication.rows import Found
from experiments.replication.training import Trained

from . import curves
from .gap import total_gap
from .laboratory import Laboratory
from .rows import Row, rate

MAX_TOKENS = 8192
CALIBRATED = "@calib=tokens(count=8192)"  # as few as the time allows
POINT = ("curve", "dial", "n_bytes", "kl", "bpb", "mse", "recipe")
ENGINE_DIALS, ABLATION_DIALS = (0, 1, 3, 4, 5), (1, 3, 5)  # indices of curves.TARGETS
PRESET_DIALS = {
    "baseline-int8-zlib": (8.0, 7.0, 6.0, 5.0),
    "int6-zstd22": (8.0, 7.0, 6.0, 5.0),
    "sdclip-brotli": (0.6, 1.0, 1.5, 2.6),
}
ABLATIONS = (
    "scalar: 1 state",
    "column steps alike",
    "row steps alike",
    "row steps all the way",
    "Fisher weights alike",
    "no error feedback: diagonal Hessians",
    "coder: one table per tensor (rans)",
    "coder: brotli 11",
)


def measure_seed(trained: Trained, seed: int) -> Found:
    """Curves of one model; points already measured are read from beside its checkpoint."""
    path, full, found = trained.path("model", seed), trained.scale == "full", Found(seed)
    folder = path.with_suffix(".points")
    laboratory = Laboratory(path, path.stem, folder, MAX_TOKENS, "" if full else CALIBRATED)
    steps = curves.dials(laboratory)

    def points(variant: curves.Variant, some: Sequence[float]) -> list[Row]:
        return list(curves.variant_rows(laboratory, variant, some))

    engine = points(curves.ENGINES[1], [steps[i] for i in ENGINE_DIALS])
    peers = {
        name: list(curves.preset_rows(laboratory, name, None if full else dials))
        for name, dials in PRESET_DIALS.items()
    }
    chosen = [each for each in curves.ABLATIONS if full or each.name in ABLATIONS]
    few = [steps[i] for i in ABLATION_DIALS]
    changed = {each.name: points(each, few) for each in (curves.ENGINES[0], *chosen)}
    if full:
        changed |= {each.name: points(each, steps[2:5]) for each in curves.TRAINED.values()}
    for row in (row for rows in (engine, *peers.values(), *changed.values()) for row in rows):
        found.add("points", seed=seed, **{name: getattr(row, name) for name in POINT})
    for name, rows in peers.items():
        for metric in ("kl", "bpb"):
            _put_rate(found, f"against {name}.{metric}", rows, engine, metric)
    for name, rows in changed.items():
        _put_rate(found, f"{name}.kl", engine, rows, "kl")
    gap = total_gap(laboratory, steps[0], curves.ENGINES[1])
    found.put("gap", {"bits": gap.measured - gap.bound, "measured": gap.measured})
    return found


def _put_rate(found: Found, name: str, anchor: Sequence[Row], test: Sequence[Row], metric: str) -> None:
    """In percent; curves that do not overlap say nothing, and the claim that needs them fails by name."""
    percent = rate(anchor, test, metric)
    if percent is not None:
        found.values[name] = percent
