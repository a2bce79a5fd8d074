"""Calibration: every product with a parameter is seen, moments and Fisher weights are what their definitions say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgpack.calibration.calibration import Calibration, from_arrays, load_calibration, save_calibration
from pgpack.calibration.observe import observe, uncovered
from pgpack.calibration.rare_rows import expected_shares
from pgpack.errors import CalibrationError


class Tied(nn.Module):
    """A Linear subclass that casts, a matmul with a transpose, a functional call, and a tied output matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.emb = nn.Embedding(11, 6)
        self.linear = nn.Linear(6, 5)
        self.matrix = nn.Parameter(torch.randn(6, 5))
        self.unused = nn.Parameter(torch.randn(3, 3))
        self.gain = nn.Parameter(torch.ones(6))

    def forward_logits(self, ids: Tensor) -> Tensor:
        x = F.layer_norm(self.emb(ids), (6,)) * self.gain
        x = F.linear(x, self.linear.weight.to(torch.float64).to(torch.float32), self.linear.bias)
        x = torch.tanh(x) @ self.matrix.T
        return F.linear(x, self.emb.weight)


def test_hessians_are_the_second_moments_of_the_inputs() -> None:
    model = Tied()
    tokens = np.arange(40) % 11
    calibration = observe(model, tokens, 8, token_digest="t", batch_tokens=16)
    ids = torch.from_numpy(tokens).reshape(5, 8)
    x = F.layer_norm(model.emb(ids), (6,)) * model.gain
    hidden = torch.tanh(model.linear(x))
    head = hidden @ model.matrix.T
    for name, inputs in (("linear.weight", x), ("matrix", hidden), ("emb.weight", head)):
        rows = inputs.detach().reshape(40, -1).numpy()
        hessian = calibration.hessian(name)
        assert hessian is not None
        np.testing.assert_allclose(hessian, rows.T @ rows / 40, rtol=1e-4, atol=1e-5)
    assert calibration.n_tokens == 40


def test_fisher_weights_are_mean_squared_output_gradients_under_the_models_own_labels() -> None:
    model = Tied()
    tokens = np.tile(np.arange(11), 400)
    fisher = observe(model, tokens, 11, token_digest="t", seed=3).fisher("emb.weight")
    assert fisher is not None
    logits = model.forward_logits(torch.arange(11)[None])[0]
    p = logits.softmax(-1).detach()
    expected = (p * (1 - p)).mean(0)  # E over sampled labels of (p_v - [label = v])^2
    np.testing.assert_allclose(fisher, expected.numpy(), rtol=0.15, atol=2e-3)


def test_look_ups_are_counted_and_their_gradients_have_second_moments() -> None:
    tokens = np.array([1, 1, 1, 2, 3, 3, 4, 5])
    calibration = observe(Tied(), tokens, 8, token_digest="t")
    hessian, shares = calibration.lookup("emb.weight")
    assert hessian is not None
    assert shares is not None
    np.testing.assert_allclose(shares, np.bincount(tokens, minlength=11) / 8)
    assert np.linalg.eigvalsh(hessian).min() > -1e-6
    assert np.trace(hessian) > 0
    assert calibration.lookup("matrix") == (None, None)


def test_shares_of_token_tables_are_counted_in_more_text() -> None:
    more = np.array([0, 1, 1, 7])
    calibration = observe(Tied(), np.array([1, 1, 1, 2, 3, 3, 4, 5]), 8, token_digest="t", text=more)
    shares = calibration.lookup("emb.weight")[1]
    assert shares is not None
    np.testing.assert_allclose(shares, expected_shares(np.bincount(more, minlength=11)), rtol=1e-6)


class Shifted(Tied):
    """Looks up another row than the token's."""

    def forward_logits(self, ids: Tensor) -> Tensor:
        return super().forward_logits((ids + 1) % 11)


def test_tables_that_are_looked_up_otherwise_keep_their_shares() -> None:
    tokens = np.array([1, 1, 1, 2, 3, 3, 4, 5])
    plain, more = (observe(Shifted(), tokens, 8, token_digest="t", text=each) for each in (None, np.arange(11)))
    np.testing.assert_array_equal(plain.lookup("emb.weight")[1], more.lookup("emb.weight")[1])
    assert not np.array_equal(plain.fisher("emb.weight"), more.fisher("emb.weight"))  # the output's rows are tokens


