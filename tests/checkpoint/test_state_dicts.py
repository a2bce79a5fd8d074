"""Of several state dicts in a torch file the one that is named is read, and none in silence."""

from __future__ import annotations

import argparse
import collections
import pathlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from pgpack_cli.pgpack_app import app
from pgpack_cli.pgtrain_app import app as train_app
from torch import nn

import pgpack
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import CheckpointError


def state(seed: int = 0, width: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(width, 3, generator=generator), "b": torch.randn(width, generator=generator)}


MODEL, EMA = state(0), state(1)
MOMENTS = {"state": {0: {"exp_avg": torch.randn(4, 3), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)


@dataclass
class Config:
    n_layer: int = 3


def opened(tmp_path: Path, value: Any, key: str | None = None, zipped: bool = True) -> Checkpoint:
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    return pgpack.open_checkpoint(tmp_path / "a.pt", key=key)


def assert_is(checkpoint: Checkpoint, expected: dict[str, torch.Tensor]) -> None:
    assert {name: array.tolist() for name, array in checkpoint.items()} == {
        name: tensor.tolist() for name, tensor in expected.items()
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"model": MODEL, "ema": EMA}, "2 state dicts: model (2 tensors, 16 values), ema (2 tensors, 16 values)"),
        ({"controller_state_dict": MODEL, "dynamics_state_dict": {"A": torch.ones(8, 8)}}, "dynamics_state_dict (1"),
        ({"step": 5, "momentum_buffers": {k: 0 * v for k, v in MODEL.items()}, "net_state": MODEL}, "momentum_bu"),
        ({"models": [MODEL, EMA]}, "models.0 (2 tensors, 16 values), models.1"),
        ({"encoder": {"layer": MODEL}, "decoder": EMA}, "encoder.layer"),
        ({"model": {"module": MODEL}, "callbacks": {"average": {"shadow": EMA}}}, "callbacks.average.shadow"),
        ({"model": MODEL, "lm_head.weight": torch.ones(4, 4)}, "2 state dicts: . (1 tensors, 16 values), model"),
        ({"model": MODEL, "model_int8": {"w": torch.ones(4, 3, dtype=torch.int8)}}, "model_int8 (1 tensors"),
    ],
)
def test_several_state_dicts_ask_which(tmp_path: Path, value: Any, said: str, zipped: bool) -> None:
    with pytest.raises(
        CheckpointError, match=r"a\.pt holds 2 state dicts: .*; say which one with --key NAME"
    ) as found:
        opened(tmp_path, value, zipped=zipped)
    assert said in str(found.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"model": MODEL, "ema": EMA}, "ema"),
        ({"model": MODEL, "average": {"decay": 0.9, "shadow": EMA}}, "average.shadow"),
        ({"model": MODEL, "average": {"decay": 0.9, "shadow": EMA}}, "average"),
        ({"models": [MODEL, EMA]}, "models.1"),
        ({"model": MODEL, **EMA}, "."),
        ({"model": MODEL, "ema": {**EMA, "decay": 0.9}}, "ema"),
        ({"model": MODEL, 1: EMA}, "1"),
    ],
)
def test_the_one_that_is_named_is_read(tmp_path: Path, value: Any, key: str, zipped: bool) -> None:
    assert_is(opened(tmp_path, value, key, zipped), EMA)


NESTED = {  # one model whose modules keep dictionaries of their own, as Megatron's do
    "model": {
        "embedding": {"words": {"weight": torch.ones(5, 4)}, "places": {"weight": torch.ones(3, 4)}},
        "encoder": {"layers.0.weight": torch.ones(4, 4), "note": "x"},
    },
    "optimizer": {"exp_avg": torch.ones(5, 4)},
    "iteration": 3,
}


