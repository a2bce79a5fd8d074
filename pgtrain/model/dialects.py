"""What the public training scripts store and their models never read (`pgtrain.model.tensor_table` has what they do).

Banks are taken apart before, by `pgpack.checkpoint.dialects`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pgpack.checkpoint.dialects import unbanked_shapes

from .model_config import GPTConfig
from .tensor_table import tensor_shapes

Array = TypeVar("Array")


def unused_by(config: GPTConfig) -> tuple[str, ...]:
    """Names (or beginnings of names) that a script stores but, set up as `config`, never reads.

    #2090 builds skips and virtual tables in its naive and ALBERT modes and runs without them; the flat loops of #212
    kept skip_weights in the version that logged 7,610,392 parameters; the value-residual script gives its first layer
    a vr_lambda; #1855 has the weights of lanes also where no layer runs in them.
    """
    shared = config.sharing in ("single", "encoder_decoder")
    return (
        *(("skip_weights", "skip_gates") if config.skips == "none" and (shared or config.num_loops) else ()),
        *(("virtual_",) if config.adapters == "none" and shared else ()),
        *(("parallel_",) if config.lane_start < 0 else ()),
        *(("blocks.0.attn.vr_lambda",) if config.value_residual and config.sharing == "none" else ()),
    )


def systems_with(shapes: Mapping[str, tuple[int, ...]], systems: Mapping[str, GPTConfig]) -> list[str]:
    """Names of the systems that have exactly these tensors, banked or not; several where only arithmetic differs."""
    flat = unbanked_shapes(shapes)
    return [name for name, config in systems.items() if fits(config, flat)]


def fits(config: GPTConfig, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether these are exactly the tensors of `config`, and perhaps what its script never reads."""
    return without_unused(config, shapes) == tensor_shapes(config)


def without_unused(config: GPTConfig, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors without those that `unused_by` names."""
    unused = unused_by(config)
    return {name: tensor for name, tensor in tensors.items() if not (unused and name.startswith(unused))}
