"""The gap between the loss that #433 logs before packing and the loss after it, split into its parts.

    last weights --SWA swap--> averaged weights --int6--> rows at int6 --floor--> steps of at least 1/31

The source evaluates at the start of this line and reports the difference to its end as quantization. Each part is
measured alone, from the last weights; what their sum lacks to the whole gap is `rest`.
"""

from __future__ import annotations

from pathlib import Path

from experiments.replication.packing import Bench

from .recipes import GROUPS, floor_under, int6

PARTS = ("swap", "int6", "floor", "rest")


def parts(last: Path, averaged: Path, n_tokens: int) -> dict[str, float]:
    """Bits per byte of each part, of their sum without rest, and of the whole gap; and bytes of the artifact."""
    before, after = Bench(last, n_tokens), Bench(averaged, n_tokens)
    rounded, floored = before.packed(int6(floor=False)).bpb, before.packed(int6(floor=True)).bpb
    whole = after.packed(int6(floor=True))
    found = {
        "swap": after.fp32_bpb - before.fp32_bpb,
        "int6": rounded - before.fp32_bpb,
        "floor": floored - rounded,
        "total": whole.bpb - before.fp32_bpb,
        "averaged_int6": after.packed(int6(floor=False)).bpb - after.fp32_bpb,
        "n_bytes": float(whole.n_bytes),
    }
    found["sum"] = found["swap"] + found["int6"] + found["floor"]
    return found | {"rest": found["total"] - found["sum"]}


def floors(last: Path, n_tokens: int) -> dict[str, float]:
    """Bits per byte that the floor under one group's steps alone costs."""
    bench = Bench(last, n_tokens)
    without = bench.packed(int6(floor=False)).bpb
    return {f"floor_{group}": bench.packed(floor_under(group)).bpb - without for group in GROUPS}
