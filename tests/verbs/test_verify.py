"""Laws of `pgpack.verify`, `pgpack.inspect`, `pgpack.plan` and the manifest, on tensors drawn here."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgpack import verify as verify_module
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import FormatError
from pgpack.formats.own.manifest import Manifest, manifest_path, read_manifest, write_artifact_file
from pgpack.inspect import inspect_artifact, inspect_checkpoint
from pgpack.loss.evaluator import BitsPerByte
from pgpack.pack import Artifact, pack
from pgpack.plan import plan
from pgpack.recipe.recipe import parse_recipe
from pgpack.unpack import Unpacked
from pgpack.verify import CleanDecode, Verification, decode_apart, relative_errors, verify

RECIPES = (
    "*=cast(dtype=fp32)",
    "ndim<=1=cast|shuffle|brotli; *=rtn(bits=6)|rans",
    "ndim<=1=cast; role:mlp=sdclip(bits=5,clip=8)|row_sort|transpose|zlib; *=rtn(bits=4,group=16)|bitpack",
    "*=kmeans(k=16)|rans",
    "ndim<=1=cast; *=svd(rank=4)|rtn(bits=8)|brotli",
    "ndim<=1=cast; *=lqer(rank=2)|rtn(bits=3)|rans",
    "ndim<=1=cast; *=rtn|rans; @order=mlp(by=norm)",
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    tensors = {
        "tok_emb.weight": normal(96, 32),
        "blocks.0.mlp.fc.weight": normal(64, 32) * rng.uniform(0.5, 2, (64, 1)).astype(np.float32),
        "blocks.0.mlp.proj.weight": normal(32, 64),
        "scale": normal(32),
        "steps": np.arange(7, dtype=np.int64),
    }
    return from_tensors(tensors | {"lm_head.weight": tensors["tok_emb.weight"]})


def manifest_of(artifact: Artifact, checkpoint: Checkpoint, recipe: str, **more: Any) -> Manifest:
    parsed = parse_recipe(recipe)
    return Manifest(
        recipe=str(parsed),
        recipe_canonical=parsed.canonical(),
        recipe_digest=parsed.digest,
        n_bytes=artifact.n_bytes,
        sha256=hashlib.sha256(artifact.data).hexdigest(),
        weights_digest=artifact.weights_digest,
        checkpoint_digest=checkpoint.digest,
        n_params=checkpoint.n_params,
        pgpack_version="0",
        sizes={"tensors": dict(artifact.report.tensors), "overhead": dict(artifact.report.overhead)},
        **more,
    )


class NormEvaluator:
    """A loss of weights that needs no model: their mean magnitude."""

    digest = "mean magnitude"

    def evaluate(self, tensors: Mapping[str, Any]) -> BitsPerByte:
        nats = float(np.mean([np.abs(array).mean() for array in tensors.values()]))
        return BitsPerByte(nats, nats / 2, None, 10, 20, 0.0)


@pytest.fixture
def decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clean process replaced by this one, for tests of everything else."""

    def decode(path: Path, timeout_s: float) -> CleanDecode:
        from pgpack.unpack import check_digest, unpack

        try:
            return CleanDecode(True, "pgpack", check_digest(unpack(path.read_bytes())))
        except FormatError as error:
            return CleanDecode(False, error=str(error))

    monkeypatch.setattr(verify_module, "decode_apart", decode)


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.ok]


