"""`pgtrain ls` and the presets that `pgtrain run` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgtrain.presets import PRESETS
from tests.commands.workshop import pgtrain, succeed


def test_ls_is_a_table_of_every_preset() -> None:
    lines = succeed(pgtrain("ls")).out.splitlines()
    assert lines[0].split()[:3] == ["preset", "parameters", "MB"]
    assert [line.split()[0] for line in lines[1:]] == list(PRESETS)
    assert "35,944,602" in next(line for line in lines if line.startswith("lanes "))
    assert max(len(line) for line in lines) <= 130


def test_ls_json_has_every_field_of_the_chosen_presets() -> None:
    rows = succeed(pgtrain("ls", "prism-wo", "--json")).json
    assert [row["preset"] for row in rows] == ["prism-wo", "prism-wo-tiny"]
    assert rows[0]["parameters"] == 9_993_320
    assert rows[0]["model"]["adapters"] == "bounded"
    assert rows[0]["training"]["steps"] == 2500


def test_ls_of_nothing_is_a_usage_error() -> None:
    result = pgtrain("ls", "nothing-like-it")
    assert result.code == 2
    assert "pgtrain ls" in result.err


def test_run_sets_any_field_of_model_and_training(text_folder: Path, tmp_path: Path) -> None:
    start = ("run", "--data", text_folder, "-o", tmp_path / "m.safetensors", "--dry-run", "--json")
    plan = succeed(
        pgtrain(*start, "--set", "value_residual=true", "--set", "embed_dim=64", "--set", "adam_eps=1e-6")
    ).json
    assert plan["model"]["value_residual"] is True
    assert plan["model"]["embed_dim"] == 64
    assert plan["training"]["adam_eps"] == 1e-6
    for wrong, sentence in (
        ("wings=2", "pgtrain ls demo --json"),
        ("value_residuals=true", "near it: value_residual"),
    ):
        refused = pgtrain(*start, "--set", wrong)
        assert (refused.code, sentence in refused.err) == (2, True), refused.err


@pytest.mark.parametrize("name", PRESETS)
def test_run_plans_every_preset(name: str, text_folder: Path, tmp_path: Path) -> None:
    plan = ("run", "--data", text_folder, "--preset", name, "-o", tmp_path / "m.safetensors", "--dry-run", "--json")
    assert succeed(pgtrain(*plan)).json["parameters"] > 0
