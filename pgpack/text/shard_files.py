"""Token shards as files: the challenge's format, checked by header and size alone.

    shard = 256 x int32 LE header (20240520, 1, n tokens, zeros) + n x uint16 LE tokens
                                  (20240520, 2, n tokens, zeros) + n x uint32 LE tokens, for large vocabularies
                                  (20240801, 7, n tokens, zeros) + n x uint32 LE tokens, of llm.c for Llama 3

Owns finding and checking shards. Refuses a file whose size is not exactly 1024 + 2n or 1024 + 4n bytes; refuses
numpy, so that a plan prints at once. Source: openai/parameter-golf train_gpt.py, load_data_shard, which knows
version 1; karpathy/llm.c, dev/data/data_common.py.
"""

from __future__ import annotations

import struct
from glob import glob
from pathlib import Path

from pgpack.errors import DataError

MAGIC, VERSION, VERSION_32, HEADER_INTS = 20240520, 1, 2, 256
WIDTHS = {(MAGIC, VERSION): 2, (MAGIC, VERSION_32): 4, (20240801, 7): 4}  # bytes a token


def find_shards(pattern: str) -> list[Path]:
    """Shards that match a glob, sorted; byte-count shards (`_bytes_` in the name) are left out.

    Raises: DataError when none is left.
    """
    paths = [Path(p) for p in sorted(glob(pattern)) if "_bytes_" not in Path(p).name]
    if not paths:
        raise DataError(f"no token shards match {pattern}")
    return paths


def shard_length(path: Path) -> int:
    """Tokens in a shard. Raises: DataError as `read_header`."""
    return read_header(path)[0]


def read_header(path: Path) -> tuple[int, int]:
    """(tokens, bytes a token) of a shard, from its header and size alone.

    Raises: DataError when the header or the size is not that of a shard.
    """
    with open(path, "rb") as file:
        header = file.read(4 * HEADER_INTS)
    magic, version, n_tokens = struct.unpack_from("<3i", header) if len(header) == 4 * HEADER_INTS else (0, 0, 0)
    if (magic, version) not in WIDTHS:
        raise DataError(
            f"{path} is not a token shard: its header does not start with {MAGIC}, {VERSION}; of bare tokens (.npy, "
            ".bin of nanoGPT) put 256 int32 in front of the uint16: these two, the number of tokens, zeros"
        )
    width = WIDTHS[magic, version]
    size, expected = path.stat().st_size, 4 * HEADER_INTS + width * n_tokens
    if n_tokens < 0 or size != expected:
        raise DataError(f"{path} has {size} bytes, its header says {expected}; the copy is incomplete or damaged")
    return n_tokens, width
