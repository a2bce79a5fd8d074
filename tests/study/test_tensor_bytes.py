"""Bytes of tensors beside the journal: read back as they were written, and never from a damaged line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgpack.files import checksum_fits, with_checksum
from pgpack.study.tensor_bytes import TENSORS_FILE, TensorBytes
from tests.study.test_trial import a_trial

ROWS = {"k1": {"a": 12, "b.weight": 300}, "k2": {"a": 13, "b.weight": 280}, "k3": {"other": 5}, "k4": {}}
TRIALS = [a_trial(key=key) for key in ROWS]


@pytest.fixture
def kept(tmp_path: Path) -> TensorBytes:
    written = TensorBytes(tmp_path)
    for key, n_bytes in ROWS.items():
        written.append(key, n_bytes)
    return TensorBytes(tmp_path)


def test_rows_come_back_and_names_are_written_once(kept: TensorBytes, tmp_path: Path) -> None:
    assert kept.scan().rows == ROWS
    assert kept.of() == {key: n_bytes for key, n_bytes in ROWS.items() if n_bytes}
    lines = (tmp_path / TENSORS_FILE).read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["names", "key", "key", "names", "key", "key"]
    assert kept.scan().lost(TRIALS) == frozenset()


def test_a_change_of_any_byte_is_never_read_as_data_and_what_it_costs_is_told(
    kept: TensorBytes, tmp_path: Path
) -> None:
    path = tmp_path / TENSORS_FILE
    whole = path.read_bytes()
    for position, byte in enumerate(whole):
        for other in {byte ^ 1, ord("7"), ord("\n"), 0xFF} - {byte}:
            path.write_bytes(whole[:position] + bytes([other]) + whole[position + 1 :])
            found = kept.scan()
            assert found.rows.items() < ROWS.items()
            assert found.damaged
            assert found.lost(TRIALS) == ROWS.keys() - found.rows.keys()
            assert "to measure again" in found.sentences(TRIALS)[0]


@pytest.mark.parametrize("position", [3, 40, 120, -60, -1])
def test_what_is_lost_is_appended_again_and_the_damage_taken_out(
    kept: TensorBytes, position: int, tmp_path: Path
) -> None:
    path = tmp_path / TENSORS_FILE
    whole = bytearray(path.read_bytes())
    whole[position] ^= 2
    path.write_bytes(whole)
    for key in sorted(kept.scan().lost(TRIALS)):
        kept.append(key, ROWS[key])
    assert kept.scan().rows == ROWS
    assert kept.scan().damaged
    kept.tidy()
    again = TensorBytes(tmp_path).scan()
    assert (again.rows, again.damaged, again.sentences(TRIALS)) == (ROWS, (), ())


def test_files_of_older_programs_are_read_but_not_behind_a_line_that_may_have_been_their_names(
    tmp_path: Path,
) -> None:
    names, first, second = '{"names": ["a"]}\n', '{"key": "k1", "n_bytes": [1]}\n', '{"key": "k2", "n_bytes": [2]}\n'
    path, kept = tmp_path / TENSORS_FILE, TensorBytes(tmp_path)
    path.write_text(names + first + second)
    assert kept.of() == {"k1": {"a": 1}, "k2": {"a": 2}}
    path.write_text(names + first + '{"nam\n' + second + names + second.replace("k2", "k3"))
    assert kept.of() == {"k1": {"a": 1}, "k3": {"a": 2}}
    path.write_text(names + first + second + '{"key": "torn')
    assert kept.of() == {"k1": {"a": 1}, "k2": {"a": 2}}
    TensorBytes(tmp_path).append("k3", {"a": 3})
    assert kept.of() == {"k1": {"a": 1}, "k2": {"a": 2}, "k3": {"a": 3}}


def test_a_checksum_begins_where_it_is_told_and_is_told_from_none() -> None:
    line = with_checksum('{"a": 1}', 7)
    assert json.loads(line).keys() == {"a", "crc32"}
    assert checksum_fits(line, 7)
    assert checksum_fits(line) is False
    assert checksum_fits('{"a": 1}') is None
