"""A law of sizes: it finds the law that points were made by, tells its own errors, and says nothing far away."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pgpack.errors import DataError
from pgpack.fit.size_law import FORMS, REACH, Point, SizeLaw, Span, advise, fit_law, held_out_errors

TRUTH = (0.9, -0.5, 0.35, -1.0, 0.4, 1.2, 0.3, 0.25, 0.6)  # of the additive form
ORIGIN = (5e5, 2.5e5)
SIZES, TOKENS, BITS = (1e5, 2e5, 4e5, 8e5, 1.6e6), (1.2e5, 2.5e5, 5e5), (0.8, 1.5, 3.0, 6.0)


def made(noise: float = 0.0) -> list[Point]:
    """Points of a known law, of one model a size and token count."""
    rng = np.random.default_rng(0)
    points = []
    for n in SIZES:
        for d in TOKENS:
            for b in BITS:
                x = (np.array(v) for v in (TRUTH, n / ORIGIN[0], d / ORIGIN[1], b))
                loss = float(FORMS["additive"].loss(*x)) * float(np.exp(noise * rng.standard_normal()))
                points.append(Point(f"{n:g}", round(n), round(d), b, loss))
    return points


@pytest.fixture(scope="module")
def law() -> SizeLaw:
    return fit_law(made(0.002), "additive", n_replicates=8)


def test_the_law_that_points_were_made_by_is_found() -> None:
    points = made()
    found = fit_law(points, "additive", n_replicates=0)
    said = found.loss(*(np.array([getattr(p, name) for p in points]) for name in ("n_params", "n_tokens", "bits")))
    assert np.abs(said - [p.bpb for p in points]).max() < 0.002


def test_a_form_that_is_wrong_errs_more_of_models_it_has_not_seen() -> None:
    points = made()
    groups = {f"{n:g}": lambda point, n=n: point.model == f"{n:g}" for n in SIZES[1:4]}
    errors = {
        form: np.concatenate(list(held_out_errors(points, form, groups).values()))
        for form in ("additive", "effective")
    }
    assert np.abs(errors["additive"]).max() < 0.01
    assert np.sqrt(np.square(errors["effective"]).mean()) > 5 * np.sqrt(np.square(errors["additive"]).mean())


def test_advice_fills_the_budget_and_is_the_least_loss_along_it(law: SizeLaw) -> None:
    advice = advise(law, 100_000, 250_000)
    assert advice.bits * advice.n_params / 8 == pytest.approx(100_000, rel=0.01)
    for other in (advice.n_params / 3, advice.n_params * 3):
        assert law.loss(other, 250_000, 8e5 / other) > advice.bpb
    assert advice.near[0] <= advice.n_params <= advice.near[1]
    assert advice.bpb_interval[0] < advice.bpb < advice.bpb_interval[1]
    low, high = advice.n_params_interval
    assert low <= advice.n_params * 1.05
    assert high >= advice.n_params * 0.95
    assert "100 kB" in advice.sentence


def test_more_bytes_and_more_tokens_lose_less(law: SizeLaw) -> None:
    losses = [advise(law, budget, 250_000).bpb for budget in (50_000, 100_000, 200_000)]
    assert losses == sorted(losses, reverse=True)
    assert advise(law, 100_000, 500_000).bpb < advise(law, 100_000, 125_000).bpb


def test_the_error_on_what_was_left_out_widens_the_interval(law: SizeLaw) -> None:
    def width(error: float) -> float:
        low, high = advise(dataclasses.replace(law, error=error), 100_000, 250_000).bpb_interval
        return high - low

    assert width(0.1) >= 2 * 1.96 * 0.1 > width(0.0)


def test_between_token_counts_that_were_measured_the_interval_has_their_error_too(law: SizeLaw) -> None:
    unsure = dataclasses.replace(law, token_error=0.1)
    assert advise(unsure, 100_000, round(TOKENS[1])) == advise(law, 100_000, round(TOKENS[1]))
    low, high = advise(unsure, 100_000, 180_000).bpb_interval
    assert high - low >= 2 * 1.96 * 0.1


@pytest.mark.parametrize(
    ("budget", "tokens", "words"),
    [(16_000_000, 250_000, "budgets"), (100, 250_000, "budgets"), (100_000, 9_000_000_000, "training tokens")],
)
def test_nothing_is_said_beyond_four_times_what_was_measured(
    law: SizeLaw, budget: int, tokens: int, words: str
) -> None:
    with pytest.raises(DataError, match=f"times beyond the {words} that were measured.*beyond 4 times: give"):
        advise(law, budget, tokens)


def test_within_four_times_it_says_that_it_extrapolates(law: SizeLaw) -> None:
    within, beyond = advise(law, 100_000, 250_000), advise(law, 100_000, round(TOKENS[-1] * 3))
    assert within.reach == 1
    assert "extrapolated" not in within.sentence
    assert beyond.reach == pytest.approx(3, rel=0.01)
    assert "extrapolated 3 times beyond what was measured" in beyond.sentence


def test_what_lies_outside_is_measured_in_times() -> None:
    span = Span.of([10, 40])
    assert [span.beyond(value) for value in (5, 10, 20, 80)] == [2, 1, 1, 2]
    assert REACH == 4


def test_a_law_is_read_as_it_was_written(law: SizeLaw, tmp_path: Path) -> None:
    law.save(tmp_path / "law.json")
    assert SizeLaw.load(tmp_path / "law.json") == law
    (tmp_path / "other.json").write_text('{"form": "additive"}')
    with pytest.raises(DataError, match="is no law of sizes"):
        SizeLaw.load(tmp_path / "other.json")


def test_too_few_points_are_refused() -> None:
    with pytest.raises(DataError, match="do not tell"):
        fit_law(made()[:9], "additive")