class Placed(Tied):
    """Adds a learned vector for each of 16 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(16, 6)

    def forward_logits(self, ids: Tensor) -> Tensor:
        x = self.emb(ids) + self.positions(torch.arange(ids.shape[1]))
        return F.linear(x, self.emb.weight)


class PlacedByRow(Placed):
    """With positions of shape (1, time)."""

    def forward_logits(self, ids: Tensor) -> Tensor:
        return F.linear(self.emb(ids) + self.positions(torch.arange(ids.shape[1])[None]), self.emb.weight)


class PlacedByToken(Placed):
    """With positions of shape (batch, time)."""

    def forward_logits(self, ids: Tensor) -> Tensor:
        at = torch.arange(ids.shape[1]).expand_as(ids)
        return F.linear(self.emb(ids) + self.positions(at), self.emb.weight)


def test_positions_behind_the_window_are_not_worth_nothing() -> None:
    calibration = observe(Placed(), np.arange(40) % 11, 8, token_digest="t", text=np.arange(11))
    np.testing.assert_allclose(calibration.fisher("positions.weight"), np.full(16, 1 / 8), rtol=1e-6)


@pytest.mark.parametrize("kind", [Placed, PlacedByRow, PlacedByToken])
def test_a_look_up_that_all_windows_share_counts_for_each_of_them(kind) -> None:
    for n in (8, 16, 40):
        calibration = observe(kind(), np.arange(40) % 11, 8, token_digest="t", batch_tokens=n)
        np.testing.assert_allclose(calibration.fisher("positions.weight")[:8], np.full(8, 1 / 8), rtol=1e-6)


class PlacedBySlice(Placed):
    """As a slice of the table; `taken` says how. The table is a parameter under a dimension of 1 where it asks so."""

    def __init__(self, taken: str) -> None:
        super().__init__()
        self.taken = TAKEN[taken]
        self.stacked = nn.Parameter(self.positions.weight.detach()[None].clone())

    def forward_logits(self, ids: Tensor) -> Tensor:
        return F.linear(self.taken(self, self.emb(ids), ids.shape[1]), self.emb.weight)


TAKEN = {
    "looked up": lambda model, x, n: x + model.positions(torch.arange(n)),
    "looked up by token": lambda model, x, n: x + model.positions(torch.arange(n).expand(len(x), -1)),
    "slice": lambda model, x, n: x + model.positions.weight[:n],
    "slice first": lambda model, x, n: model.positions.weight[:n] + x,
    "narrow": lambda model, x, n: torch.add(x, torch.narrow(model.positions.weight, 0, 0, n)),
    "method": lambda model, x, n: x.add(model.positions.weight.narrow(0, 0, n)),
    "in place": lambda model, x, n: x.clone().add_(model.positions.weight[:n]),
    "none": lambda model, x, n: x + model.positions.weight[None, :n],
    "unsqueeze": lambda model, x, n: x + model.positions.weight[:n].unsqueeze(0),
    "expand": lambda model, x, n: x + model.positions.weight[:n].expand(len(x), -1, -1),
    "view": lambda model, x, n: x + model.positions.weight[:n].view(1, n, -1),
    "cast": lambda model, x, n: x + model.positions.weight[:n].double().float(),
    "cast below": lambda model, x, n: x + model.positions.weight.double()[None, :n].float(),
    "index": lambda model, x, n: x + model.positions.weight[torch.arange(n)],
    "dropout": lambda model, x, n: x + F.dropout(model.positions.weight[:n], 0.5, model.training),
    "stacked slice": lambda model, x, n: x + model.stacked[:, :n],
    "stacked first": lambda model, x, n: x + model.stacked[0, :n],
    "stacked cast": lambda model, x, n: x + model.stacked[:, :n, :].double().float(),
    "stacked index": lambda model, x, n: x + model.stacked[:, torch.arange(n)],
    "stacked select": lambda model, x, n: x + model.stacked.index_select(1, torch.arange(n)),
}  # fmt: skip


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("n", [8, 24])
def test_rows_that_are_taken_by_slices_count_as_those_that_are_looked_up(taken: str, n: int) -> None:
    """However a model takes the first positions of its table: of 16 rows 8 were asked for, none of them is unseen."""
    name = "stacked" if taken.startswith("stacked") else "positions.weight"
    for seed in (0, 1):
        alike = "looked up by token" if taken in ("expand", "looked up by token") else "looked up"  # each window's
        wanted, found = (
            observe(PlacedBySlice(each), np.arange(40) % 11, 8, token_digest="t", batch_tokens=n, seed=seed)
            for each in (alike, taken)
        )
        np.testing.assert_allclose(found.fisher(name), wanted.fisher("positions.weight"), rtol=1e-6)
        np.testing.assert_allclose(found.hessian(name), wanted.hessian("positions.weight"), rtol=1e-4, atol=1e-6)
        assert found.hessian_shape("emb.weight") == (6, 6)
        found.require([name])


def test_rows_of_a_table_that_is_joined_with_the_tokens_are_looked_up() -> None:
    """Registers before the text: three of five rows, once in every window."""
    model = Placed()

    def forward(ids: Tensor) -> Tensor:
        own = model.positions.weight[2:5].expand(len(ids), -1, -1)
        return F.linear(torch.cat([own, model.emb(ids)], 1).cumsum(1)[:, 3:], model.emb.weight)

    model.forward_logits = forward  # type: ignore[method-assign]
    shares = observe(model, np.arange(40) % 11, 8, token_digest="t", batch_tokens=16).fisher("positions.weight")
    np.testing.assert_allclose(shares, np.full(16, 1 / 8), rtol=1e-6)


class Halves(Tied):
    """Rows of one matrix as weights of two products, a weight with its change, one row that is added everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(6, 2)), nn.Parameter(torch.randn(2, 6))

    def forward_logits(self, ids: Tensor) -> Tensor:
        x = self.emb(ids) + self.matrix.T[:1]
        x = F.linear(x, self.linear.weight[:2]) @ self.linear.weight[2:4] + self.unused.flatten()[:6]
        return F.linear(x, self.emb.weight + self.emb.weight @ (self.down @ self.up))


