"""The index of a checkpoint in several files: which of its shards holds which tensor.

    {"weight_map": {tensor: file}} --weight_map--> names --read_index--> one `Stored`

Owns what such an index must say. Refuses one that is stale: shards that hold more than it names, or a tensor twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from glob import escape
from pathlib import Path, PurePath

import numpy as np

from pgpack.errors import CheckpointError

from .folders import refuse_pointer
from .stored import Stored
from .ties import told_ties

INDEX_LIMIT = 64 << 20
SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.\w+")
SHOWN = 3  # names in a refusal


def weight_map(index: Path) -> dict[str, str]:
    """Tensor -> the shard that holds it, as seen from the folder of `index`.

    Raises: CheckpointError for shards that are not there, or outside that folder. What is a link itself is read, as
    caches of downloads keep every file; no folder on the way leads out.
    """
    try:
        if index.stat().st_size > INDEX_LIMIT:
            raise ValueError("it is larger than an index")
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(PurePath(str(file))) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{index}: neither a checkpoint nor the index of one (no 'weight_map')") from None
    if not names:
        raise CheckpointError(f"{index}: holds no tensors")
    for file in dict.fromkeys(names.values()):
        shard, outside = index.parent / file, PurePath(file).is_absolute() or ".." in PurePath(file).parts
        if not outside and (not shard.is_file() or shard == index):
            raise CheckpointError(f"{index}: its shard {file} is not there")
        if outside or not shard.parent.resolve().is_relative_to(index.parent.resolve()):
            raise CheckpointError(
                f"{index}: names the shard {file!r}; shards must lie in the folder of the index or below it"
            )
    return names


def read_index(path: Path, is_shard: Callable[[Path], bool], read: Callable[[Path], Stored]) -> Stored:
    """All shards that an index names, with what they hold besides.

    `is_shard`: whether a file may be one; `read`: what it holds. Where the index says nothing of a tensor it is
    stale, and transformers reads the tensor all the same. Raises: CheckpointError for a shard that is none, lacks
    what the index says of it, or holds with other values what the index says of another.
    """
    names = weight_map(path)
    shards: dict[str, Stored] = {}
    for file in dict.fromkeys(names.values()):
        shard = path.parent / file
        refuse_pointer(shard)
        if not is_shard(shard):
            what = "no safetensors or torch file" if shard.stat().st_size else "empty; fetch it again"
            raise CheckpointError(f"{path}: its shard {file} is {what}")
        shards[file] = read(shard)
    for name, file in names.items():
        if name not in shards[file].shapes:
            raise CheckpointError(f"{path}: {name} is not in its shard {file}")
    _refuse_stale(path, names, shards)
    _refuse_twice(path, names, shards)
    metadata = {key: text for shard in shards.values() for key, text in shard.metadata.items()}
    shapes = {name: shards[file].shapes[name] for name, file in names.items()}
    dtypes = {name: kind for shard in shards.values() for name, kind in shard.dtypes.items()}
    notes = _of_missing_parts(path, shards)
    tied = told_ties(shapes, metadata)
    return Stored(shapes, lambda name: shards[names[name]].load(name), metadata, tied, dtypes=dtypes, notes=notes)


def _refuse_stale(index: Path, names: Mapping[str, str], shards: Mapping[str, Stored]) -> None:
    """Raises CheckpointError when the shards hold more than the index names, or more of them lie beside it."""
    dropped = [name for stored in shards.values() for name in stored.shapes if name not in names]
    if dropped:
        more = f" and {len(dropped) - SHOWN} more" if len(dropped) > SHOWN else ""
        raise CheckpointError(
            f"{index} is stale: its shards also hold {', '.join(dropped[:SHOWN])}{more}, which it does not name; "
            "write the index anew, or name the files one by one"
        )
    numbered = {found[0] for name in shards if (found := SHARD.fullmatch(name)) is not None}
    series = {re.sub(r"-\d+-of-", "-*-of-", escape(name)) for name in numbered}
    beside = {str(path.relative_to(index.parent)) for pattern in series for path in index.parent.glob(pattern)}
    if unnamed := sorted(name for name in beside - shards.keys() if SHARD.fullmatch(name)):
        raise CheckpointError(f"{index} is stale: it does not name {', '.join(unnamed[:SHOWN])} beside it")


def _refuse_twice(index: Path, names: Mapping[str, str], shards: Mapping[str, Stored]) -> None:
    """Raises CheckpointError when two shards hold one tensor with other values: which is meant nobody can tell."""
    for file, stored in shards.items():
        for name in stored.shapes:
            kept = shards[names[name]]
            if kept is not stored and not np.array_equal(kept.load(name), stored.load(name), equal_nan=True):
                raise CheckpointError(
                    f"{index}: {names[name]} and {file} both hold {name}, and not the same values; keep the one that "
                    "belongs to this model"
                )


def _of_missing_parts(index: Path, shards: Mapping[str, Stored]) -> tuple[str, ...]:
    """A sentence on parts that the names of the shards count and the index does not name."""
    found = [match for name in shards if (match := SHARD.fullmatch(name)) is not None]
    numbers: dict[tuple[str, int], set[int]] = {}
    for match in found:
        numbers.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    said = [f"{len(held)} of {count}" for (_, count), held in numbers.items() if len(held) < count]
    if not said:
        return ()
    return (
        f"{index.name} names {', '.join(said)} parts that its shards are of by their names; the others are not read",
    )
