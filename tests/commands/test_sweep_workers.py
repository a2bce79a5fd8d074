"""`pgpack sweep` in worker processes: the study of one process; Ctrl-C, deaths and full caches on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pgpack_cli.screen.output import EXIT_RESUMABLE

from pgpack.study.study import Study
from tests.commands.test_kill import OWN_OF_A_RUN, lines_of
from tests.commands.test_sweep_faults import LAST_WORD, ROOT
from tests.commands.workshop import pgpack, succeed

SPACE = ("--recipe", "role:control=cast; *={rtn,gptq}(bits={3:5})|{zlib,rans}")
OUTPUTS = ("best.pgpack", "frontier.csv", "anatomy.json")


def facts(folder: Path) -> list[dict[str, Any]]:
    """Rows in the order of their recipes, without what belongs to a run."""
    rows = sorted((json.loads(line) for line in lines_of(folder)), key=lambda row: str(row["recipe"]))
    assert len({row["key"] for row in rows}) == len(rows)
    return [{name: value for name, value in row.items() if name not in OWN_OF_A_RUN} for row in rows]


@pytest.fixture(scope="module")
def serial(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study that one process makes."""
    folder = tmp_path_factory.mktemp("serial")
    succeed(pgpack("sweep", model, *SPACE, "--jobs", 1, "--out", folder, "-q"))
    return folder


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def workers_of(pid: int) -> list[int]:
    """Those of its children that measure."""
    found = []
    for child in children(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if any(b"spawn_main" in word for word in words):
            found.append(child)
    return found


def never_sees_ctrl_c(pid: int) -> bool:
    """SIGINT is blocked for the process (SigBlk of proc(5))."""
    blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert blocked is not None
    return bool(int(blocked[1], 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_study_of_workers_is_that_of_one_process_though_one_of_them_is_killed(
    model: Path, serial: Path, tmp_path: Path
) -> None:
    study, cache = tmp_path / "study", tmp_path / "cache"
    flags = ("--jobs", "2", "--out", str(study), "--cache", str(cache), "-q")
    command = [sys.executable, "-m", "pgpack_cli.pgpack_app", "sweep", str(model), *SPACE, *flags]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while len(workers_of(process.pid)) < 2 or not lines_of(study):
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        assert process.wait(120) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert facts(study) == facts(serial)
    for name in OUTPUTS:
        assert (study / name).read_bytes() == (serial / name).read_bytes(), name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("n_times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_workers_too_and_the_study_goes_on_without_them(
    model: Path, serial: Path, tmp_path: Path, n_times: int
) -> None:
    study, cache = tmp_path / "study", tmp_path / "cache"
    flags = ("--out", str(study), "--cache", str(cache), "-q")
    command = [sys.executable, "-m", "pgpack_cli.pgpack_app", "sweep", str(model), *SPACE, "--jobs", "2", *flags]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not lines_of(study):
            assert process.poll() is None
            time.sleep(0.005)
        workers = children(process.pid)
        assert all(map(never_sees_ctrl_c, workers_of(process.pid)))
        for _ in range(n_times):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            time.sleep(0.002)
        assert process.wait(30) == EXIT_RESUMABLE
        assert process.stderr is not None
        assert process.stderr.read() == LAST_WORD.format(study)
    waited = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < waited:
        time.sleep(0.01)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    written = lines_of(study)
    assert len(Study.load(study).trials) == len(written) >= 1
    succeed(pgpack("sweep", model, *SPACE, "--jobs", 1, *flags))
    assert lines_of(study)[: len(written)] == written
    assert facts(study) == facts(serial)
