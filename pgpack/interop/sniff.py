"""Which format a file is in, by content and never by name, and the records of any of the field's.

"PGPK" -> pgpack      "PGRP" -> pergroup
zlib, zstd, xz, bz2 by mark, else brotli by trial --> "BSHF"? --> "PK": torch.save, told apart by its keys
"""

from __future__ import annotations

from ..errors import CorruptArtifact, FormatError
from ..record import Record
from . import pergroup, torch_baseline, torch_sdclip
from .compressed import codec_of, decompress
from .torch_baseline import DEFAULT_LIMIT
from .torch_stream import load
from .torch_zip import entries_of

PGPACK = b"PGPK"
ZIP = b"PK\x03\x04"
UNKNOWN = "not an artifact of any known format (pgpack, PGRP, .ptz containers)"
_ONE_LETTER = b"X\x01\x00\x00\x00"  # opens a one-letter string in torch.save's pickles (protocol 2)


def identify(data: bytes, limit: int = DEFAULT_LIMIT) -> str | None:
    """'pgpack', 'torch_baseline', 'torch_sdclip' or 'pergroup': the container's name in a recipe; None for others.

    `limit`: the most bytes that a compressed file may decode to.
    """
    if data[:4] == PGPACK:
        return "pgpack"
    if data[:4] == pergroup.MARK:
        return pergroup.NAME
    try:
        return _kind_of(_torch_stream(data, limit))
    except FormatError:
        return None


def read_field_artifact(data: bytes, limit: int = DEFAULT_LIMIT) -> list[Record]:
    """The records of an artifact in one of the field's formats; raises as `read_identified` does."""
    return read_identified(data, limit)[1]


def read_identified(data: bytes, limit: int = DEFAULT_LIMIT) -> tuple[str, list[Record]]:
    """The container's name and the records of an artifact in one of the field's formats.

    `limit`: the most bytes that anything may decode to. Raises FormatError when it is none of them, or damaged.
    """
    if data[:4] == pergroup.MARK:
        return pergroup.NAME, pergroup.read(data, limit)
    if data[:4] == PGPACK:
        raise FormatError("a pgpack artifact, not one of the field's; read it with pgpack.unpack")
    stream = _torch_stream(data, limit)
    kind = _kind_of(stream)
    if kind is None:
        raise FormatError(f"{UNKNOWN}: a torch stream with other keys than torch_baseline's or torch_sdclip's")
    state = load(stream, limit)
    if kind == torch_baseline.NAME:
        return kind, torch_baseline.records_of(state)
    return kind, torch_sdclip.records_of(state.get("w"), state.get("m"))


def _torch_stream(data: bytes, limit: int) -> bytes:
    """The torch.save stream inside a file. Raises FormatError when there is none."""
    try:
        plain = data if data[:4] in (ZIP, torch_sdclip.MARK) else decompress(data, limit)
    except CorruptArtifact as error:
        if codec_of(data) != "brotli":
            raise
        raise FormatError(f"{UNKNOWN}: {error}") from None
    stream = torch_sdclip.unshuffled(plain)
    if stream[:4] != ZIP:
        raise FormatError(f"{UNKNOWN}: it holds no torch stream")
    return stream


def _kind_of(stream: bytes) -> str | None:
    """The container whose keys the pickle of a torch.save stream mentions. Raises CorruptArtifact."""
    for entry in entries_of(stream):
        if entry.name.endswith("/data.pkl"):
            pickled = stream[entry.start : entry.end]
            if torch_baseline.QUANT_FORMAT.encode() in pickled:
                return torch_baseline.NAME
            if _ONE_LETTER + b"w" in pickled and _ONE_LETTER + b"m" in pickled:
                return torch_sdclip.NAME
    return None
