"""The rate that training sees: the coder's ideal length, smooth in the weights, and right about a packed file."""

from __future__ import annotations

import numpy as np
import pytest

from pgpack.calibration.calibration import from_arrays
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.codecs.rans.scaled import RansScaled
from pgpack.errors import RecipeError
from pgpack.pack import pack
from pgpack.refine.outlook import Outlook
from pgpack.refine.rate import rate_of
from pgpack.refine.target import PackerTarget

RECIPE = "ndim<=1=cast; *=tcq(step={step},states={states})|rans_scaled(states={states})"
SHAPES = {"gain": (64,), "a.weight": (192, 64), "b.weight": (64, 192), "c.weight": (96, 64)}


def model(seed: int = 0):
    """Weights of uneven scale with Hessians that go together, and Fisher weights."""
    rng = np.random.default_rng(seed)
    weights, statistics = {}, {}
    for name, shape in SHAPES.items():
        weights[name] = rng.standard_normal(shape).astype(np.float32)
        if len(shape) == 2:
            weights[name] *= np.exp(rng.standard_normal(shape[1]) / 2).astype(np.float32) * 0.1
            x = rng.standard_normal((4 * shape[1], shape[1])) @ rng.standard_normal((shape[1], shape[1]))
            statistics[f"{name}.hessian"] = (x.T @ x / len(x)).astype(np.float32)
            statistics[f"{name}.fisher"] = np.exp(rng.standard_normal(shape[0])).astype(np.float32) * 1e-4
    return weights, from_arrays(statistics, "", 1)


def settled(step: float, budget: int | None = None) -> tuple[Outlook, dict[str, np.ndarray]]:
    weights, calibration = model()
    target = PackerTarget.of(RECIPE.format(step=step, states=8) if budget is None else f"{budget}", SHAPES)
    outlook = Outlook(target, SHAPES)
    outlook.begin(weights, calibration)
    return outlook, weights


@pytest.mark.parametrize("step", [0.002, 0.006, 0.02])
def test_the_slope_is_that_of_finite_differences(step: float) -> None:
    outlook, weights = settled(step)
    levels = {name: matrix.decide(weights[name], step) for name, matrix in outlook.matrices.items()}
    rate = rate_of(levels)
    rng = np.random.default_rng(1)
    for name, n in levels.items():
        x = n + rng.uniform(-0.49, 0.49, n.shape)
        slope, epsilon = rate.slope(name, x), 1e-5
        for i, j in zip(rng.integers(0, n.shape[0], 20), rng.integers(0, n.shape[1], 20), strict=True):
            up, down = x.copy(), x.copy()
            up[i, j] += epsilon
            down[i, j] -= epsilon
            numeric = (rate.bits_of(name, up) - rate.bits_of(name, down)) / (2 * epsilon)
            assert slope[i, j] == pytest.approx(numeric, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("step", [0.002, 0.006, 0.02])
def test_whole_levels_cost_what_the_coder_charges(step: float) -> None:
    outlook, weights = settled(step)
    levels = {name: matrix.decide(weights[name], step) for name, matrix in outlook.matrices.items()}
    rate = rate_of(levels)
    paths = {name: outlook.matrices[name].made.grid.path for name in levels}
    ideal = RansScaled(8).ideal_bits([n[paths[name]] >> 1 for name, n in levels.items()])
    assert sum(rate.bits.values()) == pytest.approx(sum(ideal), rel=0.01)
    for name, n in levels.items():
        assert rate.bits_of(name, n.astype(float)) == pytest.approx(rate.bits[name], rel=1e-9)


@pytest.mark.parametrize("step", [0.001, 0.002, 0.006])  # files of 19 to 8 kB
@pytest.mark.parametrize("states", [8, 64])
def test_a_file_has_the_bytes_that_are_foreseen(step: float, states: int) -> None:
    weights, calibration = model()
    outlook = Outlook(PackerTarget.of(RECIPE.format(step=step, states=states), SHAPES), SHAPES)
    outlook.settle(weights, calibration)
    n_bytes = outlook.decide(weights).n_bytes
    artifact = pack(from_tensors(weights), outlook.target.recipe, calibration)
    assert n_bytes == pytest.approx(artifact.n_bytes, rel=0.02)


def test_what_is_decided_is_what_the_quantizer_gives() -> None:
    weights, calibration = model()
    outlook = Outlook(PackerTarget.of(RECIPE.format(step=0.01, states=8), SHAPES), SHAPES)
    outlook.settle(weights, calibration)
    artifact = pack(from_tensors(weights), outlook.target.recipe, calibration)
    for record in artifact.records:
        if record.name in outlook.matrices:
            matrix = outlook.matrices[record.name]
            decoded = matrix.decide(weights[record.name], 0.01) * np.outer(*matrix.steps(0.01))
            assert np.allclose(decoded, record.dequantize(), rtol=1e-6, atol=0)


def test_threads_change_no_bit() -> None:
    weights, calibration = model()
    decisions = []
    for threads in (1, 3):
        outlook = Outlook(PackerTarget.of(RECIPE.format(step=0.01, states=8), SHAPES), SHAPES, threads)
        outlook.settle(weights, calibration)
        decisions.append(outlook.decide(weights))
    one, three = decisions
    assert one.n_bytes == three.n_bytes
    for name in ("a.weight", "b.weight", "c.weight"):
        assert np.array_equal(one.moves[name], three.moves[name])
        assert np.array_equal(one.slopes[name], three.slopes[name])


def test_a_budget_is_reached() -> None:
    outlook, weights = settled(0.0, 20_000)
    _, calibration = model()
    artifact = pack(from_tensors(weights), outlook.target.at(outlook.dial).recipe, calibration)
    assert artifact.n_bytes == pytest.approx(20_000, rel=0.03)


def test_going_down_the_slope_saves_what_it_says() -> None:
    """A tenth of a step each, against the slope: fewer bytes, by about the slope's estimate."""
    outlook, weights = settled(0.004)
    before = outlook.decide(weights)
    moved, expected = dict(weights), 0.0
    for name, slope in before.slopes.items():
        rows, columns = outlook.matrices[name].steps(0.004)
        change = -0.1 * np.sign(slope) * np.outer(rows, columns)
        expected += float((slope * change).sum()) / outlook.price
        moved[name] = (weights[name] + change).astype(np.float32)
    saved = outlook.decide(moved).n_bytes - before.n_bytes
    assert expected < -0.02 * before.n_bytes
    assert saved == pytest.approx(expected, rel=0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("*=rtn(bits=4)|rans", "coded by tcq"),
        ("a.*=tcq(step=0.1)|rans; ndim<=1=cast; *=tcq(step=0.2)|rans", "all with one step"),
        ("12 bananas", "is not a size"),
        ("0kB", "above 0"),
    ],
)
def test_a_target_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        PackerTarget.of(text, SHAPES)


def test_a_scalar_quantizer_is_refused() -> None:
    weights, calibration = model()
    outlook = Outlook(PackerTarget.of(RECIPE.format(step=0.01, states=1), SHAPES), SHAPES)
    with pytest.raises(RecipeError, match="4 states or more"):
        outlook.settle(weights, calibration)
