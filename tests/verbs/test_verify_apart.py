"""The process in which `pgpack verify` decodes: limited in memory and time, and gone when its parent is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgpack import open_artifact
from pgpack import verify as verify_module
from pgpack.errors import FormatError
from pgpack.formats.own.manifest import read_manifest
from pgpack.verify import decode_apart, verify
from tests.hostile.crafting import constant, valid

PARENT = """
import sys
from pathlib import Path
from pgpack.verify import decode_apart
print("started", flush=True)
decode_apart(Path(sys.argv[1]))
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of 200 bytes that decodes to a little more than 64 MiB."""
    path = tmp_path / "large.pgpack"
    path.write_bytes(constant([1 << 12, (1 << 12) + 1], 1 << 30))
    return path


def test_what_decoding_may_take_is_raised_by_hand(large: Path) -> None:
    assert "--max-bytes" in decode_apart(large).error
    assert decode_apart(large, max_bytes=1 << 30).ok
    assert verify(large, max_bytes=1 << 30).ok


def test_memory_is_limited(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "ROOM", -(900 << 20))
    error = decode_apart(large, max_bytes=1 << 30).error
    assert "memory" in error or "Memory" in error


def test_a_lower_limit_of_the_user_counts(tmp_path: Path) -> None:
    path = tmp_path / "small.pgpack"
    path.write_bytes(valid("uniform"))
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({6 << 30},) * 2)\n"
    verified = "from pathlib import Path; from pgpack.verify import verify; import sys\n"
    verified += "sys.exit(not verify(Path(sys.argv[1])).ok)"
    done = subprocess.run(
        [sys.executable, "-c", limited + verified, str(path)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.timeout(60)
def test_what_is_no_file_or_too_large_a_one_is_refused_before_it_is_read(tmp_path: Path) -> None:
    pipe, sparse = tmp_path / "pipe", tmp_path / "sparse"
    os.mkfifo(pipe)
    sparse.write_bytes(valid("uniform"))
    os.truncate(sparse, 40 << 30)
    for path, said in ((pipe, "is a pipe or a device"), (Path("/dev/zero"), "is a pipe"), (sparse, "no more than")):
        for open_ in (verify, open_artifact):
            with pytest.raises(FormatError, match=said):
                open_(path)
    path = tmp_path / "small.pgpack"
    path.write_bytes(valid("uniform"))
    manifest = tmp_path / "small.pgpack.json"
    for text, said in (("null", "JSON NoneType"), ("[]", "JSON list"), ("[" * 100_000, "not readable")):
        manifest.write_text(text)
        checks = {check.name: check.detail for check in verify(path).checks}
        assert said in checks["manifest"]
    os.truncate(manifest, 40 << 30)
    with pytest.raises(FormatError, match="no more than"):
        read_manifest(path)


def test_time_is_limited_and_the_sentence_says_how_to_raise_it(large: Path) -> None:
    assert decode_apart(large, timeout_s=0.01).error.endswith("--timeout gives it longer")


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    pipe = tmp_path / "never-written"
    os.mkfifo(pipe)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(pipe)], stdout=subprocess.PIPE)
    assert parent.stdout
    assert parent.stdout.readline() == b"started\n"
    child = _until(lambda: _child_of(parent.pid))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _until(lambda: not _is_alive(child))


def _child_of(pid: int) -> int | None:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(found[1]) == pid:
            return int(stat.parent.name)
    return None


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "XZ"
    except OSError:
        return False


def _until(look: Callable[[], Any]) -> Any:
    """What `look` says once it is true; fails after half a minute."""
    for _ in range(300):
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")
