"""What two guesses are told apart by: the squares of their gradients, and the odds of their losses."""

from __future__ import annotations

import numpy as np
import pytest

from pgtrain.identification.evidence import of_losses
from pgtrain.identification.stationary import rise


def gradient(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"weight": rows.astype(np.float32)}


def test_gradients_are_compared_on_the_tensors_that_both_guesses_read() -> None:
    draw = np.random.default_rng(0)
    rows, skips = draw.normal(0, 1, (16, 4000)), draw.normal(0, 1, (16, 100))
    one, other = gradient(rows), gradient(rows + draw.normal(0, 0.5, 4000))
    assert rise({**one, "skip_weights": skips.astype(np.float32)}, other) == rise(one, other)


def test_the_squared_gradient_rises_from_the_truth_by_what_arithmetic_adds() -> None:
    draw = np.random.default_rng(0)
    batches = draw.normal(0, 1, (16, 4000))
    left, added = draw.normal(0, 0.5, 4000), draw.normal(0, 0.3, 4000)
    truth, other = gradient(batches + left), gradient(batches + left + added)
    assert rise(truth, other).evidence > 3
    assert rise(other, truth).evidence == pytest.approx(-rise(truth, other).evidence, rel=1e-6)
    assert rise(truth, other).distance == pytest.approx(4000 * 0.3**2, rel=0.1)


def test_the_gradient_is_silent_where_it_only_shrinks_or_hardly_changes() -> None:
    draw = np.random.default_rng(0)
    batches = draw.normal(0, 1, (16, 4000)) + draw.normal(0, 0.5, 4000)
    truth = gradient(batches)
    assert abs(rise(truth, gradient(0.8 * batches)).evidence) < 0.1
    nudged = rise(truth, gradient(batches + draw.normal(0, 0.01, 4000)))
    assert not nudged.felt
    assert abs(nudged.evidence) < 1


def drawn(seed: int, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Losses of 16,384 tokens under two tables of 50 outcomes; the tokens are drawn from one of them."""
    draw = np.random.default_rng(seed)
    table, bent = draw.normal(0, 1, 50), draw.normal(0, 0.15, 50)
    shares = {name: np.exp(x) / np.exp(x).sum() for name, x in (("one", table), ("other", table + bent))}
    tokens = draw.choice(50, 16_384, p=shares[of])
    return -np.log(shares["one"])[tokens], -np.log(shares["other"])[tokens]


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_likelier_under_what_the_text_was_drawn_from(seed: int) -> None:
    """0.01 nats apart, and known to be so by their spread."""
    assert of_losses(*drawn(seed, "one"), lean=0.035) > 3
    assert of_losses(*drawn(seed, "other"), lean=0.035) < -3


def test_the_odds_of_two_guesses_are_those_of_the_two_the_other_way_round() -> None:
    one, other = drawn(0, "one")
    assert of_losses(one, other, 0.05) == pytest.approx(-of_losses(other, one, 0.05))


def test_a_difference_that_neither_guess_explains_says_nothing() -> None:
    """Wide apart token by token, and hardly on the mean: no text of either, however many tokens there are."""
    draw = np.random.default_rng(0)
    one, other = draw.normal(3, 0.5, 65_536), draw.normal(3.01, 0.5, 65_536)
    assert abs(of_losses(one, other, 0.035)) < 1


def test_a_small_lean_is_no_evidence_however_many_tokens_show_it() -> None:
    """A public checkpoint reads text 0.0038 nats better with a cap that it never had."""
    draw = np.random.default_rng(0)
    one = draw.normal(3, 0.5, 65_536)
    assert abs(of_losses(one, one + 0.0004 + draw.normal(0, 0.01, 65_536), 0.05)) < 1
