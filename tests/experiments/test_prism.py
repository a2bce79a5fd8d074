"""PRISM: its tables follow from its results, its probes measure what they say, its full scale is a model."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from experiments.prism import probes
from experiments.prism.one_seed import rare_over_common, types_won
from experiments.prism.probes import shift_error
from experiments.replication.pages import EXPERIMENTS
from experiments.replication.plan import Study
from experiments.replication.results import Measures
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig

FOLDER = EXPERIMENTS / "prism"
SMALL = GPTConfig(vocab_size=64, num_layers=4, model_dim=32, num_heads=4, num_kv_heads=2, seq_len=16, rope_dims=4,
                  sharing="encoder_decoder", skips="gate", adapters="bounded", weight_init="orthogonal")  # fmt: skip
IDS = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))


def model(config: GPTConfig = SMALL) -> GPT:
    return initialize_(GPT(config), 0).requires_grad_(False).eval()


@pytest.mark.parametrize("run", Study.load(FOLDER).purposes)
def test_full_scale_is_a_model(run: str) -> None:
    config = Study.load(FOLDER).run(run, 1, "full").model
    with torch.device("meta"):
        built = GPT(config)
    assert len(built.plan) == (2 if run == "standard-shallow" else 11)


def test_models_of_equal_bytes_are_within_three_percent_of_wo() -> None:
    measures = Measures.load(FOLDER / "results" / "measures.json")
    for run in ("standard-narrow", "standard-shallow", "albert-wide"):
        assert measures[f"{run}.bytes_over_wo"].mean == pytest.approx(1.0, abs=0.03), run


def test_a_reading_has_one_entry_per_virtual_layer() -> None:
    reading = probes.read(model(dataclasses.replace(SMALL, repartition="gate")), IDS)
    assert [len(part) for part in (reading.streams, reading.entropies, reading.gates)] == [4, 4, 4]
    assert torch.equal(reading.gates[0], torch.full((2, 16, 1), 0.5))
    assert "gate" not in probes.numbers(model(), IDS)


def test_attention_that_prefers_nothing_has_the_entropy_of_all_that_it_sees() -> None:
    plain = model(dataclasses.replace(SMALL, adapters="none"))
    for part in plain.layers:
        part.attn.q_gain.zero_()
    uniform = sum(math.log(seen) for seen in range(1, 17)) / 16
    assert probes.read(plain, IDS).entropies == pytest.approx([uniform] * 4, rel=1e-5)
    assert max(probes.read(model(dataclasses.replace(SMALL, qk_gain_init=20.0)), IDS).entropies) < uniform


def test_conditions_and_cosines_of_known_matrices() -> None:
    known = model()
    assert probes.q_condition(known) == pytest.approx(1.0, abs=1e-4)
    assert probes.head_cosine(known) == pytest.approx(0.0, abs=1e-5)
    for part in known.layers:
        part.attn.c_q.weight.copy_(torch.diag(torch.linspace(1.0, 4.0, 32)))
    assert probes.q_condition(known) == pytest.approx(4.0, abs=1e-4)
    for part in known.layers:
        part.attn.c_q.weight.copy_(part.attn.c_q.weight[:8].repeat(4, 1))
    assert probes.head_cosine(known) == pytest.approx(1.0, abs=1e-5)
    x = torch.randn(1, 3, 8)
    assert probes.stream_cosine(x, -2 * x) == pytest.approx(-1.0, abs=1e-6)


def test_adapters_that_do_nothing_have_no_spread() -> None:
    assert set(probes.adapter_spread(model()).values()) == {0.0}
    assert probes.adapter_spread(model(dataclasses.replace(SMALL, adapters="none"))) == {}


def test_scores_of_any_permutation_depend_on_distances_alone() -> None:
    config = GPTConfig(model_dim=64, num_heads=1, num_kv_heads=1, rope_dims=16)
    assert shift_error(config, torch.randperm(64, generator=torch.Generator().manual_seed(1)), 0) < 1e-4


def test_rare_tokens_are_those_beyond_half_of_the_training_text() -> None:
    training = np.array([0] * 6 + [1] * 2 + [2] * 2, dtype=np.uint16)
    nats, targets = np.array([1.0, 3.0, 5.0], np.float32), np.array([0, 1, 2])
    assert rare_over_common(nats, targets, training) == pytest.approx(4.0)


def test_a_type_is_won_by_its_mean_loss() -> None:
    ours = np.array([[3, 3, 5], [1.0, 2.0, 9.0]], np.float32)
    theirs = np.array([[3, 3, 5], [2.0, 2.0, 8.0]], np.float32)
    assert types_won(ours, theirs) == 0.5
