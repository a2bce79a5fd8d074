"""pack: coverage is never silent, shared work changes nothing, budgets are filled on measured bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pgpack.calibration.calibration import Calibration, from_arrays
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors, load_checkpoint, save_tensors
from pgpack.errors import BudgetExceeded, CalibrationError, CheckpointError, RecipeError
from pgpack.fit.budget import FILL, SLACK, fit_budget
from pgpack.fit.effort import Effort
from pgpack.loss.evaluator import BitsPerByte
from pgpack.measure import Measurer
from pgpack.pack import Quantized, pack, quantize
from pgpack.progress import Bar
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.study.frontier import Metric
from pgpack.unpack import unpack


def model_like(seed: int = 0) -> Checkpoint:
    rng = np.random.default_rng(seed)
    shapes = {
        "tok_emb.weight": (256, 64),
        "blocks.0.mlp.fc.weight": (192, 64),
        "blocks.0.mlp.proj.weight": (64, 192),
        "blocks.0.attn_scale": (64,),
    }
    return from_tensors({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


def statistics(checkpoint: Checkpoint, seed: int = 1) -> Calibration:
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in checkpoint.shapes.items():
        if len(shape) == 2:
            x = rng.standard_normal((3 * shape[1], shape[1])).astype(np.float32)
            arrays[f"{name}.hessian"] = x.T @ x / len(x)
    return from_arrays(arrays, "tokens", 100)


def test_gptq_without_calibration_says_what_to_give() -> None:
    with pytest.raises(CalibrationError, match="--calibration"):
        pack(model_like(), parse_recipe("*=gptq|rans"))


@pytest.mark.parametrize(
    ("name", "said"), [("w\n", "control characters"), ("a" * 1025, "1025 bytes"), ("__metadata__", "is reserved")]
)
def test_a_name_that_no_artifact_holds_is_refused_before_any_work(name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=f"cannot hold this checkpoint: .*{said}.*; give the tensor another name"):
        pack(from_tensors({name: np.ones((4, 4), np.float32)}), parse_recipe("*=cast|raw"))


def test_a_matrix_without_hessian_is_named() -> None:
    checkpoint = model_like()
    calibration = statistics(checkpoint)
    shapes = {key: shape for key, shape in calibration.shapes.items() if "fc" not in key}
    partial = dataclasses.replace(calibration, shapes=shapes)
    with pytest.raises(CalibrationError, match=r"blocks\.0\.mlp\.fc\.weight"):
        pack(checkpoint, parse_recipe("ndim<=1=cast; *=gptq|rans"), partial)


def test_calibration_of_another_model_is_refused() -> None:
    arrays = {f"{name}.hessian": np.eye(7, dtype=np.float32) for name in model_like().shapes}
    with pytest.raises(CalibrationError, match="another model"):
        pack(model_like(), parse_recipe("ndim<=1=cast; *=gptq|rans"), from_arrays(arrays, "", 1))


def test_the_order_of_hidden_units_keeps_the_function() -> None:
    checkpoint = model_like()
    packed = pack(checkpoint, parse_recipe("*=cast(dtype=fp32); @order=mlp(by=norm)"))
    tensors = unpack(packed.data).tensors()
    x = np.random.default_rng(2).standard_normal((5, 64)).astype(np.float32)

    def mlp(fc: np.ndarray, proj: np.ndarray) -> np.ndarray:
        return np.maximum(x @ fc.T, 0) ** 2 @ proj.T

    names = ("blocks.0.mlp.fc.weight", "blocks.0.mlp.proj.weight")
    before, after = (mlp(*(source[name] for name in names)) for source in (dict(checkpoint.items()), tensors))
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-3)
    norms = np.linalg.norm(tensors[names[0]], axis=1)
    assert (np.diff(norms) <= 0).all()
    assert not np.array_equal(tensors[names[0]], checkpoint.tensor(names[0]))


def test_ordered_gptq_is_gptq_in_another_order() -> None:
    checkpoint = model_like()
    calibration = statistics(checkpoint)
    name = "blocks.0.mlp.proj.weight"
    text = "ndim<=1=cast; *=gptq(bits=8,clip=50)|raw"
    plain = unpack(pack(checkpoint, parse_recipe(text), calibration).data).tensors()[name]
    ordered = pack(checkpoint, parse_recipe(f"{text}; @order=mlp(by=norm)"), calibration)
    norms = np.linalg.norm(checkpoint.tensor("blocks.0.mlp.fc.weight"), axis=1)
    permutation = np.argsort(-norms, kind="stable")
    agreeing = np.isclose(unpack(ordered.data).tensors()[name], plain[:, permutation], atol=1e-6).mean()
    assert agreeing > 0.99  # float32 rounding may move a value across a threshold


@pytest.mark.parametrize("budget", [9_000, 20_000, 31_000])
def test_a_budget_is_filled_and_never_passed(budget: int) -> None:
    checkpoint = model_like()
    calibration = statistics(checkpoint)
    fitted = fit_budget(Measurer(checkpoint, None, lambda recipe: calibration), budget)
    assert min(FILL * budget, budget - SLACK) <= fitted.artifact.n_bytes <= budget
    again = pack(checkpoint, parse_recipe(str(fitted.recipe)), calibration)
    assert again.data == fitted.artifact.data


def test_a_budget_that_nothing_fits_says_by_how_much() -> None:
    checkpoint = model_like()
    calibration = statistics(checkpoint)
    with pytest.raises(BudgetExceeded, match="too many"):
        fit_budget(Measurer(checkpoint, None, lambda recipe: calibration), 700)


def test_a_budget_above_everything_keeps_the_weights() -> None:
    checkpoint = model_like()
    calibration = statistics(checkpoint)
    fitted = fit_budget(Measurer(checkpoint, None, lambda recipe: calibration), 10_000_000)
    assert fitted.label == "fp32"
    assert fitted.score == 0


@dataclasses.dataclass
class Judge:
    """An evaluator whose KL falls with the squared error of the weights, and whose bits per byte rise."""

    exact: dict[str, np.ndarray]
    digest: str = "judge"
    n_asked: int = 0

    def evaluate(self, tensors: Mapping[str, np.ndarray]) -> BitsPerByte:
        self.n_asked += 1
        error = sum(float(np.square(tensors[name] - weight).sum()) for name, weight in self.exact.items())
        return BitsPerByte(3 - 1e-5 * error, 2 - 1e-5 * error, error, 1, 1, 0.0)


@pytest.mark.parametrize(("metric", "is_exact"), [(None, True), ("kl", True), ("bpb", False), ("nats", False)])
def test_what_fits_a_budget_is_chosen_by_the_metric(metric: Metric | None, is_exact: bool) -> None:
    checkpoint = model_like()
    calibration = statistics(checkpoint)
    measurer = Measurer(checkpoint, Judge(dict(checkpoint.items())), lambda recipe: calibration)
    fitted = fit_budget(measurer, 10_000_000, metric=metric)
    assert (fitted.label == "fp32") == is_exact
    assert fitted.loss is not None
    assert fitted.score == getattr(fitted.loss, metric or "kl")


def test_by_the_error_of_the_weights_nothing_is_evaluated() -> None:
    checkpoint = model_like()
    judge, calibration = Judge(dict(checkpoint.items())), statistics(checkpoint)
    fitted = fit_budget(Measurer(checkpoint, judge, lambda recipe: calibration), 10_000_000, metric="error")
    assert (fitted.label, judge.n_asked) == ("fp32", 0)


def test_a_field_container_fixes_the_coding() -> None:
    with pytest.raises(RecipeError, match="fixes the coding"):
        pack(model_like(), parse_recipe("*=rtn(bits=6)|rans; @container=torch_sdclip|zlib"))


class Untrained:
    """A trainer that notes what it is asked for and changes nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def compensate(self, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None) -> Quantized:
        self.asked.append(f"compensate {recipe.compensate.count}")
        return quantize(checkpoint, apply(recipe, checkpoint.stored_shapes), calibration)

    def tune(self, quantized: Quantized, recipe: Recipe) -> Quantized:
        self.asked.append(f"tune {recipe.tune.count}")
        return quantized


