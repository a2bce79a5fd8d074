"""The systems of the source studies: their parameter counts, and that every one of them builds and learns."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pgpack.errors import DataError
from pgtrain.model.flop_count import flop_per_token
from pgtrain.model.gpt import GPT, deployable, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.size_estimate import ideal_artifact_bytes, ideal_bits_per_weight
from pgtrain.model.tensor_table import count_parameters, tensor_shapes
from pgtrain.presets import PRESETS, SYSTEMS, find_preset

# As logged by the sources. #2090 gives 7.1 M, 10.0 M and 35.9 M; #212 logged 7,610,392 where its flat script kept the
# four skip rows of the variant with skips.
PUBLISHED = {
    "baseline": 17_059_912,
    "loop45": 35_943_512,
    "lanes": 35_944_602,
    "embed-384": 35_289_242,
    "embed-448": 35_879_066,
    "prism-wo": 9_993_320,
    "int6-3x": 21_778_504,
    "recurrence-3x3": 7_608_344,
    "recurrence-3x3-skips": 7_610_392,
    "ebls": 29_566_018,
    "sparse-gate": 35_945_671,
}
TWINS = [name for name in PRESETS if name.endswith("-tiny")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    assert count_parameters(SYSTEMS[name].model) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "millions"), [("prism-albert", 7.1), ("prism-naive", 10.0), ("prism-standard", 35.9)]
)
def test_rounded_counts_of_prism(name: str, millions: float) -> None:
    assert round(count_parameters(SYSTEMS[name].model) / 1e6, 1) == millions


def test_the_lora_count_of_433_is_every_tensor_of_three_axes() -> None:
    """Its log counts 313,344: the factors, 294,912, and the residual mixes of all runs, 18,432."""
    shapes = tensor_shapes(SYSTEMS["ebls"].model)
    counted = {name: torch.Size(shape).numel() for name, shape in shapes.items() if len(shape) == 3}
    assert sum(counted.values()) == 313_344
    assert sum(size for name, size in counted.items() if "lora" in name) == 294_912


@pytest.mark.parametrize("name", PRESETS)
def test_every_system_builds_as_its_table_says(name: str) -> None:
    model = find_preset(name).model
    with torch.device("meta"):
        built = GPT(model)
    state = deployable(built.state_dict())
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == tensor_shapes(model)
    assert sum(tensor.numel() for tensor in state.values()) == count_parameters(model)


def test_every_system_has_a_twin_of_its_structure_that_fits_two_cores() -> None:
    assert [f"{name}-tiny" for name in SYSTEMS] == TWINS
    sizes = ("vocab_size", "model_dim", "num_heads", "num_kv_heads", "seq_len", "embed_dim", "rope_dims",
             "bigram_dim", "bigram_buckets", "input_residual_rank", "output_residual_rank")  # fmt: skip
    for name in SYSTEMS:
        full, twin = SYSTEMS[name].model, PRESETS[f"{name}-tiny"].model
        same = {field: getattr(full, field) for field in sizes}
        assert dataclasses.replace(twin, **same) == full
        assert [bool(getattr(full, field)) for field in sizes] == [bool(getattr(twin, field)) for field in sizes]
        assert 300_000 < count_parameters(twin) < 2_200_000
        training = PRESETS[f"{name}-tiny"].training
        # The demo, 5.2e12, takes 140 seconds.
        assert 4e12 < flop_per_token(twin) * training.batch_tokens * training.steps < 6.5e12


@pytest.mark.parametrize("name", TWINS)
def test_twins_learn_from_their_first_steps(name: str) -> None:
    """Plain gradient descent on four sequences lowers the loss: every system is wired from end to end."""
    torch.manual_seed(0)
    model = initialize_(GPT(PRESETS[name].model), 0)
    ids = torch.randint(0, 1024, (1, 33))
    losses = []
    for _ in range(3):
        loss = model(ids[:, :-1], ids[:, 1:])
        model.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad / max(float(parameter.grad.norm()), 1.0)
    assert losses[2] < losses[0]


def test_the_estimate_is_near_the_artifacts_of_the_field() -> None:
    """#1546 wrote 15.98 MB with code of 23 kB, #2090 5.07 MB (PRISM) and 16.06 MB (standard)."""
    for name, megabytes in (("lanes", 15.98), ("prism-wo", 5.07), ("prism-standard", 16.06), ("prism-albert", 3.79)):
        assert ideal_artifact_bytes(SYSTEMS[name].model) / 1e6 == pytest.approx(megabytes, rel=0.03)


def test_bits_per_weight_are_the_entropy_of_a_rounded_gaussian() -> None:
    """Against the sum over the grid: 31 steps of 12.85/31 standard deviations to each side, 3.328 bits."""
    step = 12.85 / 31
    edges = (torch.arange(-31, 33, dtype=torch.float64) - 0.5) * step
    mass = torch.special.ndtr(edges).diff()
    entropy = -(mass * mass.log2()).nansum()
    assert ideal_bits_per_weight(6, 12.85) == pytest.approx(float(entropy), abs=0.015)


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="known: demo, baseline"):
        find_preset("nope")


def test_presets_survive_json() -> None:
    import json

    for preset in PRESETS.values():
        assert GPTConfig.from_mapping(json.loads(preset.model.to_json())) == preset.model
