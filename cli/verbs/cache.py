"""`pgpack cache`: what is kept between runs, and getting rid of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.cache.options import default_folder
from pgpack.tables import table

from ..lazy import Group
from ..options.cache import folder_option
from ..options.types import size
from ..screen.output import Screen, format_bytes, note, screen_options

if TYPE_CHECKING:
    from pgpack.cache.store import Disk

MINUTE, HOUR, DAY = 60, 3600, 86_400

EPILOG = """\b
Examples:
  pgpack cache ls
  pgpack cache gc --limit 1GB
  pgpack cache gc --all
  pgpack cache gc --check
"""


@click.group("cache", cls=Group, epilog=EPILOG)
def command() -> None:
    """Hessians, quantized tensors, encoded streams and losses that `pack` and `sweep` keep for later runs.

    Every entry is named by a digest of all that it depends on, program and libraries included, so nothing has to be
    cleared after a change; what is not used any more goes first once the cache is full.
    """


@command.command("ls")
@folder_option
@screen_options
def list_(*, cache_folder: Path | None, screen: Screen) -> None:
    """What is kept, by kind: entries, bytes, and when the first and the last of them was used.

    \b
    Example:
      pgpack cache ls --json
    """
    disk, now = _opened(cache_folder), time.time()
    kinds = _by_kind(disk)
    total = sum(kind["n_bytes"] for kind in kinds.values())
    rows = [
        (name, kind["entries"], kind["n_bytes"], _ago(now - kind["first_used"]), _ago(now - kind["last_used"]))
        for name, kind in kinds.items()
    ]
    screen.show(
        {"cache": str(disk.folder), "n_bytes": total, "limit": disk.limit, "kinds": kinds},
        *([table(("kind", "entries", "bytes", "first used", "last used"), rows)] if rows else []),
        f"{format_bytes(total)} in {disk.folder}",
    )


@command.command("gc")
@folder_option
@click.option("--limit", type=size, metavar="BYTES", help="Delete what was used least recently above this size.")
@click.option("--all", "everything", is_flag=True, help="Delete every entry.")
@click.option("--check", is_flag=True, help="Read every entry and delete those that are damaged.")
@screen_options
def collect(*, cache_folder: Path | None, limit: int | None, everything: bool, check: bool, screen: Screen) -> None:
    """Delete what killed processes left behind, and whatever passes the limit (4 GB unless given).

    Running sweeps are not disturbed: they do again what they no longer find.

    \b
    Example:
      pgpack cache gc --limit 500MB
    """
    if everything and limit is not None:
        raise click.UsageError("give --limit or --all, not both")
    disk = _opened(cache_folder)
    damaged = disk.drop_damaged() if check else 0
    gone, freed = disk.shrink(0 if everything else disk.limit if limit is None else limit)
    left = sum(entry.n_bytes for entry in disk.entries())
    screen.show(
        {"cache": str(disk.folder), "damaged": damaged, "deleted": gone, "freed_bytes": freed, "n_bytes": left},
        *([f"{damaged} damaged entries deleted"] if check else []),
        f"{gone} entries of {format_bytes(freed)} deleted, {format_bytes(left)} left in {disk.folder}",
    )


def _opened(folder: Path | None) -> Disk:
    folder = folder or default_folder()
    if folder is None:
        raise click.UsageError("this user has no home folder; name the cache with --cache DIR")
    from pgpack.cache.opening import open_disk

    return open_disk(folder, note)


def _by_kind(disk: Disk) -> dict[str, dict[str, Any]]:
    """What is known of every kind that there is."""
    from pgpack.cache.store import KINDS

    entries = list(disk.entries())
    found = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
    return {
        kind: {
            "entries": len(each),
            "n_bytes": sum(entry.n_bytes for entry in each),
            "first_used": min(entry.used for entry in each),
            "last_used": max(entry.used for entry in each),
        }
        for kind, each in found.items()
        if each
    }


def _ago(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name} ago"
    return "just now"
