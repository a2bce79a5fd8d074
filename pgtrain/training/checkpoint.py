"""Safetensors files: written atomically with equal bytes for equal content, read with their metadata.

Owns the bytes of a pgtrain checkpoint. Refuses pickles of anything but tensors.

Source: the safetensors format (8-byte little-endian header length, JSON header, raw tensors). Where we differ
from the reference writer: it orders the metadata by a per-process random hash, we sort it, so that two equal
runs give equal files.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError

FORMAT = "pgtrain-checkpoint-1"
DTYPE_NAMES = {"float32": "F32", "int64": "I64", "uint8": "U8"}


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str], durable: bool = True
) -> int:
    """Write (temporary file, fsync when `durable`, rename) and return the size in bytes.

    A reader sees the old file or the new one, never a part. Shape: any; dtype float32, int64 or uint8.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset, arrays = 0, []
    # Widest first, so that every tensor starts at a multiple of its item size.
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):
        array = np.asarray(tensors[name], order="C")
        dtype_name = DTYPE_NAMES[array.dtype.name]
        end = offset + array.nbytes
        header[name] = {"dtype": dtype_name, "shape": list(array.shape), "data_offsets": [offset, end]}
        arrays.append(array)
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays:
            file.write(array.data if array.size else b"")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
    return 8 + len(text) + offset


def read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(tensors, metadata) of a .safetensors file whose tensors numpy can hold.

    Raises: CheckpointError when it is not one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable .safetensors file: {error}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """(float32 tensors, metadata) of a .safetensors or .pt file; a .pt has no metadata.

    Raises: CheckpointError for any other content; a .pt is loaded as tensors only, nothing in it is run.
    """
    if not path.is_file():
        what = "is a folder; give the file in it" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {path} {what}")
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                metadata = dict(file.metadata() or {})
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {str(error).splitlines()[0]}") from error
    except Exception as error:
        if type(error).__name__ == "UnpicklingError":
            raise CheckpointError(f"{path} is not a plain dictionary of tensors; refused") from error
        raise
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} is not a plain dictionary of tensors")
    return {name: tensor.float().contiguous().numpy() for name, tensor in tensors.items()}, metadata
