"""The bench of faults finds what it looks for: a run that is struck is struck, and a loss is called one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.bench.fault_cases import SCENARIOS, Scenario, prepare
from tests.bench.fault_layer import Layer
from tests.bench.faults import Bench, files_of, page, run, spread

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def bench(scenario: Scenario, folder: Path) -> Bench:
    found = Bench(scenario, folder / "template", folder / "work")
    prepare(scenario, found.template, partial(run, layer=Layer("/nowhere")))
    return found


def test_points_are_spread_over_all_deeds() -> None:
    assert spread(3, 5) == [0, 1, 2]
    assert spread(100, 3) == [0, 50, 99]


def test_names_of_scenarios_are_their_own() -> None:
    assert len(BY_NAME) == len(SCENARIOS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_command_loses_nothing_when_it_is_killed_or_the_disk_is_full(tmp_path: Path) -> None:
    adapter = bench(BY_NAME["init-adapter"], tmp_path)
    wanted, ended = adapter.undisturbed()
    assert set(wanted) == {"adapter.py", "docs.txt"}
    assert ended.deeds == {"mkdir": 1, "create": 1, "truncate": 1, "write": 1, "fsync": 2, "rename": 1}
    for at in range(sum(ended.deeds.values())):
        assert adapter.struck("kill", at, wanted) == []
    for at in range(3):
        assert adapter.struck("full", at, wanted) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_left_or_torn_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer of files under their own names, as it must not be."""
    monkeypatch.setattr("pgpack_cli.verbs.init_adapter.replace_file", lambda path, data: path.write_bytes(data))
    adapter = bench(BY_NAME["init-adapter"], tmp_path)
    wanted, ended = adapter.undisturbed()
    at_write = ["mkdir", "create", "write"].index("write")
    assert ended.deeds == {"mkdir": 1, "create": 1, "write": 1}
    assert adapter.struck("kill", at_write, wanted) != []
    assert adapter.struck("full", at_write, wanted) != []


def test_rows_before_a_torn_one_are_kept_and_a_changed_one_is_torn(tmp_path: Path) -> None:
    struck = Bench(BY_NAME["sweep"], tmp_path / "template", tmp_path)
    rows = b'{"key": "a", "created": "now"}\n{"key": "b"}\n'
    path = tmp_path / "study" / "trials.jsonl"
    path.parent.mkdir()
    path.write_bytes(rows)
    before = files_of(tmp_path)
    for now, lost in ((rows + b'{"key": "c"', False), (rows.replace(b"b", b"x") + b"{", True), (rows[:-3], True)):
        path.write_bytes(now)
        assert bool(struck._kept(before, before)) is lost


def test_the_page_counts_losses() -> None:
    row = {"scenario": "pack", "deeds": {"write": 3}, "kill": 3, "full": 2, "losses": ["kill at 1: m is torn"]}
    text = page([row])
    assert "5 runs that were struck, 1 losses" in text
    assert "* pack: kill at 1: m is torn" in text
