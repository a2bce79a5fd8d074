"""What every verb shares: how results, notes and errors reach the user, and the exit codes.

    0 ok   1 error   2 usage   3 nothing fits the budget   4 verification failed
    5 stopped but resumable   130 interrupted

Results go to stdout (a table, or one JSON document with --json); notes and progress go to stderr.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from pgpack.errors import PgpackError

EXIT_RESUMABLE = 5
EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


def shared_options(function: F) -> F:
    """Add `--json` (as `as_json`) and `-q/--quiet` (as `quiet`) to a command."""
    function = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(function)
    return click.option("-q", "--quiet", is_flag=True, help="No notes and no progress bars.")(function)


def note(message: str, quiet: bool = False) -> None:
    """One line of information on stderr."""
    if not quiet:
        click.echo(message, err=True)


def emit_json(document: Any) -> None:
    """One JSON document on stdout; never NaN."""
    click.echo(json.dumps(document, indent=2, allow_nan=False, default=str))


def refuse_overwrite(path: Path, force: bool, *inputs: Path | None) -> None:
    """Refuse an output file before the work, not after.

    Usage error when `path` is a folder, is one of `inputs`, or exists and --force was not given; OSError when it lies
    where nothing can be written.
    """
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder; give the name of a file")
    if path.exists() and any(given is not None and given.exists() and path.samefile(given) for given in inputs):
        raise click.UsageError(f"{path} is what the command reads; give another -o")
    if path.exists() and not force:
        raise click.UsageError(f"{path} exists; give another -o or --force to replace it")
    refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """OSError when `path` lies where nothing can be written."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"a file, so that {path} cannot be written below it", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"no permission to write {path} there", str(folder))


def format_bytes(n_bytes: int) -> str:
    """Bytes with thousands separators: 15,981,204 B."""
    return f"{n_bytes:,} B"


def run(command: click.Command, prog_name: str) -> NoReturn:
    """Run a click command and turn every expected failure into one sentence and an exit code."""
    # Threads that spin while they wait starve each other as soon as anything else runs: training on 2 cores with one
    # of them busy makes 0.16 steps a second with spinning and 1.2 without. torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = command.main(prog_name=prog_name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except PgpackError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        sys.exit(1)
