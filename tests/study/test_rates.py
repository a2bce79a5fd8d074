"""Laws of BD-rates between curves that stand still, overlap little, are unsure, or were measured otherwise."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgpack.errors import StudyError
from pgpack.loss.intervals import pack_floats
from pgpack.study.curves import corners, mean_difference, straight_difference
from pgpack.study.frontier import bd_rate, log_curve, pareto, points_of
from pgpack.study.rates import falling_part, interval_of, plateaus_of, rate_between
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from tests.synthetic_study import BLOCK_BYTES, write_study

FALLING = [(1e5, 0.2), (2e5, 0.05), (4e5, 0.01), (8e5, 0.002)]
STILL = [*FALLING[:3], (8e5, 0.0099999), (1.6e6, 0.0099998), (3.2e6, 0.0099997)]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Study]:
    folder = tmp_path_factory.mktemp("studies")
    return write_study(folder / "A", seed=0), write_study(folder / "B", seed=1, scale=0.9)


@pytest.mark.parametrize("metric", ["kl", "bpb"])
def test_a_curve_that_stands_still_at_its_end_compares_over_the_shared_part(metric: Any) -> None:
    assert bd_rate(STILL, FALLING, metric).percent == pytest.approx(0, abs=0.1)
    assert bd_rate(FALLING, STILL, metric).percent == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("tail", [1e-7, 1e-5, 1e-4, 1e-3])
def test_a_still_tail_of_any_height_moves_nothing_before_it(tail: float) -> None:
    """KL falls as a power of the bytes, then by `tail` for each doubling."""
    rates = np.geomspace(1e5, 6.4e6, 13)
    falling = np.column_stack([rates, 0.2 * (rates / 1e5) ** -2.2])
    end = falling[6]
    still = [(end[0] * 2**i, end[1] * (1 - tail) ** i) for i in range(1, 5)]
    stands = np.vstack([falling[:7], still])
    rate = bd_rate(stands, falling * [0.8, 1.0], "kl")
    assert rate.percent == pytest.approx(
        -20, abs=0.1 + 700 * tail
    )  # what lies in the tail itself is less by its width
    assert rate.loss_low == pytest.approx(end[1], rel=1e-2)


def test_curves_are_the_same_however_they_are_cut_at_a_corner() -> None:
    first, second = log_curve(STILL, "kl", ""), log_curve(FALLING, "kl", "")
    assert corners(first).tolist() == pytest.approx([math.log(0.01)])
    assert corners(second).size == 0
    assert mean_difference(first, second, math.log(0.01), math.log(0.2)) == pytest.approx(0, abs=1e-12)
    assert mean_difference(second, first, math.log(0.01), math.log(0.2)) == pytest.approx(0, abs=1e-12)


def test_straight_lines_are_integrated_as_a_fine_sum_is() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.column_stack([np.sort(rng.uniform(0, 5, 9)), -np.sort(-rng.uniform(1, 3, 9))]) for _ in "ab")
    low, high = max(first[0, 0], second[0, 0]), min(first[-1, 0], second[-1, 0])
    x = np.linspace(low, high, 200_001)
    slow = np.mean(np.interp(x, *second.T) - np.interp(x, *first.T))
    assert straight_difference(first, second) == pytest.approx(slow, abs=1e-4)
    assert math.isnan(straight_difference(first, second + np.array([9, 0])))


@pytest.mark.parametrize("share", [0.0005, 0.03, 0.09])
def test_curves_that_share_too_little_are_refused_with_the_share(share: float) -> None:
    losses = np.linspace(1.0, 2.0, 6)
    anchor = np.column_stack([np.exp(16 - 2 * losses), losses])
    test = np.column_stack([np.exp(16 - 2 * losses), losses + 1 - share])
    with pytest.raises(StudyError, match=rf"share {100 * share:.2g} % of their range of bpb: .* too little"):
        bd_rate(anchor, test)
    assert bd_rate(anchor, test - [0, 0.5]).shared == pytest.approx((0.5 + share) / (1.5 - share))


def trial(n_bytes: int, bpb: float, spread: float = 0.0, **changes: Any) -> Trial:
    """Excess over the fp32 model of 1 bpb, alike in all blocks but for `spread`, by a pattern of its own."""
    rng = np.random.default_rng(n_bytes)
    bits = np.array(BLOCK_BYTES) * ((bpb - 1) + spread * rng.standard_normal(len(BLOCK_BYTES)))
    bits += ((bpb - 1) * sum(BLOCK_BYTES) - bits.sum()) / len(bits)
    values: dict[str, Any] = {
        "key": f"{n_bytes}", "recipe": "r", "recipe_digest": f"{n_bytes}", "status": "ok", "checkpoint_digest": "c",
        "evaluator_digest": "e", "created": "2026-01-02T03:04:05+00:00", "n_bytes": n_bytes, "bpb": bpb,
        "kl": bpb - 1, "bpb_se": 0.001, "kl_se": 0.001, "block_excess": pack_floats((bits * math.log(2)).tolist()),
    }  # fmt: skip
    return Trial(**{**values, **changes})


def test_what_does_not_fall_beyond_its_interval_is_left_out_at_the_end_alone() -> None:
    falls = [trial(100, 1.4, 0.01), trial(200, 1.2, 0.01), trial(300, 1.1, 0.01)]
    still = [trial(400, 1.0999, 0.01), trial(800, 1.0998, 0.01)]
    assert falling_part([*falls, *still], "bpb", BLOCK_BYTES) == falls
    unsure = [dataclasses.replace(each, kl_se=0.01) for each in still]
    assert falling_part([*falls, *unsure], "kl", BLOCK_BYTES) == falls
    later = trial(900, 1.05, 0.01)
    assert falling_part([*falls, *still, later], "bpb", BLOCK_BYTES) == [*falls, *still, later]
    unsaid = [dataclasses.replace(each, block_excess=None, kl_se=None, bpb_se=None) for each in (*falls, *still)]
    assert falling_part(unsaid, "bpb", BLOCK_BYTES) == unsaid
    sure = [trial(100, 1.4), trial(200, 1.2), trial(300, 1.1999)]
    assert falling_part(sure, "bpb", BLOCK_BYTES) == sure


@pytest.mark.parametrize("metric", ["bpb", "kl"])
def test_the_interval_holds_the_figure_and_is_wider_where_the_text_says_less(metric: Any) -> None:
    def curves(spread: float, error: float) -> list[list[Trial]]:
        return [
            [
                trial(int(100_000 * scale * 2**i) + i, 1 + 0.4 * 3.0**-i, spread * 3.0**-i, kl_se=error * 3.0**-i)
                for i in range(5)
            ]
            for scale in (1.0, 0.8)
        ]

    widths = []
    for spread, error in ((0.02, 0.004), (0.2, 0.04)):
        anchor, test = curves(spread, error)
        rate = bd_rate(points_of(anchor, metric), points_of(test, metric), metric)
        found = interval_of(rate, anchor, test, BLOCK_BYTES)
        assert found is not None
        assert found.low < rate.percent < found.high
        assert found.paired == (metric == "bpb")
        assert interval_of(rate, anchor, test, BLOCK_BYTES) == found  # the draws are the same every time
        widths.append(found.high - found.low)
    assert widths[1] > 4 * widths[0]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Curves whose blocks are drawn: in 38 of 40 texts the interval holds the BD-rate of endless text."""
    truth, covered = -20.0, 0
    for text in range(40):
        rng = np.random.default_rng(text)
        n_bytes = np.array(BLOCK_BYTES, np.float64)
        curves = []
        for scale in (1.0, 0.8):
            curve = []
            for i in range(5):
                bits = n_bytes * 0.4 * 3.0**-i * (1 + 0.15 * rng.standard_normal(len(n_bytes)))
                bpb = 1 + bits.sum() / n_bytes.sum()
                excess = pack_floats((bits * math.log(2)).tolist())
                curve.append(trial(int(100_000 * scale * 2**i), bpb, block_excess=excess))
            curves.append(curve)
        rate = bd_rate(*(points_of(curve) for curve in curves))
        found = interval_of(rate, curves[0], curves[1], BLOCK_BYTES)
        assert found is not None
        covered += found.low <= truth <= found.high
    assert covered >= 33


