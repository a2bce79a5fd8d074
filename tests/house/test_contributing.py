"""CONTRIBUTING.md is true: its five examples, put into a package as pip would, are found and used."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import from_tensors, save_tensors
from pgpack.errors import CorruptArtifact, RecipeError, SubmissionError
from pgpack.pack import pack
from pgpack.quantizers import QUANTIZERS
from pgpack.recipe.recipe import Recipe
from pgpack.study.study import Study
from pgpack.submission.decoder import make_decoder
from pgpack.text.text_folder import TextFolder
from pgpack.unpack import unpack
from tests.commands.workshop import pgpack, succeed
from tests.contracts.check_codecs import check_byte_codec
from tests.contracts.check_quantizers import check_quantizer
from tests.submission.submission_folder import write_good

PAGE = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
MODULES = re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.S | re.M)
TABLES = [tomllib.loads(text) for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.S | re.M)]
RECIPE = "*=power_of_two(bits=5)|deflate(level=6)"

Install = Callable[[str, dict[str, dict[str, str]]], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts the modules of the page, under these entry points, where packages are looked for."""

    def install(name: str, groups: dict[str, dict[str, str]]) -> Path:
        site = tmp_path / name
        for path, code in MODULES:
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(code)
        metadata = site / f"{name}-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for group, each in groups.items()]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", str(site))
        return site

    return install


@pytest.fixture
def package(install: Install) -> Path:
    """The package that the page describes."""
    return install("my_package", {k: v for table in TABLES for k, v in table["project"]["entry-points"].items()})


def weights() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {"a.weight": rng.standard_normal((24, 40)).astype(np.float32), "b.weight": np.ones((8, 8), np.float32)}


def flags_of(text: TextFolder) -> tuple[object, ...]:
    return ("--val", text.val_glob, "--tokenizer", text.tokenizer_path, "--max-tokens", 320)


def test_the_page_has_five_examples() -> None:
    assert len(MODULES) == len(TABLES) == 5


@pytest.mark.usefixtures("package")
def test_a_recipe_packs_with_the_quantizer_and_the_codec_and_unpack_gives_the_weights() -> None:
    recipe = Recipe.parse(RECIPE)
    assert str(recipe) == RECIPE
    assert Recipe.parse(recipe.canonical().removeprefix("pgpack-recipe-1 ")) == recipe
    artifact = pack(from_tensors(weights()), recipe)
    for name, values in unpack(artifact.data).tensors().items():
        steps = np.exp2(np.ceil(np.log2(np.abs(weights()[name]).max(axis=1) / 15)))
        assert (np.abs(values - weights()[name]) <= steps[:, None] / 2).all()


@pytest.mark.usefixtures("package")
def test_both_keep_the_contracts_of_ours() -> None:
    check_quantizer(import_module("my_package.quantizer").PowerOfTwo())
    check_byte_codec(import_module("my_package.codec").Deflate())


@pytest.mark.usefixtures("package")
def test_where_the_package_is_missing_the_artifact_is_refused_by_the_name_of_the_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = pack(from_tensors(weights()), Recipe.parse(RECIPE)).data
    monkeypatch.undo()
    with pytest.raises(CorruptArtifact, match="unknown stage 'deflate'"):
        unpack(data)
    with pytest.raises(RecipeError, match="unknown stage 'power_of_two'"):
        Recipe.parse(RECIPE)


@pytest.mark.usefixtures("package")
def test_a_single_file_decoder_refuses_the_codec_of_another_package() -> None:
    data = pack(from_tensors(weights()), Recipe.parse(RECIPE)).data
    with pytest.raises(SubmissionError, match="deflate"):
        make_decoder([data])


@pytest.mark.usefixtures("package")
def test_the_model_is_evaluated(text_folder: TextFolder, tmp_path: Path) -> None:
    checkpoint = tmp_path / "bare.safetensors"
    save_tensors(checkpoint, {"successor": np.zeros((400, 400), np.float32)}, {})
    loss = succeed(pgpack("eval", checkpoint, *flags_of(text_folder), "--json")).json["nats"]
    assert loss == pytest.approx(math.log(400))


@pytest.mark.usefixtures("package")
def test_the_sampler_chooses_what_a_sweep_measures(
    text_folder: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpack.bench.sweeping.write_outputs", lambda study, breakdown: ())
    checkpoint, out = tmp_path / "model.safetensors", tmp_path / "study"
    table = np.random.default_rng(0).standard_normal((400, 400)).astype(np.float32)
    save_tensors(checkpoint, {"successor": table}, {})
    space = ("--recipe", "*=power_of_two(bits={3:8})|deflate", "--search", "in_order", "--trials", 2, "--jobs", 1)
    succeed(pgpack("sweep", checkpoint, *space, *flags_of(text_folder), "--out", out, "-q"))
    recipes = [trial.recipe for trial in Study.load(out).trials]
    assert recipes == [f"*=power_of_two(bits={bits})|deflate" for bits in (3, 4)]


def test_a_sampler_that_nobody_has_is_refused(tmp_path: Path) -> None:
    refused = pgpack("sweep", tmp_path / "x.safetensors", "--search", "in_order", "--out", tmp_path)
    assert refused.code == 2
    assert "in_order" in refused.err


@pytest.mark.usefixtures("package")
def test_the_rule_judges_a_submission(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "submission", [42])
    check = pgpack("verify", folder, "--json").json["checks"][-1]
    assert (check["id"], check["detail"]) == ("licence", "no LICENSE among the files")


def test_a_built_in_name_is_never_taken(install: Install) -> None:
    before = QUANTIZERS["rtn"]
    install("shadow", {"pgpack.quantizers": {"rtn": "my_package.quantizer:PowerOfTwo"}})
    assert QUANTIZERS["rtn"] is before
    assert list(QUANTIZERS) == list(QUANTIZERS.built_in)


def test_a_name_that_two_packages_have_and_an_entry_that_cannot_be_loaded_are_refused(install: Install) -> None:
    group = {"pgpack.quantizers": {"twice": "my_package.quantizer:Missing"}}
    install("one", group)
    with pytest.raises(RecipeError, match=r"twice of my_package\.quantizer:Missing cannot be loaded"):
        Recipe.parse("*=twice")
    install("two", group)
    with pytest.raises(RecipeError, match="two packages name a stage twice"):
        Recipe.parse("*=twice")


def test_other_packages_are_not_asked_about_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(group: str, path: tuple[str, ...]) -> None:
        raise AssertionError(group)

    monkeypatch.setattr("pgpack.stages._entries", refuse)
    recipe = Recipe.parse("ndim<=1=cast|shuffle|brotli; *=prune_magnitude|rtn(bits=6)|transpose|bitpack|zlib")
    assert Recipe.parse(str(recipe)) == recipe
    unpack(pack(from_tensors(weights()), Recipe.parse("*=rtn|rans")).data)
