"""Every preset is the pipeline that its source describes: sizes to 0.1 %, weights the same."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from pgpack.calibration.calibration import from_arrays
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.errors import RecipeError
from pgpack.pack import pack
from pgpack.recipe.applied import apply
from pgpack.recipe.preset_candidates import preset_recipe
from pgpack.recipe.presets import PRESETS, preset, preset_text
from pgpack.recipe.recipe import parse_recipe, recipe_to_text
from tests.contracts import field_packers
from tests.formats.reading import read_field_artifact

PASSTHROUGH = 1024  # so that every kind of matrix is quantized in a model of 120,000 parameters
needs_lrzip = pytest.mark.skipif(shutil.which("lrzip") is None, reason="lrzip is not installed")


def packed(name, state, hessians=None, passthrough=65_536, setting=None):
    """The artifact of a preset."""
    checkpoint = from_tensors({key: tensor.numpy() for key, tensor in state.items()})
    calibration = None
    if hessians:
        arrays = {f"{key}.hessian": hessian.numpy() for key, hessian in hessians.items()}
        calibration = from_arrays(arrays, "synthetic", 1000)
    recipe = parse_recipe(preset_text(name, setting, passthrough))
    return pack(checkpoint, recipe.without_idle_rules(checkpoint.stored_shapes), calibration)


def assert_same_size(ours, theirs):
    assert abs(len(ours) - len(theirs)) <= 0.001 * len(theirs), (len(ours), len(theirs))


def assert_same_weights(ours, theirs, share_of_ties=0.0):
    """Equal names, scales and raw values; symbols equal, but for a share that rounding decides either way by 1."""
    left, right = ({record.name: record.parts[0] for record in records} for records in (ours, theirs))
    assert left.keys() == right.keys()
    off = total = 0
    for name, part in left.items():
        other = right[name]
        quantized = part.grid.kind == "uniform"
        assert all(np.array_equal(array, other.grid.arrays[key]) for key, array in part.grid.arrays.items()), name
        difference = part.symbols.astype(np.int64) - other.symbols.astype(np.int64)
        assert np.abs(difference).max() <= (1 if share_of_ties and quantized else 0), name
        off += int(np.count_nonzero(difference))
        total += difference.size
    assert off <= share_of_ties * total, (off, total)


@pytest.fixture(scope="module")
def calibrated():
    state = field_packers.synthetic_state(64, 512, gates=True)
    return state, field_packers.synthetic_hessians(state)


def without_gates(state):
    return {name: tensor for name, tensor in state.items() if "attn_gate" not in name}


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("baseline-int8-zlib", field_packers.baseline_file), ("int6-zstd22", field_packers.int6_file)],
)
def test_rounding_presets_equal_the_described_pipeline(name, oracle):
    state = field_packers.synthetic_state(128, 1024, hidden=640)
    ours, theirs = packed(name, state), oracle(state)
    assert_same_weights(ours.records, read_field_artifact(theirs))
    assert ours.data == theirs


@pytest.mark.parametrize(
    ("name", "oracle"), [("sdclip-brotli", field_packers.sdclip_file), ("layer-clip", field_packers.layer_clip_file)]
)
def test_clip_presets_equal_the_described_pipeline(name, oracle, calibrated):
    state, hessians = without_gates(calibrated[0]), calibrated[1]
    ours, theirs = packed(name, state, hessians, PASSTHROUGH), oracle(state, hessians, PASSTHROUGH)
    assert_same_weights(ours.records, read_field_artifact(theirs), share_of_ties=1e-3)
    assert_same_size(ours.data, theirs)


@pytest.fixture(scope="module")
def pergroup(calibrated):
    """Our artifact, the bytes of the described pipeline, and its records."""
    if shutil.which("lrzip") is None:
        pytest.skip("lrzip is not installed")
    state, hessians = calibrated
    theirs = field_packers.pergroup_file(state, hessians, PASSTHROUGH)
    return packed("pergroup-lrzip", state, hessians, PASSTHROUGH), theirs, read_field_artifact(theirs)


def test_pergroup_preset_equals_the_described_pipeline(pergroup):
    ours, theirs, their_records = pergroup
    assert_same_weights(ours.records, their_records, share_of_ties=1e-3)
    assert_same_size(ours.data, theirs)
    both = (ours.records, their_records)
    corrected = [{record.name for record in each if record.form == "corrected"} for each in both]
    assert corrected[0] == corrected[1]
    assert len(corrected[0]) == 3


def test_corrections_recover_as_much_error_as_the_described_ones(pergroup, calibrated):
    ours = {record.name: record for record in pergroup[0].records}
    for theirs in pergroup[2]:
        if theirs.form == "corrected":
            weight = calibrated[0][theirs.name].numpy()
            error, their_error = (np.linalg.norm(weight - each.dequantize()) for each in (ours[theirs.name], theirs))
            assert error <= 1.001 * their_error, theirs.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("sdclip-brotli", field_packers.sdclip_file),
        ("layer-clip", field_packers.layer_clip_file),
        pytest.param("pergroup-lrzip", field_packers.pergroup_file, marks=needs_lrzip),
    ],
)
def test_presets_equal_the_described_pipelines_at_the_fields_threshold(name, oracle):
    state = field_packers.synthetic_state(272, 1024, gates=name == "pergroup-lrzip")
    hessians = field_packers.synthetic_hessians(state)
    ours, theirs = packed(name, state, hessians), oracle(state, hessians, 65_536)
    assert_same_weights(ours.records, read_field_artifact(theirs), share_of_ties=1e-3)
    assert_same_size(ours.data, theirs)


def test_a_floored_step_is_the_challenges_not_ours():
    """Rows below 1 in magnitude get the step 1/31: the described damage of PR #212 is in the preset."""
    state = field_packers.synthetic_state(128, 1024, hidden=640)
    (record,) = (r for r in packed("int6-zstd22", state).records if r.name == "blocks.0.mlp.fc.weight")
    assert np.unique(record.parts[0].grid.arrays["scales"]) == [np.float16(1 / 31)]


