"""Companions, the small files beside the weights (config, tokenizer, licence): which may be there, and their stream.

    files --checked, joined--> bytes --the chain of byte codecs that leaves least--> the last stream of the body

Owns what a companion may be called and how large it may be, for packer and reader alike. A name is a plain file name
of a kind that holds data: no path, nothing that a loader takes for code, for weights or for the way to another model.
Their bytes are never interpreted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from pgpack.codecs import CODERS
from pgpack.codecs.base import ByteCodec
from pgpack.errors import FormatError
from pgpack.stages import Table, parse_stage

from .bpe_json import BpeJson
from .stream import EncodedStream, StreamCoder, encode_stream

MAX_FILES = 64
MAX_FILE_BYTES = 64 << 20
MAX_BYTES = 128 << 20  # of all together
CODECS = Table(  # a closed table: a reader needs no program and no other package for a tokenizer
    "pgpack",
    {
        "bpe_json": "formats.own.bpe_json:BpeJson",
        "brotli": "codecs.streams:Brotli",
        "zstd": "codecs.streams:Zstd",
        "lzma": "codecs.streams:Lzma",
        "bz2": "codecs.streams:Bz2",
    },
)
LAST = ("brotli(lgwin=24)", "zstd(level=22)", "lzma(preset=9,extreme=true)", "bz2")

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+() -]{0,99}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_KINDS = (".json", ".jinja", ".model", ".txt", ".md", ".rst")
_LEADS_AWAY = re.compile(r"adapter_config\.json|.*\.index\.json", re.IGNORECASE)


def check_files(files: Iterable[tuple[str, int]]) -> None:
    """Raises ValueError, a sentence, unless (name, size in bytes) are companions that may be written to a folder."""
    seen: set[str] = set()
    total = 0
    for count, (name, n_bytes) in enumerate(files, 1):
        if not _PLAIN.fullmatch(name) or name[-1] in ". " or _DEVICE.fullmatch(name):
            raise ValueError(f"companion {name[:120]!r} has no plain file name")
        if ("." in name and not name.lower().endswith(_KINDS)) or _LEADS_AWAY.fullmatch(name):
            raise ValueError(f"companion {name!r} is of a kind that is not kept ({' '.join(_KINDS)} or no ending)")
        if name.lower() in seen:
            raise ValueError(f"companion {name!r} is there twice")
        seen.add(name.lower())
        total += n_bytes
        if count > MAX_FILES or n_bytes > MAX_FILE_BYTES or total > MAX_BYTES:
            raise ValueError(
                f"companions of {total:,} bytes at {name!r}; at most {MAX_FILES} files of {MAX_FILE_BYTES >> 20} MiB "
                f"and {MAX_BYTES >> 20} MiB in all are kept"
            )


def encode_companions(files: Mapping[str, bytes], encode: StreamCoder) -> tuple[tuple[ByteCodec, ...], EncodedStream]:
    """The codecs that leave least of `files`, and the stream. Raises FormatError for what may not be kept."""
    try:
        check_files((name, len(contents)) for name, contents in files.items())
    except ValueError as error:
        raise FormatError(f"{error}; pack without it, or with --weights-only") from None
    joined = b"".join(files.values())
    told = _told(joined)
    first, lengths = ((BpeJson(),), (len(joined),)) if len(told) < len(joined) else ((), ())
    array = np.frombuffer(told if first else joined, np.uint8)
    best: tuple[tuple[ByteCodec, ...], EncodedStream] | None = None
    for text in LAST:
        codec = parse_stage(text, CODECS)
        encoded = encode(CODERS["raw"](), (codec,), [array])
        if best is None or len(encoded.data) < len(best[1].data):
            best = (*first, codec), replace(encoded, lengths=(*lengths, *encoded.lengths))
    assert best is not None
    return best


def packed_size(files: Mapping[str, bytes]) -> int:
    """Bytes that these companions take in an artifact, their names aside. Raises as `encode_companions`."""
    return len(encode_companions(files, encode_stream)[1].data) if files else 0


@lru_cache(maxsize=1)
def _told(joined: bytes) -> bytes:
    """Every recipe of a sweep packs the same companions."""
    return BpeJson().encode(joined)


def split_companions(files: Iterable[tuple[str, int]], joined: bytes) -> dict[str, bytes]:
    """name -> contents, cut from the decoded stream."""
    found, position = {}, 0
    for name, n_bytes in files:
        found[name] = joined[position : position + n_bytes]
        position += n_bytes
    return found
