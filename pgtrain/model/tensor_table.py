"""Names and shapes of a model's tensors, and the config that names and shapes imply.

Owns the table that a state dict must match. Refuses torch. Names are those of the public training scripts
(openai/parameter-golf), one matrix per tensor: scripts that store banks are read by `pgtrain.model.dialects`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from pgpack.errors import CheckpointError

from .layer_plan import uses_of
from .model_config import GPTConfig

Shapes = dict[str, tuple[int, ...]]
TRAINING_ONLY = ("mtp_head.",)  # prefixes of tensors that no checkpoint and no artifact holds
MATRIX_ENDINGS = (".c_q.weight", ".c_k.weight", ".c_v.weight", ".proj.weight", ".fc.weight", ".A.weight", ".B.weight",
                  "embed_proj.weight", "head_proj.weight", "mtp_head.weight")  # fmt: skip


def tensor_shapes(config: GPTConfig) -> Shapes:
    """Name -> shape of every tensor of a checkpoint, in the order of the forward pass."""
    shapes = _embedding_shapes(config)
    for i, uses in enumerate(uses_of(config)):
        shapes |= _block_shapes(config, i, uses)
    if config.adapters != "none":
        rows, dim = config.virtual_layers, config.model_dim
        shapes["virtual_attn_scales"] = (rows, dim)
        shapes["virtual_mlp_scales"] = (rows, dim)
        shapes["virtual_resid_mix_delta"] = (rows, 2, dim)
        shapes["virtual_q_gain_mult"] = (rows, config.num_heads)
    return shapes | _adapter_shapes(config) | _head_shapes(config)


def _adapter_shapes(config: GPTConfig) -> Shapes:
    dim, rank, runs = config.model_dim, config.loop_lora_rank, config.num_loops + 1
    widths = {"q": dim, "k": config.kv_dim, "v": config.kv_dim, "proj": dim}
    shapes: Shapes = {}
    for run, layer in product(range(runs), range(config.num_layers)) if rank else ():
        for name, width in widths.items():
            at = f"lora_adapters.{run}.{layer}.{name}"
            shapes |= {f"{at}_A": (dim, rank), f"{at}_B": (rank, width)}
    return shapes


def _embedding_shapes(config: GPTConfig) -> Shapes:
    width, dim, rank = config.table_dim, config.model_dim, config.input_residual_rank
    shapes: Shapes = {"tok_emb.weight": (config.vocab_size, width)}
    if config.bigram_buckets:
        shapes["bigram_hash.embed.weight"] = (config.bigram_buckets, config.bigram_dim)
        shapes["bigram_hash.proj.weight"] = (width, config.bigram_dim)
        if config.bigram_hash == "xor":
            shapes["bigram_hash.scale"] = ()
    smears: dict[str, Shapes] = {
        "none": {},
        "channel": {"smear_gate.gate": (width,)},
        "keep": {"smear_gate.gate_logit": (width,)},
        "window": {"smear_gate.weight": (1, config.gate_window), "smear_lambda": (1,)},
        "window_bias": {"smear_gate.gate.weight": (1, config.gate_window), "smear_gate.gate.bias": (1,)},
    }
    shapes |= smears[config.smear]
    if config.has_projections:
        shapes["embed_proj.weight"] = (dim, width)
    if rank:
        shapes |= {"input_residual.A.weight": (rank, dim), "input_residual.B.weight": (dim, rank)}
    if config.skips != "none":
        shapes["skip_weights"] = (config.num_skips, dim)
    if config.skips == "gate":
        shapes["skip_gates"] = (config.num_skips, dim)
    if config.lane_start >= 0:
        shapes |= {
            "parallel_post_lambdas": (config.num_layers, 2, 2),
            "parallel_resid_lambdas": (config.num_layers, 2),
        }
    return shapes


def _block_shapes(config: GPTConfig, i: int, uses: int) -> Shapes:
    dim, kv_dim, hidden, rank = config.model_dim, config.kv_dim, config.mlp_hidden, config.ebls_rank
    at = f"{blocks_name(config)}.{i}"
    if rank:
        shapes: Shapes = {f"{at}.attn_scales": (uses, dim), f"{at}.mlp_scales": (uses, dim)}
        shapes[f"{at}.resid_mixes"] = (uses, 2, dim)
        for side in ("attn", "mlp"):
            shapes[f"{at}.{side}_lora_A"] = (uses, dim, rank)
            shapes[f"{at}.{side}_lora_B"] = (uses, rank, dim)
            shapes[f"{at}.{side}_shrinkage_logits"] = (uses,)
    else:
        shapes = {f"{at}.attn_scale": (dim,), f"{at}.mlp_scale": (dim,)}
        if config.x0_mix:
            shapes[f"{at}.resid_mix"] = (2, dim)
    shapes[f"{at}.attn.q_gain"] = (config.num_heads,)
    gates: dict[str, Shapes] = {
        "none": {},
        "window": {f"{at}.attn.attn_gate_w": (config.num_heads, config.gate_window)},
        "dense": {f"{at}.attn.attn_gate_w": (config.num_heads, dim)},
        "double": {f"{at}.attn.attn_gate_proj.weight": (config.num_heads, config.gate_window)},
    }
    shapes |= gates[config.attn_gate]
    if mixes_first_value(config, i, uses):
        shapes[f"{at}.attn.vr_lambda"] = (2,)
    if config.repartition == "gate":
        shapes |= {f"{at}.attn.perm_gate.weight": (1, dim), f"{at}.attn.perm_gate.bias": (1,)}
    return shapes | {
        f"{at}.attn.c_q.weight": (dim, dim),
        f"{at}.attn.c_k.weight": (kv_dim, dim),
        f"{at}.attn.c_v.weight": (kv_dim, dim),
        f"{at}.attn.proj.weight": (dim, dim),
        f"{at}.mlp.fc.weight": (hidden, dim),
        f"{at}.mlp.proj.weight": (dim, hidden),
    }


def _head_shapes(config: GPTConfig) -> Shapes:
    width, dim, rank = config.table_dim, config.model_dim, config.output_residual_rank
    shapes: Shapes = {}
    if rank:
        shapes |= {"output_residual.A.weight": (rank, dim), "output_residual.B.weight": (dim, rank)}
    if config.has_projections:
        shapes["head_proj.weight"] = (width, dim)
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    return shapes


def blocks_name(config: GPTConfig) -> str:
    """Name of the list of blocks: #433 calls its own kind shared_blocks."""
    return "shared_blocks" if config.ebls_rank else "blocks"


