"""Laws of an artifact taken apart: bytes add up, losses are those of the estimate, text and value are inverses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.calibration.calibration import Calibration, from_arrays
from pgpack.calibration.distortion import added_losses, expected_loss, relative_error
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import FormatError
from pgpack.formats.own.manifest import Manifest, write_artifact_file
from pgpack.inspect import Anatomy, TensorAnatomy, anatomy, inspect_artifact, slope_of
from pgpack.pack import Artifact, pack
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.report.anatomy import anatomy_sections, cell_colours
from pgpack.report.outputs import ANATOMY_FILE, read_anatomy, write_anatomy

OWN = "ndim<=1=cast|shuffle|brotli; blocks.1.*=rtn(bits=3)|rans|brotli; *=gptq(bits=6,clip=4)|rans"
FIELD = "ndim<=1=cast; *=sdclip(bits=6); @container=torch_sdclip|brotli"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    rng = np.random.default_rng(0)
    shapes = {f"blocks.{layer}.{part}.weight": (24, 16) for layer in (0, 1, 10) for part in ("attn.c_q", "mlp.fc")}
    shapes |= {"tok_emb.weight": (40, 16), "blocks.0.attn_scale": (16,)}
    return from_tensors({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


@pytest.fixture(scope="module")
def calibration(checkpoint: Checkpoint) -> Calibration:
    rng = np.random.default_rng(1)
    arrays = {}
    for name, shape in checkpoint.shapes.items():
        if len(shape) == 2:
            inputs = rng.standard_normal((64, shape[1])).astype(np.float32)
            arrays[f"{name}.hessian"] = inputs.T @ inputs / 64
            arrays[f"{name}.fisher"] = rng.uniform(0.1, 1, shape[0]).astype(np.float32)
    return from_arrays(arrays, "", 64)


def packed(checkpoint: Checkpoint, calibration: Calibration, text: str) -> tuple[Recipe, Artifact]:
    recipe = parse_recipe(text)
    return recipe, pack(checkpoint, recipe, calibration)


@pytest.mark.parametrize("text", [OWN, FIELD])
def test_tensors_and_stages_are_those_of_the_artifact(
    checkpoint: Checkpoint, calibration: Calibration, text: str
) -> None:
    _, artifact = packed(checkpoint, calibration, text)
    found = anatomy(artifact.data, artifact.report.tensors)
    assert {t.name: t.n_bytes for t in found.tensors} == dict(artifact.report.tensors)
    assert {t.name: t.shape for t in found.tensors} == checkpoint.shapes
    sizes = [stage.n_bytes for stage in found.stages]
    assert sizes[0] == 4 * checkpoint.n_params
    assert sizes[-1] == found.n_bytes == len(artifact.data)
    if text == OWN:
        view = inspect_artifact(artifact.data)
        streams: dict[str, list[int]] = {}
        for stage in view.stages:
            streams.setdefault(stage.stream, [stage.before]).append(stage.after)
        side = streams.pop("side")
        assert sizes[1] == sum(lengths[0] for lengths in streams.values()) + side[0]
        assert sizes[2] == sum(lengths[1] for lengths in streams.values()) + side[0]
        assert sizes[3] == sum(lengths[-1] for lengths in streams.values()) + side[-1]


def test_losses_sum_to_the_expected_loss(checkpoint: Checkpoint, calibration: Calibration) -> None:
    recipe, artifact = packed(checkpoint, calibration, OWN)
    losses, unit = added_losses(checkpoint, artifact.records, recipe, calibration)
    assert unit == "nats per token"
    assert set(losses) == {name for name, shape in checkpoint.shapes.items() if len(shape) == 2}
    assert sum(losses.values()) == pytest.approx(expected_loss(checkpoint, artifact.records, calibration))
    assert losses["blocks.1.mlp.fc.weight"] > 3 * losses["blocks.0.mlp.fc.weight"]  # a bit less


@pytest.mark.parametrize("lacks", ["everything", "Fisher weights"])
def test_without_a_whole_calibration_losses_are_relative_errors(
    checkpoint: Checkpoint, calibration: Calibration, lacks: str
) -> None:
    recipe, artifact = packed(checkpoint, calibration, OWN)
    hessians = {key: calibration.load(key) for key in calibration.shapes if key.endswith(".hessian")}
    given = None if lacks == "everything" else from_arrays(hessians, "", 64)
    losses, unit = added_losses(checkpoint, artifact.records, recipe, given)
    assert unit == "relative squared error"
    mean = sum(losses[name] * math.prod(shape) for name, shape in checkpoint.shapes.items()) / checkpoint.n_params
    assert mean == pytest.approx(relative_error(checkpoint, artifact.records))


def test_a_reordered_model_has_the_losses_of_its_own_order() -> None:
    rng = np.random.default_rng(2)
    shapes = {"blocks.0.mlp.fc.weight": (32, 16), "blocks.0.mlp.proj.weight": (16, 32)}
    model = from_tensors({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
    recipe = parse_recipe("*=rtn(bits=6)|rans; @order=mlp(by=norm)")
    losses, _ = added_losses(model, pack(model, recipe).records, recipe, None)
    assert max(losses.values()) < 0.01


def test_a_study_keeps_the_anatomy_of_its_best_artifact_and_works_another_one_out(
    checkpoint: Checkpoint, calibration: Calibration, tmp_path: Path
) -> None:
    assert read_anatomy(tmp_path) is None
    recipe, artifact = packed(checkpoint, calibration, OWN)
    kept = anatomy(artifact.data, artifact.report.tensors)
    manifest = Manifest(
        recipe=str(recipe),
        recipe_canonical=recipe.canonical(),
        recipe_digest=recipe.digest,
        n_bytes=artifact.n_bytes,
        sha256=kept.sha256,
        weights_digest=artifact.weights_digest,
        checkpoint_digest=checkpoint.digest,
        n_params=checkpoint.n_params,
        pgpack_version="1",
        sizes={"tensors": dict(artifact.report.tensors), "overhead": dict(artifact.report.overhead)},
    )
    write_artifact_file(tmp_path / "best.pgpack", artifact.data, manifest)
    assert read_anatomy(tmp_path) == kept
    write_anatomy(tmp_path, artifact, checkpoint, recipe, calibration)
    full = read_anatomy(tmp_path)
    assert full is not None
    assert full.loss_unit == "nats per token"
    stale = json.loads(full.to_json()) | {"sha256": "0" * 64}
    stale.pop("crc32")  # whoever changes it on purpose can leave the checksum out, as older files do
    (tmp_path / ANATOMY_FILE).write_text(json.dumps(stale))
    assert read_anatomy(tmp_path) == kept
    (tmp_path / ANATOMY_FILE).write_text("{")
    assert read_anatomy(tmp_path) == kept  # from the artifact
    (tmp_path / "best.pgpack").write_bytes(artifact.data[:-9])
    assert read_anatomy(tmp_path) is None


def test_text_and_value_are_inverses_and_other_text_is_refused(
    checkpoint: Checkpoint, calibration: Calibration
) -> None:
    recipe, artifact = packed(checkpoint, calibration, OWN)
    losses, unit = added_losses(checkpoint, artifact.records, recipe, calibration)
    whole = anatomy(artifact.data, artifact.report.tensors, losses, unit)
    assert Anatomy.from_json(whole.to_json()) == whole
    for text in (
        "",
        "[]",
        "{}",
        "null",
        whole.to_json().replace("anatomy-1", "anatomy-2"),
        '{"format": "pgpack-anatomy-1"}',
    ):
        with pytest.raises(FormatError):
            Anatomy.from_json(text)
    with pytest.raises(FormatError):
        Anatomy.from_json(whole.to_json().replace('"loss": null', '"loss": NaN'))


@given(st.floats(1e-12, 1), st.integers(1, 10**8))
def test_the_slope_is_the_derivative_of_loss_by_kilobytes(loss: float, numel: int) -> None:
    def after(kilobytes: float) -> float:
        return loss * 2.0 ** (-2 * 8000 * kilobytes / numel)

    step = 1e-6 * numel / 8000
    assert slope_of(loss, numel) == pytest.approx((after(-step) - after(step)) / (2 * step), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "layer", "part"),
    [
        ("blocks.3.attn.c_q.weight", "blocks.3", "attn.c_q"),
        ("transformer.h.11.mlp.fc.weight", "transformer.h.11", "mlp.fc"),
        ("tok_emb.weight", "", "tok_emb"),
        ("weight", "", "weight"),
        ("3", "3", "3"),
        ("conv1.weight", "", "conv1"),
    ],
)
def test_layers_are_named_up_to_their_number(name: str, layer: str, part: str) -> None:
    tensor = TensorAnatomy(name, (2, 2), 1)
    assert (tensor.layer, tensor.part) == (layer, part)


def test_sections_order_layers_by_number_and_escape_names(checkpoint: Checkpoint, calibration: Calibration) -> None:
    assert anatomy_sections(None) == ""
    recipe, artifact = packed(checkpoint, calibration, OWN)
    text = anatomy_sections(anatomy(artifact.data, artifact.report.tensors))
    places = [text.index(f'<th scope="row">blocks.{layer}</th>') for layer in (0, 1, 10)]
    assert places == sorted(places)
    hostile = Anatomy("", 5, (TensorAnatomy("<b>&\"'</b>", (2, 2), 5, 1.0),), (), "nats per token")
    assert "<b>" not in anatomy_sections(hostile)
    assert str(recipe)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@given(st.floats(0, 1))
def test_text_on_every_cell_of_the_heat_map_reaches_contrast_aa(depth: float) -> None:
    back, ink = (luminance(colour) + 0.05 for colour in cell_colours(depth))
    assert max(back, ink) / min(back, ink) >= 4.5
