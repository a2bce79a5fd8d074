"""Named training settings as one literal table: fields of GPTConfig and TrainConfig that differ from theirs.

Owns numbers only. A preset never changes once published; a better one gets a new name.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgpack.errors import DataError
from pgtrain.model_config import GPTConfig
from pgtrain.train_config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """One setting: what it is for, the model, the training."""

    purpose: str
    model: GPTConfig
    training: TrainConfig


# 1,956,392 parameters, every matrix above 65,536 elements, so that packers that keep small tensors in fp16 treat it
# as they treat a large model. Tried on one seed and the same validation text, 2,048 tokens a step: 280 steps 1.829
# bpb; 3 layers, 300 steps 1.783 (1.4 x the cost per step); matrix_lr 0.04 1.809 there; matrix_lr 0.01 with 0.03
# elsewhere 1.851 here.
DEMO = Preset(
    purpose="built-in corpus on 2 CPU cores, about two minutes",
    model=GPTConfig(
        vocab_size=1024, num_layers=2, model_dim=288, num_heads=4, num_kv_heads=4, mlp_mult=3.0, seq_len=256
    ),
    training=TrainConfig(
        steps=200,
        batch_tokens=2048,
        matrix_lr=0.02,
        warmup_steps=5,
        warmdown_steps=120,
        muon_momentum_steps=50,
        ema_decay=0.9,
    ),
)

PRESETS = {"demo": DEMO}


def find_preset(name: str) -> Preset:
    """The preset called `name`. Raises: DataError listing the known names."""
    if name not in PRESETS:
        raise DataError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