@pytest.mark.usefixtures("decoded_here")
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_pack_writes_verifies_and_its_bytes_are_accounted_for(
    recipe: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    artifact = pack(checkpoint, parse_recipe(recipe))
    loss = NormEvaluator().evaluate(dict(artifact_tensors(artifact)))
    manifest = manifest_of(artifact, checkpoint, recipe, bpb=loss.bpb, evaluator_digest=NormEvaluator.digest)
    write_artifact_file(tmp_path / "a.pgpack", artifact.data, manifest)
    found = verify(tmp_path / "a.pgpack", checkpoint=checkpoint, budget=artifact.n_bytes, evaluator=NormEvaluator())
    assert failed(found) == []
    assert found.weights_digest == artifact.weights_digest
    view = inspect_artifact(artifact.data)
    assert {tensor.name: tensor.n_bytes for tensor in view.tensors} == dict(artifact.report.tensors)
    assert view.overhead == dict(artifact.report.overhead)
    assert view.aliases == {"lm_head.weight": "tok_emb.weight"}


def artifact_tensors(artifact: Artifact) -> dict[str, Any]:
    from pgpack.unpack import unpack

    return unpack(artifact.data).tensors()


def test_the_clean_process_agrees_and_never_loads_torch(checkpoint: Checkpoint, tmp_path: Path) -> None:
    artifact = pack(checkpoint, parse_recipe(RECIPES[1]))
    path = tmp_path / "a.pgpack"
    path.write_bytes(artifact.data)
    clean = decode_apart(path)
    assert clean.ok
    assert (clean.kind, clean.weights_digest) == ("pgpack", artifact.weights_digest)
    assert not clean.imported_torch
    path.write_bytes(artifact.data[:-1])
    cut = decode_apart(path)
    assert not cut.ok
    assert cut.error.startswith("TruncatedArtifact: ")


def test_a_decoder_that_hangs_or_dies_is_a_failed_check(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pgpack"
    path.write_bytes(pack(checkpoint, parse_recipe("*=cast")).data)
    assert "did not end within" in decode_apart(path, timeout_s=1e-3).error
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "stopped with status 1: nothing was said" in decode_apart(path).error
    assert failed(verify(path)) == ["decode"]


@pytest.mark.usefixtures("decoded_here")
def test_every_bit_flip_fails_verification(checkpoint: Checkpoint, tmp_path: Path) -> None:
    data = pack(checkpoint, parse_recipe(RECIPES[1])).data
    path = tmp_path / "a.pgpack"
    for bit in range(0, 8 * len(data), 8 * len(data) // 150):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert failed(verify(path)) == ["decode"]


@pytest.mark.usefixtures("decoded_here")
def test_loss_is_compared_to_the_last_bits_but_not_beyond_rounding(checkpoint: Checkpoint, tmp_path: Path) -> None:
    artifact, path = pack(checkpoint, parse_recipe("*=cast")), tmp_path / "a.pgpack"
    bpb = NormEvaluator().evaluate(artifact_tensors(artifact)).bpb
    for factor, digest, ok, words in (
        (1.0, NormEvaluator.digest, True, "as the manifest records"),
        (1 + 1e-7, NormEvaluator.digest, True, "rounding of another processor"),
        (1 + 1e-4, NormEvaluator.digest, False, "off by 1.0e-04"),
        (1 + 1e-4, "another text", True, "measured on another text"),
    ):
        manifest = manifest_of(artifact, checkpoint, "*=cast", bpb=bpb * factor, evaluator_digest=digest)
        write_artifact_file(path, artifact.data, manifest)
        check = verify(path, evaluator=NormEvaluator()).checks[-1]
        assert (check.name, check.ok) == ("loss", ok)
        assert words in check.detail


def test_a_permuted_mlp_is_no_error(checkpoint: Checkpoint) -> None:
    ordered = artifact_tensors(pack(checkpoint, parse_recipe("*=cast(dtype=fp32); @order=mlp(by=norm)")))
    assert not np.array_equal(ordered["blocks.0.mlp.fc.weight"], checkpoint.tensor("blocks.0.mlp.fc.weight"))
    assert max(relative_errors(ordered, checkpoint).values()) == 0


@pytest.mark.usefixtures("decoded_here")
def test_weights_that_are_not_the_checkpoints_fail(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.pgpack"
    path.write_bytes(pack(checkpoint, parse_recipe("*=cast(dtype=fp32)")).data)
    tensors = dict(checkpoint.items())
    assert failed(verify(path, checkpoint=from_tensors({n: -t for n, t in tensors.items()}))) == ["error"]
    tensors["scale"] = tensors["scale"][:5]
    assert failed(verify(path, checkpoint=from_tensors(tensors))) == ["names"]
    del tensors["scale"]
    assert failed(verify(path, checkpoint=from_tensors(tensors))) == ["names"]


def test_manifests_round_trip_and_belong_to_their_artifact(checkpoint: Checkpoint, tmp_path: Path) -> None:
    artifact, path = pack(checkpoint, parse_recipe("*=cast")), tmp_path / "a.pgpack"
    manifest = manifest_of(artifact, checkpoint, "*=cast")
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert read_manifest(path) is None
    write_artifact_file(path, artifact.data, manifest)
    assert read_manifest(path) == manifest
    with pytest.raises(FormatError, match="of another artifact"):
        write_artifact_file(path, artifact.data, dataclasses.replace(manifest, sha256="0" * 64))
    for text in ("", "[]", "{}", '{"format": "pgpack-manifest-1"}', manifest.to_json().replace("manifest-1", "-2")):
        manifest_path(path).write_text(text)
        with pytest.raises(FormatError, match="manifest"):
            read_manifest(path)


@pytest.mark.parametrize(
    ("recipe", "tolerance"),
    [
        ("*=cast(dtype=fp32)", 1e-9),
        ("*=rtn(bits=5)|bitpack", 0.02),
        ("*=rtn(bits=6)|rans", 0.06),
        ("*=sdclip(bits=6,clip=12)|rans", 0.06),
        ("*=svd(rank=8)|rtn(bits=6)|rans", 0.08),
        ("*=kmeans(k=32)|rans", 0.06),
    ],
)
def test_estimates_of_a_plan_are_near_the_measured_bytes(recipe: str, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    wide = from_tensors({"w": rng.standard_normal((512, 384)).astype(np.float32) / 7})
    measured = pack(wide, parse_recipe(recipe)).report.tensors["w"]
    assert plan(wide, parse_recipe(recipe)).ideal_bits / 8 == pytest.approx(measured, rel=tolerance)


def test_a_plan_needs_no_hessians_and_names_who_does(checkpoint: Checkpoint) -> None:
    planned = plan(checkpoint, parse_recipe("ndim<=1=cast; role:embedding=rtn; *=gptq|rans"))
    assert planned.needs_hessian == ("blocks.0.mlp.fc.weight", "blocks.0.mlp.proj.weight")
    assert [tensor.name for tensor in planned.tensors] == list(checkpoint.stored_shapes)
    assert planned.aliases == {"lm_head.weight": "tok_emb.weight"}


def test_a_checkpoint_is_described_tensor_by_tensor(checkpoint: Checkpoint) -> None:
    rows = {row.name: row for row in inspect_checkpoint(checkpoint)}
    assert rows["lm_head.weight"].alias_of == "tok_emb.weight"
    assert rows["steps"].dtype == "int64"
    assert rows["steps"].absmax == 6
    assert rows["scale"].std == pytest.approx(float(checkpoint.tensor("scale").std()), rel=1e-6)


def test_without_a_loss_to_measure_one_tensor_is_decoded_at_a_time(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = pack(checkpoint, parse_recipe(RECIPES[1]))
    (tmp_path / "a.pgpack").write_bytes(artifact.data)

    def all_at_once(unpacked: Unpacked) -> dict[str, Any]:
        raise AssertionError

    monkeypatch.setattr(Unpacked, "tensors", all_at_once)
    result = verify(tmp_path / "a.pgpack", checkpoint=checkpoint)
    assert result.ok
    assert set(result.errors) == set(checkpoint.shapes)


@pytest.mark.usefixtures("decoded_here")
@pytest.mark.parametrize(("relative", "ok"), [(0.1, True), (1.0, True), (1.29, True), (1.31, False), (1.5, False)])
def test_no_tensor_further_from_the_checkpoint_than_the_threshold_is_ok(
    relative: float, ok: bool, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """The others are near, so that the median says nothing."""
    path, changed = tmp_path / "a.pgpack", dict(checkpoint.items())
    name = "blocks.0.mlp.fc.weight"
    noise = np.random.default_rng(1).standard_normal(changed[name].shape)
    noise *= relative * np.linalg.norm(changed[name]) / np.linalg.norm(noise)
    path.write_bytes(pack(checkpoint, parse_recipe("*=cast(dtype=fp32)|raw")).data)
    far = from_tensors(changed | {name: (changed[name] - noise).astype(np.float32)})
    error = relative * np.linalg.norm(changed[name]) / np.linalg.norm(far.tensor(name))
    check = next(check for check in verify(path, checkpoint=far).checks if check.name == "error")
    assert "at most 1.3; median" in check.detail
    assert check.ok == (error <= 1.3)
    scaled = from_tensors(changed | {name: (changed[name] / np.float32(1 + relative)).astype(np.float32)})
    check = next(check for check in verify(path, checkpoint=scaled).checks if check.name == "error")
    assert f"largest relative error {relative:.3g} ({name})" in check.detail
    assert check.ok == ok
