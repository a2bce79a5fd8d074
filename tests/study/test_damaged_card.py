"""A card of a study in which one byte is another is never read as data; a run of the same study makes it again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pgpack.errors import StudyError
from pgpack.report.intact import check_study
from pgpack.study.card import CARD_SINCE, StudyCheckpoint, StudyMeta
from pgpack.study.study import Study, recording
from tests.study.test_journal import META, a_trial

OWN = {"checkpoint_digest": META.checkpoint_digest, "evaluator_digest": META.evaluator_digest}


def begun(folder: Path, **changes: object) -> bytes:
    """A study of two trials; its card as written."""
    with recording(folder, dataclasses.replace(META, block_bytes=(3, 4))) as (_, journal):
        for number in (1, 2):
            journal.append(a_trial(number, **{**OWN, **changes}))
    return (folder / "study.json").read_bytes()


def test_no_changed_byte_of_a_card_is_read_as_data() -> None:
    other = StudyCheckpoint(checkpoint="second", checkpoint_digest="d" * 64, fp32_bpb=1.5)
    card = dataclasses.replace(META, others=(other,), metric="kl", split_digest="s", model="{}", block_bytes=(1,))
    data = card.to_json().encode()
    for at in range(len(data)):
        for bit in (1, 4, 0x20):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            try:
                assert StudyMeta.from_json(changed.decode()) == card, (at, bit)
                assert at == len(data) - 1, "a last line end that is another white space"
            except (StudyError, UnicodeDecodeError):
                continue


@pytest.mark.parametrize("version", range(1, 7))
def test_cards_of_older_programs_open(version: int) -> None:
    row = {**json.loads(META.to_json()), "v": version}
    old = {name: value for name, value in row.items() if CARD_SINCE.get(name, 1) <= version}
    assert StudyMeta.from_json(json.dumps(old, indent=2) + "\n") == META


@pytest.mark.parametrize("damage", ["changed", "cut", "empty", "gone"])
def test_a_damaged_card_is_named_and_made_again_by_the_same_run(damage: str, tmp_path: Path) -> None:
    whole = begun(tmp_path)
    path = tmp_path / "study.json"
    damaged = {"changed": whole.replace(b"1.2", b"1.3"), "cut": whole[:99], "empty": b""}
    path.unlink() if damage == "gone" else path.write_bytes(damaged[damage])
    states = {state.name: state for state in check_study(tmp_path)}
    assert not states["study.json"].ok
    assert "the same sweep makes it again" in states["study.json"].detail
    with pytest.raises(StudyError, match=r"study\.json"):
        Study.load(tmp_path)
    now = dataclasses.replace(META, block_bytes=(3, 4), created="2030-01-01T00:00:00+00:00")
    with recording(tmp_path, now) as (study, journal):
        assert len(study.trials) == 2
        assert bool(journal.found.sentences()) == (damage != "gone")
    assert json.loads(path.read_bytes())["created"] == a_trial(1).created
    assert Study.load(tmp_path).meta == dataclasses.replace(now, created=a_trial(1).created)


@pytest.mark.parametrize("what", ["checkpoint_digest", "evaluator_digest"])
def test_trials_of_something_else_are_not_given_another_card(what: str, tmp_path: Path) -> None:
    whole = begun(tmp_path, **{what: "f" * 64})
    (tmp_path / "study.json").unlink()
    rows = (tmp_path / "trials.jsonl").read_bytes()
    name = what.removesuffix("_digest")
    with pytest.raises(StudyError, match=f"lost its study.json, and holds trials of another {name}"):  # noqa: SIM117
        with recording(tmp_path, META):
            pass
    assert not (tmp_path / "study.json").exists()
    assert (tmp_path / "trials.jsonl").read_bytes() == rows
    assert whole
