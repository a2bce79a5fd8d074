"""Checkpoint: named fp32 tensors read from a file, one at a time. Nothing in the file is ever executed.

Files are read by `files`, dialects brought to one by `dialects`. Floating tensors are given as
float32, integer and bool tensors as they are. Tensors with at least two dimensions and equal contents are tied:
stored once, the others are aliases.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CheckpointError
from pgpack.files import Unchanged
from pgpack.tensors.masks import may_be_endless
from pgpack.tensors.roles import ToldShapes

from .copies import of_pairs
from .dialects import dialect_of, normalised
from .files import read_file, require_file, weight_files
from .folders import Companions, companions_of, config_of, part_of, refuse_adapter, taken_of
from .integers import of_integers
from .module_roles import with_told_roles
from .moments import of_optimizers
from .scales import QUANTIZED, unscaled
from .stored import require_values
from .ties import head_tie, with_ties
from .unchanged import watched
from .unmerged import unmerged
from .writing import KINDS, Outgoing, write_safetensors

STATISTICS = {"hessian", "fisher", "output"}  # last parts of all names in a file of `pgpack calibrate`
OPENING = 64  # values of a matrix that tell it from others before anything is hashed


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, in file order.

    `shapes`: name -> shape; `load`: name -> a fresh array; `metadata`: the strings the file carries;
    `source`: where it came from, for messages; `dialect`: how the file named its tensors, for people.
    `companions`: file name -> contents of what lies beside the weights of a model folder and is needed to run it
    (config.json, tokenizer.json, ...), whatever the file they were read from; read when asked for.
    `notes`: what reading found that a user should know, a line each. `weights_only`: no artifact carries companions.
    """

    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], NDArray[Any]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = "memory"
    dialect: str = ""
    companions: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weights_only: bool = False

    def __repr__(self) -> str:
        return f"<Checkpoint {self.source}: {len(self.shapes)} tensors>"

    def alone(self) -> Checkpoint:
        """The same, with companions that serve to run it here and that no artifact carries."""
        return replace(self, weights_only=True)

    @property
    def carried(self) -> Mapping[str, bytes]:
        """The companions that an artifact carries."""
        return {} if self.weights_only else self.companions

    def tensor(self, name: str) -> NDArray[Any]:
        """float32 (or the dtype of a tensor that does not float). Raises CheckpointError on NaN or infinity, but
        for masks and what is named as a buffer is (`pgpack.tensors.masks`).

        >>> float(pgpack.open_checkpoint("model.safetensors").tensor("tok_emb.weight").std()) > 0
        True
        """
        array = self.load(name)
        if array.dtype.kind != "f":
            return array
        with np.errstate(over="ignore", invalid="ignore"):  # of what is beyond float32 or no number, and refused
            found = np.asarray(array, dtype=np.float32, order="C")
        if np.isfinite(found).all():
            return found
        beyond = bool((np.isinf(found) & np.isfinite(array)).any())
        if beyond or not may_be_endless(name, found):
            n_values = found.size - int(np.isfinite(found).sum())
            what = "NaN or infinity" + (f" ({n_values:,} of {found.size:,} values)" if found.size > 1 else "")
            what = "values beyond float32" if beyond else f"{what}, as of a model that diverged"
            raise CheckpointError(
                f"{self.source}: {name} holds {what}; that cannot be packed: give another checkpoint"
            )
        return found

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """(name, tensor) in file order, aliases included.

        >>> dict(pgpack.open_checkpoint("model.safetensors").items())["tok_emb.weight"].shape
        (310, 16)
        """
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
        kept = ((name, shape) for name, shape in self.shapes.items() if name not in self.aliases)
        return ToldShapes(kept, self.shapes.told) if isinstance(self.shapes, ToldShapes) else dict(kept)

    @property
    def n_params(self) -> int:
        """Number of stored values, aliases counted once."""
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in self.stored_shapes.values())

    @property
    def fp32_bytes(self) -> int:
        """Bytes of the stored values as fp32: what a budget such as 90% is a share of."""
        return 4 * self.n_params


