"""What a model's own modules say a tensor is for, where its name says nothing.

    config.json --transformers, on no device--> modules: their types, their parents' types, the output head

Asked only when a folder holds a matrix of an unknown name: building a model, even without memory, takes seconds.
Nothing from the folder is run, and where the model cannot be built the names are all there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pgpack.tensors.roles import ToldShapes, role_of

Shapes = Mapping[str, tuple[int, ...]]

# A module's class, or that of one of its two nearest parents, in this order.
KINDS = (
    (re.compile(r"Router|Gating|TopK|Norm"), "control"),
    (re.compile(r"Attention(?!\w*DecoderLayer)|Attn"), "attention"),
    (re.compile(r"MLP|Mlp|FeedForward|FF$|FFN|Dense|Expert|Intermediate|(?<!Self)Output$"), "mlp"),
)
PARENTS = 2


def with_told_roles(shapes: Shapes, config: Mapping[str, Any]) -> Shapes:
    """`shapes`, with roles by module for the matrices whose names are unknown, where `config` builds a model."""
    unknown = [name for name, shape in shapes.items() if role_of(name, shape) == "matrix"]
    told = _told(config) if unknown and "model_type" in config and "auto_map" not in config else {}
    return ToldShapes(shapes.items(), {name: told[name] for name in unknown if name in told}) if told else shapes


def _told(config: Mapping[str, Any]) -> dict[str, str]:
    """Parameter name -> role, of every parameter whose module tells one."""
    try:
        import torch
        import transformers
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    except ImportError:
        return {}
    try:
        with torch.device("meta"):
            fields = {key: value for key, value in config.items() if key not in ("model_type", "quantization_config")}
            built = CONFIG_MAPPING[config["model_type"]].from_dict(fields)
            named = getattr(transformers, str((config.get("architectures") or [""])[0]), None)
            model: Any = getattr(named, "_from_config", transformers.AutoModelForCausalLM.from_config)(built)
    except Exception:  # noqa: BLE001  each class fails in its own way; whoever runs the model says why
        return {}
    head = model.get_output_embeddings()
    modules = dict(model.named_modules())
    found: dict[str, str] = {}
    for path, module in modules.items():
        above = [modules[path.rsplit(".", k)[0]] for k in range(1, 1 + min(PARENTS, path.count(".")))]
        role = "head" if module is head else _role(module, [type(each).__name__ for each in (module, *above)])
        for name, _ in module.named_parameters(recurse=False) if role else ():
            for whole in _names(f"{path}.{name}", model.base_model_prefix):
                found[whole] = role
    return found


def _role(module: Any, kinds: list[str]) -> str:
    """The role that a module's type tells; '' for none."""
    from torch import nn

    if isinstance(module, nn.Embedding) or kinds[0].endswith("Embedding"):
        return "embedding"
    if isinstance(module, (nn.Conv1d, nn.Conv2d)) and module.groups > 1:
        return "control"
    return next((role for pattern, role in KINDS if any(pattern.search(kind) for kind in kinds)), "")


def _names(name: str, prefix: str) -> tuple[str, ...]:
    """A parameter's name in a file: with and without the prefix of the model below its head."""
    return (name, name.removeprefix(prefix + ".")) if prefix else (name,)
