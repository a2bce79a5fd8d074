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


DEMO = Preset(
    purpose="about 100 seconds on 2 CPU cores with the built-in corpus",
    model=GPTConfig(
        vocab_size=1024, num_layers=3, model_dim=256, num_heads=4, num_kv_heads=2, mlp_mult=3.0, seq_len=256
    ),
    training=TrainConfig(
        steps=200,
        batch_tokens=4096,
        warmup_steps=5,
        warmdown_steps=100,
        muon_momentum_steps=50,
        ema_decay=0.95,
    ),
)

PRESETS = {"demo": DEMO}


def find_preset(name: str) -> Preset:
    """The preset called `name`. Raises: DataError listing the known names."""
    if name not in PRESETS:
        raise DataError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