def mixes_first_value(config: GPTConfig, block: int, uses: int) -> bool:
    """Whether this block runs at a depth where the first layer's values exist: not the first layer alone."""
    return config.value_residual and (block > 0 or uses > 1)


def parameter_group(name: str) -> str:
    """Which optimizer group a tensor belongs to: embedding, head, matrix or scalar.

    Source: the groups of #1394 (Muon for matrices, AdamW for the rest); SmearGate and BigramHash are in a group,
    which #212 forgot (its finding 16). LoRA factors and gates train with the scalars, as in #433, #1855 and #2090.
    """
    if name in ("tok_emb.weight", "bigram_hash.embed.weight"):
        return "embedding"
    if name == "lm_head.weight":
        return "head"
    return "matrix" if name.endswith(MATRIX_ENDINGS) else "scalar"


def count_parameters(config: GPTConfig) -> int:
    """Number of values in a checkpoint, tied weights once; what only training uses is not counted."""
    return sum(math.prod(shape) for shape in tensor_shapes(config).values())


def visible_fields(shapes: Mapping[str, tuple[int, ...]], first_block: str = "blocks.0") -> dict[str, Any]:
    """The fields of a config that the names and shapes of any state dict show.

    Raises: CheckpointError when a tensor that shows them is missing or has other axes.
    """
    axes = {"tok_emb.weight": 2, f"{first_block}.attn.q_gain": 1}
    axes |= {f"{first_block}.attn.c_k.weight": 2, f"{first_block}.mlp.fc.weight": 2}
    wrong = [
        f"{name} has shape {shapes[name]}" if name in shapes else f"{name} not found"
        for name, n in axes.items()
        if len(shapes.get(name, ())) != n or not min(shapes[name])
    ]
    if wrong:
        raise CheckpointError(
            f"cannot tell the model from its tensors: {', '.join(wrong)}; give the model as --model "
            "FILE.py:build (a template: pgpack init-adapter FILE.py)"
        )
    (vocabulary, width), (heads, *_), (kv_dim, dim), (hidden, _) = (shapes[name] for name in axes)
    return {
        "vocab_size": vocabulary,
        "model_dim": dim,
        "num_heads": heads,
        "num_kv_heads": kv_dim * heads // dim,
        "mlp_mult": hidden / dim,
        "tie_embeddings": "lm_head.weight" not in shapes,
        "embed_dim": 0 if width == dim else width,
    }


def check_shapes(config: GPTConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a state dict that is not exactly the one `config` describes.

    Raises: CheckpointError naming the first missing, unknown or misshapen tensor.
    """
    expected = tensor_shapes(config)
    unknown, missing = sorted(set(shapes) - set(expected)), sorted(set(expected) - set(shapes))
    if unknown or missing:
        found = f"unknown {', '.join(unknown[:4])}" if unknown else f"missing {', '.join(missing[:4])}"
        raise CheckpointError(
            f"the tensors are not those of this GPT ({found}; {len(unknown)} unknown, {len(missing)} "
            "missing); give the model as --model "
            "FILE.py:build (a template: pgpack init-adapter FILE.py)"
        )
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise CheckpointError(f"{name} has shape {tuple(shapes[name])}, the model needs {shape}")
