"""Rows of tables are worth what their tokens will be asked for, also those that no calibration text holds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pgpack.calibration.rare_rows import expected_fisher, expected_shares, shares_met, zipf_shares


def zipf_text(
    n_tokens: int, vocabulary: int = 4000, exponent: float = 1.1, spread: float = 0.7, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(shares around Zipf's law, counts of so many tokens drawn from them)."""
    random = np.random.default_rng(seed)
    shares = zipf_shares(vocabulary, exponent) * random.gamma(spread, 1 / spread, vocabulary)
    shares /= shares.sum()
    return shares, random.multinomial(n_tokens, shares)


def test_shares_are_positive_and_sum_to_one() -> None:
    for counts in (np.zeros(9, int), np.array([0, 0, 5, 0]), np.array([1]), zipf_text(300)[1]):
        shares = expected_shares(counts)
        assert shares.sum() == pytest.approx(1)
        assert (shares > 0).all()


@pytest.mark.parametrize("exponent", [0.7, 1.1, 1.5])
@pytest.mark.parametrize("spread", [0.3, 1.0, 10.0])
def test_unseen_tokens_get_the_mass_that_they_turn_out_to_have(exponent: float, spread: float) -> None:
    shares, counts = zipf_text(20_000, exponent=exponent, spread=spread)
    unseen = counts == 0
    assert unseen.mean() > 0.05
    assert expected_shares(counts)[unseen].sum() == pytest.approx(shares[unseen].sum(), rel=0.3)


def test_among_unseen_tokens_more_is_expected_of_early_merges() -> None:
    shares, counts = zipf_text(20_000)
    expected = expected_shares(counts)
    early, late = (np.flatnonzero(counts[half] == 0) + half.start for half in (slice(0, 800), slice(3200, 4000)))
    assert expected[early].mean() > 2 * expected[late].mean()
    assert shares[early].mean() > 1.5 * shares[late].mean()


def test_tokens_met_often_keep_what_was_counted() -> None:
    _, counts = zipf_text(20_000)
    often = counts > 100
    np.testing.assert_allclose(expected_shares(counts)[often], counts[often] / counts.sum(), rtol=0.05)


def test_rows_seen_often_keep_their_fisher_weight_and_unseen_ones_get_their_share_of_it() -> None:
    shares, counts = zipf_text(20_000)
    fisher = 0.7 * counts / counts.sum()
    expected = expected_fisher(fisher, shares, int(counts.sum()))
    often = counts > 300
    np.testing.assert_allclose(expected[often], fisher[often], rtol=0.02)
    rare = (counts == 0) & (shares * counts.sum() < 0.1)
    assert rare.sum() > 100
    np.testing.assert_allclose(expected[rare], 0.7 * shares[rare], rtol=0.15)


def test_rows_beyond_the_vocabulary_stay_as_they_were_seen() -> None:
    expected = expected_fisher(np.array([0.5, 0.0, 0.25]), np.array([0.5, 0.5]), 10)
    assert expected.shape == (3,)
    assert expected[2] == np.float32(0.25)
    assert expected[1] > 0


def test_positions_behind_the_window_count_as_those_in_it() -> None:
    met = np.array([0.25] * 4 + [0] * 6)
    np.testing.assert_array_equal(shares_met(met, 40), np.full(10, 0.25, np.float32))
    np.testing.assert_array_equal(shares_met(np.array([0, 0, 0.5, 0.5, 0]), 40), np.full(5, 0.5, np.float32))
    np.testing.assert_array_equal(shares_met(np.array([1.0, 0]), 40), np.ones(2, np.float32))  # kinds of token


def test_rows_of_a_hashed_table_get_what_is_expected_of_the_rare() -> None:
    _, counts = zipf_text(20_000)
    met = shares_met(2 * counts / counts.sum(), int(counts.sum()))  # two look-ups a token
    np.testing.assert_allclose(met, 2 * expected_shares(2 * counts), rtol=1e-5)
    assert (met > 0).all()


def test_tables_of_which_all_or_nothing_was_met_stay_as_they_were_met() -> None:
    for met in (np.array([0.5, 0.125, 0.375]), np.zeros(3)):
        np.testing.assert_array_equal(shares_met(met, 8), met.astype(np.float32))
