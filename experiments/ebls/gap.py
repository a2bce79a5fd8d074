"""The gap between the loss that #433 logs before packing and the loss after it, split into its parts.

    last weights --SWA swap--> averaged weights --int6--> rows at int6 --floor--> steps of at least 1/31

The source evaluates at the start of this line and reports the difference to its end as quantization. Each part is
measured alone, from the last weights; what their sum lacks to the whole gap is `rest`.

The packer is that of #433: int6 rows, a floor of 1/31 under every step, zstd 22. What the source keeps out of int6
stays out here: scales and mixes are fp32, branches fp16. At full scale the latter have at most 65,536 values and are
kept for that; at tiny scale every matrix has, so that they are named.
"""

from __future__ import annotations

from pathlib import Path

from experiments.replication.packing import Bench

KEPT = (
    "*_lora_*=cast(dtype=fp16); *attn_scale*=cast(dtype=fp32); *mlp_scale*=cast(dtype=fp32); "
    "*resid_mix*=cast(dtype=fp32); *q_gain*=cast(dtype=fp32); *skip_weight*=cast(dtype=fp32); "
    "ndim<=1=cast(dtype=fp32)"
)
CONTAINER = "@container=torch_baseline|zstd(level=22)"
GROUPS = {
    "embedding": "tok_emb.weight",
    "bigram": "bigram_hash.*",
    "attention": "*.attn.*.weight",
    "mlp": "*.mlp.*.weight",
}


def _rows(floor: bool) -> str:
    return f"rtn_percentile(bits=6,percentile=99.99984,scale_floor={str(floor).lower()})"


def int6(floor: bool) -> str:
    """Every matrix and table at int6, with the source's floor under the steps or without."""
    return f"{KEPT}; *={_rows(floor)}; {CONTAINER}"


def floor_under(group: str) -> str:
    """The floor under the steps of one of GROUPS only."""
    return f"{KEPT}; {GROUPS[group]}={_rows(True)}; *={_rows(False)}; {CONTAINER}"


def parts(last: Path, averaged: Path, n_tokens: int) -> dict[str, float]:
    """Bits per byte of each part, of their sum without rest, and of the whole gap; shares of it; and bytes."""
    before, after = Bench(last, n_tokens), Bench(averaged, n_tokens)
    rounded, floored = before.packed(int6(floor=False)).bpb, before.packed(int6(floor=True)).bpb
    whole = after.packed(int6(floor=True))
    alone = {
        "swap": after.fp32_bpb - before.fp32_bpb,
        "int6": rounded - before.fp32_bpb,
        "floor": floored - rounded,
    }
    total, together = whole.bpb - before.fp32_bpb, sum(alone.values())
    return {
        **alone,
        **{f"{name}_share": value / total for name, value in alone.items()},
        "sum": together,
        "rest": total - together,
        "total": total,
        "averaged_int6": after.packed(int6(floor=False)).bpb - after.fp32_bpb,
        "n_bytes": float(whole.n_bytes),
    }


def floors(last: Path, n_tokens: int) -> dict[str, float]:
    """Bits per byte that the floor under one group's steps alone costs."""
    bench = Bench(last, n_tokens)
    without = bench.packed(int6(floor=False)).bpb
    return {f"floor_{group}": bench.packed(floor_under(group)).bpb - without for group in GROUPS}
