"""The flags of every command that keeps results between runs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.cache.options import CacheOptions

from ..screen.output import note
from .group import flag, flag_group
from .sizes import SIZE

if TYPE_CHECKING:
    from pgpack.cache.store import Cache

SHARED = {"quantized": "quantized tensors", "encoded": "encoded streams", "evaluation": "losses"}


def say_shared(cache: Cache | None, quiet: bool) -> None:
    """One note on how much work was not done again; nothing without a cache or without work."""
    if cache is None:
        return
    totals = {kind: cache.hits[kind] + cache.misses[kind] for kind in SHARED}
    parts = [f"{cache.hits[kind]:,} of {totals[kind]:,} {name}" for kind, name in SHARED.items() if totals[kind]]
    if parts:
        note(f"taken from earlier work: {', '.join(parts)}", quiet)


def opened(cache: CacheOptions, quiet: bool, in_memory: bool = True) -> Cache:
    """The cache that the flags ask for; `in_memory` False holds nothing large, for commands that pack once."""
    from pgpack.cache.opening import open_cache

    return open_cache(cache, functools.partial(note, quiet=quiet), in_memory)


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
    CacheOptions,
    "cache",
    {
        "folder": _FOLDER,
        "off": flag("--no-cache", is_flag=True, help="Keep nothing between runs and use nothing that was kept."),
        "limit": flag("--cache-limit", type=SIZE, metavar="BYTES", help="Size of the cache [default: 4GB]."),
    },
)
