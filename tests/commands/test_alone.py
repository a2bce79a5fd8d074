"""Of two commands that make one output at once the second is refused at once; a kill leaves no lock behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pgpack as library
from pgpack.files import alone
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.synthetic_study import write_study

HOLD = """
import sys, time
from pathlib import Path
from pgpack.files import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
SAID = "another process is writing it; wait for it to end or give another name"


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process makes `path`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            yield other
        finally:
            other.kill()


@pytest.fixture(scope="module")
def packed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "m.pgpack"
    succeed(pgpack("pack", model, "--recipe", "*=cast(dtype=fp16)|raw", "-o", out, "-q"))
    return out


def commands(model: Path, packed: Path) -> dict[str, tuple[object, ...]]:
    return {
        "a.pgpack": ("pack", model, "--recipe", "*=cast(dtype=fp16)|raw", "--force"),
        "b.safetensors": ("unpack", packed, "--force"),
        "c.npz": ("unpack", packed, "--force"),
        "folder": ("unpack", packed, "--as", "folder"),
        "d.pgpack": ("transcode", packed, "--force"),
        "e.safetensors": ("calibrate", model, "--tokens", 64, "--force"),
        "f.svg": ("analyze", model, "--force"),
        "g.py": ("init-adapter",),
    }


@pytest.mark.parametrize("name", [*commands(Path(), Path())])
def test_the_second_of_two_at_once_is_refused_before_its_work(
    name: str, model: Path, packed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / name
    line = commands(model, packed)[name]
    line = (line[0], out, *line[1:]) if line[0] == "init-adapter" else (*line, "-o", out)
    with held(out):
        start = time.process_time()
        refused = pgpack(*line)
        assert (refused.code, refused.err.strip().splitlines()[-1]) == (1, f"error: {out}: {SAID}")
        assert time.process_time() - start < 20
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == [f"{name}.lock"]  # the other was killed
    if name == "folder":
        return
    succeed(pgpack(*line))
    lock = out.with_name(f"{name}.lock")
    assert not lock.exists()
    lock.touch()  # of one that was killed behind its last deed
    assert pgpack(*(word for word in line if word != "--force")).code == 2
    assert not lock.exists()


def test_the_second_text_is_refused(tmp_path: Path) -> None:
    with held(tmp_path / "text" / "corpus.json"):
        refused = pgtrain("data", "-o", tmp_path / "text", "-q")
    assert (refused.code, SAID in refused.err) == (1, True)


def test_the_second_call_from_python_is_refused(
    model: Path, packed: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bench, artifact = library.open_bench(model, cache=False), library.open_artifact(packed)
    view = library.open_study(write_study(tmp_path_factory.mktemp("door") / "study").directory).frontier()
    for deed in (
        lambda: artifact.unpack(tmp_path / "a", form="npz"),
        lambda: artifact.unpack(f"{tmp_path}/a", form="folder", force=True),
        lambda: bench.pack("*=cast(dtype=fp16)|raw", to=tmp_path / "a", force=True),
        lambda: bench.fit("16MB", to=tmp_path / "a", force=True),
        lambda: bench.calibrate(64, to=tmp_path / "a"),
    ):
        with alone(tmp_path / "a"), pytest.raises(BlockingIOError, match=SAID):
            deed()
    with alone(tmp_path / "a.svg"), pytest.raises(BlockingIOError, match=SAID):
        view.plot(tmp_path / "a.svg")
    with held(tmp_path / "a"), pytest.raises(BlockingIOError, match=SAID):
        artifact.unpack(tmp_path / "a", form="pt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]  # of the one that was killed
    assert artifact.unpack(tmp_path / "a", form="pt")
    assert view.plot(tmp_path / "a.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.svg"]


def test_what_lies_in_place_of_a_lock_is_refused_in_python_as_in_a_command(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz.lock").mkdir()
    with pytest.raises(OSError, match=r"a\.npz"):
        library.open_artifact(packed).unpack(tmp_path / "a.npz")
    assert pgpack("unpack", packed, "-o", tmp_path / "a.npz").code == 1


def test_a_dry_run_and_a_refusal_leave_nothing(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "deep" / "m.pgpack"
    succeed(pgpack("pack", model, "--recipe", "*=rtn(bits=4)|raw", "-o", out, "--dry-run"))
    assert pgpack("pack", model, "--recipe", "nothing=rtn(bits=4)|raw", "-o", out).code == 2
    assert list(tmp_path.iterdir()) == []


def test_who_came_first_and_has_ended_is_not_replaced(tmp_path: Path) -> None:
    """The second waits for no lock: it begins when the first is gone, and finds its file."""
    with held(tmp_path / "a") as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        with alone(tmp_path / "a"), pytest.raises(BlockingIOError), alone(tmp_path / "a"):
            pass
    assert list(tmp_path.iterdir()) == []
