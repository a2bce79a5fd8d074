"""Calibration of what is no whole parameter: matrices of banks and stacks, runs of rows, products x W and W x."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgpack.calibration.calibration import Calibration
from pgpack.calibration.distortion import expected_losses
from pgpack.calibration.observe import observe, uncovered
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.checkpoint.dialects import banked
from pgpack.checkpoint.parameters import held_tensors
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.refine.compensate import compensate
from pgpack.refine.divergence import Divergence
from pgpack.tensors.roles import role_of
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig

D, H, V, L = 6, 10, 11, 2
TOKENS = np.random.default_rng(0).integers(0, V, 96)


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Two layers of the challenge's names, all square enough that banks can be stacked."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"attn.c_q": (D, D), "attn.c_k": (4, D), "attn.c_v": (4, D), "attn.proj": (D, D), "mlp.fc": (H, D)}
    shapes["mlp.proj"] = (D, H)
    found = {"tok_emb.weight": torch.randn(V, D, generator=generator)}
    for i in range(L):
        for name, shape in shapes.items():
            found[f"blocks.{i}.{name}.weight"] = torch.randn(shape, generator=generator) / 3
    return found


class Plain(nn.Module):
    """Every matrix a parameter of its own; nothing of attention but its products."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.held = nn.ParameterDict({name.replace(".", "_"): nn.Parameter(t.clone()) for name, t in state.items()})

    @property
    def table(self) -> Tensor:
        return self.held["tok_emb_weight"]

    def matrix(self, i: int, kind: str) -> Tensor:
        return self.held[f"blocks_{i}_{kind}_weight".replace(".", "_")]

    def forward_logits(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.table)
        for i in range(L):
            seen = F.rms_norm(x, (D,))
            q, k, v = (F.linear(seen, self.matrix(i, f"attn.{kind}")) for kind in ("c_q", "c_k", "c_v"))
            mixed = torch.tanh(q) * (k.sum(-1, keepdim=True) + v.mean(-1, keepdim=True))
            x = x + F.linear(mixed, self.matrix(i, "attn.proj"))
            x = x + F.linear(torch.relu(F.linear(x, self.matrix(i, "mlp.fc"))).square(), self.matrix(i, "mlp.proj"))
        return F.linear(F.rms_norm(x, (D,)), self.table)


class Banked(Plain):
    """The same model with its matrices in banks, taken out in every way there is."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        nn.Module.__init__(self)
        arrays = banked({name: tensor.numpy() for name, tensor in state.items()})
        self.tok_emb = nn.Embedding(V, D)
        self.tok_emb.weight = nn.Parameter(torch.tensor(arrays.pop("tok_emb.weight")))
        for name, array in arrays.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(array)))

    @property
    def table(self) -> Tensor:
        return self.tok_emb.weight

    def matrix(self, i: int, kind: str) -> Tensor:
        found: dict[str, Callable[[], Tensor]] = {
            "attn.c_q": lambda: self.qo_bank[i],
            "attn.proj": lambda: self.qo_bank.to(torch.float64).to(torch.float32)[L + i],
            "attn.c_k": lambda: self.kv_bank.unbind(0)[i],
            "attn.c_v": lambda: self.kv_bank.select(0, L + i).to(torch.float64).to(torch.float32),
            "mlp.fc": lambda: self.mlp_up_bank.transpose(1, 2)[i].T,
            "mlp.proj": lambda: self.mlp_down_bank.view(L * D, H)[i * D : i * D + D],
        }
        return found[kind]()


class Wrapped(nn.Module):
    """As the template of `pgpack init-adapter` wraps a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model.forward_logits(ids)


def test_matrices_of_a_bank_are_calibrated_under_their_names_as_if_they_were_parameters() -> None:
    state = weights()
    plain = observe(Plain(state), TOKENS, 8, token_digest="t")
    inside = observe(Wrapped(Banked(state)), TOKENS, 8, token_digest="t", stored=state)
    names = {key.replace("held.", "").replace("_", ".") for key in plain.shapes}
    assert {key.replace("_", ".") for key in inside.shapes} == names
    assert uncovered(inside, {name: tuple(tensor.shape) for name, tensor in state.items()}) == []
    for key in inside.shapes:
        name, _, kind = key.rpartition(".")
        stem, lookup = (name.removesuffix(".lookup"), ".lookup" if name.endswith(".lookup") else "")
        np.testing.assert_array_equal(
            inside.load(key), plain.load(f"held.{stem.replace('.', '_')}{lookup}.{kind}"), err_msg=key
        )


