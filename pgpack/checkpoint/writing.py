"""Weights -> one file that others load: safetensors, .npz or .pt. One tensor is in memory at a time, but for .pt.

    Outgoing (name, shape, kind, load) --as it is stored--> file, replaced whole

Owns the stored types. Refuses numbers that a type cannot hold, before anything takes the file's place.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import SettingError
from pgpack.files import replacing
from pgpack.tensors.raw_values import RawValues

FLOATS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}  # what a user calls it -> in safetensors' words
KINDS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",  # which safetensors has not
}
WIDTHS = {kind: np.dtype(name).itemsize for name, kind in KINDS.items()} | {"BF16": 2}


@dataclass(frozen=True, eq=False)
class Outgoing:
    """A tensor to be written. `kind`: how it is stored, in safetensors' words; `load` gives its values."""

    name: str
    shape: tuple[int, ...]
    kind: str
    load: Callable[[], NDArray[Any]]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * WIDTHS[self.kind]

    def stored(self) -> NDArray[Any]:
        """Its values as `kind` has them; of BF16 the bits, as uint16.

        Raises: SettingError when a value is beyond what F16 or BF16 holds.
        """
        array = np.asarray(self.load(), order="C")
        if self.kind == "BF16":
            bits = RawValues("bf16").symbols_of(array)
            self._require_finite(array, (bits.astype(np.uint32) << 16).view(np.float32), "bfloat16; give --dtype f32")
            return bits
        if self.kind != "F16":
            return array
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        self._require_finite(array, half, "float16; give --dtype bf16 or f32")
        return half

    def _require_finite(self, array: NDArray[Any], narrow: NDArray[Any], kind: str) -> None:
        if (np.isinf(narrow) & np.isfinite(array)).any():
            raise SettingError(f"{self.name} holds {float(np.abs(array).max()):.4g}, beyond {kind}")


def outgoing(name: str, shape: tuple[int, ...], dtype: str, load: Callable[[], NDArray[Any]], to: str) -> Outgoing:
    """A tensor of numpy's `dtype` on its way: floats are stored as `to` (a key of FLOATS), the rest as it is.

    Raises: SettingError for a type that no file of these has.
    """
    if dtype not in KINDS:
        raise SettingError(f"{name}: tensors of type {dtype} are not written; leave it out of the checkpoint")
    return Outgoing(name, shape, FLOATS[to] if dtype in ("float32", "float16") else KINDS[dtype], load)


def write_safetensors(path: Path, tensors: Sequence[Outgoing], metadata: Mapping[str, str]) -> int:
    """Write a .safetensors file in one step; its size in bytes. Equal tensors and metadata give equal bytes.

    Raises: SettingError for complex128; OSError when it cannot be written; nothing of it is left behind.
    Source: the safetensors format (8-byte little-endian header length, JSON header, raw tensors). Where we differ
    from the reference writer: it orders the metadata by a random hash of the process, here it is sorted.
    """
    if (wide := next((tensor.name for tensor in tensors if tensor.kind == "C128"), None)) is not None:
        raise SettingError(f"{wide} is of type complex128, which safetensors has not; give NAME.pt or NAME.npz")
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    # Widest first, so that every tensor starts at a multiple of its item size.
    ordered = sorted(tensors, key=lambda tensor: (-WIDTHS[tensor.kind], tensor.name))
    for tensor in ordered:
        end = offset + tensor.n_bytes
        header[tensor.name] = {"dtype": tensor.kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    n_bytes = 8 + len(text) + offset
    with replacing(path, n_bytes=n_bytes) as aside, aside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in ordered:
            array = tensor.stored()
            file.write(array.data if array.size else b"")
    return n_bytes


def write_npz(path: Path, tensors: Sequence[Outgoing]) -> None:
    """Write what `numpy.load` reads without pickles, in one step. Equal tensors give equal bytes.

    Raises: SettingError for bf16, which numpy has not, and for names that lead out of the folder that a zip file is
    unpacked in; OSError when it cannot be written.
    """
    for tensor in tensors:
        if {"", ".", ".."} & {*tensor.name.replace("\\", "/").split("/")}:
            raise SettingError(f"a tensor is called {tensor.name!a}, like a path; give NAME.safetensors")
    if any(tensor.kind == "BF16" for tensor in tensors):
        raise SettingError("numpy has no bf16; give --dtype f32 or f16 for an .npz file")
    n_bytes = sum(tensor.n_bytes for tensor in tensors)
    with replacing(path, n_bytes=n_bytes) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as target:
        for tensor in tensors:
            entry = zipfile.ZipInfo(f"{tensor.name}.npy", (1980, 1, 1, 0, 0, 0))
            with target.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, tensor.stored(), allow_pickle=False)


def write_torch(path: Path, tensors: Sequence[Outgoing], aliases: Mapping[str, str]) -> None:
    """Write a torch state dict in one step; `aliases`: tied name -> the name whose tensor it shares.

    Raises: OSError when it cannot be written; nothing of it is left behind.
    """
    import torch

    names = {tensor.name for tensor in tensors}
    shared = {name: stored for name, stored in aliases.items() if {name, stored} <= names}
    state = {}
    for tensor in tensors:
        if tensor.name not in shared:
            values = torch.tensor(tensor.stored())
            state[tensor.name] = values.view(torch.bfloat16) if tensor.kind == "BF16" else values
        else:
            state[tensor.name] = torch.empty(0)  # keeps its place
    state |= {name: state[stored] for name, stored in shared.items()}
    n_bytes = sum(tensor.n_bytes for tensor in tensors)
    with replacing(path, n_bytes=n_bytes) as aside, aside.open("wb") as file:
        told = _Told(file)
        try:
            torch.save(state, cast("IO[bytes]", told))
        except RuntimeError as error:
            raise told.error or error from None


class _Told:
    """A file for torch, which makes of a full disk an error of its own: what the system said is kept."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()
