"""Laws of worker processes: the rows of a serial sweep, shared work done once, and deaths that cost one trial."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgpack.errors import PgpackError, StudyError
from pgpack.files import write_all
from pgpack.measure import Measurer
from pgpack.study.study import Study, recording
from pgpack.study.trial import Trial
from pgpack.sweep.executors.here import SerialExecutor
from pgpack.sweep.executors.jobs import Job, Setting
from pgpack.sweep.executors.workers import THREADS, WorkerExecutor
from pgpack.sweep.runner import jobs_of, run_jobs
from tests.sweep_bench import N_FAILED, N_TRIALS, OpenBench, candidates, card, pids

ROOT = Path(__file__).resolve().parents[2]
JOBS = tuple(Job(candidate) for candidate in candidates())
OWN_OF_A_RUN = {"created", "quantize_s", "encode_s", "decode_s", "eval_s", "peak_bytes"}


def facts(trials: list[Trial]) -> dict[str, dict[str, object]]:
    """Rows by key, without what belongs to a run."""
    rows = [{k: v for k, v in dataclasses.asdict(t).items() if k not in OWN_OF_A_RUN} for t in trials]
    assert len({row["key"] for row in rows}) == len(rows)
    return {str(row["key"]): row for row in rows}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What one process measures."""
    with SerialExecutor(OpenBench(tmp_path_factory.mktemp("serial"))) as executor:
        rows = facts([measured.trial for measured in executor.run(JOBS)])
    assert (len(rows), sum(row["status"] == "failed" for row in rows.values())) == (N_TRIALS, N_FAILED)
    return rows


def run(bench: OpenBench, n_workers: int = 2) -> list[Trial]:
    with WorkerExecutor(bench, bench.local, n_workers) as executor:
        trials = [measured.trial for measured in executor.run(JOBS)]
    assert not [pid for pid in pids(bench.folder) if is_alive(pid)]
    return trials


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_measure_what_one_process_does_and_weights_are_evaluated_once(
    serial: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    assert facts(run(OpenBench(tmp_path))) == serial
    assert len(list(tmp_path.glob("evaluated-*"))) == 4
    assert len(pids(tmp_path)) == 2, "each worker opens the checkpoint once"


def test_a_killed_worker_costs_nothing_but_time(serial: dict[str, dict[str, object]], tmp_path: Path) -> None:
    assert facts(run(OpenBench(tmp_path, plague="bits=4)|rans", deaths=1))) == serial
    assert len(pids(tmp_path)) == 3


def test_a_recipe_that_kills_two_workers_is_a_failed_row_and_the_others_are_measured(
    serial: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    rows = facts(run(OpenBench(tmp_path, plague="bits=4)|rans", deaths=9)))
    (lost,) = [key for key, row in rows.items() if row != serial[key]]
    assert {**rows, lost: None} == {**serial, lost: None}
    assert rows[lost]["status"] == "failed"
    assert str(rows[lost]["error"]).startswith("the workers that measured this recipe died, most likely killed")


@pytest.mark.slow
def test_workers_that_die_of_everything_end_the_sweep_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PgpackError, match=r"workers died on each of the first 3 recipes, most likely killed"):
        run(OpenBench(tmp_path, plague="rtn", deaths=99))


DYING_AT_START = """
import os, pathlib, signal, sys
if "--multiprocessing-fork" in sys.orig_argv:
    for number in range({deaths}):
        try:
            (pathlib.Path({folder!r}) / f"start-{{number}}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
"""


def dying_at_start(folder: Path, deaths: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first `deaths` worker processes end before they run anything."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(DYING_AT_START.format(folder=str(folder), deaths=deaths))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")]))


