"""Whether weights are all that the config.json beside them asks for: of any class that transformers has, of shapes.

    config.json, names and shapes --transformers' own loading, no values--> '' or what is amiss

Owns the question for models that nobody runs. Heads of other tasks count where the config names a class that has
them; what transformers ties or makes anew is none that lacks. Where nobody can tell, nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pgpack.checkpoint.folders import CONFIG
from pgpack.errors import CheckpointError

from .huggingface import FarLarger, built_config, config_fields, load_into, quiet_transformers, what_is_amiss


def lacking(companions: Mapping[str, bytes], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A sentence on what the weights lack, or hold in another shape, by the config.json among the companions.

    '' where that is nothing, or where transformers cannot build such a model.
    """
    if CONFIG not in companions or not shapes:
        return ""
    try:
        fields = config_fields(companions[CONFIG])
        if fields.get("auto_map"):
            return ""
        with quiet_transformers():
            config = built_config(str(fields.get("model_type")), fields)
            tensors = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
            return what_is_amiss(*load_into(_class_of(fields, config), config, companions[CONFIG], tensors))
    except FarLarger as error:
        return str(error)
    except (CheckpointError, ImportError, KeyError, AttributeError):
        return ""


def no_model(companions: Mapping[str, bytes], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The same with what follows from it, for who packs the weights all the same."""
    amiss = lacking(companions, shapes)
    return amiss and f"{amiss}; it is packed as it is, and no model can be made of it as it stands"


def _class_of(fields: Mapping[str, Any], config: Any) -> Any:
    """The class that the config names, where transformers has it; else its causal one. Raises: KeyError."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    names = fields.get("architectures")
    found = getattr(transformers, str(names[0]), None) if isinstance(names, list) and names else None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
