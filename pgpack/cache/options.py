"""Where the results of earlier work lie, unless a user says otherwise, and which of them still count."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .store import Cache, Disk

LIBRARIES = ("numpy", "scipy", "numba", "brotli", "zstandard")  # whose versions may change a result


@dataclass(frozen=True)
class CacheOptions:
    """What a user says about the cache. Units: limit in bytes."""

    folder: Path | None = None
    off: bool = False
    limit: int | None = None

    def open(self, trouble: Callable[[str], None] = lambda line: None, in_memory: bool = True) -> Cache:
        """The cache asked for; `in_memory` False holds nothing large, for work that packs once.

        `trouble` is told in one line why a folder cannot be used; work goes on without it.
        """
        from .store import MEMORY_BYTES, Cache, Memory

        folder = None if self.off else self.folder or default_folder()
        disk = None if folder is None else self.disk(folder, trouble)
        return Cache(disk, Memory(MEMORY_BYTES if in_memory else 0))

    def disk(self, folder: Path, trouble: Callable[[str], None]) -> Disk:
        """The files below `folder`, as the program that runs now may use them."""
        from .store import DISK_BYTES, Disk

        return Disk(folder, DISK_BYTES if self.limit is None else self.limit, engine_digest(), trouble=trouble)


def engine_digest() -> str:
    """sha256 hex of the code and the libraries that results come from."""
    import platform
    from importlib.metadata import version

    from .store import cache_key, source_digest

    code = source_digest(Path(__file__).parents[1])
    return cache_key(code, platform.python_version(), platform.machine(), [version(name) for name in LIBRARIES])


def default_folder() -> Path | None:
    """The platform's folder for a user's caches; None for a user without a home."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pgpack"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pgpack" / "Cache"
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else home / ".cache") / "pgpack"
