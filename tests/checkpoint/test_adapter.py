"""A LoRA adapter is no model by itself; with the model that it was trained on it is that model, merged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError

Q, K, HEAD, EMB = (
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "lm_head",
    "model.embed_tokens",
)
SHAPES = {Q: (8, 6), K: (4, 6), HEAD: (10, 6), EMB: (10, 6)}
GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    save_file({f"{name}.weight": drawn(*shape) for name, shape in SHAPES.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor], **config) -> Path:
    folder.mkdir()
    save_file(
        {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors"
    )
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "base_model_name_or_path": "someone/model"}
    (folder / "adapter_config.json").write_text(json.dumps(told | config))
    return folder


def pair(name: str, rank: int = 2) -> dict[str, torch.Tensor]:
    out, n_in = SHAPES[name]
    return {f"{name}.lora_A.weight": drawn(rank, n_in), f"{name}.lora_B.weight": drawn(out, rank)}


def by_hand(base: Path, name: str, tensors: dict[str, torch.Tensor], scale: float) -> np.ndarray:
    before = load_checkpoint(base).tensor(f"{name}.weight").astype(np.float64)
    a, b = (tensors[f"{name}.lora_{letter}.weight"].double().numpy() for letter in "AB")
    return before + scale * b @ a


@pytest.mark.parametrize("whole_path", [False, True])
def test_weights_are_merged_and_everything_else_is_the_bases(tmp_path: Path, base: Path, whole_path: bool) -> None:
    tensors = pair(Q) | pair(K, 3)
    adapter = write_adapter(tmp_path / "adapter", tensors, alpha_pattern={"k_proj": 5}, rank_pattern={"k_proj": 3})
    merged = open_merged(adapter / "adapter_model.safetensors" if whole_path else adapter, base)
    before = load_checkpoint(base)
    assert merged.shapes == before.shapes
    assert merged.companions["config.json"] == before.companions["config.json"]
    assert np.allclose(merged.tensor(f"{Q}.weight"), by_hand(base, Q, tensors, 8 / 2), atol=1e-5)
    assert np.allclose(merged.tensor(f"{K}.weight"), by_hand(base, K, tensors, 5 / 3), atol=1e-5)
    assert np.array_equal(merged.tensor(f"{HEAD}.weight"), before.tensor(f"{HEAD}.weight"))
    assert merged.digest != before.digest


def test_rank_stabilised_scales_go_with_the_root_of_the_rank(tmp_path: Path, base: Path) -> None:
    tensors = pair(Q)
    merged = open_merged(write_adapter(tmp_path / "adapter", tensors, use_rslora=True), base)
    assert np.allclose(merged.tensor(f"{Q}.weight"), by_hand(base, Q, tensors, 8 / math.sqrt(2)), atol=1e-5)


def test_tables_and_matrices_that_lie_across_are_merged_transposed(tmp_path: Path, base: Path) -> None:
    table = {f"{EMB}.lora_embedding_A": drawn(2, 10), f"{EMB}.lora_embedding_B": drawn(6, 2)}
    merged = open_merged(write_adapter(tmp_path / "a", table), base)
    delta = 4 * (table[f"{EMB}.lora_embedding_B"] @ table[f"{EMB}.lora_embedding_A"]).T.numpy()
    before = load_checkpoint(base)
    assert np.allclose(merged.tensor(f"{EMB}.weight"), before.tensor(f"{EMB}.weight") + delta, atol=1e-5)


CONV = "transformer.h.0.attn.c_proj"


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize(("model_type", "turns"), [("gpt2", True), ("llama", False), (None, None)])
def test_the_model_says_which_matrices_lie_across(tmp_path: Path, flag: bool, model_type, turns) -> None:
    base = tmp_path / "base"
    base.mkdir()
    stored = drawn(6, 6)  # square: no shape tells
    save_file({f"{CONV}.weight": stored}, base / "model.safetensors")
    if model_type:
        (base / "config.json").write_text(json.dumps({"model_type": model_type}))
    parts = {f"{CONV}.lora_A.weight": drawn(2, 6), f"{CONV}.lora_B.weight": drawn(6, 2)}
    merged = open_merged(write_adapter(tmp_path / "a", parts, fan_in_fan_out=flag), base)
    delta = 4 * (parts[f"{CONV}.lora_B.weight"] @ parts[f"{CONV}.lora_A.weight"])
    turned = flag if turns is None else turns
    right = stored + (delta.T if turned else delta)
    assert np.allclose(merged.tensor(f"{CONV}.weight"), right, atol=1e-5)


def test_without_a_scale_it_is_pefts_own(tmp_path: Path, base: Path) -> None:
    tensors = pair(Q)
    adapter = write_adapter(tmp_path / "adapter", tensors)
    config = json.loads((adapter / "adapter_config.json").read_text())
    del config["lora_alpha"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert np.allclose(open_merged(adapter, base).tensor(f"{Q}.weight"), by_hand(base, Q, tensors, 8 / 2), atol=1e-5)


def test_modules_that_were_saved_whole_take_the_place_of_the_bases(tmp_path: Path, base: Path) -> None:
    whole = drawn(10, 6)
    merged = open_merged(write_adapter(tmp_path / "adapter", pair(Q) | {f"{HEAD}.weight": whole}), base)
    assert np.array_equal(merged.tensor(f"{HEAD}.weight"), whole.numpy())


@pytest.mark.parametrize(
    ("tensors", "config", "sentence"),
    [
        ({"other.lora_A.weight": drawn(2, 6), "other.lora_B.weight": drawn(8, 2)}, {}, "other.weight is not in"),
        ({f"{Q}.lora_A.weight": drawn(2, 6)}, {}, "only one of lora_A and lora_B"),
        ({f"{Q}.lora_A.weight": drawn(2, 5), f"{Q}.lora_B.weight": drawn(8, 2)}, {}, "of another model"),
        (pair(Q) | {f"{Q}.lora_magnitude_vector": drawn(8)}, {}, "DoRA"),
        (pair(Q), {"use_dora": True}, "kind DoRA; only LoRA"),
        (pair(Q), {"peft_type": "IA3"}, "kind IA3; only LoRA"),
        (pair(Q), {"r": 4}, "of rank 2, adapter_config.json says 4"),
        (pair(Q), {"rank_pattern": {"q_proj": 1}}, "of rank 2, adapter_config.json says 1"),
        (pair(Q), {"lora_alpha": "16"}, "says '16' of .*, which is no number"),
        (pair(Q), {"init_lora_weights": "pissa_niter_16"}, "'pissa_niter_16' .* change the base itself"),
        (pair(Q), {"init_lora_weights": "loftq"}, "'loftq' .* change the base itself"),
        (pair(Q), {"use_qalora": True}, "sets use_qalora, which is not known"),
        (pair(Q), {"layer_replication": [[0, 1], [0, 1]]}, "sets layer_replication"),
        (pair(Q), {"alora_invocation_tokens": [5]}, "sets alora_invocation_tokens"),
    ],
)
def test_what_cannot_be_merged_is_one_sentence(tmp_path: Path, base: Path, tensors, config, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        open_merged(write_adapter(tmp_path / "adapter", tensors, **config), base)


@pytest.mark.parametrize(
    "config",
    [{"init_lora_weights": start} for start in (True, False, None, "gaussian", "eva", "orthogonal")]
    + [{"use_qalora": False, "layer_replication": None, "alora_invocation_tokens": None, "qalora_group_size": 16}]
    + [{"peft_version": "0.18.0", "megatron_core": "megatron.core", "loftq_config": {}, "task_type": "CAUSAL_LM"}],
)
def test_what_changes_nothing_may_be_in_the_config(tmp_path: Path, base: Path, config) -> None:
    tensors = pair(Q)
    merged = open_merged(write_adapter(tmp_path / "adapter", tensors, **config), base)
    assert np.allclose(merged.tensor(f"{Q}.weight"), by_hand(base, Q, tensors, 8 / 2), atol=1e-5)


def test_a_change_of_a_tied_tensor_is_refused(tmp_path: Path, base: Path) -> None:
    one = drawn(10, 6)
    save_file({f"{name}.weight": one.clone() for name in (HEAD, EMB)}, base / "model.safetensors")
    with pytest.raises(CheckpointError, match="tied to another"):
        open_merged(write_adapter(tmp_path / "adapter", pair(HEAD)), base)


def test_an_adapter_alone_says_what_to_do(tmp_path: Path, base: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", pair(Q))
    for path in (adapter, adapter / "adapter_model.safetensors"):
        with pytest.raises(
            CheckpointError, match=r"an adapter of someone/model, not a model; .*--base DIR, or merge"
        ):
            open_merged(path)
    with pytest.raises(CheckpointError, match="is no adapter folder"):
        open_merged(base, base)
    with pytest.raises(CheckpointError, match="an adapter itself"):
        open_merged(adapter, adapter)


@pytest.mark.parametrize("rows", [10, 13])
def test_an_embedding_that_peft_keeps_beside_its_change_is_that_with_the_change(
    tmp_path: Path, base: Path, rows: int
) -> None:
    """PEFT writes it where the vocabulary may have grown."""
    kept, a, b = drawn(rows, 6), drawn(2, rows), drawn(6, 2)
    tensors = {
        f"{EMB}.base_layer.weight": kept,
        f"{EMB}.lora_embedding_A": a,
        f"{EMB}.lora_embedding_B": b,
    }
    merged = open_merged(write_adapter(tmp_path / "adapter", tensors | pair(Q)), base)
    assert merged.shapes[f"{EMB}.weight"] == (rows, 6)
    expected = kept.double() + 8 / 2 * (b.double() @ a.double()).T
    assert np.allclose(merged.tensor(f"{EMB}.weight"), expected.numpy(), atol=1e-5)
