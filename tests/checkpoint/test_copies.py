"""Two models side by side in one state dict are said, and a key takes one of them; names of OLMo's are read."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pgpack
from pgpack.errors import CheckpointError

NET = {"emb.weight": torch.ones(8, 4), "fc.weight": torch.ones(6, 4), "fc.bias": torch.ones(6), "g": torch.ones(4)}
KINDS = [".pt", ".safetensors"]


def beside(*names: str) -> dict[str, torch.Tensor]:
    return {f"{name}.{each}": tensor * i for i, name in enumerate(names, 1) for each, tensor in NET.items()}


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_and_its_average_are_said_and_a_key_takes_one(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path / f"a{kind}", beside("online_model", "ema_model") | {"step": torch.tensor(3)})
    whole = pgpack.open_checkpoint(path)
    assert len(whole.shapes) == 9
    (note,) = whole.notes
    one, other = sorted(("online_model", "ema_model"), key=note.index)
    assert f"a{kind} holds the same shapes twice, below {one} and below {other}, and both are packed;" in note
    assert note.endswith(f"say which one: --key {one} or --key {other}")
    average = pgpack.open_checkpoint(path, key="ema_model")
    assert average.shapes == {name: tuple(tensor.shape) for name, tensor in NET.items()}
    assert (average.tensor("g") == 2).all()
    assert average.notes == ()
    with pytest.raises(CheckpointError, match=r"holds (one checkpoint under no name|no state dict 'ema')"):
        pgpack.open_checkpoint(path, key="ema")


SMALL = {"emb.weight": torch.ones(8, 4), "layers.0.fc.weight": torch.ones(6, 4)}


def under(start: str, joined: str = ".", of: dict[str, torch.Tensor] = SMALL) -> dict[str, torch.Tensor]:
    return {start + name.replace(".", joined): tensor for name, tensor in of.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tensors", "where", "keys"),
    [
        (under("model.") | under("model_ema.", ""), "below", ("model", "model_ema")),
        (under("model.") | under("model_ema.", "_"), "below", ("model", "model_ema")),
        (under("model.") | under("ema_model."), "below", ("model", "ema_model")),
        (under("online_encoder.") | under("target_encoder."), "below", ("online_encoder", "target_encoder")),
        (under("net.model.") | under("net.ema."), "below", ("net.model", "net.ema")),
        (under("") | under("ema."), "one of them below ema,", ("ema",)),
        (
            under("model.")
            | under("model_ema.", "")
            | {"vae.fc.weight": torch.ones(90, 9), "vae.norm": torch.ones(9)},
            "below",
            ("model", "model_ema"),
        ),
    ],
)
def test_names_that_say_that_they_are_copies_are_said(
    tmp_path: Path, kind: str, tensors: dict[str, torch.Tensor], where: str, keys: tuple[str, ...]
) -> None:
    counts = {"model_ema.num_updates": torch.tensor(7)} if "model_ema" in keys else {}
    path = saved(tmp_path / f"a{kind}", tensors | counts)
    (note,) = pgpack.open_checkpoint(path).notes
    assert where in note
    for key in keys:
        assert f"--key {key}" in note
        assert f"below {key}" in note
        assert len(pgpack.open_checkpoint(path, key=key).shapes) in (2, 3)


@pytest.mark.parametrize("end", ["_ema", ".ema", "_shadow", "_averaged"])
def test_copies_beside_their_tensors_are_said(tmp_path: Path, end: str) -> None:
    tensors = SMALL | {f"{name}{end}": tensor + 1 for name, tensor in SMALL.items()}
    (note,) = pgpack.open_checkpoint(saved(tmp_path / "a.safetensors", tensors)).notes
    assert f"emb.weight{end} of emb.weight and 1 more" in note


def test_a_key_goes_on_into_names(tmp_path: Path) -> None:
    torch.save({"model": NET, "ema": beside("online_model", "ema_model")}, tmp_path / "a.pt")
    for key in ("ema.ema_model", "ema_model"):
        assert (pgpack.open_checkpoint(tmp_path / "a.pt", key=key).tensor("g") == 2).all()


@pytest.mark.parametrize(
    "tensors",
    [
        beside("0", "1"),  # layers
        beside("model"),
        beside("encoder", "decoder") | {"encoder.norm": torch.ones(4)},
        {f"{name}.weight": torch.ones(4, 4) for name in "qk"},  # projections
        beside("a", "b") | {"emb.weight": torch.ones(40, 4)},
        {"model.fc.weight": torch.ones(4, 4), "schema.fc.weight": torch.ones(4, 4)},
        {"model.fc.weight": torch.ones(4, 4), "target.proj.weight": torch.ones(4, 4)},
        under("") | {"bn.running_mean": torch.ones(6), "bn.momentum": torch.ones(())},
        under("") | {"emb.weight_ema": torch.ones(3, 4)},
    ],
)
def test_parts_of_one_model_are_not(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    assert pgpack.open_checkpoint(saved(tmp_path / "a.safetensors", tensors)).notes == ()


def coded(*keys: str, is_pickled: bool = False, protocol: int = 4) -> str:
    return base64.urlsafe_b64encode(pickle.dumps((keys, is_pickled), protocol)).decode()


@pytest.mark.parametrize("protocol", [3, 4])
def test_names_that_are_pickles_of_one_key_are_read(tmp_path: Path, protocol: int) -> None:
    saved(tmp_path / "a.safetensors", {coded(name, protocol=protocol): tensor for name, tensor in NET.items()})
    checkpoint = pgpack.open_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.shapes == {name: tuple(tensor.shape) for name, tensor in NET.items()}
    assert checkpoint.tensor("fc.weight").shape == (6, 4)


@pytest.mark.parametrize(
    "name", [coded("state", "w", "exp_avg"), coded("groups", is_pickled=True), "gASV", coded("a")[:-8]]
)
def test_other_pickles_are_no_names_of_weights(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "a.safetensors", {coded("emb.weight"): NET["emb.weight"], name: NET["fc.weight"]})
    with pytest.raises(CheckpointError, match="its names are pickles, as OLMo writes them, and not those of plain"):
        pgpack.open_checkpoint(tmp_path / "a.safetensors")
