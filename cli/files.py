"""What kind of file a path names: a checkpoint or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgpack.checkpoint import Checkpoint


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as a safetensors file does."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:9] == b"{"


def artifact_bytes(path: Path) -> bytes | None:
    """The contents of an artifact in any known format; None when the file is something else.

    A torch file (PK) is taken for a checkpoint. Raises OSError when it cannot be read.
    """
    if is_safetensors(path):
        return None
    data = path.read_bytes()
    if data[:4] == b"PK\x03\x04":
        return None
    from pgpack.artifact.layout import MAGIC

    if data[:4] == MAGIC[: len(data)]:
        return data
    from pgpack.interop.sniff import identify

    return data if identify(data) is not None else None


def open_either(path: Path) -> bytes | Checkpoint:
    """The bytes of an artifact, or a checkpoint. Raises CheckpointError when the file is neither."""
    from pgpack.checkpoint import load_checkpoint

    data = artifact_bytes(path) if path.is_file() else None
    return load_checkpoint(path) if data is None else data
