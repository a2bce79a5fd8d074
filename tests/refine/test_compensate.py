"""Compensation: nearer to the fp32 model on unseen text at the size it would have anyway, and never further away."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.errors import CalibrationError, RecipeError
from pgpack.loss import head
from pgpack.pack import encode, quantize
from pgpack.recipe.applied import apply
from pgpack.recipe.directives import Compensate
from pgpack.recipe.recipe import parse_recipe
from pgpack.refine import divergence as divergence_module
from pgpack.refine.compensate import compensate, groups_of
from pgpack.refine.divergence import Divergence
from pgpack.unpack import unpack

VOCAB, WIDTH, SEQ, BATCH = 24, 16, 16, 128
RECIPE = parse_recipe("gain=cast|raw; *=rtn(bits=3)|rans; @compensate=weights(count=60,lr=0.02)")


class Tied(nn.Module):
    """Looks a token up, mixes twice, and reads out through a table that is tied by name only."""

    def __init__(self) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(VOCAB, WIDTH)
        self.mix1 = nn.Linear(WIDTH, WIDTH, bias=False)
        self.mix2 = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gain = nn.Parameter(torch.ones(WIDTH))
        self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tok_emb(ids)
        x = x + self.mix2(torch.tanh(self.mix1(x) * self.gain))
        return self.lm_head(x)


def build(state):
    model = Tied()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def checkpoint():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((VOCAB, WIDTH)).astype(np.float32) / 2
    return from_tensors(
        {
            "gain": np.ones(WIDTH, np.float32),
            "lm_head.weight": table,
            "mix1.weight": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 2,
            "mix2.weight": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 2,
            "tok_emb.weight": table,
        }
    )


def draw(seed, n=4096):
    return np.random.default_rng(seed).integers(0, VOCAB, n).astype(np.uint16)


def kl(checkpoint, records, ids):
    decoded = {record.name: torch.tensor(record.dequantize()) for record in records}
    decoded |= {alias: decoded[name] for alias, name in checkpoint.aliases.items()}
    reference = {name: torch.tensor(array) for name, array in checkpoint.items()}
    ids = torch.from_numpy(ids.astype(np.int64)).view(-1, SEQ)
    with torch.no_grad():
        p, q = (F.log_softmax(build(state)(ids), -1) for state in (reference, decoded))
    return float((p.exp() * (p - q)).sum() / ids.numel())


def compensated(checkpoint, recipe=RECIPE, tokens=None, seed=0):
    given = draw(1) if tokens is None else tokens
    return compensate(checkpoint, recipe, None, build, given, SEQ, batch_tokens=BATCH, seed=seed)


def encoded(checkpoint, quantized):
    return encode(quantized, apply(RECIPE, checkpoint.stored_shapes))


def test_unseen_text_is_nearer_to_the_fp32_model_at_about_the_same_size(checkpoint) -> None:
    plain, better = quantize(checkpoint, apply(RECIPE, checkpoint.stored_shapes)), compensated(checkpoint)
    unseen = draw(2)
    assert kl(checkpoint, better.records, unseen) < 0.8 * kl(checkpoint, plain.records, unseen)
    sizes = [encoded(checkpoint, each).n_bytes for each in (plain, better)]
    assert abs(sizes[1] - sizes[0]) < 0.05 * sizes[0]


def test_it_repeats_to_the_bit_and_depends_on_the_seed(checkpoint) -> None:
    data = [encoded(checkpoint, compensated(checkpoint, seed=seed)).data for seed in (0, 0, 1)]
    assert data[0] == data[1] != data[2]


def test_what_decodes_is_what_was_quantized_and_tied_names_stay_tied(checkpoint) -> None:
    tensors = unpack(encoded(checkpoint, compensated(checkpoint)).data).tensors()
    assert {name: array.shape for name, array in tensors.items()} == dict(checkpoint.shapes)
    assert np.array_equal(tensors["tok_emb.weight"], tensors["lm_head.weight"])


def test_without_a_gain_the_plain_records_come_back(checkpoint) -> None:
    ruinous = dataclasses.replace(RECIPE, compensate=Compensate(count=3, lr=0.99))
    assert (
        encoded(checkpoint, compensated(checkpoint, ruinous)).data
        == encoded(checkpoint, quantize(checkpoint, apply(RECIPE, checkpoint.stored_shapes))).data
    )


def test_groups_are_neighbours_and_what_looks_tokens_up_is_last(checkpoint) -> None:
    shapes = {f"blocks.{i}.{kind}.weight": (8, 8) for i in range(12) for kind in ("attn", "mlp")}
    tensors = {name: np.ones(shape, np.float32) * i for i, (name, shape) in enumerate(sorted(shapes.items()))}
    tensors["tok_emb.weight"] = np.ones((64, 8), np.float32)
    recipe = parse_recipe("*=rtn(bits=4)|rans; @compensate=weights(count=9,groups=4)")
    groups = list(groups_of(apply(recipe, from_tensors(tensors).stored_shapes)))
    assert [len(group) for group in groups] == [8, 8, 8, 1]
    assert groups[0][0] == "blocks.0.attn.weight"
    assert groups[2][-1] == "blocks.11.mlp.weight"
    assert groups[-1] == ["tok_emb.weight"]


@pytest.mark.parametrize("more", ["@order=mlp(by=norm)", "*=lqer_asym|gptq(bits=4)|rans"])
def test_what_looks_at_all_weights_at_once_is_refused(checkpoint, more: str) -> None:
    text = f"gain=cast; {more}; @compensate=weights(count=3)"
    recipe = parse_recipe(text if "*=" in more else f"gain=cast; *=rtn|rans; {more}; @compensate=weights(count=3)")
    with pytest.raises(RecipeError, match="@compensate does not go with"):
        compensated(checkpoint, recipe)


def test_too_little_text_is_named(checkpoint) -> None:
    with pytest.raises(CalibrationError, match="fewer than two windows"):
        compensated(checkpoint, tokens=draw(1, SEQ))


class Untold(Tied):
    """Its logits are scaled by token, so that no head is told apart."""

    def forward(self, ids):
        return super().forward(ids) * torch.linspace(0.5, 1, ids.shape[-1])[:, None]


class Shared(Tied):
    """Head and table are one parameter, as in transformers' models."""

    def __init__(self) -> None:
        super().__init__()
        self.lm_head.weight = self.tok_emb.weight


