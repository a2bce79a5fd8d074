"""The flags of every command that keeps results between runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgpack.cache.options import CacheOptions

from ..flag_group import flag, flag_group, option_of
from ..screen.output import Screen
from .types import FOLDER, size

if TYPE_CHECKING:
    from pgpack.cache.store import Cache

SHARED = {"quantized": "quantized tensors", "encoded": "encoded streams", "evaluation": "losses"}


def say_shared(cache: Cache | None, screen: Screen) -> None:
    """One note on how much work was not done again; nothing without a cache or without work."""
    if cache is None:
        return
    totals = {kind: cache.hits[kind] + cache.misses[kind] for kind in SHARED}
    parts = [f"{cache.hits[kind]:,} of {totals[kind]:,} {name}" for kind, name in SHARED.items() if totals[kind]]
    if parts:
        screen.note(f"taken from earlier work: {', '.join(parts)}")


_FOLDER = flag(
    "--cache",
    type=FOLDER,
    envvar="PGPACK_CACHE",
    show_envvar=True,
    metavar="DIR",
    help="Where results are kept between runs [default: pgpack in the user's cache folder].",
)
folder_option = option_of(_FOLDER, "cache_folder")
cache_options = flag_group(
    CacheOptions,
    "cache",
    {
        "folder": _FOLDER,
        "off": flag("--no-cache", is_flag=True, help="Keep nothing between runs and use nothing that was kept."),
        "limit": flag("--cache-limit", type=size, metavar="BYTES", help="Size of the cache [default: 4GB]."),
    },
)
