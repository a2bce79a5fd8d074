"""The state of an unfinished run in which something is another is never gone on with."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from pgpack.errors import DataError
from pgtrain.training.averaging import WeightAverage
from pgtrain.training.resume import SEAL, RunState


def saved(folder: Path) -> tuple[RunState, nn.Module, WeightAverage, bytes]:
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    average = WeightAverage(model, 0.9)
    state = RunState(folder / "m.safetensors.state", {"steps": 7})
    state.save(model, {}, average, {"step": 3, "loss": 1.25}, {"table": torch.arange(4.0)})
    return state, model, average, state.path.read_bytes()


def weights(model: nn.Module) -> list[float]:
    return [value for parameter in model.parameters() for value in parameter.detach().reshape(-1).tolist()]


def test_no_changed_byte_is_gone_on_with(tmp_path: Path) -> None:
    state, model, average, data = saved(tmp_path)
    before, choose = weights(model), random.Random(0)
    for at in range(len(data)):
        state.path.write_bytes(data[:at] + bytes([data[at] ^ 1 << choose.randrange(8)]) + data[at + 1 :])
        try:
            found = state.restore_(model, {}, average)
        except DataError as error:
            assert re.search(r"add --restart|other settings", str(error)), at  # noqa: PT017
            continue
        assert (found, weights(model)) == ({"step": 3, "loss": 1.25}, before), at


@pytest.mark.parametrize("n", [0, 5, 100, 400])
def test_a_cut_state_says_what_to_do(n: int, tmp_path: Path) -> None:
    state, model, average, data = saved(tmp_path)
    state.path.write_bytes(data[:n])
    with pytest.raises(DataError, match=r"m\.safetensors\.state: the state .* is damaged .* add --restart"):
        state.restore_(model, {}, average)


def test_a_state_of_an_older_program_is_gone_on_with(tmp_path: Path) -> None:
    state, model, average, data = saved(tmp_path)
    state.path.write_bytes(re.sub(SEAL.encode(), b"older", data))
    assert state.restore_(model, {}, average) == {"step": 3, "loss": 1.25}
