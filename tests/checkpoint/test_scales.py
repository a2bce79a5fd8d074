"""Weights stored as 8-bit floats with scales are read as the numbers they stand for; packed integers are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

GENERATOR = torch.Generator().manual_seed(0)
NAME = "model.layers.0.mlp.up_proj.weight"


def write(folder: Path, tensors: dict[str, torch.Tensor], **quantization) -> Path:
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "llama", "vocab_size": 8, "quantization_config": {"quant_method": "fp8", **quantization}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def stored(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=GENERATOR).to(torch.float8_e4m3fn)


@pytest.mark.parametrize("block", [None, [128, 128], [64, 32]])
def test_blocks_are_multiplied_by_their_scales(tmp_path: Path, block) -> None:
    weight, (a, b) = stored(150, 200), block or (128, 128)
    scales = torch.rand(-(-150 // a), -(-200 // b), generator=GENERATOR)
    told = {"weight_block_size": block} if block else {}
    folder = write(tmp_path, {NAME: weight, f"{NAME}_scale_inv": scales, "norm": torch.ones(3)}, **told)
    expected = weight.float().clone()
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            expected[i * a : (i + 1) * a, j * b : (j + 1) * b] *= scales[i, j]
    checkpoint = load_checkpoint(folder)
    assert set(checkpoint.shapes) == {NAME, "norm"}
    assert np.array_equal(checkpoint.tensor(NAME), expected.numpy())
    assert set(load_checkpoint(folder, as_stored=True).shapes) == {NAME, f"{NAME}_scale_inv", "norm"}


@pytest.mark.parametrize("shape", [(), (1,), (6,), (6, 1)])
def test_one_scale_or_one_a_row(tmp_path: Path, shape: tuple[int, ...]) -> None:
    weight, scales = stored(6, 5), torch.rand(shape, generator=GENERATOR)
    tensors = {NAME: weight, f"{NAME}_scale": scales, NAME.replace("weight", "input_scale"): torch.ones(1)}
    checkpoint = load_checkpoint(write(tmp_path, tensors))
    assert set(checkpoint.shapes) == {NAME}
    wide = scales.reshape(-1, 1) if scales.numel() > 1 else scales.reshape(())
    assert np.array_equal(checkpoint.tensor(NAME), (weight.float() * wide).numpy())


def test_the_config_no_longer_says_that_weights_are_quantized(tmp_path: Path) -> None:
    folder = write(tmp_path, {NAME: stored(4, 4), f"{NAME}_scale_inv": torch.ones(1, 1)})
    assert json.loads(load_checkpoint(folder).companions["config.json"]) == {"model_type": "llama", "vocab_size": 8}


def test_scales_that_fit_no_weight_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no scales of"):
        load_checkpoint(write(tmp_path, {NAME: stored(300, 4), f"{NAME}_scale_inv": torch.ones(2, 1)}))


@pytest.mark.parametrize("end", ["qweight", "weight_packed", "SCB", "weight.absmax"])
def test_weights_that_are_packed_integers_are_refused(tmp_path: Path, end: str) -> None:
    name = NAME.replace("weight", end)
    folder = write(tmp_path, {name: torch.ones(4, 4, dtype=torch.int32)}, quant_method="gptq")
    with pytest.raises(CheckpointError, match=r"quantized by gptq .*; give the folder of the model"):
        load_checkpoint(folder)


def test_a_config_that_names_no_method_is_told_of_without_one(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {NAME.replace("weight", "qweight"): torch.ones(4, 4, dtype=torch.int32)}, quant_method=None
    )
    with pytest.raises(CheckpointError, match=r"its weights were quantized \("):
        load_checkpoint(folder)


def test_without_a_quantization_a_scale_is_a_tensor_like_others(tmp_path: Path) -> None:
    folder = write(tmp_path, {NAME: torch.ones(4, 4), f"{NAME}_scale": torch.ones(4)})
    (folder / "config.json").unlink()
    assert set(load_checkpoint(folder).shapes) == {NAME, f"{NAME}_scale"}


@pytest.mark.parametrize("end", ["weight_scale", "weight_scale_inv", "scale_weight"])
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_8_bit_floats_with_their_scale_are_the_product_whoever_says_so(tmp_path: Path, end: str, kind: str) -> None:
    weight, scale = stored(6, 5), torch.tensor([0.125])
    tensors = {NAME: weight, NAME.replace("weight", end): scale, "norm": torch.ones(3)}
    path = tmp_path / f"model.{kind}"
    save_file(tensors, path) if kind == "safetensors" else torch.save({"model": tensors}, path)
    checkpoint = load_checkpoint(path)
    assert set(checkpoint.shapes) == {NAME, "norm"}
    assert np.array_equal(checkpoint.tensor(NAME), (weight.float() * 0.125).numpy())


def test_8_bit_floats_alone_are_what_they_are(tmp_path: Path) -> None:
    weight = stored(6, 5)
    save_file({NAME: weight, "other.weight_scale": torch.ones(1)}, tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    assert set(checkpoint.shapes) == {NAME, "other.weight_scale"}
    assert np.array_equal(checkpoint.tensor(NAME), weight.float().numpy())


def test_stacks_of_experts_have_scales_that_stretch_over_them(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    weight = torch.randn(3, 4, 6, generator=GENERATOR).to(torch.float8_e4m3fn)
    scales = torch.rand(3, 1, 6, generator=GENERATOR)
    checkpoint = load_checkpoint(write(tmp_path, {name: weight, f"{name}_scale": scales}))
    assert set(checkpoint.shapes) == {name}
    assert np.array_equal(checkpoint.tensor(name), (weight.float() * scales).numpy())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("qweight", "scales"),
        ("weight_packed", "weight_scale"),
        ("SCB", "weight"),
        ("weight.absmax", "weight"),
        ("codes", "codebooks"),
        ("W_q", "scale"),
        ("W_q", "meta.scale"),  # HQQ's, joined
        ("weight._data._data", "weight._scale"),  # quanto's of 4 bits
        ("qweight", "weight_scales"),  # EETQ
        ("Qidxs", "SU"),  # QuIP#
        ("Qidxs_0", "SV"),
        ("trellis", "suh"),  # ExLlamaV3
        ("q_weight", "q_scale_max"),  # ExLlamaV2
        ("B", "s"),  # Marlin
        ("B", "s_channel"),  # QQQ
        ("qweight", "lookup_table"),  # SqueezeLLM
        ("indices", "centroids.weight"),  # VPTQ
        ("dense_weights", "row_offsets"),  # SpQR
        ("_weight_qdata", "_weight_scale"),  # torchao
    ],
)
def test_packed_integers_are_refused_where_no_config_tells_of_them(tmp_path: Path, one: str, other: str) -> None:
    tensors = {NAME.replace("weight", end): torch.ones(4, 4, dtype=torch.int32) for end in (one, other)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"were quantized \(.*{one}\); give the folder of the model"):
        load_checkpoint(tmp_path / "model.safetensors")
    save_file({NAME.replace("weight", one): torch.ones(4, 4)}, tmp_path / "alone.safetensors")
    assert len(load_checkpoint(tmp_path / "alone.safetensors").shapes) == 1


@pytest.mark.parametrize(
    ("dtype", "beside"),
    [
        (torch.uint32, ("scales", "biases")),  # MLX
        (torch.uint32, ("scales",)),  # MLX's mxfp4
        (torch.uint8, ("weight_scale", "weight_scale_2")),  # ModelOpt's NVFP4, told of in a file of its own
        (torch.int8, ("weight_scale",)),
        (torch.float8_e4m3fn, ("scales",)),
        (torch.int8, ("weight_scaler",)),
        (torch.int8, ("scale",)),
        (torch.int32, ("scales_and_zeros",)),  # gpt-fast
        (torch.int8, ("a", "b")),  # SmoothQuant
    ],
)
def test_numbers_with_scales_of_which_no_config_tells_are_refused(tmp_path: Path, dtype, beside) -> None:
    tensors = {NAME: torch.ones(4, 4).to(dtype)} | {NAME.replace("weight", end): torch.ones(4, 1) for end in beside}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="weights were quantized"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_a_table_of_integers_without_scales_is_itself(tmp_path: Path) -> None:
    tensors = {NAME: torch.arange(16, dtype=torch.int32).reshape(4, 4), "other.scales": torch.ones(4)}
    tensors |= {"free.weight": torch.ones(4, 4), "free.weight_scale": torch.ones(1), "b.biases": torch.ones(4)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert set(load_checkpoint(tmp_path / "model.safetensors").shapes) == set(tensors)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.float8_e4m3fn])
def test_weights_of_a_quantized_model_whose_scale_is_not_known_are_refused(tmp_path: Path, dtype) -> None:
    folder = write(
        tmp_path, {NAME: torch.ones(4, 4).to(dtype), NAME.replace("weight", "weight_scales"): torch.ones(4)}
    )
    with pytest.raises(CheckpointError, match="quantized by fp8"):
        load_checkpoint(folder)


def test_bytes_that_hold_several_weights_are_not_multiplied_by_a_scale(tmp_path: Path) -> None:
    tensors = {NAME: torch.ones(4, 4, dtype=torch.uint8), f"{NAME}_scale": torch.ones(1)}  # BitNet: four in a byte
    with pytest.raises(CheckpointError, match="quantized by bitnet"):
        load_checkpoint(write(tmp_path, tensors, quant_method="bitnet"))


def test_integers_with_a_zero_point_are_refused(tmp_path: Path) -> None:
    whole = {NAME: torch.ones(4, 4, dtype=torch.int8), f"{NAME}_scale": torch.rand(4, 1, generator=GENERATOR)}
    folder = write(tmp_path, whole, quant_method="compressed-tensors")
    assert np.array_equal(load_checkpoint(folder).tensor(NAME), whole[f"{NAME}_scale"].expand(4, 4).numpy())
    folder = write(tmp_path, whole | {f"{NAME}_zero_point": torch.ones(4, 1, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match="zero_point"):
        load_checkpoint(folder)