def test_trials_without_errors_have_no_interval() -> None:
    anchor = [trial(100_000 * 2**i, 1 + 0.4 * 3.0**-i, bpb_se=None, kl_se=None, block_excess=None) for i in range(4)]
    for metric in ("bpb", "kl"):
        points = points_of(anchor, metric)
        assert interval_of(bd_rate(points, points, metric), anchor, anchor, BLOCK_BYTES) is None  # type: ignore[arg-type]


def test_two_studies_compare_as_their_points_do(studies: tuple[Study, Study]) -> None:
    for metric in ("bpb", "kl"):
        found = rate_between(*studies, metric)  # type: ignore[arg-type]
        expected = bd_rate(*(points_of(study.trials, metric) for study in studies), metric)  # type: ignore[arg-type]
        assert found.rate == expected
        assert found.interval is not None
        assert found.interval.low < found.rate.percent < found.interval.high


@pytest.mark.parametrize(
    ("what", "meta", "rows"),
    [
        ("text, or the way it is evaluated,", {"evaluator_digest": "f" * 64}, {}),
        ("model", {"checkpoint_digest": "f" * 64}, {}),
        ("calibration", {}, {"calibration_digest": "f" * 64}),
    ],
)
def test_curves_of_another_text_model_or_calibration_are_refused(
    studies: tuple[Study, Study], what: str, meta: dict[str, str], rows: dict[str, str]
) -> None:
    first, second = studies
    other = dataclasses.replace(
        second,
        meta=dataclasses.replace(second.meta, **meta),  # type: ignore[arg-type]
        trials=tuple(dataclasses.replace(t, **rows) for t in second.trials),  # type: ignore[arg-type]
    )
    with pytest.raises(StudyError, match=f"do not compare, their {what} differs"):
        rate_between(first, other, "kl")
    free = dataclasses.replace(
        second, trials=tuple(dataclasses.replace(t, calibration_digest=None) for t in second.trials)
    )
    assert rate_between(first, free, "kl").rate.percent < 0