def test_a_worker_that_dies_while_it_starts_costs_nothing_but_time(
    serial: dict[str, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying_at_start(tmp_path, 2, monkeypatch)
    assert facts(run(OpenBench(tmp_path))) == serial
    assert len(list(tmp_path.glob("start-*"))) == 2


def test_workers_that_all_die_while_they_start_blame_no_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying_at_start(tmp_path, 99, monkeypatch)
    with pytest.raises(PgpackError, match=r"worker processes end before they begin; .*--jobs 1 measures without"):
        run(OpenBench(tmp_path))


def test_a_worker_that_dies_idle_is_replaced(serial: dict[str, dict[str, object]], tmp_path: Path) -> None:
    found, bench = list[Trial](), OpenBench(tmp_path)
    with WorkerExecutor(bench, bench.local, 1) as executor:
        for measured in executor.run(JOBS):
            if not found:
                os.kill(pids(tmp_path).pop(), signal.SIGKILL)
                time.sleep(0.2)  # until its pool knows
            found.append(measured.trial)
    assert facts(found) == serial


def test_workers_that_measure_another_checkpoint_are_refused(tmp_path: Path) -> None:
    executor = WorkerExecutor(OpenBench(tmp_path, seed=1), OpenBench(tmp_path).local, 1)
    with (
        executor,
        pytest.raises(StudyError, match=r"process \d+ on .* the checkpoint there differs"),
    ):
        list(executor.run(JOBS))


def test_a_worker_that_cannot_open_the_files_says_why(tmp_path: Path) -> None:
    local = OpenBench(tmp_path).local
    executor = WorkerExecutor(Missing(), local, 1)
    with executor, pytest.raises(StudyError, match="no such checkpoint"):
        list(executor.run(JOBS))


class Missing:
    def __call__(self, setting: Setting) -> Measurer:
        raise StudyError("no such checkpoint")


def test_a_source_of_jobs_sees_what_came_out_before_it_is_asked_for_more(tmp_path: Path) -> None:
    bench, came_out, drawn = OpenBench(tmp_path), list[Job](), list[Job]()

    def source() -> Iterator[Job]:
        for job in JOBS[:6]:
            assert len(drawn) - len(came_out) < 2, "as many as there are workers, no more"
            drawn.append(job)
            yield job

    with WorkerExecutor(bench, bench.local, 2) as executor:
        for measured in executor.run(source()):
            came_out.append(measured.job)
    assert sorted(came_out, key=JOBS.index) == drawn == list(JOBS[:6])


def test_workers_share_the_cores_and_the_driver_keeps_its_own(tmp_path: Path) -> None:
    before = dict(os.environ)
    with WorkerExecutor(Threads(tmp_path), OpenBench(tmp_path).local, 1, threads=3, gpus=("7",)) as executor:
        list(executor.run(JOBS[:1]))
    assert dict(os.environ) == before
    told = dict(line.split("=") for line in (tmp_path / "environment").read_text().split())
    limit = before.get("OMP_NUM_THREADS", "")
    assert told["OMP_NUM_THREADS"] == (limit if limit in ("1", "2") else "3")
    assert told["CUDA_VISIBLE_DEVICES"] == "7"


@dataclasses.dataclass(frozen=True)
class Threads(OpenBench):
    """Writes down what libraries are told."""

    def __call__(self, setting: Setting) -> Measurer:
        names = (*THREADS, "CUDA_VISIBLE_DEVICES")
        (self.folder / "environment").write_text("\n".join(f"{name}={os.environ[name]}" for name in names))
        return super().__call__(setting)


def test_a_disk_without_room_for_a_row_ends_sweep_and_workers_and_keeps_the_rows(
    serial: dict[str, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = OpenBench(tmp_path)
    local = bench.local

    def go_on() -> None:
        with recording(tmp_path / "study", card()) as (study, journal), WorkerExecutor(bench, local, 2) as executor:
            run_jobs(local, jobs_of(candidates()), study, journal, executor=executor)

    def full(fd: int, data: bytes) -> None:
        if b"bits=5" in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr("pgpack.study.journal.write_all", full)
        with pytest.raises(StudyError, match="No space left on device; the trials on disk are intact"):
            go_on()
    assert not [pid for pid in pids(tmp_path) if is_alive(pid)]
    before = (tmp_path / "study" / "trials.jsonl").read_bytes()
    assert before.endswith(b"\n")
    go_on()
    assert (tmp_path / "study" / "trials.jsonl").read_bytes().startswith(before)
    assert facts(list(Study.load(tmp_path / "study").trials)) == serial


def test_damaged_entries_of_a_shared_cache_are_computed_again(
    serial: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    bench = OpenBench(tmp_path)
    run(bench)
    entries = [path for path in tmp_path.glob("cache/*/??/*") if path.is_file()]
    assert len(entries) >= 12
    for path in entries:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    assert facts(run(bench)) == serial
    assert len(list(tmp_path.glob("evaluated-*"))) == 2 * 4


DRIVER = """
import sys
from pathlib import Path
from pgpack.sweep.executors.jobs import Job, Setting
from pgpack.study.study import recording
from pgpack.sweep.runner import jobs_of, run_jobs
from pgpack.sweep.executors.workers import WorkerExecutor
from tests.sweep_bench import OpenBench, candidates, card

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    bench = OpenBench(folder, pause_s=float(sys.argv[2]))
    local = bench.local
    with recording(folder / "study", card()) as (study, journal), WorkerExecutor(bench, local, 2) as executor:
        run_jobs(local, jobs_of(candidates()), study, journal, executor=executor)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_workers_end_with_their_driver_and_the_study_goes_on(
    serial: dict[str, dict[str, object]], tmp_path: Path, number: int
) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)]
    rows = tmp_path / "study" / "trials.jsonl"
    with subprocess.Popen([*command, "0.6"], env=environment, stderr=subprocess.DEVNULL) as process:
        while not rows.exists() or rows.read_bytes().count(b"\n") < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        process.wait(20)
    written = rows.read_bytes().split(b"\n")[:-1]
    waited = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids(tmp_path)) and time.monotonic() < waited:
        time.sleep(0.02)
    assert not [pid for pid in pids(tmp_path) if is_alive(pid)]
    assert 2 <= len(written) < N_TRIALS
    subprocess.run([*command, "0"], env=environment, check=True)
    assert rows.read_bytes().split(b"\n")[: len(written)] == written
    assert facts(list(Study.load(tmp_path / "study").trials)) == serial
