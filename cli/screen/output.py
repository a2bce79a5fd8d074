"""What every verb shares: how results, notes and errors reach the user, and the exit codes.

    0 ok   1 error   2 usage   3 nothing fits the budget   4 verification failed
    5 stopped but resumable   130 interrupted (143 by SIGTERM)

Results go to stdout (a table, or one JSON document with --json); notes and progress go to stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import click

from pgpack.errors import PgpackError, RecipeError, remedy
from pgpack.files import alone
from pgpack.progress import above_bars
from pgpack.sizes import spoken_size
from pgpack.tables import Table, escaped, escaped_lines, wrapped

from ..flag_group import flag, flag_group

EXIT_FAILED = 4
EXIT_RESUMABLE = 5
EXIT_SIGNAL = 128  # and the number of the signal, as shells count: 130 for SIGINT, 143 for SIGTERM
FORMATS = frozenset((".safetensors", ".gguf", ".npz", ".npy", ".pt", ".pth", ".onnx", ".pgpack"))  # that a name says
ARTIFACT = (".pgpack", "an artifact of pgpack (`pgpack unpack` makes other formats of one)")
AGAIN_S = 0.05  # until a Ctrl-C that was dropped is asked for again


def note(message: str) -> None:
    """One sentence of information on stderr, above a bar that stands there."""
    with above_bars():
        click.echo(escaped_lines(fitting(message, _columns(sys.stderr))), err=True)


@dataclass(frozen=True)
class Screen:
    """How a command speaks. `quiet`: no notes and no progress bars; `verbose`: notes with processor seconds so far
    and the memory held; `as_json`: results as one document."""

    quiet: bool = flag("-q", "--quiet", is_flag=True, help="No notes and no progress bars.")
    verbose: bool = flag("-v", "--verbose", is_flag=True, help="Notes with seconds and memory so far.")
    as_json: bool = flag("--json", is_flag=True, help="Print one JSON document on stdout.")

    def note(self, message: str) -> None:
        """One line of information on stderr, unless it is to be quiet."""
        if not self.quiet:
            note(f"[{_so_far()}] {message}" if self.verbose else message)

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise click.UsageError("give --quiet or --verbose, not both")
        if self.quiet:
            os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it is imported later, and has notes of its own

    def show(self, document: Any, *lines: str) -> None:
        """A result on stdout: the lines, or the document. What JSON does not know in it: see `_plain`."""
        if self.as_json:
            click.echo(json.dumps(document, indent=2, allow_nan=False, default=_plain))
        else:
            click.echo(escaped_lines("\n".join(fitting(line, _columns(sys.stdout)) for line in lines)))
            if self.verbose and not self.quiet:
                self.note("done")


def fitting(text: str, columns: int | None) -> str:
    """A table as narrow as the terminal and sentences broken between their words; what holds a recipe is one line,
    which is the terminal's to break, so that it can be copied."""
    if columns is None:
        return text
    if isinstance(text, Table):
        return text.within(columns)
    return "\n".join(line if "=" in line else wrapped(line, columns) for line in text.split("\n"))


def _columns(stream: TextIO) -> int | None:
    """Columns of the terminal that `stream` goes to; None for a file or another program, which get all of it."""
    return max(40, shutil.get_terminal_size().columns) if stream.isatty() else None


