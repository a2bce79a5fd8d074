"""State dicts of the public training scripts, read into the names of `pgtrain.model.tensor_table`.

    banks (qo, kv, mlp_up, mlp_down) --unbank--> one matrix per tensor --without_unused--> what the model uses

Owns the two renamings. Refuses arithmetic: no value changes. Source: the banked layout of openai/parameter-golf #1529
and its descendants (#1546, #1787, #1855).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from pgpack.errors import CheckpointError

from .model_config import GPTConfig
from .tensor_table import tensor_shapes

Array = TypeVar("Array")
BANKS = ("qo_bank", "kv_bank", "mlp_up_bank", "mlp_down_bank")


def is_banked(names: Mapping[str, Any]) -> bool:
    """Whether the matrices of all layers are stacked in banks."""
    return "qo_bank" in names


def unbank(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """One matrix per tensor; a state dict without banks comes back as it is.

    Shape: qo_bank (2 L, D, D) holds c_q of layer i at i and attn.proj at L + i; kv_bank (2 L, KV, D) c_k and c_v
    likewise; mlp_up_bank (L, H, D) mlp.fc; mlp_down_bank (L, D, H) mlp.proj. Works on torch tensors and numpy arrays.
    Raises: CheckpointError when a bank is missing or the banks disagree about the number of layers.
    """
    if not is_banked(tensors):
        return dict(tensors)
    missing = [name for name in BANKS if name not in tensors]
    if missing:
        raise CheckpointError(
            f"the banks {', '.join(missing)} are missing beside qo_bank; the state dict is not whole"
        )
    qo, kv, up, down = (tensors[name] for name in BANKS)
    lengths: list[int] = [len(bank) for bank in (qo, kv, up, down)]  # type: ignore[arg-type]
    layers = lengths[2]
    if lengths != [2 * layers, 2 * layers, layers, layers]:
        raise CheckpointError(f"banks of {lengths} matrices; expected 2 L, 2 L, L, L of one number of layers L")
    flat = {name: tensor for name, tensor in tensors.items() if name not in BANKS}
    for i in range(layers):
        at = f"blocks.{i}"
        flat[f"{at}.attn.c_q.weight"], flat[f"{at}.attn.proj.weight"] = qo[i], qo[layers + i]  # type: ignore[index]
        flat[f"{at}.attn.c_k.weight"], flat[f"{at}.attn.c_v.weight"] = kv[i], kv[layers + i]  # type: ignore[index]
        flat[f"{at}.mlp.fc.weight"], flat[f"{at}.mlp.proj.weight"] = up[i], down[i]  # type: ignore[index]
    return flat


def unused_by(config: GPTConfig) -> tuple[str, ...]:
    """Names (or beginnings of names) that a script stores but, set up as `config`, never reads.

    #2090 builds skips and virtual tables in its naive and ALBERT modes and runs without them; the flat loops of #212
    kept skip_weights in the version that logged 7,610,392 parameters; the value-residual script gives its first layer
    a vr_lambda.
    """
    shared = config.sharing in ("single", "encoder_decoder")
    return (
        *(("skip_weights", "skip_gates") if config.skips == "none" and (shared or config.num_loops) else ()),
        *(("virtual_",) if config.adapters == "none" and shared else ()),
        *(("blocks.0.attn.vr_lambda",) if config.value_residual and config.sharing == "none" else ()),
    )


def systems_with(shapes: Mapping[str, tuple[int, ...]], systems: Mapping[str, GPTConfig]) -> list[str]:
    """Names of the systems that have exactly these tensors, banked or not; several where only arithmetic differs."""
    empty = unbank({name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()})
    return [
        name
        for name, config in systems.items()
        if {key: array.shape for key, array in without_unused(config, empty).items()} == tensor_shapes(config)
    ]


def without_unused(config: GPTConfig, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors without those that `unused_by` names."""
    unused = unused_by(config)
    return {name: tensor for name, tensor in tensors.items() if not (unused and name.startswith(unused))}
