"""What is kept in a `pgpack.cache.store`: how each result is named by its inputs, and how it is written and read
back.

    bundle:  length u64 | JSON head | padding | array | padding | array ...      (plain arrays, nothing else)

    quantized     tensor, transforms, quantizer, statistics   -> Encoding
    calibration   checkpoint, model, tokens                   -> Calibration
    encoded       symbols, coder, byte codecs                 -> EncodedStream; or an artifact of a field's format
    tuned         records, steps, model, tokens               -> records
    evaluation    decoded weights, evaluator, model           -> BitsPerByte

A name holds contents and settings, never a path; tensors' names only where they are part of what is kept.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.calibration import Calibration, from_arrays
from pgpack.checkpoint.checkpoint import tensor_digest
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.size_report import SizeReport
from pgpack.formats.own.stream import EncodedStream
from pgpack.loss.evaluator import BitsPerByte
from pgpack.quantizers.base import Encoding
from pgpack.tensors.grids import QuantizedTensor, grid_from_parts
from pgpack.tensors.record import Record

from .store import ALIGNED, Buffer, Form, cache_key, package_code

Array = NDArray[Any]
_OURS = __package__.partition(".")[0]  # its code is part of every key already


def bundled(head: Any, arrays: Sequence[Array]) -> list[Buffer]:
    """A JSON head and plain arrays as bytes, each array aligned; `unbundled` is the inverse."""
    little = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in arrays]
    layouts = [[array.dtype.str, list(given.shape)] for array, given in zip(little, arrays, strict=True)]
    text = json.dumps([head, layouts]).encode()
    pieces: list[Buffer] = [_padded(len(text).to_bytes(8, "little") + text)]
    for array in little:
        flat = array.reshape(-1).view(np.uint8)
        pieces.append(flat.data)
        pieces.append(bytes(-len(flat) % ALIGNED))
    return pieces


def unbundled(data: memoryview) -> tuple[Any, list[Array]]:
    """(head, arrays) of `bundled`; the arrays are read-only views of `data`. Raises ValueError on other bytes."""
    length = int.from_bytes(data[:8], "little")
    head, layouts = json.loads(bytes(data[8 : 8 + length]))
    position = len(data[: 8 + length]) + -(8 + length) % ALIGNED
    arrays = []
    for name, shape in layouts:
        dtype = np.dtype(name)
        if dtype.kind not in "biuf":
            raise ValueError(f"arrays of {dtype} are not kept")
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(data, dtype, count, position).reshape(shape) if count else np.zeros(shape, dtype))
        position += count * dtype.itemsize
        position += -position % ALIGNED
    if position != len(data):
        raise ValueError(f"{len(data)} bytes where the head declares {position}")
    return head, arrays


def stage_name(stage: Any) -> list[Any]:
    """Class and every field of a stage, its whole configuration; the code too where it is another package's."""
    values = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
    module = type(stage).__module__
    code = [] if module.partition(".")[0] == _OURS else [package_code(module)]
    return [f"{module}:{type(stage).__qualname__}", values, *code]


def quantized_key(array: str, stages: Sequence[Any], statistics: str | None) -> str:
    """Of a tensor (by its digest) under bound transforms and a quantizer; `statistics`: digest of its Hessian, ..."""
    return cache_key("quantized", array, [stage_name(stage) for stage in stages], statistics)


def stream_key(coder: Any, codecs: Sequence[Any], arrays: Sequence[Array]) -> str:
    """Of symbol arrays under a coder and byte codecs."""
    stages = [stage_name(stage) for stage in (coder, *codecs)]
    return cache_key("stream", stages, [tensor_digest(array) for array in arrays])


def artifact_key(contents: Contents, container: Any, codecs: Sequence[Any]) -> str:
    """Of everything that a field's container writes."""
    stages = [stage_name(stage) for stage in (container, *codecs)]
    return cache_key("artifact", stages, records_key(contents.records, contents.aliases), dict(contents.bits))


def records_key(records: Sequence[Record], aliases: Mapping[str, str]) -> str:
    """Of all tensors of an artifact, names included."""
    rows = []
    for record in records:
        row: list[Any] = [record.name, list(record.shape), record.form]
        for part in record.parts:
            arrays = {name: tensor_digest(array) for name, array in part.grid.arrays.items()}
            row.append([tensor_digest(part.symbols), part.grid.kind, part.grid.params, arrays, list(part.shape)])
        rows.append(row)
    return cache_key("records", rows, list(aliases.items()))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNED)


