"""Weights that are stored as 8-bit numbers with scales beside them, as the numbers that they stand for.

    X.weight fp8, X.weight_scale_inv (blocks of 128 x 128)              --> X.weight, the product
    X.weight fp8, X.weight_scale or X.scale_weight (one, or one a row)  --> X.weight, the product

Owns the names of scales. An fp8 tensor with its scale beside it means their product whether or not a config.json says
so; integers mean that only where it does. Refuses weights that are packed into integers, and integers with scales
beside them where no config says what they mean: what their bits mean is another's business.
Source: DeepSeek-V3's inference/kernel.py (weight_dequant); vllm-project/compressed-tensors for weight_scale;
comfyanonymous/ComfyUI for scale_weight; ml-explore/mlx (weight, scales, biases); NVIDIA's ModelOpt (weight_scale_2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError

BLOCK = (128, 128)
SCALES = ("_scale_inv", "_scale")  # behind the name of a weight
SCALE_WEIGHT = (".weight", ".scale_weight")  # in place of the end of a name
OF_ACTIVATIONS = (".input_scale", ".activation_scale", ".input_scale_ub", ".scale_input")  # no use to plain weights
PACKED = {  # end of a name, by what packed it -> ends of what may lie beside it then
    ".qweight": (".scales",),
    ".weight_packed": (".weight_scale",),
    ".weight.absmax": (".weight",),
    ".SCB": (".weight",),
    "_blocks": ("_scales",),
    ".W_q": (".scale", ".meta.scale"),
    ".codes": (".codebooks",),
    ".weight._data": (".weight._scale",),
    ".weight._data._data": (".weight._scale",),
    ".biases": (".scales",),
}
PARTS = {  # the same, where the name alone says nothing
    ".Qidxs": (".SU", ".SV"),  # QuIP#
    ".Qidxs_0": (".SU", ".SV"),
    ".trellis": (".suh", ".svh", ".SU", ".SV"),  # ExLlamaV3, QTIP
    ".q_weight": (".q_scale", ".q_scale_max"),  # ExLlamaV2
    ".B": (".s", ".s_group", ".s_channel"),  # Marlin, QQQ
    ".qweight": (".lookup_table",),  # SqueezeLLM
    ".indices": (".centroids.weight",),  # VPTQ
    ".dense_weights": (".row_offsets",),  # SpQR
    "._weight_qdata": ("._weight_scale",),  # torchao
    ".compressed": (".bitmask",),  # of compressed-tensors: the values that are not 0
}
WEIGHTS = (".weight", ".qweight")  # ends of names of integers that are weights, with one of these beside them:
OF_PACKED = (
    *(".scales", ".scale", ".weight_scale", ".weight_scale_2", ".weight_scales", ".weight_scaler"),
    *(".scales_and_zeros", ".a"),  # gpt-fast, SmoothQuant
)
ZERO_POINT = "_zero_point"
QUANTIZED = "quantization_config"
FP8, WHOLE = "float8", "int8"
BITS = ("int", "uint")  # beginnings of the names of dtypes that may hold packed weights

Shapes = Mapping[str, tuple[int, ...]]
Load = Callable[[str], NDArray[Any]]


def unscaled(
    shapes: Shapes, load: Load, dtypes: Mapping[str, str], config: Mapping[str, Any], source: str
) -> tuple[Shapes, Load]:
    """(shapes, load) of the weights themselves; `dtypes` as in `Stored`.

    Raises: CheckpointError when weights are packed integers, or a scale fits no weight.
    """
    quantized = config.get(QUANTIZED)
    told = isinstance(quantized, Mapping)
    scale_of = dict(_scales(shapes, dtypes, told))
    method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
    _refuse(next(_packed(shapes, dtypes, scale_of, told), None), source, method)
    if not scale_of:
        return shapes, load
    block = (quantized.get("weight_block_size") if isinstance(quantized, Mapping) else None) or BLOCK
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


def refuse_packed(shapes: Shapes, dtypes: Mapping[str, str], source: str) -> None:
    """Raises: CheckpointError as `unscaled`, where no config tells anything."""
    _refuse(next(_packed(shapes, dtypes, dict(_scales(shapes, dtypes, False)), False), None), source)


def _refuse(packed: str | None, source: str, method: object = None) -> None:
    if packed is not None:
        by = f" by {method}" if isinstance(method, str) else ""
        raise CheckpointError(
            f"{source}: its weights were quantized{by} ({packed}); give the folder of the model that it was made from"
        )


def _scales(shapes: Shapes, dtypes: Mapping[str, str], told: bool) -> Iterator[tuple[str, str]]:
    """(weight, its scale). `told`: whether a config says that weights are quantized."""
    for name in shapes:
        kind = dtypes.get(name, "")
        if not kind.startswith(FP8) and not (told and kind == WHOLE):
            continue
        weight, scale_weight = SCALE_WEIGHT
        names = [f"{name}{end}" for end in SCALES]
        names += [name.removesuffix(weight) + scale_weight] if name.endswith(weight) else []
        if scale := next((each for each in names if each in shapes), None):
            yield name, scale


def _packed(shapes: Shapes, dtypes: Mapping[str, str], scale_of: Mapping[str, str], told: bool) -> Iterator[str]:
    """Names that tell that weights are packed, or are not what they stand for in another way."""
    for name, shape in shapes.items():
        end = next((end for end in PACKED if name.endswith(end)), None)
        beside = end is not None and (told or _lies_beside(name, end, PACKED[end], shapes))
        beside = beside or any(_lies_beside(name, part, others, shapes) for part, others in PARTS.items())
        number = dtypes.get(name, "").startswith((FP8, *BITS)) and name.endswith(WEIGHTS) and len(shape) > 1
        of_integers = number and name not in scale_of and _has_scales(name, shapes)
        if (
            beside
            or of_integers
            or (told and (name.endswith(f".weight{ZERO_POINT}") or (number and name not in scale_of)))
        ):
            yield name


def _lies_beside(name: str, end: str, others: tuple[str, ...], shapes: Shapes) -> bool:
    """Whether a name has this end, and one of `others` in its place is a name as well."""
    stem = name.removesuffix(end)
    return stem != name and any(stem + other in shapes for other in others)


def _has_scales(name: str, shapes: Shapes) -> bool:
    stem = name.rpartition(".")[0]
    return any(stem + end in shapes for end in OF_PACKED)


def _fits(shape: tuple[int, ...], scales: tuple[int, ...], block: Any) -> bool:
    n = int(np.prod(scales, dtype=np.int64))
    if n == 1 or (len(shape) == 2 and scales == (shape[0],)):
        return True
    return len(shape) == len(scales) and (_stretches(shape, scales) or _is_in_blocks(shape, scales, block))


def _stretches(shape: tuple[int, ...], scales: tuple[int, ...]) -> bool:
    return all(count in (1, length) for length, count in zip(shape, scales, strict=True))


def _is_in_blocks(shape: tuple[int, ...], scales: tuple[int, ...], block: Any) -> bool:
    return len(shape) == 2 and all(
        -(-length // each) == count for length, each, count in zip(shape, block, scales, strict=True)
    )


def _spread(scales: NDArray[np.float32], shape: tuple[int, ...], block: Any) -> NDArray[np.float32]:
    """Scales that multiply a weight of `shape`."""
    if scales.size == 1:
        return scales.reshape(())
    if scales.shape == shape[:1]:
        return scales.reshape(-1, 1)
    if not _is_in_blocks(shape, scales.shape, block):
        return scales
    rows, columns = (np.arange(length) // each for length, each in zip(shape, block, strict=True))
    return scales[np.ix_(rows, columns)]
