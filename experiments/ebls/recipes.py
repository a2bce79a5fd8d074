"""The packer of #433 and its parts: int6 rows, a floor of 1/31 under every step, zstd 22.

What the source keeps out of int6 stays out here: scales and mixes are fp32, branches fp16. At full scale the latter
have at most 65,536 values and are kept for that; at tiny scale every matrix has, so that they are named.
"""

from __future__ import annotations

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
