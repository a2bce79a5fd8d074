"""Calibration: for every matrix the second moments of its input and the Fisher weights of its output.

    text tokens --model, hooks--> H = mean x x^T  (in, in)      F = mean (dL/dy)^2  (out,)

File layout (plain safetensors, so that any training script can write it):

    NAME.hessian    float32 (in, in)   mean over tokens of x x^T, x = the input of y = x W^T; symmetric
    NAME.fisher     float32 (out,)     mean over tokens of (dL/dy)^2, optional; of an expert, over those it is given
    NAME.output     float32 (out, out) mean over tokens of d d^T, d = dL/dy, optional; NAME.fisher is its diagonal
                    A symmetric matrix may be stored as its upper triangle, row by row: (n (n + 1) / 2,)
    metadata        token_digest: sha256 hex of the uint16 little-endian tokens; n_tokens: decimal string;
                    sha256: 32 hex digits over the rest, optional; a file with other ones is damaged

A matrix that is used as y = x W has the roles exchanged: hessian (cols, cols) of dL/dy, fisher (rows,) = mean x^2,
output (rows, rows) of x. A tensor of more dimensions is a stack of matrices: its rows lie under each other, one
hessian (last dimension) serves all of them, and fisher weighs every row.

NAME is the tensor's name in the checkpoint; for a tied embedding, x is the input of the output projection. A table
whose rows are looked up has besides, under NAME.lookup: the mean over tokens of g g^T, g the loss gradient at the
row looked up (.hessian), and the share of tokens that look each row up (.fisher), so that an error e_v of row v
costs 1/2 share_v e_v (g g^T) e_v nats per token through the input.
A layer that is applied several times (shared blocks) counts every application.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.checkpoint import save_tensors, tensor_digest
from pgpack.checkpoint.files import read_safetensors
from pgpack.checkpoint.unchanged import watched
from pgpack.errors import CalibrationError, CheckpointError, no_file
from pgpack.files import Unchanged
from pgpack.tables import counted

Float32 = NDArray[np.float32]
LOOKUP = ".lookup"
SQUARE = (".hessian", ".output")
SEAL = "sha256"


@dataclass(frozen=True, eq=False)
class Calibration:
    """Statistics by tensor name, loaded one at a time.

    `shapes`: key ('NAME.hessian' or 'NAME.fisher') -> shape; `load`: key -> array.
    """

    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], Float32]
    token_digest: str = ""
    n_tokens: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    _tensor_digests: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _sensitivities: dict[str, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)

    def hessian(self, name: str) -> Float32 | None:
        """Shape: (in, in) float32, or None when this tensor was not observed. A table that takes part in no product
        has its look-ups' second moments."""
        return self._load(name, "hessian")

    def fisher(self, name: str) -> Float32 | None:
        """Shape: (out,) float32, or None; as `hessian`."""
        return self._load(name, "fisher")

    def lookup(self, name: str) -> tuple[Float32 | None, Float32 | None]:
        """Second moments and shares of the look-ups of a table that takes part in products too; else None, None."""
        keys = [f"{name}{LOOKUP}.{kind}" for kind in ("hessian", "fisher")]
        if f"{name}.hessian" not in self.shapes or any(key not in self.shapes for key in keys):
            return None, None
        return self.load(keys[0]), self.load(keys[1])

    def output(self, name: str) -> Float32 | None:
        """Second moments of the output gradients. Shape: (out, out) float32, or None."""
        key = f"{name}.output"
        return self.load(key) if key in self.shapes else None

    def hessian_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of `hessian(name)` without loading it."""
        return self.shapes.get(f"{self._observed(name)}.hessian")

    def fisher_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of `fisher(name)` without loading it."""
        return self.shapes.get(f"{self._observed(name)}.fisher")

    def sensitivity(self, name: str) -> tuple[float, float]:
        """Means of the Hessian's diagonal and of the Fisher weights; 0 for what is not known or all zero."""
        if name not in self._sensitivities:
            hessian, fisher = self.hessian(name), self.fisher(name)
            diagonal = hessian if hessian is None or hessian.ndim == 1 else hessian.diagonal()
            self._sensitivities[name] = _mean(diagonal), _mean(fisher)
        return self._sensitivities[name]

    def _observed(self, name: str) -> str:
        return name if f"{name}.hessian" in self.shapes else name + LOOKUP

    def _load(self, name: str, kind: str) -> Float32 | None:
        key = f"{self._observed(name)}.{kind}"
        return self.load(key) if key in self.shapes else None

    @property
    def names(self) -> tuple[str, ...]:
        """Tensors with a Hessian."""
        return tuple(key.removesuffix(".hessian") for key in self.shapes if key.endswith(".hessian"))

    @cached_property
    def digest(self) -> str:
        """sha256 over all keys and contents."""
        digest = hashlib.sha256()
        for key in sorted(self.shapes):
            digest.update(key.encode() + b"\0")
            digest.update(np.ascontiguousarray(self.load(key), dtype="<f4").reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def tensor_digest(self, name: str) -> str:
        """sha256 hex over everything known of one tensor; its name does not count."""
        if name not in self._tensor_digests:
            digest = hashlib.sha256()
            for array in (self.hessian(name), self.fisher(name), *self.lookup(name), self.output(name)):
                digest.update(b"none" if array is None else tensor_digest(array).encode())
            self._tensor_digests[name] = digest.hexdigest()
        return self._tensor_digests[name]

    def require(self, names: Iterable[str]) -> None:
        """Raises CalibrationError naming every tensor of `names` without a Hessian: coverage is never silent."""
        missing = [name for name in names if self.hessian_shape(name) is None]
        if missing:
            shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
            lack = f"{counted(len(missing), 'tensor')} lack{'s' * (len(missing) == 1)} a Hessian"
            raise CalibrationError(
                f"{lack}: {shown}; calibrate with a model that uses them, or "
                "give them a rule that needs none, such as rtn(bits=8)"
            )


def _mean(values: Float32 | None) -> float:
    return 0.0 if values is None or not values.size else float(values.mean(dtype=np.float64))


def from_arrays(arrays: Mapping[str, Float32], token_digest: str, n_tokens: int) -> Calibration:
    """Calibration over arrays in memory, keys as in the file layout."""
    shapes = {key: tuple(array.shape) for key, array in arrays.items()}
    return Calibration(shapes, arrays.__getitem__, token_digest, n_tokens)


def load_calibration(path: str | Path) -> Calibration:
    """The calibration in a safetensors file. Raises CalibrationError when it is not one, or damaged."""
    path = Path(path)
    if not path.is_file():
        raise CalibrationError(
            f"calibration file {path} {no_file(path)}; write one with pgpack calibrate CKPT -o FILE.safetensors"
        )
    unchanged = Unchanged([path])
    try:
        stored = read_safetensors(path)
    except CheckpointError as error:
        raise CalibrationError(str(error)) from None
    shapes, metadata = dict(stored.shapes), dict(stored.metadata)
    triangles = {key for key, shape in shapes.items() if key.endswith(SQUARE) and len(shape) == 1}
    for key in triangles:
        side = (math.isqrt(8 * shapes[key][0] + 1) - 1) // 2
        if side * (side + 1) // 2 == shapes[key][0]:
            shapes[key] = (side, side)
    for key, shape in shapes.items():
        square = key.endswith(SQUARE) and len(shape) == 2 and shape[0] == shape[1]
        if not square and not (key.endswith(".fisher") and len(shape) == 1):
            raise CalibrationError(
                f"{path}: {key} of shape {shape} is neither a square NAME.hessian or .output, whole or its triangle, "
                "nor a vector NAME.fisher"
            )

    def load(key: str) -> Float32:
        array: Float32 = np.asarray(stored.load(key), dtype=np.float32)
        if not np.isfinite(array).all():
            raise CalibrationError(f"{path}: {key} holds NaN or infinity")
        return _square(array, shapes[key]) if key in triangles else array

    n_tokens, seal = metadata.get("n_tokens", "0"), metadata.pop(SEAL, None)
    found = Calibration(
        shapes,
        watched(load, unchanged),
        metadata.get("token_digest", ""),
        int(n_tokens) if re.fullmatch("[0-9]{1,18}", n_tokens) else 0,
        metadata,
    )
    if seal is not None and seal != _seal(found, metadata):
        raise CalibrationError(f"{path}: damaged: its contents are not those that were written; calibrate again")
    return found


def whole_calibration(path: Path) -> Calibration | None:
    """The calibration in a file; None where there is none, or a damaged one, which is made again."""
    try:
        return load_calibration(path) if path.is_file() else None
    except CalibrationError:
        return None


def save_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write the file layout above, atomically."""
    metadata = {
        **calibration.metadata,
        "format": "pgpack-calibration-1",
        "token_digest": calibration.token_digest,
        "n_tokens": str(calibration.n_tokens),
        "tensors": json.dumps(list(calibration.names)),
    }
    metadata[SEAL] = _seal(calibration, metadata)
    save_tensors(path, {key: _stored(key, calibration.load(key)) for key in calibration.shapes}, metadata)


def _seal(calibration: Calibration, metadata: Mapping[str, str]) -> str:
    """Half a sha256 hex over all statistics and what the file says of them."""
    return hashlib.sha256(json.dumps([calibration.digest, sorted(metadata.items())]).encode()).hexdigest()[:32]


def _stored(key: str, array: Float32) -> Float32:
    """The upper triangle of a matrix that equals its transpose bit by bit, which takes half the room."""
    return array[_upper(len(array))] if key.endswith(SQUARE) and np.array_equal(array, array.T) else array


def _square(triangle: Float32, shape: tuple[int, ...]) -> Float32:
    """The symmetric matrix of an upper triangle."""
    square = np.empty(shape, np.float32)
    square[_upper(len(square))] = triangle
    square.T[_upper(len(square))] = triangle
    return square


def _upper(n: int) -> NDArray[np.bool_]:
    """Where an upper triangle is, in the order of its rows. Shape: (n, n)."""
    return np.tri(n, dtype=np.bool_).T
