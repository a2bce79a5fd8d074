"""`pgpack pack ... --submission DIR` and the CI recipe beside it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from pgpack.recipe.preset_candidates import preset_recipe
from pgpack.recipe.presets import PRESETS
from pgpack.unpack import check_digest, unpack
from tests.commands.conftest import RECIPE
from tests.commands.workshop import pgpack, succeed

if importlib.util.find_spec("python_minifier") is None:
    pytest.skip("needs python-minifier", allow_module_level=True)

CI = Path(__file__).resolve().parents[2] / "pgpack" / "submission" / "CI.md"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "my_script.py"
    path.write_text(
        'import torch\n\n\ndef main():\n    print(torch.zeros(2))\n\n\nif __name__ == "__main__":\n    main()\n'
    )
    return path


@pytest.fixture
def about(tmp_path: Path) -> Path:
    path = tmp_path / "about_us.json"
    path.write_text('{"name": "A model", "author": "A. Author", "github_id": "author", "track": "10min_16mb"}')
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_a_folder_of_our_own_is_accepted_without_a_warning_at_any_preset(
    name: str, model: Path, script: Path, about: Path, tmp_path: Path
) -> None:
    chosen = str(preset_recipe(name, None, 64, load_checkpoint(model).stored_shapes))
    recipe = re.sub(r";?\s*@container=[^;]*", "", chosen)  # a submission is in our own container
    target, moved = tmp_path / "record", model.with_name("moved.safetensors")
    rng = np.random.default_rng(0)  # a gate that four steps of training left alone is a warning of its own
    tensors = {
        n: (a + 0.01 * rng.standard_normal(a.shape)).astype(a.dtype) for n, a in load_checkpoint(model).items()
    }
    save_tensors(moved, tensors, dict(load_checkpoint(model).metadata))
    flags = ("--train-script", script, "--about", about, "--submission", target, "-q")
    succeed(pgpack("pack", moved, "--recipe", recipe, *flags))
    verdict = pgpack("verify", target, "--strict", "--json")
    assert [(c["id"], c["detail"]) for c in verdict.json["checks"] if c["status"] in ("fail", "warn")] == []
    assert verdict.code == 0


@pytest.mark.parametrize("blank", ["name", "author", "github_id"])
def test_nobody_in_particular_is_refused(blank: str, model: Path, script: Path, about: Path, tmp_path: Path) -> None:
    about.write_text(json.dumps(json.loads(about.read_text()) | {blank: "  "}))
    flags = ("--train-script", script, "--about", about, "--submission", tmp_path / "record", "--recipe", RECIPE)
    refused = pgpack("pack", model, *flags)
    assert refused.code == 1
    assert f"{blank} of this submission is blank" in refused.err
    assert not (tmp_path / "record").exists()


def test_two_seeds_become_a_folder_that_adds_up(model: Path, script: Path, about: Path, tmp_path: Path) -> None:
    logs = []
    for seed in (7, 42):
        logs += ["--log", tmp_path / f"train_seed{seed}.log"]
        logs[-1].write_text(f"step:1 of seed {seed}\n")
    target = tmp_path / "new" / "record"
    flags = (
        "--about",
        about,
        "--submission",
        target,
        "--train-script",
        script,
        *logs,
        "--recipe",
        RECIPE,
        "--budget",
        "1MB",
        "-q",
    )
    made = succeed(pgpack("pack", model, model, *flags, "--json")).json
    document = json.loads((target / "submission.json").read_text())
    assert made["val_bpb"] == document["val_bpb"] > 0
    assert document["seeds"] == [7, 42]
    assert document["val_bpb_std"] == 0  # one checkpoint twice
    on_disk = {path.name: path.stat().st_size for path in target.iterdir()}
    code = on_disk["train_gpt.py"] + on_disk["decode.py"]
    assert (document["bytes_code"], document["bytes_total"]) == (code, code + on_disk["model_seed7.pgpack"])
    assert made["spare"] == 10**6 - document["bytes_total"]
    assert "torch" in (target / "requirements.txt").read_text().split()
    assert (target / "train_seed42.log").read_text().startswith("step:1 of seed 42\n")
    check_digest(unpack((target / "model_seed7.pgpack").read_bytes()))


def test_a_dry_run_tells_the_split_and_writes_nothing(model: Path, script: Path, tmp_path: Path) -> None:
    flags = ("--submission", tmp_path / "record", "--train-script", script, "--budget", "1MB", "--dry-run", "--json")
    plan = succeed(pgpack("pack", model, *flags)).json
    assert plan["weights_budget"] == 10**6 - plan["code"]["as shipped"] - plan["decoder_estimate"]
    assert not (tmp_path / "record").exists()


def test_mistakes_are_told_before_any_work(model: Path, script: Path, tmp_path: Path) -> None:
    target, given = tmp_path / "record", ("--recipe", RECIPE)
    submission = ("--submission", target, "--train-script", script)
    (tmp_path / "a.log").write_text("")
    (tmp_path / "about.json").write_text('{"nickname": "x"}')
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("")
    cases = [
        (("--submission", target), 2, "--train-script"),
        ((*submission, "-o", tmp_path / "x"), 2, "-o"),
        ((model, *submission), 2, "seed"),
        ((model, *submission, "--seed", 1), 2, "1 --seed for 2 checkpoints"),
        ((*submission, "--about", tmp_path / "about.json"), 2, "nickname"),
        ((*submission, "--budget", "1kB"), 3, "nothing is left"),
        (("--submission", tmp_path / "full", "--train-script", script), 1, "exists"),
        (("--submission", target, "--train-script", tmp_path / "broken.py"), 1, "does not parse"),
        (("--submission", target, "--train-script", tmp_path / "latin.py"), 2, "is not UTF-8"),
        (("-o", tmp_path / "x", "--train-script", script), 2, "belongs to --submission"),
        ((), 2, "-o FILE"),
    ]
    for arguments, code, words in cases:
        finished = pgpack("pack", model, *given, *arguments)
        assert finished.code == code, (arguments, finished.err)
        assert words in finished.err
    assert not target.exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["kept"]


def test_a_study_of_another_checkpoint_is_refused_with_both_digests(
    model: Path, script: Path, about: Path, tmp_path: Path
) -> None:
    study, other = tmp_path / "study", tmp_path / "other.safetensors"
    succeed(pgpack("sweep", model, "--recipe", "*=rtn(bits=4)|rans", "--out", study, "--max-tokens", 256, "-q"))
    tensors = {name: array * 2 for name, array in load_checkpoint(model).items()}
    save_tensors(other, tensors, dict(load_checkpoint(model).metadata))
    flags = ("--train-script", script, "--about", about, "--recipe", RECIPE, "--study", study, "-q")
    refused = pgpack("pack", other, "--submission", tmp_path / "record", *flags)
    assert refused.code == 1
    for digest in (load_checkpoint(model).digest, load_checkpoint(other).digest):
        assert digest in refused.err
    assert not (tmp_path / "record").exists()
    succeed(pgpack("pack", model, "--submission", tmp_path / "record", *flags))
    assert "<svg" in next((tmp_path / "record").glob("*.svg")).read_text()


@pytest.mark.skipif(None in (shutil.which("git"), shutil.which("jq")), reason="needs git and jq")
def test_the_ci_recipe_verifies_every_changed_folder_and_keeps_the_exit_code(tmp_path: Path) -> None:
    workflow = CI.read_text(encoding="utf-8")
    block = re.search(r"          set -o pipefail\n(?:          .*\n)+", workflow)
    assert block is not None
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "pgpack"
    stub.write_text('#!/bin/sh\necho "$2" >> "$SEEN"\ncase "$2" in *bad*) exit 4;; esac\n')
    stub.chmod(0o755)
    repository = tmp_path / "repository"
    names = ("a bad one", "good")
    identity = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "SEEN": str(tmp_path / "seen"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "BASE": "base",
        "HOME": str(tmp_path),
        **identity,
    }

    def run(command: str) -> int:
        return subprocess.run(["bash", "-e", "-c", command], cwd=repository, env=environment, check=False).returncode

    repository.mkdir()
    assert run("git init -q . && git commit -q --allow-empty -m 1 && git tag base") == 0
    for name in names:
        (repository / "records" / name).mkdir(parents=True)
        (repository / "records" / name / "submission.json").write_text("{}")
    assert run("git add . && git commit -q -m 2") == 0
    assert run(block[0]) == 4
    assert (tmp_path / "seen").read_text().splitlines() == [f"records/{name}" for name in names]


@pytest.mark.parametrize(
    "chosen", [("--preset", "sdclip-brotli"), ("--recipe", "*=cast; @container=torch_sdclip|brotli")]
)
def test_a_container_of_the_field_is_refused_before_any_work(
    chosen: tuple[str, str], model: Path, script: Path, tmp_path: Path
) -> None:
    target = tmp_path / "record"
    refused = pgpack("pack", model, *chosen, "--submission", target, "--train-script", script, "--dry-run")
    assert (refused.code, "without @container" in refused.err) == (2, True)
    assert not target.exists()
