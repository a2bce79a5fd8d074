"""`pgpack sweep --search`: what it measures, that it goes on, and what it says before it does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from pgpack.study.study import Study
from tests.commands.test_kill import lines_of
from tests.commands.workshop import pgpack, succeed

SPACE = ("--recipe", "role:control=cast; tok*=rtn(bits={3:8})|rans; *=rtn(bits={3:8})|{zlib,rans}")
SEARCHES = ["random", "surrogate", "halving"]
if importlib.util.find_spec("optuna") is not None:
    SEARCHES += ["tpe", "nsga2"]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures and no page: they take longer than a small sweep."""
    monkeypatch.setattr("pgpack.bench.sweeping.write_outputs", lambda study, breakdown: ())


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_measures_what_it_was_asked_to_and_a_second_run_nothing(
    model: Path, tmp_path: Path, name: str
) -> None:
    sweep = ("sweep", model, *SPACE, "--search", name, "--trials", 12, "--seed", 3, "--jobs", 1, "--out", tmp_path)
    done = succeed(pgpack(*sweep, "--json", "-q")).json
    study = Study.load(tmp_path)
    assert study.meta.search == f"--search {name} --trials 12 --seed 3"
    first = study.trials if name != "halving" else study.partial
    assert len({trial.recipe_digest for trial in first}) == 12
    assert len(study.trials) + len(study.partial) == done["n_new"] >= 12
    written = lines_of(tmp_path)
    again = succeed(pgpack(*sweep, "--json", "-q")).json
    assert again["n_new"] == 0
    assert again["best"] == done["best"]
    assert lines_of(tmp_path) == written
    account = succeed(pgpack(*sweep, "--resume", "--dry-run")).out
    assert f"{done['n_new']} recipes, {done['n_new']} of them measured before, 0 to measure" in account


def test_halving_evaluates_most_recipes_on_a_part_of_the_text(model: Path, tmp_path: Path) -> None:
    flags = ("--search", "halving", "--trials", 18, "--jobs", 1, "--out", tmp_path, "-q")
    done = succeed(pgpack("sweep", model, *SPACE, *flags, "--json")).json
    study = Study.load(tmp_path)
    shares = [trial.text_share for trial in study.partial]
    assert set(shares) <= {1 / 16, 1 / 4}
    assert len(study.trials) == 2 if 1 / 16 in shares else 6
    assert done["n_partial"] == len(shares) >= 18
    whole = {trial.evaluator_digest for trial in study.trials}
    assert whole == {study.meta.evaluator_digest}
    assert not whole & {trial.evaluator_digest for trial in study.partial}
    full = {trial.recipe for trial in study.trials}
    assert {row["recipe"] for row in done["frontier"]} <= full, "losses of a part are on no frontier"


def test_a_search_that_was_cut_goes_on_as_if_it_had_not_been(model: Path, tmp_path: Path) -> None:
    sweep = ("sweep", model, *SPACE, "--search", "surrogate", "--trials", 14, "--jobs", 1, "-q", "--out")
    succeed(pgpack(*sweep, tmp_path / "whole"))
    succeed(pgpack(*sweep, tmp_path / "cut"))
    journal = tmp_path / "cut" / "trials.jsonl"
    journal.write_bytes(b"".join(line + b"\n" for line in lines_of(tmp_path / "cut")[:9]))
    succeed(pgpack(*sweep, tmp_path / "cut"))
    recipes = [[json.loads(line)["recipe"] for line in lines_of(tmp_path / name)] for name in ("whole", "cut")]
    assert recipes[0] == recipes[1]


def test_workers_search_as_one_process_does(model: Path, tmp_path: Path) -> None:
    sweep = ("sweep", model, *SPACE, "--search", "surrogate", "--trials", 10)
    succeed(pgpack(*sweep, "--jobs", 1, "--out", tmp_path / "one", "-q"))
    said = succeed(pgpack(*sweep, "--jobs", 2, "--out", tmp_path / "two")).err
    assert "measuring in 2 worker processes" in said
    found = [{t.recipe: (t.n_bytes, t.bpb) for t in Study.load(tmp_path / name).trials} for name in ("one", "two")]
    assert found[0] == found[1]


def test_failed_recipes_of_a_search_are_measured_again_on_request(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = ("sweep", model, *SPACE, "--search", "random", "--trials", 8, "--jobs", 1, "--out", tmp_path, "-q")
    with monkeypatch.context() as patch:
        patch.setattr("pgpack.quantizers.uniform.Rtn.quantize", _no_memory)
        failed = pgpack(*sweep, "--json").json
    assert failed["n_failed"] == failed["n_new"] == 8
    again = pgpack(*sweep, "--json")
    assert (again.code, again.json["n_new"]) == (1, 0)
    assert "none of the 8 trials succeeded" in again.err
    mended = succeed(pgpack(*sweep, "--retry-failed", "--json")).json
    assert (mended["n_new"], mended["n_failed"]) == (8, 0)


def _no_memory(*args: object, **kwargs: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("name", [*SEARCHES, "ladder"])
def test_a_dry_run_says_what_a_search_begins_with(model: Path, tmp_path: Path, name: str) -> None:
    space = () if name == "ladder" else SPACE
    told = pgpack("sweep", model, *space, "--search", name, "--out", tmp_path / "out", "--dry-run")
    assert f"--search {name} --trials 40 --seed 0: at most " in succeed(told).out
    as_json = succeed(pgpack("sweep", model, *space, "--search", name, "--out", tmp_path, "--dry-run", "--json")).json
    assert as_json["n_points"] == (None if name == "ladder" else 72)
    assert 0 < len(as_json["recipes"]) <= as_json["n_trials"]
    assert not (tmp_path / "out").exists()
