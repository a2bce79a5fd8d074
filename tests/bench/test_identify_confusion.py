"""A sample of `make bench-identify`: what is identified is right, and a table says what was asked."""

from __future__ import annotations

import pytest

from pgpack.text.data import read_tokens
from pgpack.text.shard_files import find_shards
from pgpack.text.text_folder import TextFolder
from tests.bench.identify_cases import CASES, config_of, trained
from tests.bench.identify_confusion import Outcome, Texts, outcome, page


@pytest.fixture(scope="module")
def texts(text_folder: TextFolder) -> Texts:
    tokens = read_tokens(find_shards(text_folder.train_glob))
    return Texts.of(tokens, 400, 8193)


def test_every_case_is_a_model_of_its_own() -> None:
    configs = [config_of(case, 400) for case in CASES]
    assert len(set(configs)) == len(configs)


@pytest.mark.parametrize("case", ["loop-2-from-1", "albert-3"])
def test_a_model_is_what_it_was_or_is_asked_about(case: str, texts: Texts) -> None:
    state = trained(config_of(case, 400), texts.train, 60)
    found = outcome(case, state, texts, 64)
    assert found.verdict in ("equal", "asked"), found
    assert found.verdict == "equal" or found.about


def test_the_table_counts_verdicts() -> None:
    rows = [
        Outcome("a", "said", "equal", "", 3.0, 3.0, 1.0),
        Outcome("b", "said", "asked", "rope_base", 3.0, None, 1.0),
        Outcome("c", "not said", "WRONG", "lane_start", 3.0, 3.1, 1.0),
    ]
    assert "| said | 1 | 1 | 0 | rope_base 1 |" in page(rows)
    assert "| not said | 0 | 0 | 1 |  |" in page(rows)