def test_slices_that_are_multiplied_are_weights_and_no_rows_of_a_table() -> None:
    calibration = observe(Halves(), np.arange(40) % 11, 8, token_digest="t")
    assert "linear.weight" in calibration.names
    assert calibration.lookup("linear.weight") == (None, None)
    assert not {"matrix", "matrix.lookup", "unused", "unused.lookup"} & set(calibration.names)
    assert calibration.lookup("emb.weight")[1] is not None


def test_a_table_that_is_only_looked_up_has_its_look_ups_as_statistics() -> None:
    arrays = {"emb.lookup.hessian": np.eye(2, dtype=np.float32), "emb.lookup.fisher": np.ones(4, np.float32)}
    calibration = from_arrays(arrays, "", 1)
    hessian = calibration.hessian("emb")
    assert hessian is not None
    np.testing.assert_array_equal(hessian, np.eye(2))
    assert calibration.lookup("emb") == (None, None)
    calibration.require(["emb"])


def test_output_moments_have_the_fisher_weights_on_their_diagonal_and_tied_tables_have_none() -> None:
    calibration = observe(Tied(), np.arange(88) % 11, 11, token_digest="t", batch_tokens=22)
    for name, n in (("linear.weight", 5), ("matrix", 6)):
        outputs, fisher = calibration.output(name), calibration.fisher(name)
        assert outputs is not None
        assert fisher is not None
        assert outputs.shape == (n, n)
        np.testing.assert_allclose(np.diag(outputs), fisher, rtol=1e-5)
        assert np.linalg.eigvalsh(outputs).min() > -1e-6 * np.trace(outputs)
    assert calibration.output("emb.weight") is None


def test_a_matrix_that_takes_no_part_is_reported() -> None:
    model = Tied()
    calibration = observe(model, np.arange(22) % 11, 11, token_digest="t")
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert uncovered(calibration, shapes) == ["unused"]
    with pytest.raises(CalibrationError, match="1 tensor lacks a Hessian: unused"):
        calibration.require(["matrix", "unused"])


def test_batches_do_not_change_the_moments() -> None:
    tokens = np.arange(64) % 11
    one, many = (observe(Tied(), tokens, 8, token_digest="t", batch_tokens=n) for n in (64, 8))
    for name in one.names:
        np.testing.assert_allclose(one.load(f"{name}.hessian"), many.load(f"{name}.hessian"), rtol=1e-4, atol=1e-6)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(CalibrationError, match="fewer than one window"):
        observe(Tied(), np.arange(5), 8, token_digest="t")


def test_calibration_files_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"a.hessian": np.eye(3, dtype=np.float32), "a.fisher": rng.random(5, dtype=np.float32)}
    arrays["a.output"] = np.diag(arrays["a.fisher"])
    before = from_arrays(arrays, "digest", 77)
    save_calibration(tmp_path / "c.safetensors", before)
    after = load_calibration(tmp_path / "c.safetensors")
    assert after.digest == before.digest
    assert (after.token_digest, after.n_tokens, after.names) == ("digest", 77, ("a",))
    np.testing.assert_array_equal(after.load("a.fisher"), arrays["a.fisher"])
    assert after.hessian("b") is None
    assert after.output("b") is None
    assert after.tensor_digest("a") != from_arrays({**arrays, "a.output": np.eye(5)}, "", 1).tensor_digest("a")


def test_files_that_are_no_calibration_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"not safetensors at all")
    with pytest.raises(CalibrationError, match="not a readable"):
        load_calibration(tmp_path / "junk")
    with pytest.raises(CalibrationError, match="does not exist"):
        load_calibration(tmp_path / "absent")
    save_calibration(tmp_path / "bad", Calibration({"w": (2, 2)}, lambda key: np.zeros((2, 2), np.float32)))
    with pytest.raises(CalibrationError, match="neither a square"):
        load_calibration(tmp_path / "bad")


def test_a_file_with_one_changed_byte_is_refused_or_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    hessian = np.eye(3, dtype=np.float32) + np.ones((3, 3), np.float32)
    save_calibration(path, from_arrays({"w.hessian": hessian, "w.fisher": np.arange(2, dtype=np.float32)}, "t", 9))
    whole, before = path.read_bytes(), load_calibration(path)
    n_read = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            after = load_calibration(path)
        except CalibrationError:
            continue
        n_read += 1
        assert (after.digest, after.token_digest, after.n_tokens) == (before.digest, before.token_digest, 9)
    assert n_read < len("sha256") + 10  # the name of the seal itself, and spaces behind the header


def test_equal_calibrations_are_equal_files(tmp_path: Path) -> None:
    statistics = {f"{name}.hessian": np.eye(3, dtype=np.float32) for name in "abcdef"}
    for name in ("one", "two"):
        save_calibration(tmp_path / name, from_arrays(statistics, "t", 9))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
