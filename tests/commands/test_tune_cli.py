"""@tune and @compensate through the commands: they need the model and its text, and say which flag gives them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pgpack.text.tokenizer_files import TOKENIZER_FLAG
from tests.commands.workshop import pgpack, succeed

PLAIN = "role:control=cast; *=tcq(step=0.02,states=8)|rans_scaled(states=8)"
TUNED = f"@tune=steps(count=2); {PLAIN}"
COMPENSATED = f"@compensate=weights(count=2); {PLAIN}"


@pytest.mark.parametrize("recipe", [TUNED, COMPENSATED])
def test_a_trained_recipe_packs_decodes_and_is_kept_in_the_manifest(model: Path, tmp_path: Path, recipe: str) -> None:
    out = tmp_path / "trained.pgpack"
    packed = succeed(pgpack("pack", model, "--recipe", recipe, "-o", out, "--json", "-q")).json
    assert recipe.split(";", maxsplit=1)[0] in packed["recipe"]
    assert json.loads(out.with_name(out.name + ".json").read_text())["recipe_digest"] == packed["recipe_digest"]
    assert succeed(pgpack("eval", out, "--checkpoint", model, "--json", "-q")).json["kl"] >= 0


def test_a_sweep_measures_plain_and_tuned_recipes_side_by_side(model: Path, tmp_path: Path) -> None:
    (tmp_path / "space.txt").write_text(f"{PLAIN}\n{TUNED}\n", encoding="utf-8")
    flags = ("--space", tmp_path / "space.txt", "--out", tmp_path / "study", "--json", "-q")
    swept = succeed(pgpack("sweep", model, *flags)).json
    assert (swept["n_trials"], swept["n_failed"]) == (2, 0)


def test_tuning_without_text_names_the_flags_that_it_lacks(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    save_file({"blocks.0.mlp.fc.weight": weights}, tmp_path / "bare.safetensors")
    recipe = "@tune=steps(count=2); *=rtn|rans"
    ended = pgpack("pack", tmp_path / "bare.safetensors", "--recipe", recipe, "-o", tmp_path / "a.pgpack", "-q")
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert "bare.safetensors" in ended.err
    assert f"give --calib GLOB, {TOKENIZER_FLAG}, --val GLOB, for a model" in ended.err
    assert "--model FILE.py:build" in ended.err
    assert not (tmp_path / "a.pgpack").exists()


@pytest.mark.parametrize("cache", [("--no-cache",), ("--cache", "kept")])
def test_a_tuning_that_makes_nothing_better_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    wild = TUNED.replace("count=2", "count=2,lr=0.9")
    packed = succeed(pgpack("pack", model, "--recipe", wild, *cache, "-o", "wild.pgpack"))
    plain = succeed(pgpack("pack", model, "--recipe", PLAIN, *cache, "-o", "plain.pgpack"))
    assert "tuning made nothing better on calibration text kept back, and is left out" in packed.err
    assert "tuning made nothing better" not in plain.err
    assert Path("wild.pgpack").read_bytes() == Path("plain.pgpack").read_bytes()


def test_a_compensation_that_makes_nothing_better_is_told(model: Path, tmp_path: Path) -> None:
    wild = COMPENSATED.replace("count=2", "count=2,lr=0.9")
    packed = succeed(pgpack("pack", model, "--recipe", wild, "--no-cache", "-o", tmp_path / "wild.pgpack"))
    assert "compensation made nothing better on calibration text kept back, and is left out" in packed.err
