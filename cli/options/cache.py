"""The flags of every command that keeps results between runs, and where it keeps them unless told otherwise."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..screen.output import note
from .group import flag, flag_group
from .sizes import SIZE

if TYPE_CHECKING:
    from pgpack.cache.store import Cache, Disk

SHARED = {"quantized": "quantized tensors", "encoded": "encoded streams", "evaluation": "losses"}
LIBRARIES = ("numpy", "scipy", "numba", "brotli", "zstandard")  # whose versions may change a result


@dataclass(frozen=True)
class CacheFlags:
    """The values of the shared cache flags."""

    folder: Path | None = None
    off: bool = False
    limit: int | None = None

    def open(self, quiet: bool = False, in_memory: bool = True) -> Cache:
        """The cache that the flags ask for; `in_memory` False holds nothing large, for commands that pack once."""
        from pgpack.cache.store import MEMORY_BYTES, Cache, Memory

        folder = None if self.off else self.folder or default_folder()
        disk = None if folder is None else self.disk(folder, quiet)
        return Cache(disk, Memory(MEMORY_BYTES if in_memory else 0))

    def disk(self, folder: Path, quiet: bool = False) -> Disk:
        """The files below `folder`, as the program that runs now may use them."""
        from pgpack.cache.store import DISK_BYTES, Disk

        limit = DISK_BYTES if self.limit is None else self.limit
        return Disk(folder, limit, engine_digest(), trouble=lambda line: note(line, quiet))


def say_shared(cache: Cache | None, quiet: bool) -> None:
    """One note on how much work was not done again; nothing without a cache or without work."""
    if cache is None:
        return
    totals = {kind: cache.hits[kind] + cache.misses[kind] for kind in SHARED}
    parts = [f"{cache.hits[kind]:,} of {totals[kind]:,} {name}" for kind, name in SHARED.items() if totals[kind]]
    if parts:
        note(f"taken from earlier work: {', '.join(parts)}", quiet)


def engine_digest() -> str:
    """sha256 hex of the code and the libraries that results come from."""
    import platform
    from importlib.metadata import version

    import pgpack
    from pgpack.cache.store import cache_key, source_digest

    code = source_digest(Path(pgpack.__file__).parent)
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


_FOLDER = flag(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PGPACK_CACHE",
    show_envvar=True,
    metavar="DIR",
    help="Where results are kept between runs [default: pgpack in the user's cache folder].",
)
FOLDER = click.option(*_FOLDER[0], "cache_folder", **_FOLDER[1])
cache_options = flag_group(
    CacheFlags,
    "cache",
    {
        "folder": _FOLDER,
        "off": flag("--no-cache", is_flag=True, help="Keep nothing between runs and use nothing that was kept."),
        "limit": flag("--cache-limit", type=SIZE, metavar="BYTES", help="Size of the cache [default: 4GB]."),
    },
)
