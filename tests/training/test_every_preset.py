"""Training and evaluation work with every option of the model: a few steps of each on every system, made small."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pgpack.loss.bpb import TextEvaluator
from pgpack.text.tokenizer import ByteTables
from pgtrain.model.gpt import GPT, build, deployable, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import parameter_group
from pgtrain.presets import PRESETS
from pgtrain.training.loss_function import LossFunction
from pgtrain.training.optim import make_optimizers
from pgtrain.training.qat import FakeQuantizer
from pgtrain.training.train_config import TrainConfig
from pgtrain.training.ttt import Learner, TTTEvaluator
from pgtrain.training.ttt_config import KINDS, TTTConfig

VOCAB = 80
NOTHING = np.zeros(VOCAB, dtype=bool)


def small(name: str) -> GPTConfig:
    """The twin's options at 32 channels and half its depth, one loop for two."""
    model = PRESETS[name].model
    depth = {"num_layers": {11: 5, 9: 6, 3: 3}[model.num_layers], "xsa_last_n": min(model.xsa_last_n, 3)}
    if model.num_loops:
        whole = model.loop_end == model.num_layers - 1
        depth |= {"num_loops": 1} | ({} if whole else {"loop_start": 1, "loop_end": 2})
    heads = {"num_heads": 4, "num_kv_heads": 2, "rope_dims": min(model.rope_dims, 4), "gate_window": 8}
    sizes = {"vocab_size": VOCAB, "model_dim": 32, "embed_dim": 16 if model.embed_dim else 0, "seq_len": 32}
    lanes = {"lane_start": min(model.lane_start, 3), "anchor_heads": min(model.anchor_heads, 2), "rope_train_len": 0}
    return dataclasses.replace(model, **depth, **heads, **sizes, **lanes)


# Twins that differ in sizes alone, as the three decoupled embeddings do, are one system here.
STRUCTURES = list({small(name): name for name in reversed(PRESETS) if name.endswith("-tiny")}.values())[::-1]


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(1, VOCAB, 97).astype(np.uint16)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_step_with_and_one_without_qat_move_every_matrix_and_lower_the_loss(name: str, tokens: np.ndarray) -> None:
    config = small(name)
    model = initialize_(GPT(config), 0).train()
    named = dict(model.named_parameters())
    optimizers = make_optimizers(model, TrainConfig())
    covered = [id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]]
    assert sorted(covered) == sorted(id(parameter) for parameter in named.values())
    quantizer = FakeQuantizer(TrainConfig(qat_bits=6, qat_embed_bits=8))
    ids = torch.from_numpy(tokens[:96].astype(np.int64)).view(3, 32)
    targets = torch.from_numpy(tokens[1:97].astype(np.int64)).view(3, 32)
    start = {key: parameter.detach().clone() for key, parameter in named.items()}
    loss = LossFunction(model)
    with torch.no_grad():
        before = float(loss(ids, targets))
    for quantized in (False, True):  # output projections start at zero: the second step moves what lies before them
        weights = quantizer.weights(named) if quantized else None
        loss(ids, targets, weights).backward()
        if weights is not None:
            quantizer.hand_back_(named, weights, 0.0)
        for optimizer in optimizers.values():
            optimizer.step()
        model.zero_grad(set_to_none=True)
    with torch.no_grad():
        assert float(loss(ids, targets)) < before
    still = [key for key, parameter in named.items() if torch.equal(parameter, start[key])]
    assert not [key for key in still if parameter_group(key) == "matrix"], still


@pytest.mark.parametrize(("name", "kind"), [(name, KINDS[i % 2]) for i, name in enumerate(STRUCTURES)])
def test_no_loss_of_test_time_training_depends_on_later_tokens(name: str, kind: str, tokens: np.ndarray) -> None:
    config = small(name)
    model = initialize_(GPT(config), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    tensors = {key: value.numpy() for key, value in deployable(model.state_dict()).items()}
    tables = ByteTables(np.ones(VOCAB, dtype=np.int64), NOTHING, NOTHING)
    settings = TTTConfig(kind, chunk_tokens=32, epochs=1, lr=0.02, batch_tokens=32, rank=2, freeze_blocks=1)

    def nats(text: np.ndarray) -> np.ndarray:
        fixed = TextEvaluator(lambda state: build(config, state), tables.counted(text), VOCAB, 32, stride=16)
        return TTTEvaluator(fixed, settings).token_nats(tensors)

    if kind == "lora" and config.num_blocks == 1 and not (config.embed_dim or config.input_residual_rank):
        return  # the only block is frozen: nothing is left to train
    changed = tokens.copy()
    changed[50] = changed[50] % 70 + 5  # in the second of three chunks, which is trained on
    before, after = nats(tokens), nats(changed)
    assert np.array_equal(before[:49], after[:49])
    assert before[49] != after[49]


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_frozen_block_stays(name: str, tokens: np.ndarray) -> None:
    config = small(name)
    model = initialize_(GPT(config), 0)
    tensors = {key: value.clone() for key, value in deployable(model.state_dict()).items()}
    learner = Learner(build(config, tensors), VOCAB, TTTConfig(freeze_blocks=1, lr=0.1))
    ids = torch.from_numpy(tokens[:64].astype(np.int64))[None]
    learner.step_(ids, ids.roll(-1), 0.1)
    prefix = ("blocks.0.", "shared_blocks.0.")
    assert not [key for key in learner.weights() if key.startswith(prefix)]
    assert learner.frozen_values == sum(p.numel() for key, p in tensors.items() if key.startswith(prefix)) > 3000
