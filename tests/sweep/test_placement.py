"""How many workers a sweep gets when nobody says, and which GPU each of them sees."""

from __future__ import annotations

import pytest

from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.spaces import Candidate
from pgpack.sweep.executors.jobs import Job
from pgpack.sweep.executors.placement import Work, gpus, n_workers

JOBS = [
    Job(Candidate(parse_recipe(f"*=rtn(bits={bits})|{coding}")))
    for bits in range(2, 8)
    for coding in ("zlib", "rans")
]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen cores and plenty of memory."""
    monkeypatch.setattr("pgpack.sweep.executors.machine.usable_cores", lambda: 16)
    monkeypatch.setattr("pgpack.sweep.executors.machine.free_bytes", lambda: 10**12)


def test_without_a_word_there_are_as_many_as_have_work_of_their_own() -> None:
    assert n_workers(None, Work.of(JOBS), 36_000_000) == 6, "quantizations"
    assert n_workers(None, Work.of(JOBS[:2]), 36_000_000) == 1
    assert n_workers(None, Work.of(JOBS), 5_000_000) == 2, "each is busy for longer than it needs to begin"
    assert n_workers(None, Work.of(JOBS), 20_000) == 1
    assert n_workers(None, Work.of([]), 36_000_000) == 1


def test_a_number_is_taken_as_it_is_but_for_workers_without_a_trial() -> None:
    assert n_workers(9, Work.of(JOBS), 20_000) == 9
    assert n_workers(99, Work.of(JOBS), 20_000) == len(JOBS)
    assert n_workers(1, Work.of(JOBS), 36_000_000) == 1


def test_a_gpu_has_one_worker_unless_more_are_asked_for() -> None:
    assert n_workers(None, Work.of(JOBS), 36_000_000, n_gpus=2) == 2
    assert n_workers(4, Work.of(JOBS), 36_000_000, n_gpus=2) == 4


def test_memory_bounds_them_before_they_are_killed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpack.sweep.executors.machine.free_bytes", lambda: 5 * 10**9)
    assert n_workers(None, Work.of(JOBS), 36_000_000) == 2


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda", "3,5", ("3", "5")),
        ("cuda:1", "3,5", ()),
        ("cpu", "3,5", ()),
        (None, "3,5", ()),
        ("cuda", "", ("0", "1")),
    ],
)
def test_workers_share_the_gpus_that_the_command_sees(
    device: str | None, visible: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus(device) == expected
