"""`pgpack sweep --check` names what is damaged of a study, and the same sweep makes it again, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.workshop import pgpack, succeed

SPACE = ("--recipe", "@calib=tokens(count=512); role:control=cast; *=gptq(bits={4,5})|rans", "--max-tokens", 512)
FLAGS = ("--jobs", 1, "--no-cache", "-q")


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study."""
    out = tmp_path_factory.mktemp("check") / "study"
    succeed(pgpack("sweep", model, *SPACE, "--out", out, *FLAGS))
    return out


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    told = data.find(b'"weights_digest": "')  # what else a manifest says no other file repeats
    data[told + 30 if told >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "trials.lock"}


def test_a_finished_study_is_whole(whole: Path) -> None:
    checked = pgpack("sweep", "--check", whole)
    assert (checked.code, checked.err) == (0, "")
    assert all(line.startswith("ok  ") for line in checked.out.splitlines())
    for name in contents(whole):
        assert name in checked.out or name == "best.pgpack.json"


NAMES = (
    "best.pgpack",
    "best.pgpack.json",
    "anatomy.json",
    "frontier.csv",
    "frontier.svg",
    "frontier.png",
    "report.html",
)


def failing(out: Path) -> list[str]:
    """The names that `--check` finds fault with."""
    checked = pgpack("sweep", "--check", out)
    failed = [line for line in checked.out.splitlines() if line.startswith("FAIL")]
    assert all("the same sweep makes it again" in line for line in failed)
    assert checked.code == (4 if failed else 0)
    return [line.split()[1] for line in failed]


@pytest.mark.parametrize("damage", [gone, cut, flipped])
def test_each_damaged_file_is_named(damage: Callable[[Path], None], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    calibration = next(out.glob("calibration-*")).name
    together = [name for name in (*NAMES, calibration) if not name.endswith(".json")]
    if damage is gone:
        together.remove(calibration)  # a study may be kept without its calibrations
    manifest = (out / "best.pgpack.json").read_bytes()
    damage(out / "best.pgpack.json")
    assert "best.pgpack" in failing(out)
    (out / "best.pgpack.json").write_bytes(manifest)
    for name in together:
        damage(out / name)
    assert set(failing(out)) >= set(together)


@pytest.mark.parametrize("damage", [gone, cut, flipped])
def test_the_same_sweep_makes_again_what_is_damaged(
    damage: Callable[[Path], None], model: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    for name in (*NAMES, next(out.glob("calibration-*")).name):
        damage(out / name)
    succeed(pgpack("sweep", model, *SPACE, "--out", out, *FLAGS))
    assert contents(out) == contents(whole)
    assert failing(out) == []


def test_a_damaged_row_is_named_never_read_as_data_and_measured_again(
    model: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    journal = out / "trials.jsonl"
    first, second = journal.read_bytes().splitlines(keepends=True)
    at = first.index(b'"bpb": ') + 8
    changed = first[:at] + (b"3" if first[at : at + 1] != b"3" else b"4") + first[at + 1 :]
    journal.write_bytes(changed + second)
    checked = pgpack("sweep", "--check", out)
    assert checked.code == 4
    assert "trials.jsonl line 1: trial row is damaged" in checked.out
    assert "the same sweep makes it again" in checked.out
    refused = pgpack("frontier", out)
    assert refused.code == 1
    assert "trials.jsonl line 1: trial row is damaged" in refused.err
    sweep = ("sweep", model, *SPACE, "--out", out, "--jobs", 1, "--no-cache")
    said = "1 damaged line of trials.jsonl put aside in trials.damaged; what was measured there counts as new"
    planned = succeed(pgpack(*sweep, "--resume", "--dry-run"))
    assert said in planned.out + planned.err
    assert journal.read_bytes() == changed + second
    assert said in succeed(pgpack(*sweep)).err
    assert (out / "trials.damaged").read_bytes() == changed
    assert journal.read_bytes().startswith(second)
    again = {"trials.jsonl", "tensors.jsonl", "trials.damaged"}  # hold a row more, or its times
    assert {name: data for name, data in contents(out).items() if name not in again} == {
        name: data for name, data in contents(whole).items() if name not in again
    }
    assert failing(out) == []


def test_damaged_bytes_of_tensors_are_named_and_measured_again(model: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    kept = out / "tensors.jsonl"
    names, first, second = kept.read_bytes().splitlines(keepends=True)
    at = first.index(b'"n_bytes": [') + 12
    changed = first[:at] + (b"3" if first[at : at + 1] != b"3" else b"4") + first[at + 1 :]
    kept.write_bytes(names + changed + second)
    checked = pgpack("sweep", "--check", out)
    assert checked.code == 4
    assert "tensors.jsonl line 2: no row of bytes (its checksum" in checked.out
    assert "the same sweep makes it again" in checked.out
    sweep = ("sweep", model, *SPACE, "--out", out, "--jobs", 1, "--no-cache")
    said = "1 damaged line of tensors.jsonl: 1 trial without bytes of tensors, to measure again"
    planned = succeed(pgpack(*sweep, "--resume", "--dry-run"))
    assert said in planned.out + planned.err
    assert "1 to measure" in planned.out + planned.err
    assert said in succeed(pgpack(*sweep)).err
    assert kept.read_bytes() == names + second + names + first
    assert len((out / "trials.jsonl").read_bytes().splitlines()) == 3
    assert failing(out) == []
    assert "to measure again" not in succeed(pgpack(*sweep)).err


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    refused = pgpack("sweep", "--check", tmp_path)
    assert refused.code == 1
    assert "holds no study.json" in refused.err


@pytest.mark.parametrize("damage", [gone, cut, flipped])
def test_a_damaged_card_is_named_and_the_same_sweep_makes_it_again(
    damage: Callable[[Path], None], model: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    damage(out / "study.json")
    assert failing(out) == ["study.json"]
    sweep = ("sweep", model, *SPACE, "--out", out, *FLAGS)
    refused = pgpack(*sweep, "--resume")
    assert (refused.code != 0, "study" in refused.err) == (True, True)
    assert pgpack("sweep", model, "--recipe", "*=rtn(bits=4)|rans", "--out", out, "--max-tokens", 256).code != 0
    succeed(pgpack(*sweep))
    assert failing(out) == []
    date = {"study.json", "report.html"}
    assert {name: data for name, data in contents(out).items() if name not in date} == {
        name: data for name, data in contents(whole).items() if name not in date
    }


def test_a_page_without_the_best_artifact_s_tensors_is_told(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(whole, out)
    assert "damaged" not in succeed(pgpack("report", out)).err
    cut(out / "best.pgpack")
    (out / "anatomy.json").unlink()
    assert "best.pgpack is damaged" in succeed(pgpack("report", out)).err