@pytest.mark.parametrize("directive", ["@tune=steps(count=3)", "@compensate=weights(count=3)"])
def test_training_needs_a_model_and_text(directive: str) -> None:
    with pytest.raises(CalibrationError, match=f"{directive.split('=', maxsplit=1)[0]} needs the model"):
        pack(model_like(), parse_recipe(f"*=rtn(bits=8)|rans; {directive}"))


def test_a_trainer_compensates_and_then_tunes() -> None:
    trainer = Untrained()
    recipe = parse_recipe("*=rtn(bits=8)|rans; @compensate=weights(count=2); @tune=steps(count=3)")
    packed = pack(model_like(), recipe, trainer=trainer)
    assert trainer.asked == ["compensate 2", "tune 3"]
    assert packed.data == pack(model_like(), parse_recipe("*=rtn(bits=8)|rans")).data


def test_rows_that_correct_each_other_need_the_moments_of_output_gradients() -> None:
    recipe = parse_recipe("ndim<=1=cast; *=tcq(step=0.1,states=8,group=16)|rans_scaled(states=8)")
    checkpoint = model_like()
    with pytest.raises(CalibrationError, match=r"NAME\.output.*leave group out"):
        pack(checkpoint, recipe, statistics(checkpoint))


def test_a_budget_tries_a_trained_candidate_last() -> None:
    checkpoint, trainer = model_like(), Untrained()
    hessians = statistics(checkpoint)
    fisher = {f"{n}.fisher": np.ones(s[0], np.float32) for n, s in checkpoint.shapes.items() if len(s) == 2}
    calibration = from_arrays({key: hessians.load(key) for key in hessians.shapes} | fisher, "tokens", 100)
    measurer = Measurer(checkpoint, None, lambda recipe: calibration, trainer=trainer)
    said: list[str] = []
    moved: list[int] = []
    bar = Bar(lambda n=1: moved.append(n), said.append)
    fitted = fit_budget(measurer, 20_000, bar=bar, effort=Effort(compensate=2, tune=3))
    assert sum(moved) > len(said)  # a search is seen to move with every artifact, not only when a family is done
    assert set(trainer.asked) == {"compensate 2", "tune 3"}
    assert fitted.artifact.n_bytes <= 20_000
    assert any("compensated, tuned: " in line for line in said)