@pytest.mark.parametrize("zipped", [True, False])
def test_parts_of_one_model_are_read_as_one_where_that_is_asked(tmp_path: Path, zipped: bool) -> None:
    with pytest.raises(
        CheckpointError, match=r"3 state dicts: .*--key NAME, or --key 'model\.\*' for all of them as one"
    ):
        opened(tmp_path, NESTED, zipped=zipped)
    found = opened(tmp_path, NESTED, "model.*", zipped)
    model = NESTED["model"]
    expected = {
        "embedding.words.weight": model["embedding"]["words"]["weight"],
        "embedding.places.weight": model["embedding"]["places"]["weight"],
        "encoder.layers.0.weight": model["encoder"]["layers.0.weight"],
    }
    assert_is(found, expected)
    assert found.notes[0] == "a.pt: encoder.note: no tensor, left out"
    assert_is(opened(tmp_path, NESTED, "*", zipped), {f"model.{name}": each for name, each in expected.items()})
    with pytest.raises(CheckpointError, match=r"no state dict 'teacher\.\*'"):
        opened(tmp_path, NESTED, "teacher.*", zipped)


def test_models_of_one_kind_are_not_proposed_as_parts_of_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--key NAME$"):
        opened(tmp_path, {"model": MODEL, "ema": EMA})


def test_tensors_of_one_joined_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"two of its tensors are 'a\.b' as text"):
        opened(tmp_path, {"a": {"b": torch.ones(2, 2)}, "a.b": torch.ones(2, 2)}, "*")


def test_modules_that_torch_quantized_are_called_so(tmp_path: Path) -> None:
    packed = {"0.scale": torch.ones(()), "0._packed_params._packed_params": (torch.ones(3, 2), None)}
    with pytest.raises(
        CheckpointError, match=r"'0\._packed_params\._packed_params' is of a module that torch quantized"
    ):
        opened(tmp_path, {**MODEL, **packed})