def test_the_command_refuses_other_studies_and_shows_the_interval(tmp_path: Path) -> None:
    from click.testing import CliRunner
    from pgpack_cli.pgpack_app import app

    write_study(tmp_path / "A", seed=0)
    other = write_study(tmp_path / "B", seed=1, scale=0.9)
    words = [str(tmp_path / "A"), str(tmp_path / "B"), "--bd-rate"]
    shown = CliRunner().invoke(app, ["frontier", *words]).stdout
    assert "95 % interval of the BD-rate: -" in shown
    assert "% of the losses that either reaches" in shown
    card = dataclasses.replace(other.meta, checkpoint_digest="f" * 64)
    (tmp_path / "B" / "study.json").write_text(card.to_json())
    refused = CliRunner().invoke(app, ["frontier", *words])
    assert isinstance(refused.exception, StudyError)
    assert "their model differs" in str(refused.exception)


STANDS = [(1e5, 0.2), (2e5, 0.05), (4e5, 0.0501), (8e5, 0.05), (1.6e6, 0.0125), (3.2e6, 0.003)]


def test_a_plateau_in_the_middle_is_told_with_the_rate_that_it_makes() -> None:
    front = np.array([STANDS[0], STANDS[1], *STANDS[4:]])
    (found,) = plateaus_of(front, np.array(STANDS), "B")
    assert (found.n_sizes, found.low, found.high, found.loss) == (2, 200_000, 800_000, 0.05)
    coders = np.array([STANDS[0], STANDS[1], (2.2e5, 0.05), (2.9e5, 0.05), *STANDS[4:]])  # of one set of weights
    worse = np.array([STANDS[0], STANDS[1], (4e5, 0.09), (8e5, 0.07), *STANDS[4:]])
    assert plateaus_of(front, coders, "B") == plateaus_of(front, worse, "B") == []


def test_the_command_tells_a_plateau(studies: tuple[Study, Study]) -> None:
    anchor, test = studies
    rates = np.array(sorted((t.n_bytes, t.bpb) for t in anchor.trials if t.ok and t.n_bytes and t.bpb))
    assert len(rates) > 3
    assert rate_between(anchor, test, "bpb").plateaus == ()
    front = pareto(test.merged.trials, "bpb")
    first, last = front[1], front[-1]
    still = [
        dataclasses.replace(first, key=f"still {n}", n_bytes=int(first.n_bytes * n))
        for n in (1.3, 1.6)
        if first.n_bytes
    ]
    kept = [*front[:2], *still, dataclasses.replace(last, key="last", n_bytes=int(1.7 * (first.n_bytes or 0)))]
    found = rate_between(anchor, dataclasses.replace(test, trials=tuple(kept)), "bpb")
    assert [each.n_sizes for each in found.plateaus] == [2]
    assert found.percent_with_them is not None
    assert found.percent_with_them > found.rate.percent
