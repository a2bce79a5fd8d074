"""Checkpoint: named fp32 tensors read from a file, one at a time. Nothing in the file is ever executed.

Reads `.safetensors` (memory-mapped) and torch state dicts (`weights_only`). Floating tensors are given as float32,
integer and bool tensors as they are. Tensors with at least two dimensions and equal contents are tied: stored once,
the others are aliases.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError

OPENING = 64  # values of a matrix that tell it from others before anything is hashed
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, in file order.

    `shapes`: name -> shape; `load`: name -> a fresh array; `metadata`: the strings the file carries;
    `source`: where it came from, for messages.
    """

    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], NDArray[Any]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = "memory"

    def tensor(self, name: str) -> NDArray[Any]:
        """float32 (or the integer dtype of a non-floating tensor). Raises CheckpointError on NaN or infinity."""
        array = self.load(name)
        if array.dtype.kind != "f":
            return array
        array = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{self.source}: {name} holds NaN or infinity; a model that diverged cannot be packed"
            )
        return array

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """(name, tensor) in file order, aliases included."""
        for name in self.shapes:
            yield name, self.tensor(name)

    @cached_property
    def tensor_digests(self) -> dict[str, str]:
        """name -> sha256 of dtype, shape and little-endian contents."""
        return {name: tensor_digest(array) for name, array in self.items()}

    @cached_property
    def digest(self) -> str:
        """sha256 over names and tensor digests; equal for equal weights whatever the file format."""
        return hashlib.sha256(json.dumps(sorted(self.tensor_digests.items())).encode()).hexdigest()

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Tied name -> the earlier name that holds the same tensor.

        Only matrices of one shape whose first values agree are hashed: most checkpoints have no two of them.
        """
        openings = {
            name: (shape, self.tensor(name).reshape(-1)[:OPENING].tobytes())
            for name, shape in self.shapes.items()
            if len(shape) >= 2
        }
        counts = Counter(openings.values())
        first: dict[str, str] = {}
        found = {}
        for name, opening in openings.items():
            if counts[opening] > 1:
                stored = first.setdefault(tensor_digest(self.tensor(name)), name)
                if stored != name:
                    found[name] = stored
        return found

    @property
    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes without the aliases."""
        return {name: shape for name, shape in self.shapes.items() if name not in self.aliases}

    @property
    def n_params(self) -> int:
        """Number of stored values, aliases counted once."""
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in self.stored_shapes.values())

    @property
    def metadata_digest(self) -> str:
        return hashlib.sha256(json.dumps(sorted(self.metadata.items())).encode()).hexdigest()


def tensor_digest(array: NDArray[Any]) -> str:
    """sha256 hex of dtype, shape and little-endian contents of an array."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    head = f"{little.dtype.str}{tuple(array.shape)}".encode()
    return hashlib.sha256(head + b"\0" + little.tobytes()).hexdigest()


def from_tensors(
    tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None, source: str = "memory"
) -> Checkpoint:
    """A checkpoint over arrays already in memory."""
    shapes = {name: tuple(int(n) for n in array.shape) for name, array in tensors.items()}
    return Checkpoint(shapes, tensors.__getitem__, dict(metadata or {}), source)


def require_file(path: Path) -> None:
    """Raises CheckpointError when `path` is no file."""
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; name the checkpoint file in it")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a .safetensors, .pt, .pth or .bin file (told apart by content).

    Raises CheckpointError when it is missing, unreadable, not a state dict, or needs unpickling of code.
    """
    path = Path(path)
    require_file(path)
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) == 9 and head[8:9] == b"{":
        return _load_safetensors(path)
    return _load_torch(path)


def _load_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(int(n) for n in part.get_shape()) for name, part in slices.items()}
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None

    def load(name: str) -> NDArray[Any]:
        if dtypes[name] in ("BF16", "F8_E4M3", "F8_E5M2"):
            with safe_open(str(path), framework="pt") as file:
                array: NDArray[Any] = file.get_tensor(name).float().numpy()
                return array
        with safe_open(str(path), framework="numpy") as file:
            return np.asarray(file.get_tensor(name))

    if not shapes:
        raise CheckpointError(f"{path}: holds no tensors")
    return Checkpoint(shapes, load, metadata, str(path))


def _load_torch(path: Path) -> Checkpoint:
    import pickle

    import torch

    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: refused, because reading it would run code or it is no torch file; "
            "save model.state_dict() alone with torch.save or as .safetensors"
        ) from None
    except Exception as error:  # noqa: BLE001  an unpickler raises anything on bytes that are no pickle
        known = isinstance(error, RuntimeError) and str(error)
        reason = str(error).splitlines()[0][:120] if known else "it is neither safetensors nor a torch file"
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from None
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if len(tensors) < len(state):
        strange = next(str(name) for name, value in state.items() if not isinstance(value, torch.Tensor))
        raise CheckpointError(f"{path}: {strange!r} is not a tensor; save model.state_dict() alone")
    shapes = {name: tuple(int(n) for n in value.shape) for name, value in tensors.items()}

    def load(name: str) -> NDArray[Any]:
        value = tensors[name].detach()
        array: NDArray[Any] = (value.float() if value.is_floating_point() else value).numpy()
        return array

    return Checkpoint(shapes, load, {}, str(path))


def save_tensors(path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file atomically (temporary file, fsync, rename)."""
    import os

    from safetensors.numpy import save_file

    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(b"")
    mode = temporary.stat().st_mode  # a new file's by the umask; safetensors would keep it from everybody else
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, str(temporary), dict(metadata))
    temporary.chmod(mode)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
