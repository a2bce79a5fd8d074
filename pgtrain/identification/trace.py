"""What the names and shapes of a state dict show of its model, and what they leave open.

    names, shapes --read_trace--> Trace: fields that are decided | how many virtual layers there may be

Owns the reading. Refuses guesses: what leaves no trace is in `hidden_fields`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgtrain.model.tensor_table import visible_fields

Shapes = Mapping[str, tuple[int, ...]]
BLOCK = re.compile(r"(?:shared_)?blocks\.(\d+)\.")
ADAPTER = re.compile(r"lora_adapters\.(\d+)\.(\d+)\.q_A")


@dataclass(frozen=True)
class Trace:
    """`fields`: those of the config that names and shapes decide. `blocks`: physical ones. `virtual`: how many layers
    one pass may have, where a table says so. `skips`: how skips would be mixed, by the names. `has_tables`,
    `has_lanes`: whether per-layer tables of PRISM, or weights of lanes, are stored; a script may never read them."""

    fields: Mapping[str, Any]
    blocks: int
    virtual: tuple[int, ...] = ()
    skips: str = "none"
    has_tables: bool = False
    has_lanes: bool = False

    @property
    def evidence(self) -> dict[str, str]:
        """Field -> what shows it: the names of tensors, or their shapes."""
        return {name: "names" if isinstance(value, str | bool) else "shapes" for name, value in self.fields.items()}


def read_trace(shapes: Shapes) -> Trace:
    """What a state dict without banks shows. Raises: CheckpointError where it is of no GPT of the challenge."""
    shared = any(name.startswith("shared_blocks.") for name in shapes)
    at = "shared_blocks.0" if shared else "blocks.0"
    fields = visible_fields(shapes, at)
    blocks = len({found[1] for name in shapes if (found := BLOCK.match(name))})
    fields["x0_mix"] = f"{at}.resid_mix" in shapes or f"{at}.resid_mixes" in shapes
    fields["projected"] = not fields["embed_dim"] and "embed_proj.weight" in shapes
    fields["input_residual_rank"] = _rows(shapes, "input_residual.A.weight")
    fields["output_residual_rank"] = _rows(shapes, "output_residual.A.weight")
    fields["value_residual"] = any(name.endswith(".attn.vr_lambda") for name in shapes)
    fields |= _bigram(shapes) | _gates(shapes, at, fields["model_dim"])
    if shared:
        rows, rank = _rows(shapes, f"{at}.attn_scales"), shapes.get(f"{at}.attn_lora_A", (0, 0, 0))[-1]
        fields |= {"sharing": "consecutive", "shared_blocks": blocks, "num_layers": blocks * rows, "ebls_rank": rank}
    adapters = [found for name in shapes if (found := ADAPTER.fullmatch(name))]
    if adapters:
        runs = len({found[1] for found in adapters})
        fields |= {"loop_lora_rank": shapes[adapters[0][0]][-1], "num_loops": runs - 1, "num_layers": blocks}
        fields |= {"sharing": "none", "loop_start": 0, "loop_end": blocks - 1}
    skips, tables = _rows(shapes, "skip_weights"), _rows(shapes, "virtual_attn_scales")
    virtual = (2 * skips, 2 * skips + 1) if "skip_weights" in shapes else ()
    return Trace(
        fields,
        blocks,
        (tables,) if tables else virtual,
        "none" if "skip_weights" not in shapes else "gate" if "skip_gates" in shapes else "add",
        has_tables=tables > 0,
        has_lanes="parallel_post_lambdas" in shapes,
    )


def _bigram(shapes: Shapes) -> dict[str, Any]:
    if "bigram_hash.embed.weight" not in shapes:
        return {"bigram_buckets": 0, "bigram_hash": "xor"}
    buckets, dim = shapes["bigram_hash.embed.weight"]
    scaled = {"bigram_hash": "xor"} if "bigram_hash.scale" in shapes else {}
    return {"bigram_buckets": buckets, "bigram_dim": dim} | scaled


def _gates(shapes: Shapes, at: str, dim: int) -> dict[str, Any]:
    """Of attention, of the previous token and of PRISM's blend."""
    fields: dict[str, Any] = {"attn_gate": "none", "smear": "none"}
    signs = {
        "smear_gate.gate": "channel",
        "smear_gate.gate_logit": "keep",
        "smear_gate.weight": "window",
        "smear_gate.gate.weight": "window_bias",
    }
    for name, kind in signs.items():
        if name in shapes:
            fields["smear"] = kind
            if len(shapes[name]) == 2:
                fields["gate_window"] = shapes[name][1]
    if (weight := shapes.get(f"{at}.attn.attn_gate_w")) is not None:
        fields["attn_gate"] = "dense" if weight[-1] == dim else "window"
    if (weight := weight or shapes.get(f"{at}.attn.attn_gate_proj.weight")) is not None:
        fields["attn_gate"] = "double" if fields["attn_gate"] == "none" else fields["attn_gate"]
        if fields["attn_gate"] != "dense":
            fields["gate_window"] = weight[-1]
    if f"{at}.attn.perm_gate.weight" in shapes:
        fields["repartition"] = "gate"
    return fields


def _rows(shapes: Shapes, name: str) -> int:
    return shapes[name][0] if shapes.get(name) else 0