@pytest.mark.parametrize("kind", [Tied, Untold, Shared])
def test_in_slices_of_the_vocabulary_kl_and_gradients_are_the_same(checkpoint, kind, monkeypatch) -> None:
    reference = dict(checkpoint.items())
    rng = np.random.default_rng(5)
    moved = {
        name: array + 0.1 * rng.standard_normal(array.shape).astype(np.float32) for name, array in reference.items()
    }

    def build_kind(state):
        model = kind()
        model.load_state_dict(state)
        return model

    ids = torch.from_numpy(draw(3, 8 * SEQ).astype(np.int64)).view(-1, SEQ)

    def measured():
        leaves = {name: torch.tensor(moved[name]).requires_grad_() for name in checkpoint.stored_shapes}
        divergence = Divergence(build_kind, reference, checkpoint.aliases, "cpu")
        found = divergence.kl(leaves, ids)
        found.backward()
        return float(found.detach()), {name: leaf.grad for name, leaf in leaves.items()}

    whole, gradients = measured()
    monkeypatch.setattr(head, "WHOLE_BYTES", 1)
    monkeypatch.setattr(divergence_module, "WHOLE_BYTES", 1)
    monkeypatch.setattr(head, "SLICE_BYTES", 4 * VOCAB * 7)
    widest = []
    softmax = F.log_softmax
    monkeypatch.setattr(F, "log_softmax", lambda x, **how: widest.append(x.numel()) or softmax(x, **how))
    sliced, again = measured()
    assert max(widest) == VOCAB * 7
    assert sliced == pytest.approx(whole, rel=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, again[name], rtol=1e-4, atol=1e-7), name
