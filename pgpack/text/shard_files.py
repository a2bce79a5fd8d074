"""Token shards as files: the challenge's format, checked by header and size alone.

    shard = 256 x int32 LE header (20240520, 1, n tokens, zeros) + n x uint16 LE tokens

Owns finding and checking shards. Refuses a file whose size is not exactly 1024 + 2n bytes; refuses numpy, so
that a plan prints at once. Source: openai/parameter-golf train_gpt.py, load_data_shard.
"""

from __future__ import annotations

import struct
from glob import glob
from pathlib import Path

from pgpack.errors import DataError

MAGIC, VERSION, HEADER_INTS = 20240520, 1, 256


def find_shards(pattern: str) -> list[Path]:
    """Shards that match a glob, sorted; byte-count shards (`_bytes_` in the name) are left out.

    Raises: DataError when none is left.
    """
    paths = [Path(p) for p in sorted(glob(pattern)) if "_bytes_" not in Path(p).name]
    if not paths:
        raise DataError(f"no token shards match {pattern}")
    return paths


def shard_length(path: Path) -> int:
    """Tokens in a shard, from its header and size alone.

    Raises: DataError when the header or the size is not that of a shard.
    """
    with open(path, "rb") as file:
        header = file.read(4 * HEADER_INTS)
    if len(header) < 4 * HEADER_INTS or struct.unpack_from("<2i", header) != (MAGIC, VERSION):
        raise DataError(f"{path} is not a token shard: its header does not start with {MAGIC}, {VERSION}")
    (n_tokens,) = struct.unpack_from("<i", header, 8)
    size, expected = path.stat().st_size, 4 * HEADER_INTS + 2 * n_tokens
    if n_tokens < 0 or size != expected:
        raise DataError(f"{path} has {size} bytes, its header says {expected}; the copy is incomplete or damaged")
    return int(n_tokens)
