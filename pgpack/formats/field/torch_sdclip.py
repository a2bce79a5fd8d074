"""The SDClip records' export: one torch.save of {'w', 'm'}, byte-shuffled, then brotli.

    w   NAME.q int8, NAME.scale fp16 per row; NAME for raw values; NAME.gq and NAME.gs for attention gates;
        NAME.lqA_a, .lqAs_a, .lqB_a, .lqBs_a for an asymmetric correction; NAME.lqA, .lqAs, .lqB, .lqBs for a
        symmetric one
    m   NAME -> "gptq (int6)", "gptq (int6)+lqer_asym", "gate_int8_row", "passthrough (float16)";
        older files: "passthrough", "passthrough_ctrl" and {"type": "int6"}

    torch.save --> "BSHF" stride  bytes 0, s, 2s, ...  bytes 1, 1+s, ... --> brotli

The bits in `m` are a label that no loader uses: `Contents.bits`, or where those are unknown the least width that
holds the tensor's symbols.
Where we differ: corrections follow in checkpoint order, the records' writer sorts them by the size of the error.
Source: openai/parameter-golf PR #1394 (format), PR #1736 (gates), PR #1797 (corrections), PR #549 (older labels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgpack.codecs.base import ByteCodec
from pgpack.codecs.shuffle import shuffled_pieces, unshuffled_bytes
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
from pgpack.formats.torch_files.zip import Buffer
from pgpack.tensors.entropy import order0_bytes
from pgpack.tensors.record import Record

from .compressed import compress
from .row_scaled import LowRank, corrected_record, is_raw, low_rank, row_scaled, row_scaled_part
from .shares import measured_report
from .torch_baseline import untied

NAME = "torch_sdclip"
MARK = b"BSHF"
PASSTHROUGH = "passthrough (float16)"
GATE = "gate_int8_row"
ASYMMETRIC = (".lqA_a", ".lqAs_a", ".lqB_a", ".lqBs_a")
SYMMETRIC = (".lqA", ".lqAs", ".lqB", ".lqBs")


@dataclass(frozen=True, eq=False)
class Entries:
    """The two dictionaries, and who owns each tensor. `owners`: key of `w` -> stored tensor name."""

    w: dict[str, StoredTensor]
    m: dict[str, str]
    owners: dict[str, str]

    def costs(self, stored: Mapping[str, float]) -> dict[str, float]:
        """`stored` with the order-0 entropy of every tensor added to its owner. Units: bytes."""
        costs = dict(stored)
        for key, tensor in self.w.items():
            costs[self.owners[key]] += order0_bytes(tensor.array)
        return costs


def shuffled(stream: Sequence[Buffer], stride: int) -> bytes:
    """The pieces shuffled behind a mark; as they are for a stride below 2 or when they are shorter than it."""
    if stride < 2 or sum(len(piece) for piece in stream) < stride:
        return b"".join(stream)
    return shuffled_pieces(stream, stride, MARK + bytes([stride]))


def unshuffled(data: bytes) -> bytes:
    """The inverse of `shuffled`; data without the mark is returned as it is."""
    if data[:4] != MARK or len(data) < 5:
        return data
    return unshuffled_bytes(memoryview(data)[5:], data[4]) if data[4] >= 2 else data[5:]


def entries_of(contents: Contents, container: str) -> Entries:
    """`w` and `m` in the order of the checkpoint, corrections last. Raises RecipeError."""
    entries = Entries({}, {}, {})
    pending: list[Record] = []
    for record in untied(contents, container):
        name = record.name
        if is_raw(record):
            _add(entries, name, name, stored_of_raw(record.parts[0], record.shape))
            entries.m[name] = PASSTHROUGH
            continue
        entry = row_scaled(record, container)
        small = entry.symbols.ndim == 2 and 32 <= entry.symbols.size <= 8192
        gate = record.form == "plain" and name.endswith(".attn_gate_w") and small
        keys = (".gq", ".gs") if gate else (".q", ".scale")
        _add(entries, name + keys[0], name, stored(entry.symbols))
        _add(entries, name + keys[1], name, stored(entry.scales))
        entries.m[name] = GATE if gate else f"gptq (int{contents.bits.get(name) or _least_bits(entry.symbols)})"
        if record.form == "corrected":
            pending.append(record)
    for record in pending:
        correction = low_rank(record, container)
        suffixes = ASYMMETRIC if correction.asymmetric else SYMMETRIC
        arrays: tuple[NDArray[Any], ...] = (correction.A, correction.A_scales, correction.B, correction.B_scales)
        for suffix, array in zip(suffixes, arrays, strict=True):
            _add(entries, record.name + suffix, record.name, stored(array))
        entries.m[record.name] += "+lqer_asym" if correction.asymmetric else "+lqer"
    return entries


def _add(entries: Entries, key: str, owner: str, tensor: StoredTensor) -> None:
    entries.w[key] = tensor
    entries.owners[key] = owner


def _least_bits(symbols: NDArray[np.int8]) -> int:
    """The least b of at least 2 with |symbol| <= 2^(b-1) - 1."""
    return max(int(np.abs(symbols.astype(np.int16)).max(initial=1)).bit_length(), 1) + 1


def records_of(w: Any, m: Any) -> list[Record]:
    """The records of `w` and `m`. Raises FormatError when entries are missing, left over or do not fit."""
    if not isinstance(w, dict) or not isinstance(m, dict):
        raise CorruptArtifact("the torch stream has no dictionaries 'w' and 'm'")
    left = dict(w)
    records = [_record(name, _label(name, label), left) for name, label in m.items()]
    if left:
        raise CorruptArtifact(f"tensor {sorted(left)[0]!r} belongs to no name in 'm'")
    return records


def _label(name: str, label: Any) -> str:
    """A label as today's files write it: those before #1394 said {"type": "int6"} instead of "gptq (int6)"."""
    if isinstance(label, dict) and str(label.get("type")).startswith("int"):
        return f"gptq ({label['type']})"
    if not isinstance(label, str):
        raise CorruptArtifact(f"{name}: its label is a {type(label).__name__}, expected a string")
    return label


