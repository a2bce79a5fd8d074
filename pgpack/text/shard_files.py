"""Tokens as files: the challenge's shards and bare arrays, checked by header and size alone.

    shard = 256 x int32 LE header (20240520, 1, n tokens, zeros) + n x uint16 LE tokens
                                  (20240520, 2, n tokens, zeros) + n x uint32 LE tokens, for large vocabularies
                                  (20240801, 7, n tokens, zeros) + n x uint32 LE tokens, of llm.c for Llama 3
    bare  = NAME.bin: n x uint16 LE tokens and nothing else, of nanoGPT
            NAME.npy: one dimension of whole numbers

Owns finding and checking shards. Refuses a file whose size is not exactly what its header says; a .bin without a
header is bare only if nothing in it looks like one, and only a vocabulary can tell (`pgpack.text.data.read_tokens`).
Refuses numpy, so that a plan prints at once. Source: openai/parameter-golf train_gpt.py, load_data_shard, which knows
version 1; karpathy/llm.c, dev/data/data_common.py; karpathy/nanoGPT, data/openwebtext/prepare.py; numpy.lib.format.
"""

from __future__ import annotations

import ast
import os
import re
import struct
from glob import glob
from pathlib import Path
from typing import NamedTuple

from pgpack.errors import DataError

from .compressed import refuse_pointer
from .corpus_record import check_whole

MAGIC, VERSION, VERSION_32, HEADER_INTS = 20240520, 1, 2, 256
WIDTHS = {(MAGIC, VERSION): 2, (MAGIC, VERSION_32): 4, (20240801, 7): 4}  # bytes a token
SUFFIXES = (".bin", ".npy")
NUMPY = b"\x93NUMPY"
LONGEST = 4096  # bytes of the header of an array of one dimension
NUMBERS = 16  # at most so many of the numbers of a header are not 0; the first tokens of a text are more
INDEX = ".idx"  # beside a .bin
OF_FAIRSEQ = b"TNTIDX\0\0"
OTHERS = {  # how files begin that hold no tokens, or not only tokens
    b"LITPKDS": "a packed data set of lit-gpt, whose last chunk is filled up",
    b"MMIDIDX": "an index of Megatron's; its tokens lie beside it",
    OF_FAIRSEQ: "an index of fairseq's; its tokens lie beside it",
    b"PK\x03\x04": "a zip file, as of torch",
    b"\x80\x02\x8a\n": "a file of torch",
    b"GGUF": "a GGUF",
    b"\x1f\x8b\x08": "packed with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
}


class Layout(NamedTuple):
    """Where the tokens of a file lie. `dtype`: as numpy writes it; `bare`: no header says that they are tokens."""

    n_tokens: int
    dtype: str
    offset: int
    bare: bool = False


def find_shards(pattern: str) -> list[Path]:
    """Shards that match a glob, sorted; byte-count shards (`_bytes_` in the name) are left out.

    Raises: DataError when none is left, or one is gone that `pgtrain data` wrote; OSError where
    the folder cannot be listed.
    """
    paths = [Path(p) for p in sorted(glob(pattern)) if "_bytes_" not in Path(p).name]
    if not paths:
        if (folder := Path(pattern).parent).is_dir():
            os.listdir(folder)  # which says so where it may not be looked into
        raise DataError(f"no token shards match {pattern}")
    check_whole(paths, pattern)
    return paths


def shard_length(path: Path) -> int:
    """Tokens in a shard. Raises: DataError as `read_layout`."""
    return read_layout(path).n_tokens


