"""The study of #1546: its tables follow from its results, its full scale can be built, its quantities are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.replication.pages import EXPERIMENTS
from experiments.replication.plan import Study
from experiments.replication.rows import Row
from experiments.tied_embedding import measuring, weights
from pgpack.checkpoint.analysis import analyze
from pgpack.checkpoint.checkpoint import from_tensors
from pgtrain.model.gpt import GPT
from pgtrain.model.tensor_table import count_parameters, tensor_shapes
from pgtrain.training.optim import frozen_names

FOLDER = EXPERIMENTS / "tied_embedding"
STUDY = Study.load(FOLDER)


def test_the_full_scale_has_the_models_of_the_pull_request() -> None:
    logged = {"tied": 35_944_602, "narrow-12": 35_289_242, "narrow-14": 35_879_066, "combination": 35_584_154}
    runs = {name: STUDY.run(name, 1, "full") for name in STUDY.purposes}
    for name in ("untied", "combination", "full-width", "residual-no-x0"):
        with torch.device("meta"):
            built = GPT(runs[name].model)
        assert sum(parameter.numel() for parameter in built.parameters()) == count_parameters(runs[name].model)
    for name, run in runs.items():
        frozen_names(run.training, list(tensor_shapes(run.model)))
        assert count_parameters(run.model) == logged.get(name, count_parameters(run.model))


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_runs_that_are_compared_differ_in_what_they_say(scale: str) -> None:
    tied = STUDY.run("tied", 1, scale)
    refunded, narrow, learned = (STUDY.run(name, 1, scale) for name in ("refunded", "narrow-12", "learned"))
    assert abs(count_parameters(refunded.model) / count_parameters(tied.model) - 1) < 1e-3
    assert learned.model == narrow.model
    assert (learned.training.frozen, narrow.training.frozen) == ("", "embed_proj.weight,head_proj.weight")
    assert STUDY.run("full-width", 1, scale).model.table_dim == tied.model.table_dim


def test_what_was_never_trained_is_as_it_was_drawn() -> None:
    """Singular values of one, and a round trip of about sqrt(1 + narrow / wide): no training is needed for either."""
    found = weights.rotations(analyze(weights.start_of(STUDY.run("narrow-12", 1, "tiny"))))
    assert found["singular_spread"] < 1e-5
    assert abs(found["roundtrip_less_unrelated"]) < 0.05


def test_the_error_of_a_clip_is_arithmetic() -> None:
    """12.85 / 31 / sqrt(12), whatever the matrix is."""
    rng = np.random.default_rng(0)
    tensors = {f"blocks.{i}.mlp.fc.weight": (i + 1) * rng.normal(size=(64, 512)) for i in range(3)}
    expected = weights.CLIP / 31 / 12**0.5
    assert weights.rounding_errors(from_tensors(tensors)) == pytest.approx([expected] * 3, rel=0.02)


def test_curves_and_ranks() -> None:
    rows: list[Row] = [
        {"run": "r", "seed": 1, "clip": clip, "n_bytes": round(1000 / clip), "bpb": 2.0, "kl": abs(clip - 6.0) + 1}
        for clip in measuring.CLIPS
    ]
    found = measuring.curve_measures(rows)
    assert (found["best_clip"], found["size_falls"], found["kl_of_3_over_best"]) == (6.0, 1.0, 4.0)
    assert measuring.agreement([0.1, 0.2, 0.3], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert measuring.boundary_importance([4.0, 1.0, 2.0]) == {"first_importance": 2.0, "last_importance": 1.0}
    assert weights.middle([float(i) for i in range(9)]) == 4.0


def test_the_recipe_covers_projections_unless_it_passes_them_through() -> None:
    assert "embed_proj" not in measuring.recipe()
    assert measuring.recipe(12.0).count("gptq") == 2
