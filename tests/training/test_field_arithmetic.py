"""A state dict of the public training scripts gives their logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pgpack.bench.options import BenchOptions
from pgpack.bench.text import open_text
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.checkpoint.dialects import BANKS, unbanked
from pgpack.errors import CheckpointError
from pgpack.text.text_folder import TextFolder
from pgtrain.model.dialects import systems_with, without_unused
from pgtrain.model.gpt import GPT, build, initialize_
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.presets import PRESETS
from tests.training.field.cases import CASES, IDS, golden_config, golden_state

FIELD = Path(__file__).parent / "field"
LOGITS = {**np.load(FIELD / "logits.npz"), **np.load(FIELD / "lanes.npz")}


def banked(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The layout of #1546 and #1855: matrices of all layers stacked, queries before output projections."""
    state = dict(state)
    stacks = {
        part: [state.pop(f"blocks.{i}.{part}.weight") for i in range(layers)]
        for part in ("attn.c_q", "attn.proj", "attn.c_k", "attn.c_v", "mlp.fc", "mlp.proj")
    }
    return state | {
        "qo_bank": torch.stack(stacks["attn.c_q"] + stacks["attn.proj"]),
        "kv_bank": torch.stack(stacks["attn.c_k"] + stacks["attn.c_v"]),
        "mlp_up_bank": torch.stack(stacks["mlp.fc"]),
        "mlp_down_bank": torch.stack(stacks["mlp.proj"]),
    }


def torch_state(name: str) -> dict[str, Tensor]:
    return {tensor: torch.from_numpy(array) for tensor, array in golden_state(name).items()}


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_script_s(name: str) -> None:
    script, _, loops = CASES[name]
    config, state = golden_config(name), torch_state(name)
    if script in ("1546", "1855"):
        state = banked(state, config.num_layers)
    model = build(config, without_unused(config, unbanked(state)))
    if loops is not None:
        model.set_loops_(loops)
    expected = LOGITS[name]
    found = model.forward_logits(torch.tensor([IDS]))[0, -3:].numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_every_case_has_logits_and_no_two_agree() -> None:
    assert set(LOGITS) == set(CASES)
    flat = np.stack([LOGITS[name].ravel() for name in CASES])
    distances = np.abs(flat[:, None] - flat[None]).max(-1) + np.eye(len(flat))
    assert distances.min() > 1e-2


def test_a_preset_names_the_model_of_a_script_s_checkpoint(text_folder: TextFolder, tmp_path: Path) -> None:
    """The same loss from banks, named by a preset, as from our own tensors with their config."""
    config = replace(PRESETS["lanes-tiny"].model, vocab_size=400)
    state = {name: tensor.detach() for name, tensor in initialize_(GPT(config), 0).state_dict().items()}
    foreign = {name: tensor.numpy() for name, tensor in banked(state, config.num_layers).items()}
    own = {name: tensor.numpy() for name, tensor in state.items()}
    where = {"val": text_folder.val_glob, "tokenizer": str(text_folder.tokenizer_path), "max_tokens": 512}
    named = open_text(tmp_path / "final_model.pt", from_tensors(foreign), BenchOptions(model="lanes-tiny", **where))
    configured = open_text(
        tmp_path / "m.safetensors", from_tensors(own, {"model_config": config.to_json()}), BenchOptions(**where)
    )
    assert named.evaluator().evaluate(foreign).nats == configured.evaluator().evaluate(own).nats


def test_tensors_tell_the_systems_that_have_them() -> None:
    systems = {name: golden_config(name) for name in CASES}
    lanes = {name: tuple(tensor.shape) for name, tensor in banked(torch_state("1546-embed-24-loops"), 6).items()}
    assert systems_with(lanes, systems) == [
        "1546-embed-24-loops",
        "1546-embed-24-no-loops-mlp-lane",
    ]
    shared = {name: tuple(tensor.shape) for name, tensor in torch_state("2090-wo").items()}
    assert systems_with(shared, systems) == [
        "2090-naive",  # the script stores what its naive mode never reads
        *("2090-wo", "2090-wt", "2090-wt-anchors", "2090-wt-channels-only", "2090-wt-encoder-only"),
    ]
    assert systems_with(shared | {"more": (3,)}, systems) == []


def test_unbanking_is_the_inverse_of_banking() -> None:
    state = torch_state("1546-loops")
    again = unbanked(banked(state, 6))
    assert set(again) == set(state)
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert all(again[name].shape == shape for name, shape in tensor_shapes(golden_config("1546-loops")).items())


@pytest.mark.parametrize("bank", [*BANKS][1:])
def test_a_state_dict_with_half_its_banks_is_refused(bank: str) -> None:
    state = banked(torch_state("1546-loops"), 6)
    with pytest.raises(CheckpointError, match=bank):
        unbanked({name: tensor for name, tensor in state.items() if name != bank})
    with pytest.raises(CheckpointError, match="expected 2 L, 2 L, L, L"):
        unbanked(state | {bank: state[bank][:-1]})


def test_only_what_a_script_never_reads_is_dropped() -> None:
    naive, full = golden_config("2090-naive"), golden_config("2090-wo")
    state = torch_state("2090-wo")
    assert set(without_unused(naive, state)) == set(tensor_shapes(naive))
    assert set(without_unused(full, state)) == set(state)
    with pytest.raises(CheckpointError, match="smear_gate"):
        build(naive, without_unused(naive, state | {"smear_gate.gate": torch.zeros(32)}))
