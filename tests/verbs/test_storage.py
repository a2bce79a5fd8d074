"""Laws of a study's files on a bad disk: what was there stays, and one sentence says what happened and what to do.

Injected one by one: a disk that is full (a shim, and a real file system of 48 kB where one may be mounted), a folder
that may not be written or read, a file system without locks, a lock file that cannot take a word.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgpack import files as storage
from pgpack.errors import StudyError
from pgpack.files import (
    NoRoom,
    replace_file,
    replace_together,
    replacing,
)
from pgpack.study.files import refused, refusing
from pgpack.study.journal import Journal
from pgpack.study.study import Study, recording
from tests.study.test_journal import META, a_trial

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


@contextlib.contextmanager
def full_after(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk that takes `n_bytes` more."""
    left, write = [n_bytes], os.write

    def limited(fd: int, data: bytes | memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(left[0], len(data), 7)  # short writes besides
        left[0] -= taken
        return write(fd, data[:taken])

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "write", limited)
        yield


@contextlib.contextmanager
def somebody_without_rights() -> Iterator[None]:
    """The effective user is nobody, so that modes count for root too."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter and write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_full_disk_leaves_the_old_file_and_no_trace(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    replace_file(path, b"old")
    said = "report.html: cannot write it: No space left on device; the trials on disk are intact; free some space"
    with full_after(room, monkeypatch), pytest.raises(StudyError, match=said), refusing(path, "write it"):
        replace_file(path, b"n" * 100)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("room", [0, 1, 200, 10_000])
def test_a_disk_that_fills_up_at_any_byte_of_a_study_keeps_every_finished_row(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [a_trial(n) for n in range(1, 40)]
    finished = []
    with full_after(room, monkeypatch), contextlib.suppress(StudyError), recording(tmp_path, META) as (_, journal):
        for row in rows:
            journal.append(row)
            finished.append(row)
    assert len(finished) < len(rows)
    assert Journal(tmp_path / "trials.jsonl").read() == tuple(finished)
    with recording(tmp_path, META) as (study, journal):
        assert study.trials == tuple(finished)
        for row in rows[len(finished) :]:
            journal.append(row)
    assert Study.load(tmp_path).trials == tuple(rows)


FILLING = """
import sys
from pathlib import Path
from pgpack.errors import StudyError
from pgpack.study.study import recording
from tests.study.test_journal import META, a_trial
n = 0
Path(sys.argv[2]).write_bytes(bytes(16384))
try:
    with recording(Path(sys.argv[1]), META) as (study, journal):
        while True:
            n += 1
            journal.append(a_trial(n))
except StudyError as error:
    print(error)
with recording(Path(sys.argv[1]), META) as (study, journal):
    assert study.trials == tuple(a_trial(i) for i in range(1, n)), "rows were lost"
Path(sys.argv[2]).unlink()
with recording(Path(sys.argv[1]), META) as (study, journal):
    journal.append(a_trial(n))
    print(len(journal.read()) == n > 10)
"""


def on_a_small_disk(folder: Path, size_kb: int, program: str, *arguments: object) -> str:
    """What a Python program prints that has a file system of `size_kb` at `folder`; skips where none may be had."""
    unshare = shutil.which("unshare") or ""
    own = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    small = f"mount -t tmpfs -o size={size_kb}k tmpfs {folder}"
    if not unshare or subprocess.run([*own, small], check=False, capture_output=True).returncode:
        pytest.skip("this machine mounts nothing for us")
    command = [*own, f'{small} && exec "$@"', "sh", sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_a_real_file_system_that_is_full_keeps_every_row_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    printed = on_a_small_disk(tmp_path, 48, FILLING, tmp_path / "study", tmp_path / "ballast")
    sentence, went_on = printed.splitlines()
    assert "trials.jsonl: cannot append a trial: No space left on device; the trials on disk are intact" in sentence
    assert went_on == "True"


SAVING = """
import os, sys
import numpy as np
from pgpack.files import replace_file
from pgpack.checkpoint.checkpoint import save_tensors
from pathlib import Path
path = Path(sys.argv[1]) / "calibration.safetensors"
tensors = {"h": np.zeros(99_999, np.float32)}
for save in (lambda: save_tensors(path, tensors, {}), lambda: replace_file(path, bytes(99_999))):
    try:
        save()
    except OSError as error:
        print(error.strerror, os.listdir(sys.argv[1]))