def test_a_matrix_without_hessian_is_an_error_not_fp16(calibrated):
    state, hessians = calibrated
    from pgpack.errors import CalibrationError

    some = {name: hessian for name, hessian in hessians.items() if name != "blocks.1.mlp.fc.weight"}
    with pytest.raises(CalibrationError, match=r"blocks\.1\.mlp\.fc\.weight"):
        packed("layer-clip", state, some, PASSTHROUGH)


@pytest.mark.parametrize("name", PRESETS)
def test_every_dial_setting_is_a_recipe_and_round_trips(name):
    texts = [preset_text(name, value) for value in PRESETS[name].dial_values]
    assert len(set(texts)) == len(texts) >= 7
    for text in [*texts, preset_text(name, None, 4096)]:
        recipe = parse_recipe(text)
        assert parse_recipe(recipe_to_text(recipe)) == recipe
        assert recipe.container.is_field


@pytest.mark.parametrize("name", PRESETS)
def test_the_default_dial_is_the_sources_own_setting(name):
    found = preset(name)
    assert found.name == name
    assert found.dial_default in found.dial_values
    assert preset_text(name, found.dial_default) == preset_text(name) == found.recipe


def test_a_clip_dial_keeps_the_ratios_of_the_clips():
    text = preset_text("layer-clip", 1.5)
    clips = [float(piece.split("clip=")[1].split(")")[0]) for piece in text.split(";") if "clip=" in piece]
    assert clips == [22.5, 18, 19.5, 19.275]


def test_a_smaller_artifact_follows_each_step_of_the_ladder():
    state = field_packers.synthetic_state(128, 1024, hidden=640)
    sizes = [packed("baseline-int8-zlib", state, setting=value).n_bytes for value in (8.0, 6.0, 4.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_lower_passthrough_quantizes_matrices_and_keeps_controls():
    state = field_packers.synthetic_state(128, 1024)
    records = {r.name: r for r in packed("baseline-int8-zlib", state, passthrough=64).records}
    assert records["blocks.0.attn.c_q.weight"].parts[0].grid.kind == "uniform"
    assert records["blocks.0.resid_mix"].parts[0].grid.params == {"dtype": "fp32"}


def rule_of(name, tensor, shapes):
    """The pipeline that a preset has for a tensor of a checkpoint."""
    recipe = preset_recipe(name, None, None, shapes)
    return str(apply(recipe, shapes).tensors[tensor].policy.quantizer)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("tok_emb.weight", "model.embed_tokens.weight"),
        ("tok_emb.weight", "transformer.wte.weight"),
        ("blocks.0.mlp.fc.weight", "encoder.block.0.fc1.weight"),
        ("blocks.0.attn.c_q.weight", "model.layers.0.self_attn.q_proj.weight"),
    ],
)
@pytest.mark.parametrize("name", ["sdclip-brotli", "layer-clip", "int6-zstd22", "pergroup-lrzip"])
def test_other_families_get_what_the_field_gives_each_kind_of_tensor(name, ours, theirs):
    assert rule_of(name, theirs, {theirs: (512, 256)}) == rule_of(name, ours, {ours: (512, 256)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preset_text("sdclip"), "known: baseline-int8-zlib"),
        (lambda: preset_text("baseline-int8-zlib", 6.5), "whole number from 2 to 8"),
        (lambda: preset_text("sdclip-brotli", 0.0), "above 0"),
        (lambda: preset_text("layer-clip", passthrough=-1), "at least 0"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_allowed(call, message):
    with pytest.raises(RecipeError, match=message):
        call()


def test_the_oracle_is_of_another_kind():
    """The oracle's naive elimination is exact: with one column left to go, GPTQ is rounding."""
    weight = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    symbols, steps = field_packers.obq(weight, torch.eye(2), 3.0, 4)
    assert torch.equal(symbols, torch.round(weight / steps.float()[:, None]).clamp(-7, 7).to(torch.int8))
