"""What kind of file a path names: a checkpoint or an artifact, by content and never by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.unpack import Unpacked


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as a safetensors file does."""
    from pgpack.checkpoint.files import is_safetensors

    return is_safetensors(path)


def opens_without_torch(path: Path) -> bool:
    """Whether names and shapes of a checkpoint are read without loading torch."""
    from pgpack.checkpoint.files import is_safetensors, is_torch_zip

    return path.is_dir() or is_safetensors(path) or is_torch_zip(path)


@dataclass(frozen=True)
class ArtifactFile:
    """The bytes of an artifact in any known format; `unpacked` decodes them once; FormatError if damaged."""

    data: bytes
    decode: Callable[[], Unpacked]

    @cached_property
    def unpacked(self) -> Unpacked:
        return self.decode()


def open_artifact(path: Path) -> ArtifactFile | None:
    """The artifact in a file; None when the file is something else. Raises OSError when it cannot be read."""
    if is_safetensors(path):
        return None
    data = path.read_bytes()
    from pgpack.formats.own.layout import MAGIC
    from pgpack.formats.sniff import open_field
    from pgpack.unpack import Unpacked, unpack

    if data[:4] == MAGIC[: len(data)]:
        return ArtifactFile(data, lambda: unpack(data))
    field = open_field(data)
    return ArtifactFile(data, lambda: Unpacked(field.kind, tuple(field.read()), {}, "")) if field else None


def open_either(path: Path) -> ArtifactFile | Checkpoint:
    """An artifact or a checkpoint.

    Raises CheckpointError when the file is neither, FormatError when it is a compressed file that holds no artifact.
    """
    from pgpack.checkpoint.checkpoint import load_checkpoint

    artifact = open_artifact(path) if path.is_file() else None
    if artifact is not None:
        return artifact
    if path.is_file() and not is_safetensors(path):
        from pgpack.formats.field.compressed import codec_of
        from pgpack.formats.sniff import read_identified

        with path.open("rb") as file:
            head = file.read(8)
        if codec_of(head) != "brotli":  # which has no mark
            read_identified(path.read_bytes())
    return load_checkpoint(path)
