"""Companions, the small files beside the weights (config, tokenizer, licence): which may be there, and their stream.

    files --checked, joined--> bytes --the chain of byte codecs that leaves least--> the last stream of the body

Owns what a companion may be called and how large it may be, for packer and reader alike. A name is a plain file name
of a kind that holds data: no path, nothing that a loader takes for code, for weights or for the way to another model.
Their bytes are never interpreted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from pgpack.codecs import BYTE_CODECS, CODERS
from pgpack.codecs.base import ByteCodec
from pgpack.errors import FormatError
from pgpack.stages import parse_stage

from .stream import EncodedStream, StreamCoder

MAX_FILES = 64
MAX_FILE_BYTES = 64 << 20
MAX_BYTES = 128 << 20  # of all together
CHAINS = (("brotli(lgwin=24)",), ("zstd(level=22)",), ("lzma(preset=9,extreme=true)",), ("bz2",))
CODECS = frozenset({"brotli", "zstd", "lzma", "bz2", "zlib"})  # a reader needs no program for a tokenizer

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+() -]{0,99}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_KINDS = (".json", ".jinja", ".model", ".txt", ".md")
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
    joined = np.frombuffer(b"".join(files.values()), np.uint8)
    raw = CODERS["raw"]()
    chains = [tuple(parse_stage(text, BYTE_CODECS) for text in chain) for chain in CHAINS]
    tried = [(chain, encode(raw, chain, [joined])) for chain in chains]
    return min(tried, key=lambda each: len(each[1].data))


def split_companions(files: Iterable[tuple[str, int]], joined: bytes) -> dict[str, bytes]:
    """name -> contents, cut from the decoded stream."""
    found, position = {}, 0
    for name, n_bytes in files:
        found[name] = joined[position : position + n_bytes]
        position += n_bytes
    return found