class Products(nn.Module):
    """x W in three ways, and a fused matrix of which runs of rows are used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.emb = nn.Embedding(V, D)
        self.inner = nn.Parameter(torch.randn(D, 5))
        self.conv = nn.Parameter(torch.randn(5, D))
        self.bias = nn.Parameter(torch.zeros(D))
        self.fused = nn.Parameter(torch.randn(3 * D, D) / 2)
        self.stack = nn.Parameter(torch.randn(2, D, 3))
        self.back = nn.Parameter(torch.randn(2, 3, D))
        self.left = nn.Parameter(torch.randn(D, D) / 2)

    def steps(self, ids: Tensor) -> dict[str, Tensor]:
        """All that a test looks at, by name."""
        found = {"x": self.emb(ids).flatten(0, 1)}
        found["y"] = found["x"] @ self.inner
        found["z"] = torch.addmm(self.bias, torch.tanh(found["y"]), self.conv)
        found["a"], found["b"] = (F.linear(found["z"], self.fused[i * D : (i + 1) * D]) for i in (0, 1))
        found["c"] = F.linear(found["a"] * 2, self.fused[2 * D :])
        found["low"] = [found["b"] @ self.stack[0], found["c"] @ self.stack[1]]
        found["out"] = [low @ self.back[i] for i, low in enumerate(found["low"])]
        found["sum"] = found["out"][0] + found["out"][1] + found["z"]
        found["turned"] = (self.left @ found["sum"].view(*ids.shape, D).transpose(1, 2)).transpose(1, 2)
        found["logits"] = F.linear(found["turned"].flatten(0, 1), self.emb.weight)
        return found

    def forward_logits(self, ids: Tensor) -> Tensor:
        return self.steps(ids)["logits"].view(*ids.shape, V)


@pytest.fixture(scope="module")
def products() -> tuple[Products, Calibration, dict[str, Tensor]]:
    model = Products()
    calibration = observe(model, TOKENS, 8, token_digest="t", batch_tokens=32)
    return model, calibration, model.steps(torch.from_numpy(TOKENS).reshape(-1, 8))


def second_moment(x: Tensor) -> np.ndarray:
    rows = x.detach().double().numpy()
    return rows.T @ rows / len(rows)


def test_of_a_product_x_w_the_rows_are_inputs(products) -> None:
    _, calibration, steps = products
    for name, x in (("inner", steps["x"]), ("conv", torch.tanh(steps["y"]))):
        moment = second_moment(x)
        np.testing.assert_allclose(calibration.output(name), moment, rtol=1e-4)
        np.testing.assert_allclose(calibration.fisher(name), np.diag(moment), rtol=1e-4)
        hessian = calibration.hessian(name)
        assert np.linalg.eigvalsh(hessian).min() > -1e-4 * np.trace(hessian)
        assert np.trace(hessian) > 0


def test_of_a_product_w_x_the_rows_are_outputs_and_the_inputs_are_columns(products) -> None:
    _, calibration, steps = products
    np.testing.assert_allclose(calibration.hessian("left"), second_moment(steps["sum"]), rtol=1e-4)
    head = calibration.hessian("emb.weight")
    np.testing.assert_allclose(head, second_moment(steps["turned"].flatten(0, 1)), rtol=1e-4)
    assert calibration.fisher("left").shape == (D,)
    assert (calibration.fisher("left") > 0).all()


def test_runs_of_rows_share_a_hessian_and_keep_what_each_row_costs(products) -> None:
    _, calibration, steps = products
    hessian, fisher = calibration.hessian("fused"), calibration.fisher("fused")
    assert (hessian.shape, fisher.shape) == ((D, D), (3 * D,))
    plain, double = second_moment(steps["z"]), second_moment(steps["a"] * 2)
    shares = np.linalg.lstsq(np.stack((plain, double)).reshape(2, -1).T, hessian.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(shares[0] * plain + shares[1] * double, hessian, rtol=1e-3, atol=1e-3 * hessian.max())
    assert (shares > 0).all()
    assert (fisher > 0).all()


def test_stacks_of_factors_have_one_hessian_and_a_weight_for_every_row(products) -> None:
    model, calibration, steps = products
    for name, inputs in (("stack", [steps["b"], steps["c"]]), ("back", steps["low"])):
        parameter = getattr(model, name)
        hessian, fisher = calibration.hessian(name), calibration.fisher(name)
        assert hessian.shape == (parameter.shape[-1],) * 2
        assert fisher.shape == (parameter.shape[0] * parameter.shape[1],)
        for part, x in zip(fisher.reshape(2, -1), inputs, strict=True):
            squares = np.diag(second_moment(x))
            np.testing.assert_allclose(part / part.sum(), squares / squares.sum(), rtol=1e-3)


def test_prefixes_of_wrappers_and_banks_are_told_from_the_names_of_the_checkpoint() -> None:
    stored = ("tok_emb.weight", "blocks.0.attn.c_q.weight", "blocks.0.attn.proj.weight", "scale")
    shapes = {"m.module.tok_emb.weight": (3, 2), "m.module.qo_bank": (2, 2, 2), "m.module.scale": (2,), "other": (1,)}
    assert held_tensors(shapes, stored) == {
        "m.module.tok_emb.weight": ("tok_emb.weight",),
        "m.module.qo_bank": ("blocks.0.attn.c_q.weight", "blocks.0.attn.proj.weight"),
        "m.module.scale": ("scale",),
        "other": ("other",),
    }
    assert held_tensors({"a.weight": (2, 2), "qo_bank": (3, 2, 2)}) == {
        "a.weight": ("a.weight",),
        "qo_bank": ("qo_bank",),
    }


class Sparse(nn.Module):
    """One expert, which gets the tokens of even numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.emb = nn.Embedding(V, D)
        self.expert = nn.Linear(D, D, bias=False)
        self.head = nn.Linear(D, V, bias=False)

    def forward_logits(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        return self.head(x.index_put((ids % 2 == 0,), self.expert(x[ids % 2 == 0])))


def test_what_an_error_of_an_expert_costs_is_in_proportion_to_how_often_it_is_asked() -> None:
    """Moments are over all tokens, squares over those that came: their product counts a token once, not twice."""
    model, gradients = Sparse(), list[Tensor]()
    model.expert.register_full_backward_hook(lambda m, given, got: gradients.append(got[0].detach()))
    calibration = observe(model, TOKENS, 8, token_digest="t")
    even = TOKENS[TOKENS % 2 == 0]
    assert 0 < len(even) < len(TOKENS)
    x = model.emb.weight.detach()[torch.from_numpy(even)]
    np.testing.assert_allclose(calibration.hessian("expert.weight"), (x.T @ x / len(TOKENS)).numpy(), rtol=1e-4)
    squares = torch.cat(gradients).square().sum(0).numpy()
    np.testing.assert_allclose(calibration.fisher("expert.weight"), squares / len(even), rtol=1e-4)


def small_ebls() -> GPT:
    config = GPTConfig(
        vocab_size=32, num_layers=4, model_dim=32, num_heads=2, num_kv_heads=1, seq_len=16, sharing="consecutive",
        shared_blocks=2, ebls_rank=4, ebls_b_std=0.3, skips="none",
    )  # fmt: skip
    model = initialize_(GPT(config), 0)
    with torch.no_grad():  # at the start nothing reaches the logits: the output projections are zero
        for parameter in model.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 9
            )
    return model