"""


def test_tensors_and_artifacts_that_do_not_fit_are_an_error_of_the_system_and_leave_no_trace(tmp_path: Path) -> None:
    assert on_a_small_disk(tmp_path, 48, SAVING, tmp_path) == "No space left on device []\n" * 2


def test_a_directory_that_may_not_be_written_is_refused_before_anything_is_measured(public: Path) -> None:
    closed = public / "closed"
    closed.mkdir(mode=0o555)
    with somebody_without_rights():
        for directory in (closed / "study", closed):
            with (
                pytest.raises(
                    StudyError, match=r"cannot .*: Permission denied; .* a directory that you may write to"
                ),
                recording(directory, META, lambda card: pytest.fail("measured")),
            ):
                pass
    assert not list(closed.iterdir())


@pytest.mark.parametrize("name", ["study.json", "trials.jsonl", "trials.lock"])
def test_a_file_that_may_not_be_read_or_written_is_named(public: Path, name: str) -> None:
    with recording(public, META) as (_, journal):
        journal.append(a_trial(1))
    for path in public.iterdir():
        path.chmod(0 if path.name == name else 0o666)
    with (
        somebody_without_rights(),
        pytest.raises(StudyError, match=rf"{name}: cannot .*: Permission denied"),
        recording(public, META),
    ):
        pass
    (public / name).chmod(0o666)
    assert Study.load(public).trials == (a_trial(1),)


def test_a_file_system_without_locks_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StudyError, match=r"trials\.lock: cannot lock it: .*a file system that has locks"):
        Journal(tmp_path / "trials.jsonl").__enter__()


def test_a_lock_file_that_cannot_take_the_process_id_still_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "trials.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        holder = Journal(path).__enter__()
    with pytest.raises(StudyError, match=r"another process \(pid unknown\)"):
        Journal(path).__enter__()
    holder.__exit__(None, None, None)
    with Journal(path):
        pass


def test_an_unknown_fault_is_named_and_the_rows_are_said_to_be_intact() -> None:
    error = refused(Path("x"), "append a trial", OSError(errno.EIO, os.strerror(errno.EIO)))
    assert str(error) == (
        "x: cannot append a trial: Input/output error; the trials on disk are intact; "
        "repeat the same command once that is mended"
    )


def fail_halfway(path: Path, error: BaseException) -> None:
    with replacing(path) as aside:
        aside.write_bytes(b"half")
        raise error


def test_every_failed_block_leaves_the_old_file_and_its_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with replacing(path) as aside:
        aside.write_bytes(b"old")
    for error in (KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
        with pytest.raises(type(error)) as found:
            fail_halfway(path, error)
    assert isinstance(found.value, OSError)
    assert found.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_take_the_place_of_others_in_one_module_only() -> None:
    """Folders become whole by renames of their own, journals grow; everything else goes through `pgpack.files`."""
    calls = re.compile(r"os\.replace\(|os\.rename\(|os\.fsync\(|\w\.rename\(|\.tmp\"")
    sources = [path for room in ("pgpack", "pgtrain", "cli") for path in sorted((ROOT / room).rglob("*.py"))]
    found = {path.relative_to(ROOT).as_posix() for path in sources if calls.search(path.read_text(encoding="utf-8"))}
    journals = {"pgpack/study/journal.py"}
    folders = {"pgpack/submission/folder.py", "pgpack/sweep/executors/parcel.py"}
    by_itself = {"pgpack/submission/program.py"}  # runs without this package
    assert found - journals - folders - by_itself == {"pgpack/files.py"}


def test_a_full_disk_names_the_file_and_the_room_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a.bin", tmp_path / "b.bin"
    with full_after(30, monkeypatch):
        with pytest.raises(NoRoom) as found:
            replace_file(first, bytes(12_345))
        assert (found.value.filename, found.value.n_bytes) == (str(first), 12_345)
        with pytest.raises(StudyError, match=r"free some space \(12,345 bytes are needed\) and repeat"):
            raise refused(first, "write it", found.value)
    with full_after(30, monkeypatch), pytest.raises(NoRoom) as found:
        replace_together([(first, bytes(20)), (second, bytes(99))])
    assert (found.value.filename, found.value.n_bytes) == (str(second), 99)
    assert not list(tmp_path.iterdir())
