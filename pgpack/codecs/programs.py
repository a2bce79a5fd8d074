"""Running the external programs of `external`: where, under which limits, and what their failure means.

A program runs in a temporary directory of its own, single-threaded, without the user's configuration. It is limited
in processor time, which unlike the clock does not depend on what else the machine does (`ulimit -t`), decoders also
in file size (`ulimit -f`) and address space (`ulimit -v`). The clock only ends what waits forever.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgpack.errors import CorruptArtifact, PgpackError, ToolMissing
from pgpack.files import workplace

ADDRESS_SPACE_KIB = 4 << 20  # of a decoder; both programs decode in less than 1 GiB
EPOCH = 946_684_800  # 2000-01-01T00:00:00Z
PATIENCE = 20  # seconds on the clock for each second of processor time
# 1: seconds of processor time, 2: blocks of 512 bytes per file, 3: KiB of address space. The hard limit of the time
# lies a second above the soft one, so that the signal says which limit it was.
SHELL = 'ulimit -c 0; ulimit -St "$1"; ulimit -Ht "$(($1 + 1))"; ulimit -f "$2"; ulimit -v "$3"; shift 3; exec "$@"'


@dataclass(frozen=True)
class Limits:
    """What a program may use. Units: `cpu_s` seconds of processor time, `blocks` of 512 bytes per file, KiB."""

    cpu_s: int
    blocks: int | None = None
    address_space_kib: int | None = None

    def command(self, command: Sequence[str]) -> list[str]:
        """`command` under these limits."""
        values = (self.cpu_s, self.blocks, self.address_space_kib)
        given = ["unlimited" if value is None else str(value) for value in values]
        return ["/bin/sh", "-c", SHELL, "sh", *given, *command]


def cpu_limit_s(n_bytes: int) -> int:
    """Seconds of processor time a program may take: ZPAQ's slowest level needs about 4 per MB on a slow core."""
    return 60 + 40 * n_bytes // 10**6


def find_tool(program: str) -> str:
    """Path of `program`. Raises ToolMissing with the package to install."""
    path = shutil.which(program)
    if path is None:
        raise ToolMissing(f"the {program} codec needs the program {program}: install the Debian package {program}")
    return path


def run_tool(command: Sequence[str], directory: str, limits: Limits) -> str | None:
    """Standard output of `command`, None when it fails. Raises PgpackError when it used up its time."""
    environment = {"PATH": os.defpath, "LRZIP": "NOCONFIG", "TMPDIR": directory, "TMP": directory, "TZ": "UTC"}
    clock_s = PATIENCE * limits.cpu_s
    try:
        done = subprocess.run(
            limits.command(command),
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=clock_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PgpackError(f"{Path(command[0]).name} did not end within {clock_s} s") from None
    if done.returncode == -signal.SIGXCPU:
        raise PgpackError(f"{Path(command[0]).name} took more than {limits.cpu_s} s of processor time")
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def encode_file(command: Sequence[str], data: bytes, output: str) -> bytes:
    """What `command` makes of the file `d` (dated EPOCH) that holds `data`. Raises PgpackError."""
    with workplace("codec") as directory:
        source = Path(directory, "d")
        source.write_bytes(data)
        os.utime(source, (EPOCH, EPOCH))
        target = Path(directory, output)
        if run_tool(command, directory, Limits(cpu_limit_s(len(data)))) is None or not target.is_file():
            raise PgpackError(f"{Path(command[0]).name} failed to compress {len(data)} bytes")
        return target.read_bytes()


def printed(command: Sequence[str], data: bytes, archive: str, n_bytes: int) -> str | None:
    """What `command` prints about the file `archive`, None when it fails. Raises CorruptArtifact when out of time."""
    with workplace("codec") as directory:
        Path(directory, archive).write_bytes(data)
        return _run_decoder(command, directory, Limits(cpu_limit_s(n_bytes), _blocks(len(data)), ADDRESS_SPACE_KIB))


def decode_file(name: str, commands: Sequence[Sequence[str]], data: bytes, archive: str, n_bytes: int) -> bytes:
    """The file `out` that `commands` make of the file `archive`. Raises CorruptArtifact."""
    address_space = ADDRESS_SPACE_KIB + 8 * (n_bytes >> 10)
    limits = Limits(cpu_limit_s(n_bytes), _blocks(max(n_bytes, len(data))), address_space)
    with workplace("codec") as directory:
        Path(directory, archive).write_bytes(data)
        target = Path(directory, "out")
        for command in commands:
            if _run_decoder(command, directory, limits) is None:
                raise CorruptArtifact(f"{name} refuses its stream of {len(data)} bytes")
        if target.is_symlink() or not target.is_file() or target.stat().st_size != n_bytes:
            raise CorruptArtifact(f"{name} does not decode its stream to the declared {n_bytes} bytes")
        return target.read_bytes()


def _run_decoder(command: Sequence[str], directory: str, limits: Limits) -> str | None:
    try:
        return run_tool(command, directory, limits)
    except PgpackError as error:
        raise CorruptArtifact(f"a stream is not decoded: {error}") from None


def _blocks(n_bytes: int) -> int:
    return (n_bytes >> 9) + 64
