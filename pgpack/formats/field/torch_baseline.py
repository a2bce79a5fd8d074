"""The challenge's baseline export: one torch.save of five to seven dictionaries, then a byte codec.

    __quant_format__         "int8_clean_per_row_v1"; when read also "mixed_int8_int6_v1", the same otherwise
    quantized, scales        name -> int8 symbols, fp16 step per row (one fp32 step in all for other than matrices)
    dtypes                   name -> dtype of the model's tensor
    passthrough              name -> raw tensor
    qmeta                    name -> {scheme: per_row, axis: 0}, when there is any
    passthrough_orig_dtypes  name -> dtype before the cast to fp16, when there is any

Reading returns weights as the steps give them; the challenge's loader then casts them to `dtypes`.
Source: openai/parameter-golf train_gpt.py, quantize_state_dict_int8 and dequantize_state_dict_int8; the other name is
that of the record 2026-03-21 (depth recurrence, mixed precision), whose file begins with the word ZSTD or ZLIB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pgpack.codecs.base import ByteCodec
from pgpack.errors import CorruptArtifact, FormatError, RecipeError
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.size_report import SizeReport
from pgpack.formats.torch_files.stored_tensor import (
    StoredTensor,
    raw_of_stored,
    require_stored,
    stored,
    stored_of_raw,
)
from pgpack.formats.torch_files.stream import pieces, scaffold
from pgpack.tensors.entropy import order0_bytes
from pgpack.tensors.record import Record

from .compressed import compress
from .row_scaled import inexpressible, is_raw, row_scaled, row_scaled_part
from .shares import measured_report

NAME = "torch_baseline"
QUANT_FORMAT = "int8_clean_per_row_v1"
QUANT_FORMATS = (QUANT_FORMAT, "mixed_int8_int6_v1")
DEFAULT_LIMIT = 1 << 30


def untied(contents: Contents, container: str) -> Sequence[Record]:
    """The records, all names stored. Raises RecipeError on aliases: the field's formats know no tied names."""
    if contents.aliases:
        alias = next(iter(contents.aliases))
        raise RecipeError(f"{alias}: the field's format {container} stores every name; write a record for it")
    return contents.records


def _state(contents: Contents) -> tuple[dict[str, Any], dict[str, float]]:
    """The dictionary to save, and stored name -> estimated cost."""
    state: dict[str, Any] = {"__quant_format__": QUANT_FORMAT}
    for key in ("quantized", "scales", "dtypes", "passthrough"):
        state[key] = {}
    qmeta: dict[str, dict[str, object]] = {}
    original: dict[str, str] = {}
    costs = dict.fromkeys((record.name for record in contents.records), 0.0)
    for record in untied(contents, NAME):
        name = record.name
        if is_raw(record):
            tensor = stored_of_raw(record.parts[0], record.shape)
            state["passthrough"][name] = tensor
            if tensor.dtype in ("float16", "bfloat16"):
                original[name] = _float32()
            costs[name] += order0_bytes(record.parts[0].symbols)
            continue
        if record.form != "plain":
            raise inexpressible(record, NAME, f"form {record.form!r}")
        entry = row_scaled(record, NAME)
        if entry.scales.ndim:
            qmeta[name] = {"scheme": "per_row", "axis": 0}
        state["quantized"][name] = stored(entry.symbols)
        state["scales"][name] = stored(entry.scales)
        state["dtypes"][name] = _float32()
        costs[name] += order0_bytes(entry.symbols) + order0_bytes(entry.scales)
    if qmeta:
        state["qmeta"] = qmeta
    if original:
        state["passthrough_orig_dtypes"] = original
    return state, costs


def _float32() -> str:
    """'float32', a new string for every call: so it is in the challenge's script, and pickles write it each time."""
    return "".join(("float", "32"))


def records_of(state: Mapping[str, Any]) -> list[Record]:
    """The records of a loaded dictionary, quantized first. Raises FormatError when entries lack or do not fit."""
    if state.get("__quant_format__") not in QUANT_FORMATS:
        raise FormatError(f"the baseline dictionary does not say __quant_format__ {' or '.join(QUANT_FORMATS)}")
    quantized, scales = _tensors(state, "quantized"), _tensors(state, "scales")
    if set(quantized) != set(scales):
        raise CorruptArtifact("the baseline dictionary has quantized tensors without scales, or scales without")
    records = []
    for name, tensor in quantized.items():
        if scales[name].dtype not in ("float16", "float32") or tensor.dtype != "int8":
            raise CorruptArtifact(f"{name}: symbols of {tensor.dtype} with steps of {scales[name].dtype}")
        part = row_scaled_part(name, tensor.array, scales[name].array)
        records.append(Record(name, tensor.shape, "plain", (part,)))
    for name, tensor in _tensors(state, "passthrough").items():
        if name in quantized:
            raise CorruptArtifact(f"{name} is stored twice")
        records.append(Record(name, tensor.shape, "plain", (raw_of_stored(tensor),)))
    return records


def _tensors(state: Mapping[str, Any], key: str) -> dict[str, StoredTensor]:
    found = state.get(key)
    if not isinstance(found, dict):
        raise CorruptArtifact(f"the baseline dictionary has no tensors under {key!r}")
    return {name: require_stored(tensor, name) for name, tensor in found.items()}


@dataclass(frozen=True)
class TorchBaseline:
    """The challenge's baseline export: `quantized`, `scales`, `dtypes`, `passthrough` in one torch.save."""

    is_field: ClassVar[bool] = True

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        """The artifact and where its bytes went. Raises RecipeError on a record that the format cannot hold."""
        state, costs = _state(contents)
        stream = pieces(state)
        data = compress(b"".join(stream), codecs, NAME)
        return data, measured_report(len(data), len(compress(scaffold(stream), codecs, NAME)), costs)
