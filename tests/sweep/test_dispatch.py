"""Laws of handing out jobs: each once, shared work in one place, nothing drawn ahead, nothing lost with a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.spaces import Candidate
from pgpack.sweep.executors.dispatch import Dispatcher, n_batches, shared_work
from pgpack.sweep.executors.jobs import Job, Setting
from pgpack.sweep.executors.machine import fitting_workers, free_bytes, paying_workers, usable_cores

BITS, CODINGS = (2, 3, 4, 5), ("zlib", "rans", "bitpack", "brotli")
JOBS = [Job(Candidate(parse_recipe(f"*=rtn(bits={bits})|{coding}"))) for bits in BITS for coding in CODINGS]


def test_jobs_share_work_when_only_their_coding_or_the_text_differs() -> None:
    assert n_batches(JOBS) == len(BITS)
    assert shared_work(JOBS[0]) == shared_work(Job(JOBS[1].candidate, Setting(text_share=0.5)))
    assert shared_work(JOBS[0]) != shared_work(Job(JOBS[0].candidate, Setting(checkpoint=1)))


@hypothesis.given(
    n_workers=st.integers(1, 6),
    order=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["finishes", "finishes", "finishes", "dies"]))),
    jobs=st.lists(st.sampled_from(JOBS), unique=True),
)
def test_every_job_is_finished_once_and_no_two_workers_begin_the_same_work(
    n_workers: int, order: list[tuple[int, str]], jobs: list[Job]
) -> None:
    dispatcher = Dispatcher(jobs)
    busy: dict[int, Job] = {}
    finished: list[Job] = []
    for turn in range(1000):
        for worker in range(n_workers):
            if worker not in busy and (job := dispatcher.take(worker)) is not None:
                busy[worker] = job
        begun = {shared_work(job) for job in finished}
        cold = [shared_work(job) for job in busy.values() if shared_work(job) not in begun]
        assert len(cold) == len(set(cold))
        if not busy:
            break
        choice, fate = order[turn] if turn < len(order) else (0, "finishes")
        worker = sorted(busy)[choice % len(busy)]
        job = busy.pop(worker)
        if fate == "dies":
            dispatcher.lost(job)
        else:
            dispatcher.finished(job)
            finished.append(job)
    assert sorted(finished, key=JOBS.index) == sorted(jobs, key=JOBS.index)


def test_a_worker_keeps_its_batch_and_helps_with_the_longest_when_nothing_is_unbegun() -> None:
    dispatcher = Dispatcher(JOBS[:7])  # four of one quantization, three of another
    first, second = dispatcher.take("a"), dispatcher.take("b")
    assert (first, second) == (JOBS[0], JOBS[4])
    assert dispatcher.take("c") is None, "both are quantizing what the others will need"
    dispatcher.finished(JOBS[4])
    assert dispatcher.take("c") == JOBS[5]
    dispatcher.finished(JOBS[0])
    assert [dispatcher.take(worker) for worker in "cab"] == [JOBS[1], JOBS[2], JOBS[6]]


def test_batches_of_a_worker_that_is_gone_go_to_others() -> None:
    dispatcher = Dispatcher(JOBS[:4])
    assert dispatcher.take("a") == JOBS[0]
    dispatcher.lost(JOBS[0])
    dispatcher.gone("a")
    assert [dispatcher.take("b") for _ in range(5)] == [*JOBS[:4], None]


def test_an_iterator_is_drawn_from_only_when_a_worker_asks() -> None:
    drawn: list[Job] = []

    def source() -> Iterator[Job]:
        for job in JOBS:
            drawn.append(job)
            yield job

    dispatcher = Dispatcher(source())
    assert drawn == []
    assert [dispatcher.take(worker) for worker in range(3)] == drawn == JOBS[:3]
    dispatcher.lost(JOBS[1])
    assert dispatcher.take(1) == JOBS[1]
    assert drawn == JOBS[:3]


@pytest.mark.parametrize(
    ("cpu_max", "cores"), [("max 100000", None), ("150000 100000", 1), ("50000 100000", 1), ("no numbers", None)]
)
def test_the_quota_of_a_container_bounds_the_cores(tmp_path: Path, cpu_max: str, cores: int | None) -> None:
    whole = usable_cores(tmp_path)
    assert whole >= 1
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert usable_cores(tmp_path) == (whole if cores is None else cores)


def test_workers_fit_cores_and_memory() -> None:
    assert fitting_workers(144_000_000, 16, None) == 16
    assert fitting_workers(144_000_000, 16, 8 * 10**9) == 3
    assert fitting_workers(144_000_000, 16, 0) == 1
    assert fitting_workers(10**6, 2, 64 * 10**9) == 2


def test_small_work_is_not_worth_a_worker() -> None:
    assert paying_workers(20_000, 100) == 1
    assert paying_workers(36_000_000, 5) == 7


def test_the_limit_of_a_container_bounds_the_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert free_bytes(tmp_path) == 600
