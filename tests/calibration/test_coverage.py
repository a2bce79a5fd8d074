"""A tensor without a Hessian never fails a recipe: it is packed by its weights alone, or bit for bit, and named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pgpack.calibration.calibration import Calibration, from_arrays
from pgpack.calibration.coverage import NO_GRADIENT, OTHER_SIZE, STRENGTH, UNSEEN, ZERO, covered, folded
from pgpack.calibration.distortion import relative_errors
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import CalibrationError, CheckpointError
from pgpack.fit.budget import fit_budget
from pgpack.measure import Measurer
from pgpack.pack import Artifact, pack_applied
from pgpack.recipe.preset_candidates import field_presets
from pgpack.recipe.recipe import parse_recipe
from pgpack.recipe.spaces import default_space
from pgpack.unpack import unpack

TCQ = "*=tcq(step=1e-4)|rans_scaled(states=8)"
BASE = {"enc.weight": (96, 48), "dec.weight": (48, 96)}
RNG = np.random.default_rng(3)


def normal(*shape: int, scale: float = 0.1) -> np.ndarray:
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


STRANGE = {
    "positions in a stack": normal(1, 40, 24),
    "a table of positions": normal(40, 24),
    "stacked experts": normal(4, 32, 16),
    "a convolution": normal(32, 1, 5),
    "a picture's convolution": normal(8, 3, 5, 5),
    "a vector": normal(50),
    "a scalar": np.float32(0.3).reshape(()),
    "one row": normal(1, 60),
    "one column": normal(60, 1),
    "nothing": np.zeros((0, 7), np.float32),
    "zeros": np.zeros((6, 10), np.float32),
    "a mask of 0 and 1": np.tril(np.ones((1, 1, 20, 20), np.float32)),
    "a mask of -inf": np.triu(np.full((20, 20), -np.inf, np.float32), 1),
    "a mask of -1e9": np.triu(np.full((20, 20), -1e9, np.float32), 1),
    "log of integers": np.log(np.tile(np.arange(1, 9, dtype=np.float32), (30, 1))),
    "complex angles": np.exp(1j * np.arange(24).reshape(6, 4)).astype(np.complex64),
    "wide complex": np.exp(1j * np.arange(4.0)),
    "unsigned": np.arange(5, dtype=np.uint32),
    "far apart": np.array([0, 2**62]),
    "ids": np.arange(40_000),
    "flags": np.arange(30).reshape(5, 6) % 3 == 0,
    "tiny": normal(32, 16, scale=1e-8),
    "bias of -1e4": np.array([0, 0, -1e4], np.float32),
}
EXACT = [name for name in STRANGE if "mask" in name or STRANGE[name].dtype.kind != "f" or "log" in name]


def base() -> dict[str, np.ndarray]:
    return {name: normal(*shape) for name, shape in BASE.items()}


def statistics(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {}
    for name in BASE:
        rows, columns = tensors[name].shape
        x = np.random.default_rng(1).standard_normal((200, columns)).astype(np.float32)
        arrays[f"{name}.hessian"] = x.T @ x / 200
        arrays[f"{name}.fisher"] = np.full(rows, 6e-6, np.float32)
    return arrays


def packed(checkpoint: Checkpoint, recipe: str, calibration: Calibration | None = None) -> Artifact:
    whole = covered(checkpoint, parse_recipe(recipe), calibration)
    return pack_applied(checkpoint, whole.applied, whole.calibration)


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("name", STRANGE)
def test_every_kind_of_tensor_is_packed_and_masks_and_integers_bit_for_bit(name: str, calibrated: bool) -> None:
    tensors = {**base(), name: STRANGE[name]}
    checkpoint = from_tensors(tensors)
    calibration = from_arrays(statistics(tensors), "t", 1) if calibrated else None
    artifact = packed(checkpoint, TCQ, calibration)
    decoded = unpack(artifact.data).tensors()[name]
    assert (decoded.shape, decoded.dtype.kind) == (STRANGE[name].shape, STRANGE[name].dtype.kind)
    if name in EXACT:
        assert np.array_equal(decoded, STRANGE[name])
        assert decoded.dtype == STRANGE[name].dtype
    else:
        assert relative_errors(checkpoint, artifact.records).get(name, 0.0) < 0.15


@pytest.mark.parametrize(
    "recipe",
    [
        "*=gptq(bits=5,clip=8)|rans",
        "*=tcq(step=1e-4,group=16)|rans_scaled(states=8)",
        "*=prune_obs(sparsity=0.3)|gptq(bits=8,clip=40)|rans",
        "*=prune_wanda(sparsity=0.3)|rtn(bits=6)|rans",
        "*=svd(rank=8)|gptq(bits=8,clip=40)|rans",
        "*=lqer(rank=2)|tcq(step=1e-4)|rans_scaled(states=8)",
        "*=tcq(step=1e-4)|rans; @order=mlp(by=norm)",
    ],
)
def test_every_stage_that_wants_a_hessian_does_without(recipe: str) -> None:
    tensors = {**base(), "blocks.0.mlp.fc.weight": normal(40, 20), "blocks.0.mlp.proj.weight": normal(20, 40)}
    checkpoint = from_tensors(tensors)
    for calibration in (None, from_arrays(statistics(tensors), "t", 1)):
        artifact = packed(checkpoint, recipe, calibration)
        bound = 0.7 if "svd" in recipe else 0.25
        if "order" not in recipe:
            assert max(relative_errors(checkpoint, artifact.records).values()) < bound


def lacking(change: str) -> tuple[Checkpoint, Calibration]:
    tensors = base()
    arrays = statistics(tensors)
    if change == UNSEEN:
        del arrays["dec.weight.hessian"], arrays["dec.weight.fisher"]
    elif change == ZERO:
        arrays["dec.weight.hessian"] *= 0
    elif change == OTHER_SIZE:
        arrays["dec.weight.hessian"] = np.eye(5, dtype=np.float32)
    else:
        arrays["dec.weight.fisher"] *= 0
    return from_tensors(tensors), from_arrays(arrays, "t", 1)


@pytest.mark.parametrize("why", [UNSEEN, ZERO, OTHER_SIZE, NO_GRADIENT])
def test_what_lacks_and_why_is_said(why: str) -> None:
    checkpoint, calibration = lacking(why)
    whole = covered(checkpoint, parse_recipe(TCQ), calibration)
    assert whole.assumed == {"dec.weight": why}
    assert whole.note == f"1 tensor is packed without a Hessian: dec.weight ({why}); --strict refuses them"
    errors = relative_errors(checkpoint, pack_applied(checkpoint, whole.applied, whole.calibration).records)
    assert 0 < errors["dec.weight"] < 2 * errors["enc.weight"]


def test_a_missing_fisher_weight_leaves_the_hessian_in_use() -> None:
    checkpoint, calibration = lacking(NO_GRADIENT)
    whole = covered(checkpoint, parse_recipe(TCQ), calibration)
    assert whole.calibration is not None
    assert np.array_equal(whole.calibration.hessian("dec.weight"), calibration.hessian("dec.weight"))
    fisher, power = whole.calibration.fisher("dec.weight"), np.square(checkpoint.tensor("dec.weight")).mean()
    known = 6e-6 * calibration.sensitivity("enc.weight")[0] * np.square(checkpoint.tensor("enc.weight")).mean()
    np.testing.assert_allclose(fisher * calibration.sensitivity("dec.weight")[0] * power, known, rtol=1e-5)


def test_of_nothing_known_every_relative_error_counts_alike() -> None:
    tensors = {"small.weight": normal(200, 64, scale=1e-3), "large.weight": normal(64, 200, scale=10)}
    checkpoint = from_tensors(tensors)
    whole = covered(checkpoint, parse_recipe(TCQ), None)
    assert whole.calibration is not None
    for name, array in tensors.items():
        np.testing.assert_allclose(whole.calibration.fisher(name) * np.square(array).mean(), STRENGTH, rtol=1e-5)
    errors = relative_errors(checkpoint, packed(checkpoint, TCQ).records)
    assert errors["small.weight"] == pytest.approx(errors["large.weight"], rel=0.05)
    assert whole.note.startswith("nothing is calibrated: tensors are packed by the weights alone")
    assert "with text" in whole.note


def test_full_coverage_changes_nothing_and_has_nothing_to_say() -> None:
    tensors = base()
    checkpoint, calibration = from_tensors(tensors), from_arrays(statistics(tensors), "t", 1)
    recipe = parse_recipe(TCQ)
    whole = covered(checkpoint, recipe, calibration)
    assert (whole.applied.recipe, whole.calibration, whole.note) == (recipe, calibration, "")


def test_a_calibration_of_another_model_is_still_refused() -> None:
    arrays = {f"{name}.hessian": np.eye(7, dtype=np.float32) for name in BASE}
    with pytest.raises(CalibrationError, match="another model"):
        covered(from_tensors(base()), parse_recipe(TCQ), from_arrays(arrays, "t", 1))


def test_a_calibration_that_knows_other_tensors_only_is_of_another_model() -> None:
    others = from_arrays({f"other.{name}": array for name, array in statistics(base()).items()}, "t", 1)
    with pytest.raises(CalibrationError, match=r"no tensor of this checkpoint .*another model"):
        covered(from_tensors(base()), parse_recipe(TCQ), others)
    without = parse_recipe("*=rtn(bits=4)|rans")
    assert covered(from_tensors(base()), without, others).note == ""


def test_a_model_that_diverged_is_no_mask() -> None:
    for broken in (np.inf, np.nan):
        with pytest.raises(CheckpointError, match="holds NaN or infinity"):
            from_tensors({"w": np.array([[0, broken], [1, 2]], np.float32)}).tensor("w")
    weights = normal(20, 20)
    weights[3, 3] = -np.inf
    with pytest.raises(CheckpointError, match="diverged"):
        from_tensors({"w": weights}).tensor("w")


def strange_model() -> Checkpoint:
    return from_tensors({**base(), "wte.weight": normal(128, 48), **STRANGE})


def test_a_budget_is_filled_by_the_engine_with_strange_tensors_and_no_text() -> None:
    told: list[str] = []
    measurer = Measurer(strange_model(), None, lambda recipe: None, note=told.append)
    fitted = fit_budget(measurer, 20_000)
    assert "tcq" in str(fitted.recipe)
    assert 19_000 < fitted.artifact.n_bytes <= 20_000
    assert any("nothing is calibrated" in line for line in told)


def test_every_recipe_of_the_default_space_packs_a_model_of_strange_tensors() -> None:
    whole = from_tensors({**base(), "wte.weight": normal(128, 48), **{n: STRANGE[n] for n in list(STRANGE)[:12]}})
    calibration = from_arrays(statistics(dict(whole.items())), "t", 1)
    measurer = Measurer(whole, None, lambda recipe: calibration)
    for candidate in default_space(whole.stored_shapes, field_presets(whole.stored_shapes)):
        assert measurer.pack(candidate.recipe).n_bytes > 0


def test_strict_refuses_what_lacks_a_hessian() -> None:
    checkpoint, calibration = lacking(UNSEEN)
    with pytest.raises(CalibrationError, match=r"1 tensor lacks a Hessian: dec\.weight"):
        Measurer(checkpoint, None, lambda recipe: calibration, strict=True).pack(parse_recipe(TCQ))
    with pytest.raises(CalibrationError, match="needs Hessians for 2 tensors"):
        Measurer(checkpoint, None, lambda recipe: None, strict=True).pack(parse_recipe(TCQ))


def test_without_fisher_weights_a_budget_is_filled_by_gptq_and_a_recipe_of_tcq_still_packs() -> None:
    tensors = base()
    arrays = {key: array for key, array in statistics(tensors).items() if key.endswith("hessian")}
    calibration = from_arrays(arrays, "t", 1)
    measurer = Measurer(from_tensors(tensors), None, lambda recipe: calibration)
    assert "gptq" in str(fit_budget(measurer, 5_000).recipe)
    assert max(relative_errors(measurer.checkpoint, measurer.pack(parse_recipe(TCQ)).records).values()) < 0.15


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [((1, 40, 24), (40, 24)), ((4, 32, 16), (128, 16)), ((32, 1, 5), (32, 5)), ((7,), (1, 7)), ((), (1, 1))],
)
def test_a_trellis_gets_long_columns(shape: tuple[int, ...], matrix: tuple[int, int]) -> None:
    assert folded(shape) == matrix


def test_names_that_a_recipe_reads_otherwise_are_kept_apart() -> None:
    tensors = {**base(), "h[0]; a=b&c": STRANGE["a mask of 0 and 1"]}
    decoded = unpack(packed(from_tensors(tensors), TCQ).data).tensors()
    assert np.array_equal(decoded["h[0]; a=b&c"], STRANGE["a mask of 0 and 1"])


def test_an_order_of_hidden_units_moves_what_was_assumed() -> None:
    calibration = dataclasses.replace(from_arrays({}, "", 0))
    tensors = {"blocks.0.mlp.fc.weight": normal(40, 20), "blocks.0.mlp.proj.weight": normal(20, 40)}
    artifact = packed(from_tensors(tensors), f"{TCQ}; @order=mlp(by=norm)", calibration)
    norms = np.linalg.norm(unpack(artifact.data).tensors()["blocks.0.mlp.fc.weight"], axis=1)
    assert np.corrcoef(norms, -np.arange(40))[0, 1] > 0.9


def test_rows_of_frequent_tokens_get_finer_steps_and_other_tables_do_not() -> None:
    names = {"embed_tokens.weight": (64, 32), "lm_head.weight": (66, 32), "wpe.weight": (20, 32), "mlp.up": (64, 32)}
    checkpoint = from_tensors({name: normal(*shape) for name, shape in names.items()})
    shares = 1 / (np.arange(64) + 2.7)
    whole = covered(checkpoint, parse_recipe(TCQ), None, lambda: shares / shares.sum())
    assert whole.calibration is not None
    for name in ("embed_tokens.weight", "lm_head.weight"):
        fisher = whole.calibration.fisher(name)
        assert fisher is not None
        np.testing.assert_allclose(fisher[:64] / fisher[0], shares / shares[0], rtol=1e-5)
        assert (fisher[64:] == fisher[63]).all()
        power = np.square(checkpoint.tensor(name)).mean()
        np.testing.assert_allclose(fisher.mean() * power, STRENGTH, rtol=1e-5)
    for name in ("wpe.weight", "mlp.up"):
        fisher = whole.calibration.fisher(name)
        assert fisher is not None
        assert (fisher == fisher[0]).all()
    records = pack_applied(checkpoint, whole.applied, whole.calibration).records
    table = next(record for record in records if record.name == "embed_tokens.weight")
    errors = np.square(table.dequantize() - checkpoint.tensor("embed_tokens.weight")).mean(axis=1)
    assert errors[:8].mean() < 0.6 * errors[-32:].mean()


def test_without_text_the_trellis_takes_at_least_0_15_bits_less_than_rounding_at_equal_error() -> None:
    """Ideal scalar steps with ideal coding lose 0.2546 bits to the Gaussian bound, EntQuant's and rtn's more."""
    checkpoint = from_tensors({"w": normal(1024, 256)})

    def curve(recipes: list[str]) -> tuple[list[float], list[float]]:
        made = [packed(checkpoint, recipe) for recipe in recipes]
        bits = [8 * each.report.tensors["w"] / (1024 * 256) for each in made]
        return bits, [np.log2(relative_errors(checkpoint, each.records)["w"]) for each in made]

    trellis, error = curve([f"*=tcq(step={s},states=64)|rans_scaled(states=64)" for s in (1.2e-4, 6e-5)])
    scalar, others = curve([f"*=sdclip(bits=8,clip={c})|rans" for c in (150, 100, 60, 40, 25)])
    order = np.argsort(others)
    for bits, e in zip(trellis, error, strict=True):
        assert np.interp(e, np.array(others)[order], np.array(scalar)[order]) - bits > 0.15


@pytest.mark.parametrize("moment", [1e6, 1e9, 1e12])
def test_one_huge_input_leaves_no_dial_unpackable(moment: float) -> None:
    tensors = base()
    arrays = statistics(tensors)
    arrays["enc.weight.hessian"][5, 5] = moment
    checkpoint = from_tensors(tensors)
    for step in (1e-4, 1e-6):
        artifact = packed(checkpoint, f"*=tcq(step={step})|rans_scaled(states=8)", from_arrays(arrays, "t", 1))
        error = artifact.decoded.tensors()["enc.weight"][:, 5] - tensors["enc.weight"][:, 5]
        assert np.abs(error).max() < 1e-4
