"""torch.save streams in memory: tensors from and to quantized parts, and loading that trusts nothing.

torch.save writes a zip of stored (uncompressed) entries: a pickle, one entry per tensor, a few constants.
Refuses on reading: pickles that need more than tensors and plain values, compressed or overlapping entries, tensors
that are not plain, dense and contiguous, and more than the allowed bytes in all.
"""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptArtifact, FormatError
from ..grids import RAW_DTYPES, QuantizedTensor, RawValues
from .row_scaled import folded_shape

if TYPE_CHECKING:
    import torch

TORCH_DTYPES = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp64": "float64",
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "uint8": "uint8",
    "bool": "bool",
}
_SIGNED = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
_LOCAL_HEADER_LEN = 30  # of a zip entry, before its name and extra field


def save(value: dict[str, Any]) -> bytes:
    """The torch.save stream of a dictionary of tensors, strings, numbers and dictionaries."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load(data: bytes, limit: int) -> dict[str, Any]:
    """The dictionary of a torch.save stream. Raises CorruptArtifact, or FormatError above `limit` bytes."""
    import torch

    _check_zip(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns while it words its refusals
            value: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CorruptArtifact(
            "the torch stream is refused: reading it would run code, or its pickle is damaged"
        ) from None
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        AssertionError,
        MemoryError,
        struct.error,
    ) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CorruptArtifact(f"the torch stream does not load ({text})") from None
    if not isinstance(value, dict):
        raise CorruptArtifact(f"the torch stream holds a {type(value).__name__}, expected a dictionary")
    n_bytes = 0
    for name, tensor in _tensors(value, "", 0):
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise CorruptArtifact(f"{name}: not a plain dense tensor")
        n_bytes += tensor.numel() * tensor.element_size()
        if n_bytes > limit:
            raise FormatError(f"the tensors need more than the limit of {limit:,} bytes")
        if not tensor.is_contiguous():
            raise CorruptArtifact(f"{name}: a strided view, expected a tensor that fills its own storage")
    return value


def _tensors(value: Any, name: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor inside nested dictionaries. Raises CorruptArtifact on other containers."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict) and depth < 4:
        for key, item in value.items():
            if not isinstance(key, str):
                raise CorruptArtifact(f"the torch stream has the key {key!r}, expected names")
            yield from _tensors(item, key, depth + 1)


def _check_zip(data: bytes) -> None:
    """Nothing. Raises CorruptArtifact unless all entries are stored and together no longer than the file."""
    try:
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OSError) as error:
        raise CorruptArtifact(f"not a torch.save stream ({error})") from None
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CorruptArtifact("a compressed entry inside a torch stream; torch.save stores entries as they are")
    if sum(entry.file_size for entry in entries) > len(data):
        raise CorruptArtifact("the entries of a torch stream overlap")


def skeleton(data: bytes) -> bytes:
    """A torch.save stream with the contents of every tensor cut out: what serialization itself writes."""
    kept, position = [], 0
    for entry in sorted(zipfile.ZipFile(io.BytesIO(data)).infolist(), key=lambda entry: entry.header_offset):
        if "/data/" not in entry.filename:
            continue
        name_len, extra_len = struct.unpack_from("<HH", data, entry.header_offset + 26)
        start = entry.header_offset + _LOCAL_HEADER_LEN + name_len + extra_len
        kept.append(data[position:start])
        position = start + entry.file_size
    return b"".join([*kept, data[position:]])


def tensor_of_raw(part: QuantizedTensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor whose bit patterns are the symbols of a `RawValues` part, in storage of its own."""
    import torch

    assert isinstance(part.grid, RawValues)
    n = int(np.prod(shape, dtype=np.int64))
    bits = np.array(part.symbols).reshape(-1)[:n].reshape(shape)
    signed = torch.from_numpy(np.ascontiguousarray(bits).view(_SIGNED[bits.dtype.itemsize]).reshape(shape))
    dtype: torch.dtype = getattr(torch, TORCH_DTYPES[part.grid.dtype])
    return signed.view(dtype)


def raw_of_tensor(name: str, tensor: torch.Tensor) -> QuantizedTensor:
    """The inverse of `tensor_of_raw`. Raises FormatError on a dtype that `RawValues` does not hold."""
    import torch

    dtype = {torch_name: ours for ours, torch_name in TORCH_DTYPES.items()}.get(dtype_name(tensor))
    if dtype is None:
        raise FormatError(f"{name}: dtype {dtype_name(tensor)} is none of {', '.join(TORCH_DTYPES.values())}")
    signed: torch.dtype = getattr(torch, f"int{8 * tensor.element_size()}")
    bits: NDArray[Any] = tensor.detach().view(signed).numpy().view(RAW_DTYPES[dtype])
    if tensor.is_floating_point():  # as the packer folds them; integers keep their shape
        bits = bits.reshape(folded_shape(bits.shape))
    return QuantizedTensor(bits, RawValues(dtype), tuple(tensor.shape))


def dtype_name(tensor: torch.Tensor) -> str:
    """'float16' and the like; a new string for every call, as the field's writers make it."""
    return str(tensor.dtype).removeprefix("torch.")
