"""Tensors of a model folder -> a GGUF that llama.cpp loads, one tensor at a time.

    transformers' names and rows --families--> llama.cpp's --stored as F32, F16, BF16 or Q8_0--> file, replaced whole

Matrices are stored as asked for, vectors and position tables as F32, as convert_hf_to_gguf.py of llama.cpp does. The
package gguf writes the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import SettingError, ToolMissing
from pgpack.files import replacing

from .families import ROPE_FREQS, Family
from .fields import family_of, model_fields, rope_factors, tokenizer_fields

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}  # general.file_type
NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # buffers of old checkpoints
PREFIXES = {"gpt2": "transformer."}  # of the tensors of a whole model; "model." for the others
MISSING = "a GGUF is written by the package gguf, which is not installed: pip install 'pgpack[gguf]'"


@dataclass(frozen=True, eq=False)
class GgufSource:
    """`config`: config.json; `companions`: the tokenizer's files; `tensors`: transformers' name -> (shape, load)."""

    config: Mapping[str, Any]
    companions: Mapping[str, bytes]
    tensors: Mapping[str, tuple[tuple[int, ...], Callable[[], NDArray[Any]]]]
    aliases: Mapping[str, str]


def write_gguf(path: Path, source: GgufSource, to: str) -> None:
    """Write the file in one step; `to` is a key of TYPES.

    Raises: SettingError, a sentence, for a model that has no place in a GGUF or in its type; ToolMissing without the
    package; OSError when it cannot be written.
    """
    try:
        import gguf
    except ImportError:
        raise ToolMissing(MISSING) from None
    config = source.config
    try:
        arch, family = family_of(config)
        rope = rope_factors(config) if arch != "gpt2" else None
        fields = model_fields(config)
        names = _names(source, arch, family)
        rows = next(source.tensors[ours][0][0] for ours, theirs in names.items() if theirs == "token_embd.weight")
        fields |= tokenizer_fields(source.companions, rows)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        other = "a folder" if "model_type" in config else "NAME.safetensors"
        reason = f"{error} is not said" if isinstance(error, KeyError) else str(error) or "it has no table of tokens"
        raise SettingError(f"this model is not written as a GGUF: {reason}; write {other} instead") from None
    fields |= {"general.file_type": FILE_TYPES[TYPES[to]], "general.quantization_version": 2}
    logging.getLogger("gguf").setLevel(logging.ERROR)
    heads = {"q": fields[f"{arch}.attention.head_count"]}
    heads["k"] = fields.get(f"{arch}.attention.head_count_kv", heads["q"])
    planned = [] if rope is None else [(ROPE_FREQS, lambda: rope, rope.shape)]
    for ours, theirs in names.items():
        shape, load = source.tensors[ours]
        planned.append((theirs, _moved(family, theirs, load, heads), family.shape(theirs, shape)))
    kinds = {name: _kind(gguf, name, shape, to) for name, _, shape in planned}
    sizes = {
        name: int(np.prod(gguf.quant_shape_to_byte_shape(shape, kinds[name]) if len(shape) else (4,)))
        for name, _, shape in planned
    }
    with replacing(path, n_bytes=sum(sizes.values())) as aside:
        writer = gguf.GGUFWriter(aside, arch)
        for name, value in fields.items():
            _add(writer, name, value)
        for name, _, shape in planned:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), sizes[name], kinds[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, load, _ in planned:
            stored = gguf.quants.quantize(np.ascontiguousarray(load(), np.float32), kinds[name])
            if not np.isfinite(gguf.quants.dequantize(stored, kinds[name])).all():
                raise SettingError(f"{name} is beyond what {kinds[name].name} holds; give --type f32")
            writer.write_tensor_data(stored)
        writer.close()


def _names(source: GgufSource, arch: str, family: Family) -> dict[str, str]:
    """transformers' name of a tensor -> llama.cpp's; a tied head is left out.

    Raises: ValueError for a tensor that the family has not.
    """
    found = {}
    for name in source.tensors:
        if name.endswith(NOT_WEIGHTS):
            continue
        theirs = family.llamacpp_name(name) or family.llamacpp_name(PREFIXES.get(arch, "model.") + name)
        if theirs is None:
            raise ValueError(f"{name} has no place in a GGUF of {arch}")
        found[name] = theirs
    table = next((name for name, theirs in found.items() if theirs == "token_embd.weight"), None)
    tied = {name for pair in source.aliases.items() for name in pair if table in pair}
    return {name: theirs for name, theirs in found.items() if not (theirs == "output.weight" and name in tied)}


def _moved(
    family: Family, name: str, load: Callable[[], NDArray[Any]], heads: Mapping[str, int]
) -> Callable[[], NDArray[Any]]:
    return lambda: family.to_llamacpp(name, load(), heads)


def _kind(gguf: Any, name: str, shape: Sequence[int], to: str) -> Any:
    """How ggml stores a tensor: as asked for, where it is a matrix of weights whose rows allow it."""
    kinds = gguf.GGMLQuantizationType
    if len(shape) < 2 or name.startswith("position_embd"):
        return kinds.F32
    if to == "q8_0" and shape[-1] % 32:
        return kinds.F16
    return kinds[TYPES[to]]


def _add(writer: Any, name: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        if name != "general.architecture":  # which the writer has added
            writer.add_string(name, value)
    else:
        writer.add_array(name, value)
