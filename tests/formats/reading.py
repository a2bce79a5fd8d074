"""How tests look at files of the field: what they are, what they hold, what of them is not contents."""

from __future__ import annotations

from pgpack.formats.field.torch_baseline import DEFAULT_LIMIT
from pgpack.formats.sniff import PGPACK, open_field, read_identified
from pgpack.formats.torch_files.zip import entries_of
from pgpack.tensors.record import Record


def identify(data: bytes, limit: int = DEFAULT_LIMIT) -> str | None:
    """'pgpack', 'torch_baseline', 'torch_sdclip', 'torch_ternary', 'torch_binary' or 'pergroup'; None for others.

    `limit`: the most bytes that a compressed file may decode to.
    """
    if data[:4] == PGPACK:
        return "pgpack"
    found = open_field(data, limit)
    return found.kind if found else None


def read_field_artifact(data: bytes, limit: int = DEFAULT_LIMIT) -> list[Record]:
    """The records of an artifact in one of the field's formats; raises as `read_identified` does."""
    return read_identified(data, limit)[1]


def skeleton(data: bytes) -> bytes:
    """A torch.save stream with the contents of every tensor cut out, as `scaffold` gives it."""
    kept, position = [], 0
    for entry in entries_of(data):
        if "/data/" in entry.name:
            kept.append(data[position : entry.start])
            position = entry.end
    return b"".join([*kept, data[position:]])
