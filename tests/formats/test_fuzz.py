"""What the fuzzer makes is read or refused with a sentence; so is any JSON in place of a header."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.errors import CorruptArtifact
from pgpack.formats.own.header import KEYS, Header
from pgpack.formats.own.layout import unframe
from tests.hostile.crafting import VALID, valid
from tests.hostile.fuzz import hostile, run, seeds

CASES = 2000
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
KEYED = st.fixed_dictionaries(dict.fromkeys(sorted(KEYS), VALUES))


def test_two_thousand_cases_are_read_or_refused_with_a_sentence() -> None:
    cases = [run(number) for number in range(CASES)]
    assert [(number, case.fault) for number, case in enumerate(cases) if case.fault] == []
    n_read = sum(not case.refused for case in cases)
    assert CASES // 20 < n_read < CASES // 2  # some of both, or the fuzzer tests little
    assert len({case.refused for case in cases}) > CASES // 4


def test_a_case_is_the_same_file_every_time() -> None:
    assert [hostile(number) for number in range(50)] == [hostile(number) for number in range(50)]


def test_the_seeds_are_whole_and_many() -> None:
    assert len(seeds()) > 40


@given(st.sampled_from(sorted(VALID)), st.sampled_from(sorted(KEYS)), VALUES)
@settings(max_examples=100, deadline=None)
def test_a_header_with_any_value_under_a_key_is_read_or_refused(name: str, key: str, value: Any) -> None:
    document = {**unframe(valid(name))[0], key: value}
    try:
        header = Header.from_json(document)
    except CorruptArtifact as error:
        assert len(str(error)) < 700  # noqa: PT017  whichever way it goes is fine
        return
    assert header.to_json().keys() <= KEYS


@given(VALUES | KEYED | st.dictionaries(st.text(), VALUES))
@settings(max_examples=100, deadline=None)
def test_no_other_document_is_a_header(document: Any) -> None:
    if isinstance(document, dict):
        try:
            assert Header.from_json(document).to_json().keys() <= KEYS
        except CorruptArtifact as error:
            assert len(str(error)) < 700  # noqa: PT017
