"""A sample of `make bench-identify`: what is identified is right, and a table says what was asked."""

from __future__ import annotations

import pytest

from pgpack.text.data import read_tokens
from pgpack.text.shard_files import find_shards
from pgpack.text.text_folder import TextFolder
from tests.bench.identify_cases import CASES, config_of, trained
from tests.bench.identify_confusion import Outcome, Remembering, Texts, outcome, page


@pytest.fixture(scope="module")
def texts(text_folder: TextFolder) -> Texts:
    tokens = read_tokens(find_shards(text_folder.train_glob))
    return Texts.of(tokens, 400, 2049)


def test_every_case_is_a_model_of_its_own() -> None:
    configs = [config_of(case, 400) for case in CASES]
    assert len(set(configs)) == len(configs)


@pytest.mark.timeout(600)
def test_a_loop_and_an_activation_are_found_or_asked_about(texts: Texts) -> None:
    """A sample with the rest said, for the time that it takes."""
    case, said = "loop-2-from-1", ("rope_base", "rope_dims", "logit_softcap", "xsa_last_n", "qk_norm", "norm_scale")
    state = trained(config_of(case, 400), texts.train, 50)
    found = outcome(case, Remembering.of(state, texts), texts, 64, said)
    assert found.verdict in ("equal", "asked"), found
    assert found.verdict == "equal" or "loop" in found.about


def test_the_table_counts_verdicts() -> None:
    rows = [
        Outcome("a", "said", "equal", "", 3.0, 3.0, 1.0),
        Outcome("b", "said", "asked", "rope_base", 3.0, None, 1.0),
        Outcome("c", "not said", "WRONG", "lane_start", 3.0, 3.1, 1.0),
    ]
    assert "| said | 1 | 1 | 0 | rope_base 1 |" in page(rows)
    assert "| not said | 0 | 0 | 1 |  |" in page(rows)
