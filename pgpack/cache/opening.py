"""The cache that a user asked for, as the program that runs now may use it: results of other code do not count."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from .options import CacheOptions, default_folder
from .store import DISK_BYTES, MEMORY_BYTES, Cache, Disk, Memory, cache_key, source_digest

LIBRARIES = ("numpy", "scipy", "numba", "brotli", "zstandard")  # whose versions may change a result


def open_cache(
    options: CacheOptions, trouble: Callable[[str], None] = lambda line: None, in_memory: bool = True
) -> Cache:
    """The cache asked for; `in_memory` False holds nothing large, for work that packs once.

    `trouble` is told in one line why a folder cannot be used; work goes on without it.
    """
    folder = None if options.off else options.folder or default_folder()
    disk = None if folder is None else open_disk(folder, trouble, options.limit)
    return Cache(disk, Memory(MEMORY_BYTES if in_memory else 0))


def open_disk(folder: Path, trouble: Callable[[str], None], limit: int | None = None) -> Disk:
    """The files below `folder`. Units: `limit` bytes, None for the default."""
    return Disk(folder, DISK_BYTES if limit is None else limit, engine_digest(), trouble=trouble)


def engine_digest() -> str:
    """sha256 hex of the code and the libraries that results come from."""
    code = source_digest(Path(__file__).parents[1])
    return cache_key(code, platform.python_version(), platform.machine(), [version(name) for name in LIBRARIES])