def _parts_head(parts: Sequence[QuantizedTensor]) -> tuple[list[Any], list[Array]]:
    head, arrays = [], []
    for part in parts:
        side = part.grid.arrays
        head.append([part.grid.kind, part.grid.params, list(side), list(part.shape)])
        arrays += [part.symbols, *side.values()]
    return head, arrays


def _parts(head: Sequence[Any], arrays: Sequence[Array]) -> tuple[QuantizedTensor, ...]:
    found, rest = [], list(arrays)
    for kind, params, names, shape in head:
        symbols, side, rest = rest[0], rest[1 : 1 + len(names)], rest[1 + len(names) :]
        grid = grid_from_parts(kind, params, dict(zip(names, side, strict=True)))
        found.append(QuantizedTensor(symbols, grid, tuple(shape)))
    return tuple(found)


def _write_encoding(encoding: Encoding) -> list[Buffer]:
    parts, arrays = _parts_head(encoding.parts)
    return bundled([encoding.form, encoding.residual_norm, parts], arrays)


def _read_encoding(data: memoryview) -> Encoding:
    (form, norm, parts), arrays = unbundled(data)
    return Encoding(form, _parts(parts, arrays), norm)


def _write_records(records: tuple[Record, ...]) -> list[Buffer]:
    heads, arrays = [], []
    for record in records:
        head, own = _parts_head(record.parts)
        heads.append([record.name, list(record.shape), record.form, head, len(own)])
        arrays += own
    return bundled(heads, arrays)


def _read_records(data: memoryview) -> tuple[Record, ...]:
    heads, arrays = unbundled(data)
    found, position = [], 0
    for name, shape, form, parts, count in heads:
        found.append(Record(name, tuple(shape), form, _parts(parts, arrays[position : position + count])))
        position += count
    return tuple(found)


def _write_calibration(calibration: Calibration) -> list[Buffer]:
    about = [calibration.token_digest, calibration.n_tokens, dict(calibration.metadata), list(calibration.shapes)]
    return bundled(about, [calibration.load(key) for key in calibration.shapes])


def _read_calibration(data: memoryview) -> Calibration:
    (token_digest, n_tokens, metadata, keys), arrays = unbundled(data)
    found = from_arrays(dict(zip(keys, arrays, strict=True)), token_digest, n_tokens)
    return dataclasses.replace(found, metadata=metadata)


def _write_stream(stream: EncodedStream) -> list[Buffer]:
    return bundled([stream.lengths, stream.ideal_bits], [np.frombuffer(stream.data, np.uint8)])


def _read_stream(data: memoryview) -> EncodedStream:
    (lengths, ideal_bits), (coded,) = unbundled(data)
    return EncodedStream(coded.tobytes(), tuple(lengths), tuple(ideal_bits))


def _write_artifact(artifact: tuple[bytes, SizeReport]) -> list[Buffer]:
    data, report = artifact
    return bundled([list(report.tensors.items()), list(report.overhead.items())], [np.frombuffer(data, np.uint8)])


def _read_artifact(data: memoryview) -> tuple[bytes, SizeReport]:
    (tensors, overhead), (written,) = unbundled(data)
    return written.tobytes(), SizeReport(dict(tensors), dict(overhead))


def loss_bytes(loss: BitsPerByte) -> list[Buffer]:
    return [json.dumps(loss.__dict__).encode()]


def _read_loss(data: memoryview) -> BitsPerByte:
    row: dict[str, Any] = json.loads(bytes(data))
    blocks = {name: tuple(row[name]) for name in ("block_excess", "block_bytes")}
    return BitsPerByte(**row | blocks)


ENCODING = Form(_write_encoding, _read_encoding)
RECORDS = Form(_write_records, _read_records)
CALIBRATION = Form(_write_calibration, _read_calibration)
STREAM = Form(_write_stream, _read_stream)
ARTIFACT = Form(_write_artifact, _read_artifact)
LOSS = Form(loss_bytes, _read_loss)