def tensor_digest(array: NDArray[Any]) -> str:
    """sha256 hex of dtype, shape and little-endian contents of an array."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    found = hashlib.sha256(f"{little.dtype.str}{tuple(array.shape)}\0".encode())
    found.update(little.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def from_tensors(
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    source: str = "memory",
    companions: Mapping[str, bytes] | None = None,
) -> Checkpoint:
    """A checkpoint over arrays already in memory."""
    shapes = {name: tuple(int(n) for n in array.shape) for name, array in tensors.items()}
    return Checkpoint(shapes, tensors.__getitem__, dict(metadata or {}), source, companions=companions or {})


def load_checkpoint(path: str | Path, as_stored: bool = False, key: str | None = None) -> Checkpoint:
    """The checkpoint in a safetensors or torch file, or in the shards of an index (told apart by content).

    A folder means its weights, as Hugging Face names them; what lies beside them comes along as companions. A name
    that a file leaves out because its tensor is tied is there again.
    Of several state dicts in a torch file `key` says which. Banks are taken apart into matrices under the names that
    the field's artifacts use (`dialects`), unless `as_stored`.
    Raises: CheckpointError when it is missing, unreadable, not a state dict, or needs unpickling of code; when it
    holds several and no `key` says which.
    """
    refuse_adapter(Path(path))
    named, path = Path(path), require_file(Path(path))
    files = weight_files(path)
    unchanged = Unchanged(files)
    stored = read_file(path, key)
    _refuse_statistics(path, stored.shapes)
    stored = replace(stored, load=watched(stored.load, unchanged))
    require_values(path, stored.shapes)
    shapes, load = stored.shapes, stored.load
    companions = Companions(stored.companions) if stored.companions else companions_of(path.parent)
    if not as_stored:
        config = config_of(companions)
        shapes, load = unscaled(*with_ties(shapes, load, stored.tied), stored.dtypes, config, str(path))
        shapes, load = normalised(shapes, load, str(path))
        shapes, load = with_ties(shapes, load, head_tie(shapes, config))
        if QUANTIZED in config:
            companions = companions.with_config({key: value for key, value in config.items() if key != QUANTIZED})
    if (odd := next((name for name in shapes if not _is_text(name)), None)) is not None:
        raise CheckpointError(f"{path}: {odd!a} is no name of a tensor: it holds half a character")
    dialect = dialect_of(stored.shapes, config_of(companions).get("model_type"))
    shapes = with_told_roles(shapes, config_of(companions))
    notes = (*(taken_of(named, files) if named.is_dir() else part_of(files)), *stored.notes)
    notes += (*unmerged(shapes, path.name), *of_integers(stored.shapes, stored.dtypes, path.name))
    notes += (*of_pairs(stored.shapes, path.name), *of_optimizers(stored.shapes, path, key is not None))
    return Checkpoint(shapes, load, stored.metadata, str(path), dialect, companions, notes)


def _refuse_statistics(path: Path, names: Iterable[str]) -> None:
    """Raises CheckpointError for what `pgpack calibrate` writes: statistics of tensors, and none of these."""
    kinds = {name.rpartition(".")[2] for name in names}
    if "hessian" in kinds and kinds <= STATISTICS:
        raise CheckpointError(f"{path}: statistics of a calibration, not a checkpoint; give it as --calibration FILE")


def _is_text(name: str) -> bool:
    """Whether a name can be written: no surrogate of UTF-16 stands alone in it."""
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)


def save_tensors(path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> int:
    """Write a .safetensors file in one step; its size in bytes. Equal tensors and metadata give equal bytes.

    Raises: OSError when it cannot be written; nothing of it is left behind.
    """
    arrays = tensors.items()
    return write_safetensors(
        Path(path),
        [Outgoing(name, a.shape, KINDS[a.dtype.name], partial(np.asarray, a)) for name, a in arrays],
        metadata,
    )
