"""What one process of many wrote is no whole model: it is refused, or said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

WEIGHTS = {"emb.weight": torch.ones(6, 4), "head.weight": torch.ones(6, 4), "norm.weight": torch.ones(4)}


@pytest.mark.parametrize("kept", [[], ["norm.weight"]])
def test_tensors_that_another_process_holds_are_missed(tmp_path: Path, kept: list[str]) -> None:
    cut = {name: weight if name in kept else torch.empty(0) for name, weight in WEIGHTS.items()}
    torch.save({"module": cut, "ds_version": "0.14"}, tmp_path / "mp_rank_00_model_states.pt")
    save_file(cut, tmp_path / "model.safetensors")
    for name in ("mp_rank_00_model_states.pt", "model.safetensors"):
        with pytest.raises(CheckpointError, match="of 3 tensors hold no value"):
            load_checkpoint(tmp_path / name)


def test_a_tensor_without_values_among_others_is_read(tmp_path: Path) -> None:
    save_file(WEIGHTS | {"cache": torch.empty(0, 4)}, tmp_path / "model.safetensors")
    assert load_checkpoint(tmp_path / "model.safetensors").shapes["cache"] == (0, 4)


@pytest.mark.parametrize(
    ("name", "others", "said"),
    [
        ("consolidated.00.pth", ["consolidated.01.pth"], "consolidated.01.pth beside it is not"),
        ("mp_rank_00_model_states.pt", ["mp_rank_01_model_states.pt"], "mp_rank_01_model_states.pt beside it is not"),
        ("model-00001-of-00002.pt", [], "one part of several"),
        ("model_rank0.pt", ["model_rank1.pt", "model_rank2.pt"], "are not"),
        ("hf_model_0001_0.pt", ["hf_model_0002_0.pt"], "hf_model_0002_0.pt beside it is not"),
        ("layer_00-model_00-model_states.pt", ["layer_02-model_00-model_states.pt"], "layer_02-model_00"),
        ("model_part_1.pt", ["model_part_2.pt"], "model_part_2.pt beside it is not"),
        ("shard0.pth", ["shard1.pth"], "shard1.pth beside it is not"),
        ("consolidated.00.pth", [], ""),
        ("hf_model_0001_0.pt", ["hf_model_0001_1.pt"], ""),  # another epoch's
        ("player_1.pt", ["player_2.pt"], ""),
        ("counterpart1.pt", ["counterpart2.pt"], ""),
        ("ckpt_1000.pt", ["ckpt_2000.pt"], ""),
        ("model.pt", ["model2.pt"], ""),
    ],
)
def test_one_part_of_several_is_said_to_be_one(tmp_path: Path, name: str, others: list[str], said: str) -> None:
    for each in (name, *others):
        torch.save(WEIGHTS, tmp_path / each)
    notes = load_checkpoint(tmp_path / name).notes
    assert len(notes) == bool(said)
    assert said in "".join(notes)


@pytest.mark.parametrize(
    ("folder", "others", "said"),
    [
        (
            "mp_rank_00",
            ["mp_rank_01"],
            "mp_rank_00/model_optim_rng.pt is one part of several, and it alone is read; ",
        ),
        ("mp_rank_00_000", ["mp_rank_00_001", "mp_rank_01_000"], "that in mp_rank_00_001, mp_rank_01_000 are not"),
        ("rank0", ["rank1"], "that in rank1 is not"),
        ("mp_rank_00", [], ""),
        ("checkpoint-500", ["checkpoint-1000"], ""),
        ("seed_rank", ["seed_rank2"], ""),
    ],
)
def test_a_part_in_a_folder_of_its_own_is_said_to_be_one(
    tmp_path: Path, folder: str, others: list[str], said: str
) -> None:
    for each in (folder, *others):
        (tmp_path / each).mkdir()
        torch.save(WEIGHTS, tmp_path / each / "model_optim_rng.pt")
    notes = load_checkpoint(tmp_path / folder / "model_optim_rng.pt").notes
    assert len(notes) == bool(said)
    assert said in "".join(notes)


@pytest.mark.parametrize("name", ["_flat_param", "layers.0._fsdp_wrapped_module._flat_param", "block.flat_param"])
def test_tensors_laid_end_to_end_are_no_model(tmp_path: Path, name: str) -> None:
    torch.save({name: torch.ones(40), "norm.weight": torch.ones(4)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"{name} is of many tensors, laid end to end \(FSDP\); save a full"):
        load_checkpoint(tmp_path / "a.pt")


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, contents in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)
    return folder


FOLDERS: dict[str, tuple[dict[str, bytes], str]] = {
    "of torch, distributed": ({".metadata": b"x", "__0_0.distcp": b"x"}, "distributed checkpoint of torch; make one"),
    "of accelerate": ({"pytorch_model_fsdp_0/__0_0.distcp": b"x"}, "below it, name one of pytorch_model_fsdp_0"),
    "of DeepSpeed": ({"latest": b"x", "zero_to_fp32.py": b"x", "global_step1/a.pt": b"x"}, "checkpoint of DeepSpeed"),
    "of Megatron": ({"iter_1/mp_rank_00/model.pt": b"x"}, "below it, name one of iter_1/mp_rank_00"),
    "of a trainer": ({"checkpoint-1/model.safetensors": b"x", "checkpoint-2/model.safetensors": b"x"}, "nt-1, check"),
    "of diffusers": ({"model_index.json": b"{}", "unet/m.safetensors": b"x", "vae/m.safetensors": b"x"}, "unet, vae"),
    "of Orbax": ({"_CHECKPOINT_METADATA": b"{}", "d/a": b"x"}, "a checkpoint of Orbax"),
    "of TensorFlow": ({"saved_model.pb": b"x", "variables/variables.index": b"x"}, "a SavedModel of TensorFlow"),
    "of one file": ({"model_optim_rng.pt": b"x", "optimizer.pt": b"x"}, "checkpoint file in it: model_optim_rng.pt$"),
    "of states": ({"run/optimizer.pt": b"x", "run/rng_state.pth": b"x"}, "there is no model.safetensors"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_without_weights_is_told_what_it_is_or_where_they_lie(tmp_path: Path, kind: str) -> None:
    files, said = FOLDERS[kind]
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(laid_out(tmp_path, files))


def test_a_part_of_a_distributed_checkpoint_is_called_one(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "__0_0.distcp")
    (tmp_path / "__0_0.distcp").write_bytes((tmp_path / "__0_0.distcp").read_bytes()[:-30])
    with pytest.raises(CheckpointError, match="a part of a distributed checkpoint of torch; name its folder"):
        load_checkpoint(tmp_path / "__0_0.distcp")


def test_modules_below_a_folder_that_belong_to_its_model_are_named(tmp_path: Path) -> None:
    for name in ("model.safetensors", "2_Dense/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_file(WEIGHTS, tmp_path / name)
    assert load_checkpoint(tmp_path).notes == ()
    (tmp_path / "modules.json").write_text("[]")
    (said,) = load_checkpoint(tmp_path).notes
    assert said.endswith("the file model.safetensors is read; 2_Dense/model.safetensors beside it is not")


LOW = {"lora_A.default.weight": torch.ones(2, 4), "lora_B.default.weight": torch.ones(6, 2)}
ADAPTERS: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "unmerged": ({"fc.base_layer.weight": torch.ones(6, 4)} | {f"fc.{n}": w for n, w in LOW.items()}, "not merged"),
    "alone": ({f"base_model.model.fc.{n}": w for n, w in LOW.items()}, "holds an adapter"),
    "kohya": (
        {"u.lora_down.weight": LOW["lora_A.default.weight"], "u.lora_up.weight": LOW["lora_B.default.weight"]}
        | {"u.alpha": torch.tensor(2.0)},
        "holds an adapter",
    ),
    "mlx": (
        {"fc.weight": torch.ones(6, 4), "fc.lora_a": torch.ones(4, 2), "fc.lora_b": torch.ones(2, 6)},
        "fc.lora_a and 1 more",
    ),
    "none": (WEIGHTS, ""),
    "a model's own": (
        {"fc.weight": torch.ones(6, 4), "attn_lora_A": torch.ones(4, 2), "x.w_lora": torch.ones(2)},
        "",
    ),
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_that_is_not_merged_is_said_to_be_there(tmp_path: Path, kind: str) -> None:
    tensors, said = ADAPTERS[kind]
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    checkpoint = load_checkpoint(tmp_path / "a.safetensors")
    assert set(checkpoint.shapes) == set(tensors)
    assert len(checkpoint.notes) == bool(said)
    assert re.search(said, "".join(checkpoint.notes))


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_of_mlx_is_no_model(tmp_path: Path, whole: bool) -> None:
    save_file({"layers.0.q_proj.lora_a": torch.ones(6, 2)}, tmp_path / "adapters.safetensors")
    assert "holds an adapter (LoRA or the like)" in load_checkpoint(tmp_path / "adapters.safetensors").notes[0]
    (tmp_path / "adapter_config.json").write_text('{"fine_tune_type": "lora"}')
    with pytest.raises(CheckpointError, match=r"an adapter of MLX, not a model; merge it with mlx_lm\.fuse first"):
        open_merged(tmp_path if whole else tmp_path / "adapters.safetensors", tmp_path / "base")
    save_file(WEIGHTS, tmp_path / "model.safetensors")  # of what it was merged into
    assert set(load_checkpoint(tmp_path).shapes) == set(WEIGHTS)


@pytest.mark.parametrize("end", ["ia3_l", "hada_w1_a", "lokr_w2", "oft_r", "vera_lambda_b"])
def test_adapters_of_other_kinds_are_said(tmp_path: Path, end: str) -> None:
    torch.save({f"layers.0.q.{end}": torch.ones(4, 4)}, tmp_path / "a.pt")
    assert "holds an adapter (LoRA or the like) and no model" in load_checkpoint(tmp_path / "a.pt").notes[0]


OF_OPTIMIZERS = [
    "optimizer.exp_avg.fc.weight",
    "opt/0/mu/fc/kernel",
    "exp_avg_sq.fc.weight",
    "optim.momentum_buffer.0",
]


@pytest.mark.parametrize("name", OF_OPTIMIZERS)
def test_what_an_optimizer_keeps_under_plain_names_is_said(tmp_path: Path, name: str) -> None:
    tensors = {"model.fc.weight": np.ones((4, 3), np.float32), name: np.ones((4, 3), np.float32)}
    np.savez(tmp_path / "a.npz", **tensors)
    (note,) = load_checkpoint(tmp_path / "a.npz").notes
    assert note.startswith(f"a.npz: {name} are what an optimizer keeps by their names, and are packed beside")
    del tensors["model.fc.weight"]
    np.savez(tmp_path / "a.npz", step=np.int64(3), **tensors)
    with pytest.raises(
        CheckpointError, match=r"what an optimizer keeps and no weights \(first: .*\); give the file of"
    ):
        load_checkpoint(tmp_path / "a.npz")


def test_pairs_of_moments_are_no_model_and_modules_of_these_names_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{f"fc.weight.{end}": np.ones((4, 3), np.float32) for end in "mv"})
    with pytest.raises(CheckpointError, match="what an optimizer keeps"):
        load_checkpoint(tmp_path / "a.npz")
    names = ("optic.weight", "attn.v", "attn.m.weight", "option_head.weight", "blocks.0.time_mu")
    np.savez(tmp_path / "b.npz", **{name: np.ones((4, 3), np.float32) for name in names})
    assert load_checkpoint(tmp_path / "b.npz").notes == ()


BELOW = {
    "flax_model.msgpack": "parameters of Flax",
    "tf_model.h5": "HDF5, as Keras stores it",
    "onnx/model.onnx": "an ONNX model",
    "model.ckpt.index": "a checkpoint of TensorFlow",
    "100/_CHECKPOINT_METADATA": "steps of Orbax",
    "target.kernel/.zarray": "arrays of zarr",
}


@pytest.mark.parametrize("name", BELOW)
def test_a_folder_of_another_kind_alone_is_called_that(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"{BELOW[name]}.*; store .* as .safetensors"):
        load_checkpoint(tmp_path)
    (tmp_path / "more").mkdir()
    torch.save({"w": torch.ones(2, 2)}, tmp_path / "more" / "model.pt")
    with pytest.raises(CheckpointError, match="they may lie below it, name one of more"):
        load_checkpoint(tmp_path)
