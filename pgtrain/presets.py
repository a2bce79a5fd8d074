"""Named systems, read from `presets.toml`: what each is for, its model, its training, and its tiny twin.

[models], [trainings], [tinies] --like--> fields of one system --> Preset, and a Preset called NAME-tiny
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgpack.errors import DataError
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.train_config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """One setting: what it is for, the model, the training, the pull request it is from."""

    purpose: str
    model: GPTConfig
    training: TrainConfig
    source: str = ""


_TABLE: Mapping[str, Any] = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))


def _fields(kind: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `own` on top of those of the table of `kind` that it is like."""
    values = dict(own)
    base = values.pop("like", None)
    return values if base is None else _fields(kind, _TABLE[kind][base]) | values


def _preset(row: Mapping[str, Any]) -> Preset:
    model = GPTConfig(**_fields("models", row["model"]))
    training = TrainConfig(**_fields("trainings", row["training"]))
    return Preset(row["purpose"], model, training, row.get("source", ""))


def _twin(full: Preset, tiny: Mapping[str, Any]) -> Preset:
    shape = {"vocab_size": 1024, "num_heads": 4, "num_kv_heads": 2, "seq_len": 256} | _fields("tinies", tiny)
    training = replace(_DEMO.training, loops_from=full.training.loops_from)
    return replace(full, model=replace(full.model, **shape), training=training)


_DEMO = _preset(_TABLE["demo"])
SYSTEMS = {name: _preset(row) for name, row in _TABLE["systems"].items()}
_TWINS = {f"{name}-tiny": _twin(SYSTEMS[name], row["tiny"]) for name, row in _TABLE["systems"].items()}
PRESETS: dict[str, Preset] = {"demo": _DEMO} | SYSTEMS | _TWINS


def find_preset(name: str) -> Preset:
    """The preset called `name`. Raises: DataError listing the known names."""
    if name not in PRESETS:
        raise DataError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
