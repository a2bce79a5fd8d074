"""Memory is bounded and nothing else changes: logits in slices, blocks that are run twice, triangles in files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgpack.calibration import blocks
from pgpack.calibration.blocks import plan
from pgpack.calibration.calibration import Calibration, from_arrays, load_calibration, save_calibration
from pgpack.calibration.observe import observe
from pgpack.calibration.watch import Watch
from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.errors import CalibrationError
from pgpack.loss import head
from pgpack.loss.head import logits_of

V, D, SEQ = 40, 8, 16
TOKENS = np.random.default_rng(0).integers(0, V, 8 * SEQ)


class Block(nn.Module):
    """q, k and v of one input, a product that depends on no token, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.bias = nn.Embedding(SEQ, 1)
        self.up, self.down = nn.Linear(D, 3 * D), nn.Linear(3 * D, D)

    def forward(self, x: Tensor, *, scale: float) -> tuple[Tensor]:
        q, k, v = self.q(x), self.k(x), self.v(x)
        scores = q @ k.mT * scale + self.bias(torch.arange(x.shape[1])).mT
        x = x + scores.tril().softmax(-1) @ v
        return (x + self.down(torch.tanh(self.up(x))),)


class Stack(nn.Module):
    def __init__(self, n_blocks: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(Block() for _ in range(n_blocks))

    def hidden(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for block in self.blocks:
            (x,) = block(x, scale=0.3)
        return x

    def forward(self, ids: Tensor) -> Tensor:
        return 3 * torch.tanh(F.linear(self.hidden(ids), self.table.weight) / 3)


class Padded(Stack):
    def forward(self, ids: Tensor) -> Tensor:
        return (self.hidden(ids) @ self.table.weight.T).float()[..., : V - 1] + 1


class Mixing(Stack):
    """What follows its head looks at all tokens."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids).cumsum(1)


class Caching(Stack):
    """Its blocks keep what they have seen, and see it again when they are run again."""

    def __init__(self) -> None:
        super().__init__()
        for block in self.blocks:
            block.forward = partial(self.longer, block.forward, [])

    @staticmethod
    def longer(forward, kept: list[Tensor], x: Tensor, **kwargs: float) -> tuple[Tensor]:
        kept.append(x[:, :1])
        (y,) = forward(torch.cat((*kept, x), 1)[:, :SEQ], **kwargs)
        return (y[:, -x.shape[1] :],)


def same(one: Calibration, other: Calibration, rtol: float = 1e-4) -> None:
    assert dict(one.shapes) == dict(other.shapes)
    for key in one.shapes:
        a, b = one.load(key), other.load(key)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-9, float(np.abs(a).max())), err_msg=key)


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of three tokens at a time."""
    monkeypatch.setattr(head, "WHOLE_BYTES", 0)
    monkeypatch.setattr(head, "SLICE_BYTES", 3 * V * 4)


@pytest.mark.parametrize("kind", [Stack, Padded])
def test_slices_of_logits_are_the_logits(kind: type[Stack], sliced: None) -> None:
    model, ids = kind(), torch.from_numpy(TOKENS).view(-1, SEQ)
    split = head.Splitter(V - 1)(model, ids)
    assert split.told_apart
    assert split.hidden.shape == (*ids.shape, D)
    rows = split.hidden.flatten(0, 1)
    parts = [split.head(rows[part]) for part in head.slices(len(rows), split.n_pieces)]
    assert max(len(part) for part in parts) == 3
    torch.testing.assert_close(torch.cat(parts).view(*ids.shape, -1), model(ids))


def test_a_head_that_looks_at_all_tokens_is_run_whole(sliced: None) -> None:
    model, ids = Mixing(), torch.from_numpy(TOKENS).view(-1, SEQ)
    splitter = head.Splitter(V)
    split = splitter(model, ids)
    assert not split.told_apart
    assert not splitter.possible
    torch.testing.assert_close(split.head(split.hidden), model(ids))


@pytest.mark.parametrize("kind", [Stack, Padded, Mixing])
def test_calibration_is_the_same_with_logits_in_slices(kind: type[Stack], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = observe(kind(), TOKENS, SEQ, token_digest="t")
    monkeypatch.setattr(head, "WHOLE_BYTES", 0)
    monkeypatch.setattr(head, "SLICE_BYTES", 3 * V * 4)
    same(whole, observe(kind(), TOKENS, SEQ, token_digest="t"))


def test_blocks_that_are_run_twice_give_the_same_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = observe(Stack(), TOKENS, SEQ, token_digest="t", batch_tokens=SEQ)
    bounded(monkeypatch)
    way = planned(Stack())
    assert (way.tokens, len(way.again)) == (SEQ, 4)
    assert observe(Stack(), TOKENS, SEQ, token_digest="t").digest == plain.digest


def test_blocks_that_do_something_else_the_second_time_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch)
    assert planned(Caching()).again == ()


def test_small_models_are_run_on_batches_of_8192_tokens() -> None:
    way = planned(Stack())
    assert (way.tokens, way.again) == (8192, ())


def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "AS_ALWAYS", 0)
    monkeypatch.setattr(blocks, "bound_of", lambda model: 0)


def planned(model: Stack) -> blocks.Plan:
    watch = Watch({name: p for name, p in model.named_parameters() if p.ndim >= 2}, 0)
    model.requires_grad_(False)
    return plan(partial(logits_of, model), model, torch.from_numpy(TOKENS).view(-1, SEQ), watch)


def test_weights_need_no_gradient_and_keep_their_flags() -> None:
    model = Stack()
    model.blocks[0].requires_grad_(False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    observe(model, TOKENS, SEQ, token_digest="t")
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_output_moments_are_kept_where_they_are_asked_for() -> None:
    none, some = (observe(Stack(), TOKENS, SEQ, token_digest="t", output_rows=n) for n in (0, D))
    assert not any(key.endswith(".output") for key in none.shapes)
    assert {key for key in some.shapes if key.endswith(".output")} >= {"blocks.0.q.weight.output"}
    assert "blocks.0.up.weight.output" not in some.shapes
    same(none, from_arrays({key: some.load(key) for key in none.shapes}, "", 1), rtol=0)


def test_symmetric_matrices_are_stored_as_triangles_and_whole_ones_are_read(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    skew = (x.T @ x).astype(np.float32)
    skew[0, 1] += 1
    arrays = {"a.hessian": np.minimum(x.T @ x, (x.T @ x).T), "a.fisher": np.ones(3, np.float32), "b.hessian": skew}
    before = from_arrays(arrays, "t", 200)
    save_calibration(tmp_path / "new.safetensors", before)
    save_tensors(tmp_path / "old.safetensors", arrays, {"token_digest": "t", "n_tokens": "200"})
    new, old = (load_calibration(tmp_path / f"{name}.safetensors") for name in ("new", "old"))
    assert new.digest == old.digest == before.digest
    assert dict(new.shapes) == dict(old.shapes) == dict(before.shapes)
    saved = (tmp_path / "old.safetensors").stat().st_size - (tmp_path / "new.safetensors").stat().st_size
    assert saved > 4 * 64 * 62 / 2
    save_tensors(tmp_path / "bad.safetensors", {"a.hessian": np.zeros(5, np.float32)}, {})
    with pytest.raises(CalibrationError, match="neither a square"):
        load_calibration(tmp_path / "bad.safetensors")