@pytest.mark.parametrize("quantizer", ["gptq(bits=3)", "tcq(step=0.003)"])
def test_the_factors_of_ebls_are_packed_by_what_needs_hessians(quantizer: str) -> None:
    model = small_ebls()
    checkpoint = from_tensors({name: tensor.detach().numpy() for name, tensor in model.state_dict().items()})
    tokens = np.random.default_rng(1).integers(0, 32, 512)
    calibration = observe(model, tokens, 16, token_digest="t", stored=checkpoint.shapes)
    matrices = {n: s for n, s in checkpoint.shapes.items() if len(s) > 1 and role_of(n, s) != "control"}
    assert uncovered(calibration, matrices) == []
    coder = "rans_scaled" if "tcq" in quantizer else "rans"
    text = f"ndim<=1=cast|raw; role:control=cast|raw; *={{}}|{coder}"
    packed = pack(checkpoint, parse_recipe(text.format(quantizer)), calibration)
    losses = expected_losses(checkpoint, packed.records, calibration)
    lora = [name for name in losses if "_lora_" in name]
    assert len(lora) == 8
    if "gptq" in quantizer:
        plain = pack(checkpoint, parse_recipe("ndim<=1=cast|raw; role:control=cast|raw; *=sdclip(bits=3)|rans"))
        rounded = expected_losses(checkpoint, plain.records, calibration)
        assert sum(losses[name] for name in lora) < sum(rounded[name] for name in lora)


def test_compensation_reaches_matrices_in_banks_behind_a_wrapper() -> None:
    state = {name: tensor.numpy() for name, tensor in weights().items()}
    checkpoint = from_tensors(state)

    def build(tensors: Mapping[str, Tensor]) -> nn.Module:
        return Wrapped(Banked({name: tensor.detach() for name, tensor in tensors.items()}))

    divergence = Divergence(build, state, {}, "cpu")
    divergence.require(list(state))
    same = {name: torch.tensor(array) for name, array in state.items()}
    ids = torch.from_numpy(TOKENS[:16]).reshape(2, 8)
    assert float(divergence.kl(same, ids)) == pytest.approx(0.0, abs=1e-6)
    other = {**same, "blocks.1.attn.c_v.weight": same["blocks.1.attn.c_v.weight"] + 1}
    assert float(divergence.kl(other, ids)) > 1e-3
    recipe = parse_recipe("@compensate=weights(count=2); *=rtn(bits=4)|raw")
    assert len(compensate(checkpoint, recipe, None, build, TOKENS, 8).records) == len(state)