def test_a_search_takes_its_statistics_once() -> None:
    checkpoint = model_like()
    hessians = statistics(checkpoint)
    fisher = {f"{n}.fisher": np.ones(s[0], np.float32) for n, s in checkpoint.shapes.items() if len(s) == 2}
    calibration = from_arrays({key: hessians.load(key) for key in hessians.shapes} | fisher, "tokens", 100)
    asked: set[bool] = set()

    def calibrate(recipe: Recipe) -> Calibration:
        asked.add(bool(apply(recipe, checkpoint.stored_shapes).corrects_rows))
        return calibration

    fit_budget(Measurer(checkpoint, None, calibrate), 20_000, effort=Effort(group=32))
    assert asked == {True}  # the rough search has no row groups, and takes what the final one needs


def test_more_tensors_than_an_artifact_holds_are_refused_before_any_work() -> None:
    many = from_tensors({f"w.{i}": np.full(1, i, np.float32) for i in range((1 << 15) + 1)})
    with pytest.raises(RecipeError, match=r"at most 32,768 tensors, the checkpoint 32,769"):
        pack(many, parse_recipe("*=cast"))


def test_a_part_of_the_tensors_is_quantized_without_reading_the_others() -> None:
    whole = from_tensors({f"w.{i}": np.full((2, 2), i, np.float32) for i in range(5)})
    applied = apply(parse_recipe("*=cast"), whole.stored_shapes)
    read: list[str] = []

    def load(name: str) -> NDArray[Any]:
        read.append(name)
        return whole.load(name)

    quantize(dataclasses.replace(whole, load=load), applied, names=["w.3"])
    assert read == ["w.3"]


def test_nan_weights_are_refused() -> None:
    broken = from_tensors({"w": np.full((2, 2), np.nan, np.float32)})
    with pytest.raises(CheckpointError, match="NaN"):
        pack(broken, parse_recipe("*=cast"))


def test_checkpoints_are_equal_whatever_their_file_format(tmp_path: Path) -> None:
    tensors = dict(model_like().items())
    save_tensors(tmp_path / "a.safetensors", tensors, {"k": "v"})
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, tmp_path / "b.pt")
    torch.save({"state_dict": {name: torch.from_numpy(array) for name, array in tensors.items()}}, tmp_path / "c.pt")
    loaded = [load_checkpoint(tmp_path / name) for name in ("a.safetensors", "b.pt", "c.pt")]
    assert {checkpoint.digest for checkpoint in loaded} == {model_like().digest}
    assert loaded[0].metadata == {"k": "v"}


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    w = torch.randn(3, 4).bfloat16()
    save_file({"w": w}, tmp_path / "a.safetensors")
    torch.save({"w": w}, tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        array = load_checkpoint(tmp_path / name).tensor("w")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, w.float().numpy())


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="would run code"):
        load_checkpoint(tmp_path / "evil.pt")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\0" * 100, b"x" * 8 + b"{" + b"y" * 50, b"root:x:0:0:root:/home:/bin/sh\n"]
)
def test_unreadable_checkpoints_get_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "c.pt")
    assert "\n" not in str(caught.value)


def test_a_statistic_that_is_no_number_is_stored_as_it_is_and_a_weight_refused() -> None:
    state = {"fc.weight": np.eye(8, dtype=np.float32), "bn.running_var": np.ones(8, np.float32)}
    state["bn.running_var"][3] = np.nan
    packed = pack(from_tensors(state), parse_recipe("*=cast(dtype=fp16)|raw"))
    assert np.array_equal(unpack(packed.data).tensors()["bn.running_var"], state["bn.running_var"], equal_nan=True)
    state["fc.weight"][1, 1] = np.inf
    with pytest.raises(
        CheckpointError, match=r"fc\.weight holds NaN or infinity \(1 of 64 values\), as of a model that"
    ):
        pack(from_tensors(state), parse_recipe("*=cast(dtype=fp16)|raw"))
