"""The shape of a model as plain values: fields, tensor names, tensor shapes, parameter count.

Owns `GPTConfig`. Refuses torch: plans and `--dry-run` are printed without loading it.

Source: tensor names and defaults are those of openai/parameter-golf train_gpt.py (the baseline).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgpack.errors import CheckpointError, DataError

ACTIVATIONS = ("relu2", "relu3", "leaky_relu2")


@dataclass(frozen=True)
class GPTConfig:
    """Everything that decides which tensors a GPT has and what it computes from them.

    Raises: DataError when the fields do not describe a model (heads that do not divide the width, ...).
    """

    vocab_size: int = 1024
    num_layers: int = 9
    model_dim: int = 512
    num_heads: int = 8
    num_kv_heads: int = 4
    mlp_mult: float = 2.0
    mlp_activation: str = "relu2"
    tie_embeddings: bool = True
    logit_softcap: float = 30.0
    rope_base: float = 10000.0
    qk_gain_init: float = 1.5
    tied_embed_init_std: float = 0.005
    seq_len: int = 1024

    def __post_init__(self) -> None:
        for field in ("vocab_size", "num_layers", "model_dim", "num_heads", "num_kv_heads", "seq_len"):
            if getattr(self, field) < 1:
                raise DataError(f"model {field} is {getattr(self, field)}, must be at least 1")
        if self.model_dim % self.num_heads or (self.model_dim // self.num_heads) % 2:
            raise DataError(
                f"model_dim {self.model_dim} with {self.num_heads} heads gives heads of "
                f"{self.model_dim / self.num_heads:g} channels; the rotary embedding needs an even whole number"
            )
        if self.num_heads % self.num_kv_heads:
            raise DataError(f"{self.num_heads} heads cannot share {self.num_kv_heads} key/value heads evenly")
        if self.mlp_activation not in ACTIVATIONS:
            raise DataError(f"unknown mlp_activation {self.mlp_activation!r}; known: {', '.join(ACTIVATIONS)}")
        if self.logit_softcap <= 0 or self.mlp_hidden < 1:
            raise DataError("logit_softcap and mlp_mult must be positive")

    @property
    def head_dim(self) -> int:
        return self.model_dim // self.num_heads

    @property
    def mlp_hidden(self) -> int:
        """Hidden units of the MLP: mlp_mult * model_dim, rounded to a whole number."""
        return round(self.mlp_mult * self.model_dim)

    @property
    def num_skips(self) -> int:
        """U-Net skips: one per encoder layer, and the encoder is the smaller half of the stack."""
        return self.num_layers // 2

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> GPTConfig:
        """The config that `to_json` wrote; a key this version does not know is refused, never ignored."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise CheckpointError(f"model_config has unknown keys {', '.join(unknown)}; use a newer pgtrain")
        return cls(**values)


def tensor_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of the state dict, in the order of the forward pass."""
    dim, hidden = config.model_dim, config.mlp_hidden
    kv_dim = config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "tok_emb.weight": (config.vocab_size, dim),
        "skip_weights": (config.num_skips, dim),
    }
    for i in range(config.num_layers):
        shapes |= {
            f"blocks.{i}.attn_scale": (dim,),
            f"blocks.{i}.mlp_scale": (dim,),
            f"blocks.{i}.resid_mix": (2, dim),
            f"blocks.{i}.attn.q_gain": (config.num_heads,),
            f"blocks.{i}.attn.c_q.weight": (dim, dim),
            f"blocks.{i}.attn.c_k.weight": (kv_dim, dim),
            f"blocks.{i}.attn.c_v.weight": (kv_dim, dim),
            f"blocks.{i}.attn.proj.weight": (dim, dim),
            f"blocks.{i}.mlp.fc.weight": (hidden, dim),
            f"blocks.{i}.mlp.proj.weight": (dim, hidden),
        }
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, dim)
    return shapes


def count_parameters(config: GPTConfig) -> int:
    """Number of trained values, tied weights once."""
    total = 0
    for shape in tensor_shapes(config).values():
        n = 1
        for size in shape:
            n *= size
        total += n
    return total


def infer_config(shapes: Mapping[str, tuple[int, ...]], **overrides: Any) -> GPTConfig:
    """The config that a state dict's names and shapes imply.

    `overrides` are GPTConfig fields that shapes cannot tell (mlp_activation, logit_softcap, rope_base, seq_len);
    they default to the baseline's. Raises: CheckpointError when the names are not those of the baseline GPT.
    """
    needed = ("tok_emb.weight", "blocks.0.attn.q_gain", "blocks.0.attn.c_k.weight", "blocks.0.mlp.fc.weight")
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise CheckpointError(
            f"cannot tell the model from its tensors: {', '.join(missing)} not found; "
            "give the model as --model FILE.py:build"
        )
    vocab_size, dim = shapes["tok_emb.weight"]
    num_heads = shapes["blocks.0.attn.q_gain"][0]
    head_dim = dim // num_heads
    layers = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    config = GPTConfig.from_mapping(
        {
            "vocab_size": vocab_size,
            "num_layers": len(layers),
            "model_dim": dim,
            "num_heads": num_heads,
            "num_kv_heads": shapes["blocks.0.attn.c_k.weight"][0] // head_dim,
            "mlp_mult": shapes["blocks.0.mlp.fc.weight"][0] / dim,
            "tie_embeddings": "lm_head.weight" not in shapes,
            **overrides,
        }
    )
    check_shapes(config, shapes)
    return config


def check_shapes(config: GPTConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a state dict that is not exactly the one `config` describes.

    Raises: CheckpointError naming the first missing, unknown or misshapen tensor.
    """
    expected = tensor_shapes(config)
    unknown, missing = sorted(set(shapes) - set(expected)), sorted(set(expected) - set(shapes))
    if unknown or missing:
        found = f"unknown {', '.join(unknown[:4])}" if unknown else f"missing {', '.join(missing[:4])}"
        raise CheckpointError(
            f"the tensors are not those of the baseline GPT ({found}; {len(unknown)} unknown, {len(missing)} "
            "missing); give the model as --model FILE.py:build"
        )
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise CheckpointError(f"{name} has shape {tuple(shapes[name])}, the model needs {shape}")