def test_a_key_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no state dict 'teacher'; it holds model \(2 tensors.*, ema \(2"):
        opened(tmp_path, {"model": MODEL, "ema": EMA}, "teacher")


def test_keys_that_are_one_as_text_cannot_be_named(tmp_path: Path) -> None:
    for key in (None, "1"):
        with pytest.raises(CheckpointError, match="two of its keys are"):
            opened(tmp_path, {1: MODEL, "1": EMA}, key)


def test_a_file_of_one_checkpoint_takes_no_key(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(MODEL, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds one checkpoint under no name; leave out the key 'ema'"):
        pgpack.open_checkpoint(tmp_path / "a.safetensors", key="ema")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        {"model": MODEL, "ema": {name: tensor.clone() for name, tensor in MODEL.items()}},
        {"model": MODEL, "optimizer": MOMENTS, "rng_state": torch.zeros(8, dtype=torch.uint8)},
        {"state_dict": MODEL, "optimizer_states": [MOMENTS], "callbacks": {"best": {"score": torch.tensor(1.0)}}},
        {"model": MODEL, "adam": MOMENTS},
        {"state": {"model": MODEL, "optim": {"exp_avg": EMA}}},
        {"model": MODEL, "losses": torch.arange(5.0)},
        {"model": MODEL, "scaler": {"scale": torch.tensor(2.0), "steps": torch.zeros(3)}},
    ],
    ids=["equal", "optimizer", "lightning", "any-name", "fully-sharded", "losses", "scaler"],
)
def test_what_is_no_second_model_does_not_ask(tmp_path: Path, value: Any, zipped: bool) -> None:
    assert_is(opened(tmp_path, value, zipped=zipped), MODEL)


def test_what_an_optimizer_keeps_is_read_when_it_is_named(tmp_path: Path) -> None:
    assert_is(opened(tmp_path, {"model": MODEL, "optimizer": {"exp_avg": EMA}}, "optimizer.exp_avg"), EMA)


def adam_of(parts: int) -> dict[str, Any]:
    """What AdamW keeps of layers, after a step."""
    layers = torch.nn.ModuleList(torch.nn.Linear(3, 2, bias=False) for _ in range(parts))
    optimizer = torch.optim.AdamW(layers.parameters())
    sum(layer(torch.ones(1, 3)).sum() for layer in layers).backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("within", [(), ("optimizer",), ("a", "lr_scheduler")])
def test_what_an_optimizer_keeps_is_no_model(
    tmp_path: Path, parts: int, within: tuple[str, ...], zipped: bool
) -> None:
    value = adam_of(parts)
    for name in reversed(within):
        value = {name: value, "step": 7}
    with pytest.raises(CheckpointError, match="what an optimizer or the like keeps and no weights; give the file of"):
        opened(tmp_path, value, zipped=zipped)
    key = ".".join((*within, "state.0"))
    assert set(opened(tmp_path, value, key, zipped=zipped).shapes) == {"step", "exp_avg", "exp_avg_sq"}


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    found = opened(tmp_path, {"model": {"module": {**MODEL, "fc._extra_state": None}, "step": 3}, "best_loss": 1.5})
    assert found.notes == (
        "a.pt: fc._extra_state: no tensor, left out",
        "a.pt: read model.module; left out what is beside it: best_loss, step",
    )


@pytest.mark.parametrize(
    "extra",
    [
        np.float64(1.5), np.int64(3), np.bool_(True), np.str_("x"), np.arange(3), argparse.Namespace(lr=1), Config(),
        pathlib.PurePosixPath("/a"), collections.Counter("aab"), collections.defaultdict(int, {1: 2}), {1, 2}, 1j,
        torch.device("cpu"), torch.float16,
    ],
    ids=lambda extra: type(extra).__name__,
)  # fmt: skip
def test_values_of_other_kinds_beside_a_state_dict_are_left_out(tmp_path: Path, extra: Any) -> None:
    found = opened(tmp_path, {"model": MODEL, "extra": extra})
    assert_is(found, MODEL)
    assert found.notes == ("a.pt: read model; left out what is beside it: extra",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_number_of_numpys_in_a_state_dict_is_left_out_and_an_array_refused(tmp_path: Path, zipped: bool) -> None:
    found = opened(tmp_path, {**MODEL, "best_loss": np.float64(1.5)}, zipped=zipped)
    assert_is(found, MODEL)
    assert found.notes == ("a.pt: best_loss: no tensor, left out",)
    with pytest.raises(CheckpointError, match=r"'weights' is not a tensor|run code"):
        opened(tmp_path, {**MODEL, "weights": np.ones((3, 3))}, zipped=zipped)


def test_arrays_of_numpy_instead_of_tensors_are_called_that(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'w' is an array of numpy's; store them by name with numpy\.savez"):
        opened(tmp_path, {name: tensor.numpy() for name, tensor in MODEL.items()})


def test_a_whole_model_is_no_state_dict_and_does_not_hide_behind_one(tmp_path: Path) -> None:
    for value, where in ((Net(), "what it holds"), ({"model": Net(), "ema": EMA}, "model")):
        with pytest.raises(CheckpointError, match=rf"{where} \(.*Net\) is an object with tensors in it; save"):
            opened(tmp_path, value)
    assert_is(opened(tmp_path, {"model": Net(), "ema": EMA}, "ema"), EMA)
    assert_is(opened(tmp_path, {"ema": EMA, "optimizer": torch.optim.AdamW(Net().parameters())}), EMA)


@pytest.mark.filterwarnings("ignore")  # of torch about nested tensors
def test_tensors_without_plain_values_are_refused_by_name(tmp_path: Path) -> None:
    odd = {
        "nested": (torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)]), "store what it is made of"),
        "sparse": (torch.eye(3).to_sparse(), r"store it as \.to_dense\(\)"),
        "rows": (torch.eye(3).to_sparse_csr(), r"store it as \.to_dense\(\)"),
        "bits": (torch.zeros(4, 4, dtype=torch.uint8).view(torch.bits8), "store it as float32"),
        "halves": (torch.zeros(4, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "store it as float32"),
    }
    for name, (tensor, cure) in odd.items():
        with pytest.raises(CheckpointError, match=rf"a\.pt: {name} .*; {cure}"):
            opened(tmp_path, {**MODEL, name: tensor})


@pytest.mark.filterwarnings("ignore")  # of torch about half complex
@pytest.mark.parametrize(
    "kind", ["uint16", "uint32", "uint64", "complex64", "complex128", "complex32", "float8_e8m0fnu"]
)
def test_every_kind_of_number_that_torch_saves_is_read(tmp_path: Path, kind: str) -> None:
    values = torch.ones(4, 4).to(getattr(torch, kind))
    found = opened(tmp_path, {"x": values}).tensor("x")
    assert found.dtype.name == {"complex32": "complex64", "float8_e8m0fnu": "float32"}.get(kind, kind)
    assert np.array_equal(found, np.ones((4, 4)))


def test_conjugates_and_negatives_that_torch_keeps_as_views_are_read(tmp_path: Path) -> None:
    values = torch.randn(3, 3, dtype=torch.complex64)
    assert np.array_equal(opened(tmp_path, {"x": values.conj()}).tensor("x"), values.numpy().conj())
    assert np.array_equal(opened(tmp_path, {"x": values.conj().imag}).tensor("x"), -values.numpy().imag)


OPEN_A_CHECKPOINT = (
    "analyze", "calibrate", "eval", "init-adapter", "inspect", "pack", "plan", "sweep", "transcode", "verify",
)  # fmt: skip


@pytest.mark.parametrize("verb", OPEN_A_CHECKPOINT)
def test_every_verb_that_opens_a_checkpoint_takes_a_key(verb: str) -> None:
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    assert "--key" in {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("verb", ["adopt", "eval"])
def test_so_do_those_of_pgtrain(verb: str) -> None:
    command = train_app.get_command(click.Context(train_app), verb)
    assert command is not None
    assert "--key" in {name for parameter in command.params for name in parameter.opts}


def test_a_store_of_modules_that_were_quantized_is_called_that_and_asks_for_no_key(tmp_path: Path) -> None:
    packed = {"W_q": torch.ones(8, 4, dtype=torch.uint8), "scale": torch.ones(4), "meta": {"nbits": 4}}
    with pytest.raises(CheckpointError, match=r"its weights were quantized \(layers.0.q.W_q\); give the folder"):
        opened(
            tmp_path, {"emb": {"weight": torch.ones(8, 4)}, "layers.0.q": packed, "norm": {"weight": torch.ones(4)}}
        )
    with pytest.raises(CheckpointError, match="holds 2 state dicts: model"):  # a model, and what was made of it
        opened(tmp_path, {"model": {"q.weight": torch.ones(8, 4)}, "hqq": {f"q.{n}": t for n, t in packed.items()}})


def test_a_pipelines_file_without_its_module_says_where_the_weights_lie(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its module is left out; the weights lie in the files beside it"):
        opened(tmp_path, {"module": None, "optimizer": None, "global_steps": 10})


ROW = [torch.ones(4, 4), torch.zeros(3)]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"blocks": ROW}, None),
        ({"model": {"blocks": tuple(ROW)}, "optimizer": {"m": ROW}}, None),
        ({"model": {"a": {"blocks": ROW}}, "step": 3}, "model.a"),
    ],
)
def test_a_list_of_tensors_is_named_by_number(tmp_path: Path, value: Any, key: str | None, zipped: bool) -> None:
    assert_is(opened(tmp_path, value, key, zipped), {"blocks.0": ROW[0], "blocks.1": ROW[1]})


def test_a_list_beside_tensors_belongs_to_them_and_is_never_half_read(tmp_path: Path) -> None:
    assert set(opened(tmp_path, {**MODEL, "blocks": ROW}).shapes) == {*MODEL, "blocks.0", "blocks.1"}
    nested = {"model": {"a": {"w": ROW[0]}, "b": {"v": ROW, "w": ROW[0]}}}
    assert set(opened(tmp_path, nested, "model.*").shapes) == {"a.w", "b.v.0", "b.v.1", "b.w"}
    for key in (None, "."):
        with pytest.raises(CheckpointError, match=r"'blocks' is a list that holds more than tensors of floats"):
            opened(tmp_path, {**MODEL, "blocks": [*ROW, None]}, key)
        with pytest.raises(CheckpointError, match=r"'w8' is a list that holds more than tensors of floats"):
            opened(tmp_path, {**MODEL, "w8": (torch.ones(4, 4, dtype=torch.int8), torch.ones(4))}, key)
    with pytest.raises(CheckpointError, match=r"two of its tensors are 'blocks\.0' as text"):
        opened(tmp_path, {"blocks.0": ROW[0], "blocks": ROW})
