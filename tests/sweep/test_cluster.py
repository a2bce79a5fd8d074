"""Laws of sweeps on a real Dask cluster of this machine: whatever dies or joins, every trial is one row."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from pgpack.errors import StudyError, WorkersLost
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from pgpack.sweep.executors.cluster import ClusterExecutor
from pgpack.sweep.executors.here import SerialExecutor
from pgpack.sweep.executors.jobs import Job
from tests.local_cluster import ROOT, LocalCluster
from tests.sweep.test_workers import facts
from tests.sweep_bench import OpenBench, candidates, pids

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # sockets to what these tests kill
JOBS = tuple(Job(candidate) for candidate in candidates())
Rows = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What one process measures."""
    with SerialExecutor(OpenBench(tmp_path_factory.mktemp("serial"))) as executor:
        return facts([measured.trial for measured in executor.run(JOBS)])


@pytest.fixture
def bench(tmp_path: Path) -> OpenBench:
    (tmp_path / "word.txt").write_text("word")
    return OpenBench(tmp_path, word=tmp_path / "word.txt")


def sweep(executor: ClusterExecutor, events: Mapping[int, Callable[[], object]] = {}) -> list[Trial]:
    """All trials; `events`: what happens once so many rows are there."""
    trials = []
    with executor:
        for measured in executor.run(JOBS):
            trials.append(measured.trial)
            events.get(len(trials), lambda: None)()
    return trials


def joined(cluster: LocalCluster, executor: ClusterExecutor) -> int:
    """The process of one more worker, once the scheduler knows it."""
    process = cluster.start_worker()
    while len(executor.look()) < sum(worker.poll() is None for worker in cluster.workers):
        time.sleep(0.05)
    return process.pid


def test_a_worker_killed_in_a_trial_and_one_that_joins_late_change_no_row(
    cluster: LocalCluster, serial: Rows, bench: OpenBench
) -> None:
    """The one that joins does some of the trials."""
    plagued = dataclasses.replace(bench, plague="bits=4)|rans", deaths=1)
    executor = ClusterExecutor(plagued, bench.local, cluster.address)
    late: list[int] = []
    assert facts(sweep(executor, {2: lambda: late.append(joined(cluster, executor))})) == serial
    assert len(list(bench.folder.glob("death-*"))) == 1
    assert set(late) < pids(bench.folder)
    assert len(pids(bench.folder)) == 3
    assert not list(bench.folder.glob("read-*")), "workers that see the files are sent none"


def test_files_that_workers_do_not_see_are_sent_to_each_once_to_late_ones_too(
    cluster: LocalCluster, serial: Rows, bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    unseen = dataclasses.replace(bench, word=Path("word.txt"))
    said: list[str] = []
    executor = ClusterExecutor(unseen, bench.local, cluster.address, said.append)
    seen: list[Path] = []

    def join() -> None:
        joined(cluster, executor)
        while len(seen) < len(executor.workers):  # the files travel once the scheduler knows the worker
            seen[:] = cluster.folder.glob("local/*/*/pgpack-*")
            time.sleep(0.01)

    assert facts(sweep(executor, {1: join})) == serial
    assert said == ["sending 0 MB of files to the workers, which do not see them"]
    assert len(seen) == len(executor.workers) == 3
    assert not list(cluster.folder.glob("local/*/*/pgpack-*")), "they are deleted in the end"
    read = {int(path.name.split("-")[1]): path.read_text() for path in bench.folder.glob("read-*")}
    assert read == dict.fromkeys(pids(bench.folder), "word")


def test_a_worker_that_measures_something_else_is_named(cluster: LocalCluster, bench: OpenBench) -> None:
    other = ClusterExecutor(dataclasses.replace(bench, seed=1), bench.local, cluster.address)
    with other, pytest.raises(StudyError, match=r"process \d+ on .* measures something else: the checkpoint there"):
        list(other.run(JOBS))


@pytest.mark.timeout(300)
def test_a_recipe_that_kills_workers_again_and_again_is_a_failed_row(
    cluster: LocalCluster, serial: Rows, bench: OpenBench
) -> None:
    plagued = dataclasses.replace(bench, plague="bits=6)|rans", deaths=9)
    cluster.start_worker(nanny=True)
    rows = facts(sweep(ClusterExecutor(plagued, bench.local, cluster.address)))
    (lost,) = [key for key, row in rows.items() if row != serial[key]]
    assert {**rows, lost: None} == {**serial, lost: None}
    assert str(rows[lost]["error"]).startswith("the workers that measured this recipe died, most likely")
    assert len(list(bench.folder.glob("death-*"))) == 2, "as often as the scheduler's allowed-failures says, and once"


def test_a_scheduler_that_starts_anew_costs_what_was_in_flight(serial: Rows, bench: OpenBench) -> None:
    slow = dataclasses.replace(bench, pause_s=0.2)
    said: list[str] = []
    with LocalCluster(bench.folder) as cluster:

        def restart() -> None:
            cluster.kill_scheduler()
            cluster.start_scheduler()
            cluster.wait_until_scheduler_listens()
            cluster.start_worker()

        rows = facts(sweep(ClusterExecutor(slow, bench.local, cluster.address, said.append), {3: restart}))
    assert rows == serial
    assert f"the scheduler at {cluster.address} does not answer; looking for it" in said


def test_a_scheduler_that_stays_away_ends_the_sweep_as_resumable(serial: Rows, bench: OpenBench) -> None:
    with LocalCluster(bench.folder, n_workers=1) as cluster:
        cluster.wait_until_scheduler_listens()
        with ClusterExecutor(bench, bench.local, cluster.address) as executor:
            executor.patience_s = 2
            outcomes = executor.run(JOBS)
            trials = [next(outcomes).trial, next(outcomes).trial]
            cluster.kill_scheduler()
            with pytest.raises(WorkersLost, match=r"did not answer for 2 s \(.*\); all rows are kept") as caught:
                trials.extend(measured.trial for measured in outcomes)
    assert caught.value.exit_code == 5
    rows = facts(trials)
    assert rows == {key: serial[key] for key in rows}
    assert 2 <= len(rows) < len(serial)


DRIVER = """
import sys
from pathlib import Path
from pgpack.sweep.executors.cluster import ClusterExecutor
from pgpack.sweep.executors.jobs import Setting
from pgpack.study.study import recording
from pgpack.sweep.runner import jobs_of, run_jobs
from tests.sweep_bench import OpenBench, candidates, card

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    bench = OpenBench(folder, word=folder / "word.txt", pause_s=0.5)
    local = bench.local
    with recording(folder / "study", card()) as (study, journal):
        with ClusterExecutor(bench, local, sys.argv[2]) as executor:
            run_jobs(local, jobs_of(candidates()), study, journal, executor=executor)
"""


@pytest.mark.slow
def test_a_killed_driver_loses_what_was_in_flight_and_the_study_goes_on(
    cluster: LocalCluster, serial: Rows, bench: OpenBench
) -> None:
    command = [sys.executable, "-c", DRIVER, str(bench.folder), cluster.address]
    rows = bench.folder / "study" / "trials.jsonl"
    with subprocess.Popen(command, cwd=ROOT) as process:
        while not rows.exists() or rows.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    written = rows.read_bytes()
    subprocess.run(command, cwd=ROOT, check=True)
    assert rows.read_bytes().startswith(written)
    assert facts(list(Study.load(bench.folder / "study").trials)) == serial