def _so_far() -> str:
    """Processor seconds of this process and the memory that it has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"{time.process_time():.1f} s, {spoken_size(peak)}"


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as objects of JSON, everything else as its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return dict(value) if isinstance(value, Mapping) else str(value)


def picked(value: object, *names: str) -> dict[str, Any]:
    """These attributes of `value`, in this order, as a part of a document."""
    return {name: getattr(value, name) for name in names}


screen_options = flag_group(Screen, "screen")


def refuse_overwrite(path: Path, force: bool, *inputs: Path | None) -> None:
    """Refuse an output file before the work, not after.

    Usage error when `path` is a folder, is one of `inputs`, or exists and --force was not given; OSError when it lies
    where nothing can be written.
    """
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise click.UsageError(f"{path} is a pipe or a device, and files are written whole; give the name of a file")
    if path.exists() and any(given is not None and given.exists() and path.samefile(given) for given in inputs):
        raise click.UsageError(f"{path} is what the command reads; give another -o")
    if path.exists() and not force:
        raise click.UsageError(f"{path} exists; give another -o or --force to replace it")
    refuse_unwritable(path)


def require_suffix(path: Path, suffix: str) -> None:
    """Usage error, with the name to give, for an output whose name does not end as its one format says."""
    if path.suffix != suffix:
        raise click.UsageError(
            f"-o {path}: the name must end in {suffix}, which is what is written; give {path.with_suffix(suffix)}"
        )


def refuse_other_format(path: Path, suffix: str, written: str) -> None:
    """Usage error, with the name to give, for an output called as a format that is not the one that is `written`,
    whose name ends in `suffix`."""
    if path.suffix.lower() in FORMATS - {suffix}:
        raise click.UsageError(
            f"-o {path}: {written} is written, which is no {path.suffix}; give {path.with_suffix(suffix)}"
        )


def claim_output(path: Path, force: bool, *inputs: Path | None, dry_run: bool = False) -> None:
    """`claim`, then `refuse_overwrite`, as another one may have ended meanwhile. A dry run claims nothing."""
    refuse_overwrite(path, True, *inputs)
    if not dry_run:
        claim(path)
        refuse_overwrite(path, force, *inputs)


def claim(path: Path) -> None:
    """Until the command ends no other one makes the same output. OSError while one does."""
    click.get_current_context().with_resource(alone(path))


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


def _interrupted_in_passing(fault: sys.UnraisableHookArgs) -> None:
    """Ask once more for a Ctrl-C that came while an object was deleted or C called back: Python drops it there, and
    the command would go on as if nothing had been said. A little later, so that it does not meet the same end."""
    if not isinstance(fault.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(fault)
        return
    again = threading.Timer(AGAIN_S, os.kill, [os.getpid(), _signal_of(fault.exc_value)])
    again.daemon = True
    again.start()


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """Whoever ends a program from outside gets what Ctrl-C gets: what lay aside is put away, then it ends."""
    raise KeyboardInterrupt(number)


def _signal_of(interrupt: BaseException) -> int:
    return interrupt.args[0] if interrupt.args and isinstance(interrupt.args[0], int) else signal.SIGINT


def run(command: click.Command, prog_name: str) -> NoReturn:
    """Run a click command and turn every expected failure into one sentence and an exit code."""
    # Threads that spin while they wait starve each other as soon as anything else runs: training on 2 cores with one
    # of them busy makes 0.16 steps a second with spinning and 1.2 without. torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.unraisablehook = _interrupted_in_passing
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # one that the caller has this process ignore stays ignored
            signal.signal(number, _terminated)
    try:
        code = command.main(prog_name=prog_name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.MissingParameter) and error.ctx is not None:  # what is missing is said
            option = error.param if isinstance(error.param, click.Option) else None
            what = error.ctx.command.get_short_help_str(500) if option is None else option.help
            error = click.MissingParameter(what, error.ctx, error.param)
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt) as interrupt:
        with contextlib.suppress(OSError):  # of SIGHUP: the terminal is gone
            click.echo("interrupted", err=True)
        sys.exit(EXIT_SIGNAL + _signal_of(interrupt.__cause__ or interrupt))
    except PgpackError as error:
        # What a recipe's error points at stands on lines of its own; every other sentence is one, whatever is named.
        note(f"error: {error if isinstance(error, RecipeError) else escaped(str(error))}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        joint = " " if isinstance(error, FileExistsError) else ": "
        where = f"{error.filename}{joint}" if error.filename else ""
        todo = f"; {found}" if (found := remedy(error)) else ""
        note(f"error: {where}{error.strerror or error}{todo}")
        sys.exit(1)
