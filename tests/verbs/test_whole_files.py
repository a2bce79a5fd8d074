"""Laws of files and folders that appear whole: writers that are killed or meet, temporary folders."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pgpack import files as storage
from pgpack.files import (
    replace_file,
    replace_together,
    replacing,
    replacing_folder,
    workplace,
)

ROOT = Path(__file__).resolve().parents[2]
WORKING = """
import sys, time
from pgpack.files import workplace
with workplace("codec") as folder:
    open(folder + "/out", "w").close()
    print(folder, flush=True)
    time.sleep(60)
"""


def test_temporary_folders_of_killed_processes_are_removed_by_the_next_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = tmp_path / "elsewhere"
    foreign.mkdir()
    (foreign / "precious").write_text("")
    (tmp_path / f"{storage.WORKPLACE}link").symlink_to(foreign)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", WORKING]
    with contextlib.ExitStack() as stack:
        living, killed = (
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        )
        names = [str(process.stdout and process.stdout.readline().strip()) for process in (living, killed)]
        assert all(name.startswith(str(tmp_path / storage.WORKPLACE)) for name in names)
        killed.kill()
        killed.wait()
        assert all(Path(name, "out").exists() for name in names)
        with workplace("decoder") as own, workplace("fence") as other:
            assert [Path(name, "out").exists() for name in names] == [True, False]
            assert Path(own).is_dir()
            assert Path(other).is_dir()
        living.kill()
    with pytest.raises(FileNotFoundError, match="of the caller"), workplace("codec") as own:
        raise FileNotFoundError("of the caller")
    assert not Path(own).exists()
    assert (foreign / "precious").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", f"{storage.WORKPLACE}link"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "m.pgpack"
    with replacing(path) as aside:
        aside.write_bytes(b"first")
        with pytest.raises(BlockingIOError, match="another process is writing it") as found:
            replace_file(path, b"second")
        assert found.value.filename == str(path)
        assert aside.read_bytes() == b"first"
    assert path.read_bytes() == b"first"
    replace_file(path, b"third")
    assert path.read_bytes() == b"third"


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    path, folder = tmp_path / "m.pgpack", tmp_path / "model"
    path.with_name("m.pgpack.tmp").write_bytes(b"a" * 99)
    replace_file(path, b"new")
    (tmp_path / "model.tmp" / "deep").mkdir(parents=True)
    (tmp_path / "model.tmp" / "config.json").write_text("half")
    with replacing_folder(folder) as aside:
        (aside / "new").write_text("")
    assert path.read_bytes() == b"new"
    assert sorted(item.relative_to(tmp_path).as_posix() for item in tmp_path.rglob("*")) == [
        "m.pgpack",
        "model",
        "model/new",
    ]


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchanged", "one after the other"])
def test_a_folder_takes_the_place_of_another(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    if not exchanges:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    with replacing_folder(folder, ("config.json",)) as aside:
        (aside / "config.json").write_text("new")
        assert (folder / "config.json").read_text() == "old"
    assert (folder / "config.json").read_text() == "new"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_was_moved_away_by_a_killed_writer_is_brought_back(tmp_path: Path) -> None:
    (tmp_path / "model.old.tmp").mkdir()
    (tmp_path / "model.old.tmp" / "config.json").write_text("old")
    with pytest.raises(FileExistsError), replacing_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model" / "config.json").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_files_that_belong_together_are_told_by_the_last_one(tmp_path: Path) -> None:
    names, original = ["one", "two", "last"], Path.replace
    for round_, stale in ((b"1", None), (b"2", tmp_path / "one_more")):
        if stale:
            stale.write_bytes(b"")
        seen: list[list[str]] = []

        def watched(self: Path, target: Path, seen: list[list[str]] = seen) -> Path:
            seen.append(sorted(item.name for item in tmp_path.iterdir() if not item.name.endswith(".tmp")))
            return original(self, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", watched)
            replace_together([(tmp_path / name, round_) for name in names], [stale] if stale else [])
        assert all("last" not in found and "one_more" not in found for found in seen)
        assert sorted(item.name for item in tmp_path.iterdir()) == sorted(names)
        assert {(tmp_path / name).read_bytes() for name in names} == {round_}
