"""Laws of frontiers: Pareto sets against brute force, areas against slow sums, BD-rate against known scalings."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pgpack.errors import StudyError
from pgpack.loss.intervals import pack_floats
from pgpack.study.frontier import (
    bd_rate,
    frontier_csv,
    hypervolume,
    measured,
    pareto,
    pareto_indices,
    points_of,
)
from pgpack.study.trial import Trial
from tests.fronts import best_under
from tests.synthetic_study import write_study

# A coarse grid makes ties and equal points common.
tables = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12).map(lambda n: n / 4)), max_size=25)


def a_trial(number: int, n_bytes: int | None, bpb: float | None, **changes: object) -> Trial:
    values = {
        "key": f"key{number}",
        "recipe": f'*=rtn(bits={number},note="a,b")|raw',
        "recipe_digest": f"digest{number}",
        "status": "ok",
        "checkpoint_digest": "c",
        "evaluator_digest": "e",
        "created": "2026-01-02T03:04:05+00:00",
        "n_bytes": n_bytes,
        "bpb": bpb,
        **changes,
    }
    return Trial(**values)  # type: ignore[arg-type]


def curve(rates: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """KL falls as 2^(-2.24 R) with R bits per weight of a 4 M-parameter model."""
    return np.column_stack([scale * 5e5 * rates, 0.8 * 2.0 ** (-2.24 * rates)])


RATES = np.array([2.0, 2.6, 3.1, 4.0, 5.2, 6.0])


def dominates(a: tuple[int, float], b: tuple[int, float]) -> bool:
    """True when `a` is nowhere worse than `b` and somewhere better."""
    return a != b and a[0] <= b[0] and a[1] <= b[1]


@given(tables)
def test_the_pareto_set_is_what_brute_force_dominance_leaves(points: list[tuple[int, float]]) -> None:
    kept = pareto_indices(points)
    for index, point in enumerate(points):
        beaten = any(dominates(other, point) for other in points)
        repeated = point in points[:index]
        assert (index in kept) == (not beaten and not repeated)
    assert [points[i][0] for i in kept] == sorted(points[i][0] for i in kept)


def test_the_pareto_set_of_trials_leaves_out_failed_ones_and_keeps_the_first_of_equals() -> None:
    trials = [
        a_trial(0, 30, 1.0),
        a_trial(1, 20, 2.0),
        a_trial(2, 20, 2.0),
        a_trial(3, 1, 0.1, status="failed"),
        a_trial(4, 40, 1.0),
        a_trial(5, 10, math.nan),
    ]
    assert [t.key for t in pareto(trials)] == ["key1", "key0"]
    assert pareto(trials, "kl") == []
    assert measured(trials) == [trials[0], trials[1], trials[2], trials[4]]


def test_the_two_metrics_have_their_own_frontiers() -> None:
    trials = [a_trial(0, 10, 1.0, kl=0.3), a_trial(1, 20, 1.1, kl=0.2)]
    assert pareto(trials, "bpb") == [trials[0]]
    assert pareto(trials) == pareto(trials, "kl")
    assert pareto(trials, "kl") == trials
    assert points_of(trials, "kl").tolist() == [[10.0, 0.3], [20.0, 0.2]]


def test_best_under_a_budget() -> None:
    trials = [a_trial(0, 10, 3.0), a_trial(1, 20, 2.0), a_trial(2, 30, 1.0), a_trial(3, 15, 4.0)]
    assert best_under(trials, 9) is None
    assert best_under(trials, 20) is trials[1]
    assert best_under(trials, 29) is trials[1]
    assert best_under(trials, None) is trials[2]


@given(tables)
def test_hypervolume_is_the_sum_over_unit_cells(points: list[tuple[int, float]]) -> None:
    reference = (10, 2.5)
    cells = sum(
        any(size <= x and loss * 4 <= y for size, loss in points) for x, y in itertools.product(range(10), range(10))
    )
    assert hypervolume(points, reference) == pytest.approx(cells / 4)


def test_hypervolume_agrees_with_monte_carlo() -> None:
    points = curve(RATES) * [1e-6, 1]
    draws = np.random.default_rng(7).uniform(0, 1, (200_000, 2)) * [4.0, 0.05]
    covered = np.any((points[None, :, 0] <= draws[:, :1]) & (points[None, :, 1] <= draws[:, 1:]), axis=1)
    assert hypervolume(points, (4.0, 0.05)) == pytest.approx(0.2 * covered.mean(), rel=0.01)


@pytest.mark.parametrize("metric", ["bpb", "kl"])
def test_a_curve_with_a_fifth_fewer_bytes_has_a_bd_rate_of_minus_20_percent(metric: str) -> None:
    result = bd_rate(curve(RATES), curve(RATES, scale=0.8), metric)  # type: ignore[arg-type]
    assert result.percent == pytest.approx(-20, abs=1e-9)
    assert (result.n_anchor, result.n_test) == (6, 6)
    assert (result.loss_low, result.loss_high) == pytest.approx((curve(RATES)[-1, 1], curve(RATES)[0, 1]))


def test_bd_rate_in_kl_compares_differently_sampled_exponential_curves() -> None:
    dense = np.linspace(1.8, 6.2, 40)
    result = bd_rate(curve(dense), curve(dense[2:-2:3] + 0.05, scale=0.9), "kl")
    assert result.percent == pytest.approx(-10, abs=0.1)


@given(st.floats(0.3, 3), st.floats(-0.05, 0.05))
def test_exchanging_anchor_and_test_inverts_the_ratio(scale: float, tilt: float) -> None:
    a, b = curve(RATES), curve(RATES, scale)
    b[:, 0] *= RATES**tilt
    there, back = bd_rate(a, b, "kl"), bd_rate(b, a, "kl")
    assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)


def test_dominated_points_and_a_lossless_point_do_not_move_bd_rate() -> None:
    clean = curve(RATES)
    noisy = np.vstack([[9e9, 1.0], clean[::-1], [1.4e6, 0.7]])
    assert bd_rate(clean, noisy, "bpb").percent == pytest.approx(0, abs=1e-9)
    lossless = np.vstack([clean, [1e8, 0.0]])
    assert bd_rate(clean, lossless, "kl").percent == pytest.approx(0, abs=1e-9)


def test_bd_rate_matches_a_slow_sum_over_a_drawn_pair() -> None:
    """Straight lines in log bytes: a monotone cubic through collinear points is the line itself."""
    losses = np.array([1.0, 1.2, 1.4, 1.6])
    anchor = np.column_stack([np.exp(16 - 2 * losses), losses])
    test = np.column_stack([np.exp(15.5 - 1.7 * (losses + 0.1)), losses + 0.1])
    grid = np.linspace(1.1, 1.6, 100_001)
    slow = math.expm1(float(np.mean((15.5 - 1.7 * grid) - (16 - 2 * grid)))) * 100
    result = bd_rate(anchor, test)
    assert result.percent == pytest.approx(slow, rel=1e-6)
    assert (result.loss_low, result.loss_high) == pytest.approx((1.1, 1.6))


def test_bd_rate_refuses_short_curves_and_curves_without_overlap() -> None:
    with pytest.raises(StudyError, match="anchor curve has 2 Pareto points in bpb; it takes at least 3"):
        bd_rate(curve(RATES[:2]), curve(RATES))
    with pytest.raises(StudyError, match="test curve has 1 Pareto points"):
        bd_rate(curve(RATES), [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)])
    with pytest.raises(StudyError, match=r"share no interval of kl: anchor 0\.0064.* to 0\.0358.*, test 7"):
        bd_rate(curve(RATES[:3]), curve(RATES[3:]), "kl")


def test_nan_points_are_refused() -> None:
    with pytest.raises(StudyError, match="NaN"):
        pareto_indices([(1.0, math.nan)])


@given(tables)
def test_csv_reads_back_as_the_frontier(points: list[tuple[int, float]]) -> None:
    assume(points)
    frontier = pareto([a_trial(n, size, loss, nats=0.1) for n, (size, loss) in enumerate(points)])
    header, *rows = list(csv.reader(io.StringIO(frontier_csv(frontier))))
    assert header == ["n_bytes", "bpb", "nats", "kl", "recipe", "recipe_digest", "bpb_half_width", "kl_half_width"]
    assert rows == [[str(t.n_bytes), repr(t.bpb), "0.1", "", t.recipe, t.recipe_digest, "", ""] for t in frontier]


def test_csv_tells_how_sure_the_losses_are() -> None:
    trial = a_trial(0, 1000, 1.5, bpb_se=0.25, kl_se=0.5, block_excess=pack_floats([1.0, 2.0, 3.0]))
    (row,) = csv.DictReader(io.StringIO(frontier_csv([trial])))
    assert float(row["bpb_half_width"]) == pytest.approx(4.3027 * 0.25, rel=1e-4)
    assert float(row["kl_half_width"]) == pytest.approx(4.3027 * 0.5, rel=1e-4)


def test_a_view_shows_one_frontier_and_one_best_point_as_table_csv_rows_and_picture(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    view = study.frontier(metric="kl", budget=15_000_000)
    assert list(view.points) == pareto(study.trials, "kl")
    assert view.best == best_under(study.trials, 15_000_000, "kl")
    assert view.best is not None
    heading, *lines = view.table().splitlines()
    assert heading.endswith("on the frontier")
    assert len(lines) == len(view.points)
    (marked,) = [line for line in lines if line.startswith("*")]
    assert f"{view.best.n_bytes:,}" in marked
    assert [row["n_bytes"] for row in csv.DictReader(view.to_csv().splitlines())] == [
        str(trial.n_bytes) for trial in view.points
    ]
    assert view.row(view.best)["above_best"] == {"value": 0.0, "half_width": 0.0}
    assert view.plot(tmp_path / "frontier.svg") == (tmp_path / "frontier.svg").read_text(encoding="utf-8")
    assert view._repr_svg_() == view.plot()
    assert f"best: {(view.best.n_bytes or 0) / 1e6:.4g} MB, KL {view.best.kl:.3g}" in view.plot()
    nothing = dataclasses.replace(study, trials=()).frontier()
    assert nothing._repr_svg_() is None
    assert nothing.best is None