def _record(name: str, label: str, left: dict[str, Any]) -> Record:
    """The record of one name; takes its tensors out of `left`."""
    if label.startswith("passthrough"):
        tensor = _take(left, name)
        return Record(name, tensor.shape, "plain", (raw_of_stored(tensor),))
    gate = label == GATE
    if not gate and not label.startswith("gptq ("):
        raise FormatError(f"{name}: stored as {label!r}, which this version does not read")
    symbols, scales = (_array(left, name + suffix) for suffix in ((".gq", ".gs") if gate else (".q", ".scale")))
    part = row_scaled_part(name, symbols, scales)
    if "+lqer" not in label:
        return Record(name, tuple(symbols.shape), "plain", (part,))
    suffixes = ASYMMETRIC if label.endswith("+lqer_asym") else SYMMETRIC
    A, A_scales, B, B_scales = (_array(left, name + suffix) for suffix in suffixes)
    if suffixes is ASYMMETRIC:
        A_scales = A_scales.reshape(()) if A_scales.size == 1 else A_scales
    return corrected_record(name, part, LowRank(A, A_scales, B, B_scales))


def _take(left: dict[str, Any], key: str) -> StoredTensor:
    if key not in left:
        raise CorruptArtifact(f"tensor {key!r} is missing")
    return require_stored(left.pop(key), key)


def _array(left: dict[str, Any], key: str) -> NDArray[Any]:
    tensor = _take(left, key)
    if tensor.dtype not in ("int8", "float16", "float32"):
        raise FormatError(f"{key}: dtype {tensor.dtype}, expected int8, float16 or float32")
    return tensor.array


@dataclass(frozen=True)
class TorchSdclip:
    """The SDClip records' export (PR #1394): torch.save of {'w', 'm'}; `stride` > 0 byte-shuffles it (BSHF)."""

    stride: int = 2
    is_field: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.stride <= 255:
            raise RecipeError("torch_sdclip needs a stride from 0 (no shuffle) to 255")

    def write(self, contents: Contents, codecs: tuple[ByteCodec, ...]) -> tuple[bytes, SizeReport]:
        """The artifact and where its bytes went. Raises RecipeError on a record that the format cannot hold."""
        entries = entries_of(contents, NAME)
        stream = pieces({"w": entries.w, "m": entries.m})
        data = compress(shuffled(stream, self.stride), codecs, NAME)
        n_serialization = len(compress(shuffled([scaffold(stream)], self.stride), codecs, NAME))
        costs = entries.costs(dict.fromkeys((record.name for record in contents.records), 0.0))
        return data, measured_report(len(data), n_serialization, costs)