def read_layout(path: Path) -> Layout:
    """Where the tokens of a shard lie, from its header and size alone.

    Raises: DataError when the header or the size is not that of a shard, or of bare tokens.
    """
    refuse_pointer(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(max(4 * HEADER_INTS, LONGEST))
    if header.startswith(NUMPY):
        return _checked(path, _array(path, header), size)
    numbers = struct.unpack_from(f"<{HEADER_INTS}i", header) if len(header) >= 4 * HEADER_INTS else (0,) * HEADER_INTS
    if (width := WIDTHS.get((numbers[0], numbers[1]))) is not None:
        return _checked(path, Layout(numbers[2], f"<u{width}", 4 * HEADER_INTS), size)
    begins = struct.unpack_from("<i", header)[0] if len(header) >= 4 else 0
    headed = begins in {magic for magic, _ in WIDTHS} or (
        len(header) >= 4 * HEADER_INTS and sum(map(bool, numbers)) <= NUMBERS
    )
    if path.suffix in SUFFIXES and not size:
        raise DataError(f"{path} is an empty file, and no token shard; fetch or write it again")
    if path.suffix in (*SUFFIXES, INDEX) and (other := _other(path, header, size)):
        raise DataError(f"{path} is {other}, and no token shard; store the tokens as .npy, which says its type")
    if path.suffix not in SUFFIXES and not headed:
        raise DataError(
            f"{path} is no text of a kind that is read (.txt, .md, .jsonl, .parquet) and no token shard (.bin, .npy)"
        )
    if headed or path.suffix != ".bin" or not size or size % 2:
        raise DataError(
            f"{path} is not a token shard: its header does not start with {MAGIC}, {VERSION}; bare tokens are a .npy "
            "of one dimension, or a .bin of uint16 and nothing else"
        )
    if _begins(path.with_suffix(INDEX), OF_FAIRSEQ):
        raise DataError(
            f"{path} is a text of fairseq's, whose numbers are those of its dictionary and no tokenizer's; "
            "give the text as --text PATH"
        )
    return Layout(size // 2, "<u2", 0, bare=True)


def _begins(path: Path, mark: bytes) -> bool:
    """Whether a file is there and begins with `mark`."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(mark)) == mark


def _other(path: Path, header: bytes, size: int) -> str:
    """What a file is by its first bytes that is neither a shard nor bare tokens; '' where they tell nothing."""
    if path.suffix == ".npy":
        return "a .npy without numpy's header, which would say its type"
    if header.startswith(tuple(OTHERS)):
        return next(what for begins, what in OTHERS.items() if header.startswith(begins))
    if len(header) >= 12:
        count, first = struct.unpack_from("<2I", header)
        if first == 4 * (count + 2) <= size:  # where each of `count` items begins, and the end of the file
            with open(path, "rb") as file:
                file.seek(first - 4)
                if file.read(4) == struct.pack("<I", size & 0xFFFFFFFF):
                    return "a chunk of litdata, which begins with where its items lie"
    return ""


def _array(path: Path, header: bytes) -> Layout:
    """The layout of a .npy file. Raises: DataError for what is no row of whole numbers."""
    begin, kind = (10, "<H") if header[6:7] == b"\1" else (12, "<I")
    try:
        length = struct.unpack_from(kind, header, begin - struct.calcsize(kind))[0]
        found = ast.literal_eval(header[begin : begin + length].decode("latin-1").strip())
        dtype, (n_tokens,) = found["descr"], found["shape"]
        if not re.fullmatch(r"[<>|][iu][1248]", dtype) or type(n_tokens) is not int:
            raise ValueError(dtype)
    except (ValueError, SyntaxError, TypeError, KeyError, struct.error, RecursionError, MemoryError) as error:
        raise DataError(
            f"{path} is no row of whole numbers, so no tokens; store them as an array of one dimension, "
            "numpy.save(path, tokens.astype('uint16'))"
        ) from error
    return Layout(n_tokens, dtype, begin + length)


def _checked(path: Path, layout: Layout, size: int) -> Layout:
    expected = layout.offset + int(layout.dtype[2]) * layout.n_tokens
    if layout.n_tokens < 0 or size != expected:
        raise DataError(f"{path} has {size} bytes, its header says {expected}; the copy is incomplete or damaged")
    return layout
