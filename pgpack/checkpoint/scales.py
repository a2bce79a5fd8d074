"""Weights that a folder stores as 8-bit floats with scales beside them, as the numbers that they stand for.

    X.weight fp8, X.weight_scale_inv (blocks of 128 x 128)  --> X.weight, the product
    X.weight fp8, X.weight_scale (one, or one a row)        --> X.weight, the product

Owns the names of scales. Refuses weights that are packed into integers: what their bits mean is another's business.
Source: DeepSeek-V3's inference/kernel.py (weight_dequant); vllm-project/compressed-tensors for weight_scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError

BLOCK = (128, 128)
SCALES = ("_scale_inv", "_scale")  # behind the name of a weight
OF_ACTIVATIONS = (".input_scale", ".activation_scale", ".input_scale_ub")  # of no use once weights are plain
PACKED = (".qweight", ".weight_packed", ".weight.absmax", ".SCB", "_blocks")  # ends of names, by what packed them
QUANTIZED = "quantization_config"

Shapes = Mapping[str, tuple[int, ...]]
Load = Callable[[str], NDArray[Any]]


def unscaled(shapes: Shapes, load: Load, config: Mapping[str, Any], source: str) -> tuple[Shapes, Load]:
    """(shapes, load) of the weights themselves; as they are where `config` names no quantization.

    Raises: CheckpointError when weights are packed integers, or a scale fits no weight.
    """
    quantized = config.get(QUANTIZED)
    if not isinstance(quantized, Mapping):
        return shapes, load
    if packed := next((name for name in shapes if name.endswith(PACKED)), None):
        method = quantized.get("quant_method", "some method")
        raise CheckpointError(
            f"{source}: its weights were quantized by {method} ({packed}); give the folder of the model that it was "
            "made from"
        )
    scale_of = {
        name.removesuffix(end): name
        for end in SCALES
        for name in shapes
        if name.endswith(f".weight{end}") and name.removesuffix(end) in shapes
    }
    block = quantized.get("weight_block_size") or BLOCK
    for name, scale in scale_of.items():
        if not _fits(shapes[name], shapes[scale], block):
            raise CheckpointError(
                f"{source}: {scale} has shape {shapes[scale]}, no scales of {name} {shapes[name]} in blocks "
                f"of {tuple(block)}"
            )
    dropped = {*scale_of.values(), *(name for name in shapes if name.endswith(OF_ACTIVATIONS))}

    def load_plain(name: str) -> NDArray[Any]:
        array = load(name)
        if name not in scale_of:
            return array
        scales = np.asarray(load(scale_of[name]), np.float32)
        return np.asarray(array, np.float32) * _spread(scales, array.shape, block)

    return {name: shape for name, shape in shapes.items() if name not in dropped}, load_plain


def _fits(shape: tuple[int, ...], scales: tuple[int, ...], block: Any) -> bool:
    n = int(np.prod(scales, dtype=np.int64))
    if n == 1 or (len(shape) == 2 and scales in ((shape[0],), (shape[0], 1))):
        return True
    return len(shape) == len(scales) == 2 and all(
        -(-length // each) == count for length, each, count in zip(shape, block, scales, strict=True)
    )


def _spread(scales: NDArray[np.float32], shape: tuple[int, ...], block: Any) -> NDArray[np.float32]:
    """Scales that multiply a weight of `shape`."""
    if scales.size == 1:
        return scales.reshape(())
    if scales.size == shape[0] and scales.shape[1:] in ((), (1,)):
        return scales.reshape(-1, 1)
    rows, columns = (np.arange(length) // each for length, each in zip(shape, block, strict=True))
    return scales[np.ix_(rows, columns)]
