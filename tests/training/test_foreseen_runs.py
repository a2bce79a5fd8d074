"""What a dry run of training foretells against runs that were timed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.utils.flop_counter
from pgpack_cli.train_verbs.run import run_cost

from pgpack.bench.rates import Rates
from pgtrain.model.flop_count import orthogonalizing_flop
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.presets import find_preset
from pgtrain.training.optim import orthogonalize

# layers, width, steps of 2,048 tokens -> seconds of one processor, text of 57,784 evaluated tokens and 1,024 pieces;
# the rate of `pgpack doctor` on the same processor in the same minutes: 3.78e10 (3.19e10 the first time)
TIMED = [
    ((2, 64, 20), 3.78e10, 6.0),
    ((3, 192, 12), 3.78e10, 12.0),
    ((4, 384, 6), 3.78e10, 30.0),
    ((2, 64, 20), 3.19e10, 7.6),
    ((3, 192, 12), 3.19e10, 12.8),
    ((4, 384, 6), 3.19e10, 30.9),
]
WITHIN = 0.3


@pytest.mark.parametrize(("size", "rate", "took_s"), TIMED)
def test_a_dry_run_is_right_within_30_percent(size: tuple[int, int, int], rate: float, took_s: float) -> None:
    layers, width, steps = size
    preset = find_preset("demo")
    model = dataclasses.replace(preset.model, num_layers=layers, model_dim=width, vocab_size=1024)
    training = dataclasses.replace(preset.training, steps=steps, warmdown_steps=4)
    assert training.batch_tokens == 2048
    foretold_s = run_cost(model, training, 57_784, Rates(model=rate)).total_s
    assert foretold_s == pytest.approx(took_s, rel=WITHIN)


def test_the_operations_of_muon_are_those_of_its_products() -> None:
    model = dataclasses.replace(find_preset("demo").model, num_layers=1, model_dim=64)
    counted = 0
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        for name, shape in tensor_shapes(model).items():
            if len(shape) == 2 and name.startswith("blocks.0.") and "resid_mix" not in name:
                orthogonalize(torch.randn(shape), 5)
        counted = counter.get_total_flops()
    assert orthogonalizing_flop(model, 5) == pytest.approx(counted, rel=0.01)
