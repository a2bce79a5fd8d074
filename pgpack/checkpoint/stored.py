"""What a checkpoint file holds, whatever its format: what every reader of this room gives back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pgpack.errors import CheckpointError
from pgpack.files import READ
from pgpack.formats.own.needs import OUTPUT_LEAST, OUTPUT_RATIO

FLAT = ("_flat_param", ".flat_param")  # ends of names
MOST_DIMENSIONS, MOST_BYTES = 64, 1 << 62  # of numpy's arrays
WIDEST = 16  # bytes of a value
LARGE_RATIO = 16  # of a file from which more than READ comes out


@dataclass(frozen=True)
class Stored:
    """What a file holds. `load` gives a fresh array: float32 for bf16, fp16 and fp8, any other dtype as stored.

    `tied`: names that the file leaves out -> the name in `shapes` that holds the tensor. `companions`: files that the
    format itself stands for, made when asked for. `notes`: what a user should know, a line each. `dtypes`: what each
    tensor is stored as, in torch's words; float8 for any float of 8 bits.
    """

    shapes: Mapping[str, tuple[int, ...]]
    load: Callable[[str], NDArray[Any]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    companions: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, names: Mapping[str, str], tied: Mapping[str, str]) -> Stored:
        """The tensors that `names`, new -> as stored, holds, under their new names; `tied`: under these, too."""
        return dataclasses.replace(
            self,
            shapes={name: self.shapes[each] for name, each in names.items()},
            load=lambda name: self.load(names[name]),
            tied=tied,
            dtypes={name: self.dtypes[each] for name, each in names.items() if each in self.dtypes},
        )


def require_possible(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError for a shape that no array can have, with no values in it either."""
    for name, shape in shapes.items():
        if len(shape) > MOST_DIMENSIONS or WIDEST * math.prod(max(n, 1) for n in shape) > MOST_BYTES:
            raise CheckpointError(f"{path}: {name} claims a shape that no array can have; the file is damaged")


def require_bounded(path: Path, n_bytes: int, cure: str) -> None:
    """Raises CheckpointError where more bytes would come out of a file than 16 times its size and more than 4 GiB, or
    400 times and 64 MiB; `cure`: what to do."""
    size = path.stat().st_size
    if n_bytes > max(OUTPUT_LEAST, min(OUTPUT_RATIO * size, READ), LARGE_RATIO * size):
        told = f"{n_bytes:,} bytes would come out of its {size:,}, more than is unpacked"
        raise CheckpointError(f"{path}: {told}; {cure}")


def without_values(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The tensors that hold no value, where they are most of all: no model is made of such."""
    empty = [name for name, shape in shapes.items() if not math.prod(shape)]
    return empty if 2 * len(empty) > len(shapes) else []


def require_values(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError when most tensors hold no value: the rest of them is with other processes; or when they
    are what is left of tensors that were laid end to end."""
    if (flat := next((name for name in shapes if name.endswith(FLAT)), None)) is not None:
        raise CheckpointError(
            f"{path}: {flat} is of many tensors, laid end to end (FSDP); save a full state dict "
            "(StateDictType.FULL_STATE_DICT) instead"
        )
    if empty := without_values(shapes):
        raise CheckpointError(
            f"{path}: {len(empty)} of {len(shapes)} tensors hold no value (first: {empty[0]}), as of a process that "
            "has none of them (DeepSpeed ZeRO-3); gather the weights first, with zero_to_fp32.py"
        )
