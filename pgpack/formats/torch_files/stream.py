"""torch.save streams in memory, written and read without torch, loading that trusts nothing.

    dictionaries of `StoredTensor` --pickle--> opcodes --zip of stored entries--> bytes

Refuses on reading: pickles that need more than tensors and plain values, compressed or overlapping entries, tensors
that do not fill one dense run of their storage, big-endian files, and more than the allowed bytes in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pgpack.errors import CorruptArtifact

from .pickle_reader import unpickled
from .pickle_writer import pickled
from .stored_tensor import StoredTensor
from .zip import Buffer, entries_of, framed

Unpickler = Callable[[bytes, Mapping[str, memoryview], int], Any]
MAX_DEPTH = 4  # of dictionaries in which tensors are looked for
MAX_PICKLE = 1 << 26


def pieces(value: dict[str, Any]) -> list[Buffer]:
    """The torch.save stream of a dictionary of tensors, strings, numbers and dictionaries, in pieces.

    The contents of tensors are views of their arrays.
    """
    pickle, tensors = pickled(value)
    return framed(pickle, [tensor.contents for tensor in tensors])


def scaffold(stream: list[Buffer]) -> bytes:
    """The pieces of a stream without the contents of tensors: what serialization itself writes."""
    return b"".join(piece for piece in stream if not isinstance(piece, memoryview))


def load(data: Buffer, limit: int) -> dict[str, Any]:
    """The dictionary of a torch.save stream, tensors as views of `data`.

    Raises CorruptArtifact, or FormatError above `limit` bytes of tensors.
    """
    value = read_value(data, limit)
    if not isinstance(value, dict):
        raise CorruptArtifact(f"the torch stream holds a {type(value).__name__}, expected a dictionary")
    level, seen = [value], {id(value)}
    for _ in range(MAX_DEPTH):
        below = []
        for key, item in (pair for dictionary in level for pair in dictionary.items()):
            if not isinstance(key, str):
                raise CorruptArtifact(f"the torch stream has the key {key!r}, expected names")
            if isinstance(item, StoredTensor) and not item.array.flags.c_contiguous:
                raise CorruptArtifact(f"{key}: a strided view, expected a tensor that fills its own storage")
            if isinstance(item, dict) and id(item) not in seen:
                seen.add(id(item))
                below.append(item)
        level = below
    return value


def read_value(data: Buffer, limit: int, read: Unpickler = unpickled) -> Any:
    """Whatever a torch.save stream holds, tensors of any stride included; `read` says what else its pickle may hold.

    Raises as `load` does.
    """
    view = memoryview(data)
    files = {}
    for entry in entries_of(data):
        files[entry.name.partition("/")[2]] = view[entry.start : entry.end]
    pickle = files.get("data.pkl")
    if pickle is None or len(pickle) > MAX_PICKLE:
        raise CorruptArtifact(f"a torch stream without a data.pkl of up to {MAX_PICKLE:,} bytes")
    if files.get("byteorder", b"little") != b"little":
        raise CorruptArtifact("a torch stream that was not written on a little-endian machine")
    storages = {name[len("data/") :]: contents for name, contents in files.items() if name.startswith("data/")}
    return read(bytes(pickle), storages, limit)
