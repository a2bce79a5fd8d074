"""Rows of a table are looked up in many ways; all are counted alike, and what only looks so is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgpack.calibration.observe import observe, uncovered

V, D, LENGTH = 11, 6, 8
TOKENS = np.random.default_rng(0).integers(0, V, 64)
Ask = Callable[[Tensor, Tensor], Tensor]

WAYS: dict[str, Ask] = {
    "index": lambda table, ids: table[ids],
    "index, all columns": lambda table, ids: table[ids, :],
    "index, the rest": lambda table, ids: table[ids, ...],
    "from the end": lambda table, ids: table[ids - V],
    "of a cast": lambda table, ids: table.to(torch.float64)[ids].float(),
    "of a run of rows": lambda table, ids: table[: V - 1][ids.clamp(max=V - 2)],
    "torch.index_select": lambda table, ids: torch.index_select(table, 0, ids.flatten()).view(*ids.shape, D),
    "by names": lambda table, ids: torch.index_select(input=table, dim=-2, index=ids.flatten()).view(*ids.shape, D),
    "Tensor.index_select": lambda table, ids: table.index_select(0, ids.flatten()).view(*ids.shape, D),
    "torch.embedding": torch.embedding,
    "F.embedding by names": lambda table, ids: F.embedding(input=ids, weight=table),
}


class Asking(nn.Module):
    """A table looked up in one way, positions in the same one, and an output matrix."""

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.ask = ask
        self.table = nn.Parameter(torch.randn(V, D))
        self.positions = nn.Parameter(torch.randn(V, D))
        self.head = nn.Linear(D, V, bias=False)

    def forward_logits(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])[None]
        return F.linear(input=self.ask(self.table, ids) + self.ask(self.positions, places), weight=self.head.weight)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_look_up_counts_like_an_embedding(way: str) -> None:
    tokens = np.minimum(TOKENS, V - 2)
    wanted, found = (observe(Asking(ask), tokens, LENGTH, token_digest="t") for ask in (_embedding, WAYS[way]))
    assert found.shapes == wanted.shapes
    for key in wanted.shapes:
        np.testing.assert_allclose(found.load(key), wanted.load(key), rtol=1e-5, atol=1e-7, err_msg=key)
    shares = found.fisher("positions")
    assert shares is not None
    np.testing.assert_allclose(shares[:LENGTH], np.full(LENGTH, 1 / LENGTH), rtol=1e-6)


def _embedding(table: Tensor, ids: Tensor) -> Tensor:
    return F.embedding(ids, table)


def test_rows_by_a_list_and_by_a_mask_are_looked_up() -> None:
    class Picked(Asking):
        def forward_logits(self, ids: Tensor) -> Tensor:
            mask = torch.arange(V) == 3
            return self.head(self.table[ids] + self.positions[[1, 1]].sum(0) + self.positions[mask].sum(0))

    shares = observe(Picked(_embedding), TOKENS, LENGTH, token_digest="t", batch_tokens=LENGTH).fisher("positions")
    assert shares is not None
    assert np.argsort(shares)[-2:].tolist() == [3, 1]  # asked for once and twice a window
    assert shares[3] > 2 * np.delete(shares, [1, 3]).max()


@pytest.mark.parametrize("cast", [lambda rows: rows, lambda rows: rows.float()])
@pytest.mark.parametrize("multiply", [F.linear, lambda x, rows: x @ rows])
def test_rows_that_are_multiplied_are_no_look_up(multiply: Ask, cast: Callable[[Tensor], Tensor]) -> None:
    """Rows in another order are the weights of a product, which are not told apart from the rows themselves: the
    matrix is called uncovered, as before it was looked at."""

    class Permuted(Asking):
        def __init__(self) -> None:
            super().__init__(_embedding)
            self.mixed = nn.Parameter(torch.randn(D, D))

        def forward_logits(self, ids: Tensor) -> Tensor:
            order = torch.arange(D).flip(0)
            return self.head(multiply(self.table[ids], cast(self.mixed[order])) + self.positions[0])

    model = Permuted()
    shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
    assert "mixed" in uncovered(observe(model, TOKENS, LENGTH, token_digest="t"), shapes)
    assert "table" not in uncovered(observe(model, TOKENS, LENGTH, token_digest="t"), shapes)


def test_a_part_of_the_columns_is_no_look_up() -> None:
    class Cut(Asking):
        def forward_logits(self, ids: Tensor) -> Tensor:
            columns = torch.index_select(self.positions, 1, torch.arange(D))
            return self.head(self.table[ids] + columns[0] + self.positions[ids, 0][..., None])

    found = observe(Cut(_embedding), TOKENS, LENGTH, token_digest="t")
    assert "positions" not in {name.removesuffix(".lookup") for name in found.names}
