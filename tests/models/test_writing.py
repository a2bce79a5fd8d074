"""A model writes what its own distribution says, the same twice, and no token that a tokenizer does not know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pgpack.models.writing import AT_ONCE, windows_written

V = 6


class Bigram(nn.Module):
    """Logits of the next token that depend on the last one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(2 * torch.randn(V, V, generator=torch.Generator().manual_seed(0)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids]


def written(seed: int, n_pieces: int = V, model: nn.Module | None = None) -> np.ndarray:
    first = np.arange(64) % n_pieces
    return np.stack(list(windows_written(model or Bigram(), first, 200, n_pieces, seed)))


def test_what_is_written_has_the_statistics_of_the_model() -> None:
    ids, p = written(0), torch.softmax(Bigram().table, -1).detach().numpy()
    assert ids.shape == (64, 200)
    assert np.array_equal(ids[:, 0], np.arange(64) % V)
    counts = np.zeros((V, V))
    np.add.at(counts, (ids[:, :-1], ids[:, 1:]), 1)
    seen = counts.sum(1, keepdims=True)
    np.testing.assert_array_less(np.abs(counts / seen - p), 5 * np.sqrt(p * (1 - p) / seen) + 1e-3)


def test_a_seed_says_it_all_and_unknown_tokens_are_never_drawn() -> None:
    assert np.array_equal(written(3), written(3))
    assert not np.array_equal(written(3), written(4))
    assert written(3, n_pieces=4).max() == 3


@pytest.mark.filterwarnings("ignore")  # of transformers about itself
@pytest.mark.parametrize("family", ["LlamaConfig", "MambaConfig"])
def test_a_model_that_remembers_writes_by_its_own_distribution(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    from pgpack.models.huggingface import _LogitsModel

    torch.manual_seed(0)
    sizes = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "initializer_range": 0.5}
    more = {"intermediate_size": 32, "num_attention_heads": 2} if family == "LlamaConfig" else {"state_size": 4}
    network = transformers.AutoModelForCausalLM.from_config(getattr(transformers, family)(**sizes, **more)).eval()
    model = _LogitsModel(network, {})
    ids = np.stack(list(windows_written(model, np.zeros(256, np.int64), 8, V - 1, 0)))
    assert ids.shape == (256, 8)
    assert ids.max() < V - 1
    with torch.no_grad():
        p = model(torch.tensor(ids))[:, :-1, : V - 1].softmax(-1).numpy()
    for at in range(7):  # each token is as likely as the model says after all that stands before it
        hits, expected = np.bincount(ids[:, at + 1], minlength=V - 1), p[:, at].sum(0)
        np.testing.assert_array_less(np.abs(hits - expected), 5 * np.sqrt((p[:, at] * (1 - p[:, at])).sum(0)) + 1)
    said = -np.log(np.take_along_axis(p, ids[:, 1:, None], 2)).mean()
    assert abs(said + (p * np.log(p)).sum(-1).mean()) < 0.05  # and its surprise is the model's own entropy


class Config:
    """What transformers has for a model whose layers differ: sizes that hold for none of them."""

    hidden_size, num_hidden_layers = 64, 4

    def get_text_config(self) -> Config:
        return self

    @property
    def num_attention_heads(self) -> int:
        raise RuntimeError("a per-layer attribute")


def test_what_is_written_at_once_is_bounded_by_what_is_remembered() -> None:
    transformers = pytest.importorskip("transformers")
    from pgpack.models.huggingface import REMEMBERED, _LogitsModel

    network = nn.Module()
    network.config = transformers.LlamaConfig(
        hidden_size=576, num_attention_heads=9, num_key_value_heads=3, num_hidden_layers=30
    )
    assert _LogitsModel(network, {}).written_at_once == REMEMBERED // (4 * 2 * 30 * 3 * 64)  # SmolLM2
    network.config = Config()
    assert _LogitsModel(network, {}).written_at_once == AT_ONCE
