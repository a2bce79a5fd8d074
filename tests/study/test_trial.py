"""Laws of the trial row: text and value are inverses, and nothing but a trial row is read as one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.errors import StudyError
from pgpack.study import trial as trial_module
from pgpack.study.trial import SCHEMA_VERSION, Trial, timestamp, trial_key

REQUIRED = {
    "key": "k",
    "recipe": "*=rtn(bits=6)|raw",
    "recipe_digest": "d",
    "checkpoint_digest": "c",
    "evaluator_digest": "e",
    "created": "2026-01-02T03:04:05+00:00",
}
optional_text = st.none() | st.text(max_size=20)
seconds = st.none() | st.floats(0, 1e6)
losses = st.floats(allow_nan=False, allow_infinity=False)


def a_trial(**changes: object) -> Trial:
    return Trial(**{**REQUIRED, "status": "ok", "n_bytes": 10, "bpb": 1.5, **changes})


trials = st.builds(
    Trial,
    key=st.text(max_size=9),
    recipe=st.text(max_size=60),
    recipe_digest=st.text(max_size=9),
    status=st.sampled_from(["ok", "failed"]),
    checkpoint_digest=st.text(max_size=9),
    evaluator_digest=st.text(max_size=9),
    created=st.text(max_size=9),
    calibration_digest=optional_text,
    n_bytes=st.integers(0, 2**62),
    bpb=losses,
    nats=st.none() | losses,
    kl=st.none() | losses,
    ideal_bits=st.none() | losses,
    weights_digest=optional_text,
    label=st.text(max_size=9),
    quantize_s=seconds,
    encode_s=seconds,
    decode_s=seconds,
    eval_s=seconds,
    error=optional_text,
    text_share=st.floats(0, 1, exclude_min=True),
    bpb_se=seconds,
    kl_se=seconds,
    block_excess=optional_text,
)


@given(trials)
def test_text_and_value_are_exact_inverses_on_one_ascii_line(trial: Trial) -> None:
    line = trial.to_json()
    assert Trial.from_json(line) == trial
    assert Trial.from_json(line).to_json() == line
    assert "\n" not in line
    assert line.isascii()


@pytest.mark.parametrize("metric", ["bpb", "nats", "kl", "ideal_bits"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_non_finite_metric_is_null_in_a_failed_trial(metric: str, value: float) -> None:
    trial = a_trial(**{metric: value})
    row = json.loads(trial.to_json())
    assert row[metric] is None
    assert row["status"] == "failed"
    assert metric in row["error"]
    assert row["n_bytes"] == 10
    assert Trial.from_json(trial.to_json()) == trial


def test_a_non_finite_metric_keeps_the_first_error() -> None:
    assert a_trial(status="failed", error="diverged", bpb=math.nan).error == "diverged; not a finite number: bpb"


def test_numpy_scalars_become_plain_numbers() -> None:
    trial = a_trial(n_bytes=np.int64(7), bpb=np.float32(0.5), kl=np.float64(0.25))
    assert trial == a_trial(n_bytes=7, bpb=0.5, kl=0.25)
    assert type(trial.n_bytes) is int
    assert type(trial.bpb) is float


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "fine"}, "'fine'"),
        ({"n_bytes": None}, "must have n_bytes and bpb"),
        ({"bpb": None}, "must have n_bytes and bpb"),
        ({"n_bytes": -1}, "whole number"),
        ({"n_bytes": 1.5}, "whole number"),
        ({"n_bytes": True}, "whole number"),
        ({"bpb": "1.5"}, "expected a number"),
        ({"recipe": None}, "recipe is None"),
        ({"error": 3}, "error is 3"),
        ({"text_share": 0.0}, "a share above 0"),
        ({"text_share": "1"}, "a share above 0"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(changes: dict[str, object], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        a_trial(**changes)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda row: row | {"colour": 1}, "unknown keys: colour"),
        (lambda row: {name: row[name] for name in row if name != "bpb"}, "lacks keys: bpb"),
        (lambda row: row | {"v": SCHEMA_VERSION + 1}, f"schema version {SCHEMA_VERSION + 1}"),
        (lambda row: row | {"v": True}, "schema version True"),
        (lambda row: {name: row[name] for name in row if name != "v"}, "schema version None"),
        (lambda row: [row], "JSON list"),
        (lambda row: row | {"bpb": math.nan}, "NaN is not JSON"),
    ],
)
def test_a_row_that_to_json_does_not_write_is_refused(edit: object, said: str) -> None:
    row = json.loads(a_trial().to_json())
    with pytest.raises(StudyError, match=said):
        Trial.from_json(json.dumps(edit(row)))  # type: ignore[operator]


def test_rows_of_an_older_schema_are_read_with_the_defaults_of_newer_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    known = json.loads(a_trial().to_json()).items()
    old = {name: value for name, value in known if name != "label" and name not in trial_module.SINCE} | {"v": 1}
    with pytest.raises(StudyError, match="lacks keys: label"):
        Trial.from_json(json.dumps(old))
    monkeypatch.setattr(trial_module, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(trial_module, "SINCE", {"label": 2, **dict.fromkeys(trial_module.SINCE, 3)})
    assert Trial.from_json(json.dumps(old)) == a_trial()
    assert Trial.from_json(a_trial(label="new").to_json()) == a_trial(label="new")
    with pytest.raises(StudyError, match="lacks keys: label"):
        Trial.from_json(json.dumps({**old, "v": 2}))
    with pytest.raises(StudyError, match="unknown keys: label"):  # version 1 never had it
        Trial.from_json(json.dumps({**old, "label": ""}))
    with pytest.raises(StudyError, match="schema version 4; this pgpack reads 1 to 3; read it with a newer pgpack"):
        Trial.from_json(json.dumps({**old, "v": 4}))


@given(st.text(max_size=40))
def test_arbitrary_text_is_refused_with_a_study_error(text: str) -> None:
    with pytest.raises(StudyError):
        Trial.from_json(text)


@given(st.integers(0, 4), st.text(max_size=5))
def test_a_key_changes_with_each_of_its_five_parts(index: int, part: str) -> None:
    parts = ["checkpoint", "recipe", "calibration", "evaluator", "version 0.1.0"]
    changed = list(parts)
    changed[index] = part
    assert trial_key(*changed) != trial_key(*parts)


def test_no_calibration_and_empty_calibration_are_different_keys() -> None:
    assert trial_key("c", "r", None, "e", "v") != trial_key("c", "r", "", "e", "v")


def test_timestamp_names_its_zone() -> None:
    assert timestamp().endswith("+00:00")


def test_every_change_of_one_byte_of_a_row_is_refused() -> None:
    line = a_trial(label="a", error=None, kl=0.25).to_json().encode()
    for position, byte in enumerate(line):
        for other in {byte ^ 1, byte ^ 2, ord("0"), ord("9"), ord(" "), ord('"'), 0xFF} - {byte}:
            changed = line[:position] + bytes([other]) + line[position + 1 :]
            with pytest.raises((StudyError, UnicodeDecodeError)):
                Trial.from_json(changed.decode())


def test_a_row_that_lacks_its_checksum_is_refused_unless_it_is_older() -> None:
    row = json.loads(a_trial().to_json())
    without = {name: value for name, value in row.items() if name != "crc32"}
    with pytest.raises(StudyError, match="lacks keys: crc32"):
        Trial.from_json(json.dumps(without))
    older = {name: value for name, value in without.items() if name != "peak_bytes"}
    assert Trial.from_json(json.dumps(older | {"v": 3})) == a_trial()
    with pytest.raises(StudyError, match="unknown keys: crc32"):
        Trial.from_json(json.dumps({**older, "crc32": row["crc32"], "v": 3}))
    with pytest.raises(StudyError, match="damaged"):
        Trial.from_json(json.dumps(row | {"bpb": 0.5}))
