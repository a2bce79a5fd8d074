"""Laws of a study that is begun and gone on with: its card, whom it refuses, which row counts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest

from pgpack.errors import StudyError
from pgpack.files import with_checksum
from pgpack.study.card import StudyMeta
from pgpack.study.study import Study, recording
from tests.study.test_journal import META, a_trial


def test_the_card_and_its_text_are_inverses() -> None:
    assert StudyMeta.from_json(META.to_json()) == META
    with pytest.raises(StudyError, match="unknown keys: colour"):
        StudyMeta.from_json(META.to_json().replace('"v": 7', '"v": 7, "colour": 2'))
    with pytest.raises(StudyError, match="its checksum is that of another text"):
        StudyMeta.from_json(META.to_json().replace("16000000", "1.5"))
    row = {name: value for name, value in json.loads(META.to_json()).items() if name != "crc32"}
    with pytest.raises(StudyError, match=r"budget is 1\.5; expected int \| None"):
        StudyMeta.from_json(with_checksum(json.dumps({**row, "budget": 1.5})))


def test_a_study_that_is_continued_holds_its_rows_and_its_first_date(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "study"
    with recording(home, META) as (study, journal):
        assert study == Study(home, META, ())
        journal.append(a_trial(1))
    later = dataclasses.replace(META, created="2027-01-01T00:00:00+00:00", budget=8_000_000, fp32_bpb=None)
    with recording(home, later) as (study, _):
        assert study.trials == (a_trial(1),)
        assert study.finished_keys == {"key1"}
        assert study.meta == dataclasses.replace(META, budget=8_000_000)
    assert Study.load(home) == study


@pytest.mark.parametrize("what", ["checkpoint", "evaluator"])
def test_another_checkpoint_or_evaluator_is_refused_with_both_digests(tmp_path: Path, what: str) -> None:
    with recording(tmp_path, META):
        pass
    other = dataclasses.replace(META, **{f"{what}_digest": "f" * 64})
    with (
        pytest.raises(StudyError, match=f"study of {what} {what[0] * 8}.* has {what} {'f' * 8}"),
        recording(tmp_path, other),
    ):
        pass
    assert Study.load(tmp_path).meta == META


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"checkpoint_digest": "f" * 64},
            r"model\.safetensors has changed since 2026-01-02.*the new weights another folder as -o",
        ),
        (
            {"checkpoint_digest": "f" * 64, "checkpoint": "b.pt"},
            r"began with model\.safetensors, this run has b\.pt; give that one or another folder as -o",
        ),
        (
            {"evaluator_digest": "f" * 64, "data_flags": "--max-tokens 99"},
            r"began with --val v, this run has --max-tokens 99; repeat the flags that it began with or give another",
        ),
        (
            {"evaluator_digest": "f" * 64},
            r"the flags are the same, so the text, the tokenizer .* changed; bring them back",
        ),
        ({"evaluator_digest": "f" * 64, "pgpack_version": "9"}, r"changed \(pgpack was 0\.1\.0\)"),
    ],
)
def test_the_refusal_says_what_differs_and_what_to_do(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    card = dataclasses.replace(META, data_flags="--val v")
    with recording(tmp_path, card):
        pass
    with pytest.raises(StudyError, match=said), recording(tmp_path, dataclasses.replace(card, **changes)):  # type: ignore[arg-type]
        pass


def test_a_study_of_another_model_blames_the_model_though_its_text_is_another_too(tmp_path: Path) -> None:
    with recording(tmp_path, META):
        pass
    other = dataclasses.replace(META, checkpoint="b.pt", checkpoint_digest="f" * 64, evaluator_digest="e" * 64)
    with (
        pytest.raises(StudyError, match=r"this run has b\.pt; give that one or another folder as -o"),
        recording(tmp_path, other),
    ):
        pass


def test_a_folder_of_something_else_is_no_place_for_a_study(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / ".hidden").write_text("")
    (folder / "calibration-0123.safetensors").write_text("")  # what a run leaves that was stopped early
    (folder / "notes.txt").write_text("")
    with recording(folder, META):
        pass
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    with (
        pytest.raises(StudyError, match=r"is no study and holds thesis\.tex; give a new or an empty folder"),
        recording(other, META),
    ):
        pass
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


def test_what_takes_long_is_measured_only_for_the_right_study_and_only_once(tmp_path: Path) -> None:
    measured = []

    def complete(card: StudyMeta) -> StudyMeta:
        measured.append(card.fp32_bpb)
        return dataclasses.replace(card, fp32_bpb=1.5)

    fresh = dataclasses.replace(META, fp32_bpb=None)
    with recording(tmp_path, fresh, complete) as (study, _):
        assert study.meta.fp32_bpb == 1.5
        with pytest.raises(StudyError, match="another process"), recording(tmp_path, fresh, complete):
            pass
    other = dataclasses.replace(fresh, checkpoint_digest="f" * 64)
    with pytest.raises(StudyError, match="is a study of"), recording(tmp_path, other, complete):
        pass
    assert measured == [None]
    with recording(tmp_path, fresh, complete):
        pass
    assert measured == [None, 1.5]


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path: Path) -> None:
    dates = ["2026-05-05T00:00:00+00:00", "1970-01-01T00:00:00+00:00", "2026-05-04T00:00:00+00:00"]
    rows = tuple(a_trial(n, created=date) for n, date in enumerate(dates, start=1))
    for row in rows:  # every run of its own, the second one at the dawn of time
        with recording(tmp_path, dataclasses.replace(META, created=row.created)) as (study, journal):
            assert study.finished_keys == {r.key for r in rows[: rows.index(row)]}
            journal.append(row)
    assert Study.load(tmp_path).trials == rows
    assert Study.load(tmp_path).meta.created == dates[0]


def test_the_lock_is_released_when_a_study_is_refused(tmp_path: Path) -> None:
    with recording(tmp_path, META):
        pass
    other = dataclasses.replace(META, checkpoint_digest="f" * 64)
    with contextlib.suppress(StudyError), recording(tmp_path, other):
        pass
    with recording(tmp_path, META) as (_, journal):
        journal.append(a_trial(1))


def test_the_latest_row_of_a_key_counts_once_in_its_first_place(tmp_path: Path) -> None:
    failed = a_trial(1, status="failed", error="no memory", n_bytes=None, bpb=None)
    with recording(tmp_path, META) as (_, journal):
        for row in (failed, a_trial(2), a_trial(1)):
            journal.append(row)
    assert Study.load(tmp_path).trials == (a_trial(1), a_trial(2))


def test_a_directory_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=f"{tmp_path} holds no study.json"):
        Study.load(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(StudyError, match=r"study\.json: study card is not JSON"):
        Study.load(tmp_path)
