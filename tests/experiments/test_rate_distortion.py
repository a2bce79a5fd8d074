"""The study of the engine: its tables follow from its results, its BD-rates from the points that it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.rate_distortion import curves
from experiments.rate_distortion.curves import ENGINE
from experiments.rate_distortion.one_seed import ABLATIONS, PRESET_DIALS
from experiments.replication.pages import EXPERIMENTS
from experiments.replication.results import Measures
from experiments.replication.rows import Row, read_rows
from pgpack.study.frontier import bd_rate

FOLDER = EXPERIMENTS / "rate_distortion"


@pytest.fixture(scope="module")
def measures() -> Measures:
    return Measures.load(FOLDER / "results" / "measures.json")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(read_rows(FOLDER / "results" / "points.csv"))


@pytest.mark.parametrize("peer", PRESET_DIALS)
def test_rates_follow_from_the_points(peer: str, measures: Measures, rows: list[Row]) -> None:
    def curve(name: str, seed: int) -> np.ndarray:
        own = [row for row in rows if (row["curve"], row["seed"]) == (name, seed)]
        return np.array([(row["n_bytes"], row["kl"]) for row in own], dtype=np.float64)

    for seed, value in measures.by_seed[f"against {peer}.kl"].items():
        assert bd_rate(curve(peer, seed), curve(ENGINE, seed), "kl").percent == pytest.approx(value, abs=0.01)


def test_the_short_bench_names_ingredients_of_the_long_one() -> None:
    assert set(ABLATIONS) <= {variant.name for variant in curves.ABLATIONS}
