"""`pgpack cache`: what is kept between runs, and getting rid of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.cache.options import default_folder
from pgpack.tables import table

from ..options.cache import FOLDER
from ..options.sizes import SIZE
from ..screen.output import emit_json, format_bytes, note, shared_options

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


@click.group("cache", epilog=EPILOG)
def command() -> None:
    """Hessians, quantized tensors, encoded streams and losses that `pack` and `sweep` keep for later runs.

    Every entry is named by a digest of all that it depends on, program and libraries included, so nothing has to be
    cleared after a change; what is not used any more goes first once the cache is full.
    """


@command.command("ls")
@FOLDER
@shared_options
def list_(*, cache_folder: Path | None, as_json: bool, quiet: bool) -> None:
    """What is kept, by kind: entries, bytes, and when the first and the last of them was used.

    \b
    Example:
      pgpack cache ls --json
    """
    disk = _opened(cache_folder)
    rows, now = _by_kind(disk), time.time()
    total = sum(row[2] for row in rows)
    if as_json:
        kinds = {
            kind: {"entries": n, "n_bytes": size, "first_used": first, "last_used": last}
            for kind, n, size, first, last in rows
        }
        emit_json({"cache": str(disk.folder), "n_bytes": total, "limit": disk.limit, "kinds": kinds})
        return
    shown = [(kind, n, size, _ago(now - first), _ago(now - last)) for kind, n, size, first, last in rows]
    if rows:
        click.echo(table(("kind", "entries", "bytes", "first used", "last used"), shown))
    click.echo(f"{format_bytes(total)} in {disk.folder}")


@command.command("gc")
@FOLDER
@click.option("--limit", type=SIZE, metavar="BYTES", help="Delete what was used least recently above this size.")
@click.option("--all", "everything", is_flag=True, help="Delete every entry.")
@click.option("--check", is_flag=True, help="Read every entry and delete those that are damaged.")
@shared_options
def collect(
    *, cache_folder: Path | None, limit: int | None, everything: bool, check: bool, as_json: bool, quiet: bool
) -> None:
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
    if as_json:
        emit_json(
            {"cache": str(disk.folder), "damaged": damaged, "deleted": gone, "freed_bytes": freed, "n_bytes": left}
        )
        return
    if check:
        click.echo(f"{damaged} damaged entries deleted")
    click.echo(f"{gone} entries of {format_bytes(freed)} deleted, {format_bytes(left)} left in {disk.folder}")


def _opened(folder: Path | None) -> Disk:
    folder = folder or default_folder()
    if folder is None:
        raise click.UsageError("this user has no home folder; name the cache with --cache DIR")
    from pgpack.cache.opening import open_disk

    return open_disk(folder, note)


def _by_kind(disk: Disk) -> list[tuple[str, int, int, float, float]]:
    """(kind, entries, bytes, first used, last used) of every kind that there is."""
    from pgpack.cache.store import KINDS

    entries = list(disk.entries())
    rows = []
    for kind in KINDS:
        of_kind = [entry for entry in entries if entry.kind == kind]
        if of_kind:
            used = [entry.used for entry in of_kind]
            rows.append((kind, len(of_kind), sum(entry.n_bytes for entry in of_kind), min(used), max(used)))
    return rows


def _ago(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name} ago"
    return "just now"
