"""How far calibration says it is inside of a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pgpack.calibration.observe import observe
from pgpack.calibration.pace import Pace
from pgpack.progress import progress_bar, shown

VOCAB, WIDTH, LAYERS, SEQ = 64, 32, 4, 16
TENTH = 0.1


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for layer in self.layers:
            x = x + layer(x).relu()
        logits: Tensor = self.head(x)
        return logits


def _told(n_tokens: int, batch_tokens: int | None) -> list[int]:
    torch.manual_seed(0)
    told: list[int] = []
    tokens = np.random.default_rng(0).integers(0, VOCAB, n_tokens).astype(np.uint16)
    observe(Tiny(), tokens, SEQ, token_digest="", batch_tokens=batch_tokens, progress=told.append)
    return told


def test_all_tokens_are_told_and_none_twice() -> None:
    for batch_tokens in (None, 128, 48):
        assert sum(_told(1024, batch_tokens)) == 1024


def test_a_run_of_one_batch_is_told_of_before_a_tenth_of_it_is_done() -> None:
    told = _told(4096, None)  # one batch: a bar moved by whole batches would stand still to the end
    parts = np.cumsum([n for n in told if n])
    assert parts[0] < TENTH * 4096
    assert len(parts) > 2 * LAYERS
    assert np.diff(parts, prepend=0).max() < 4096 / 2


def test_the_first_word_is_that_preparing_is_over() -> None:
    assert _told(64, None)[0] == 0


def test_no_part_of_a_batch_is_more_than_the_batch() -> None:
    told: list[int] = []
    pace = Pace(told.append)
    pace.forward(2, 8, 8, 8)
    pace.begin(16)
    pace.batch(100)
    for _ in range(50):  # more work than was foreseen
        pace.forward(100, 8, 8, 8)
    assert sum(told) == 100
    pace.batch(40)
    pace.batch(0)  # less work than was foreseen
    assert sum(told) == 140


def test_the_time_that_preparing_takes_is_not_in_the_time_left() -> None:
    with shown(True, 100, "tok", "calibrating") as bar:
        tqdm_bar = bar.say.args[0]  # type: ignore[attr-defined]
        tqdm_bar.start_t -= 1000.0
        tqdm_bar.last_print_t -= 1000.0
        bar.update(0)
        bar.update(10)
        assert tqdm_bar.format_dict["elapsed"] < 100.0


def test_the_time_left_is_that_of_all_work_so_far() -> None:
    with progress_bar(100, "tok", "calibrating", quiet=False) as bar:
        assert bar.smoothing == 0.0
