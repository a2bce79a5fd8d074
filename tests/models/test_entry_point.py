"""Anybody's package may say how a checkpoint becomes a model: `pgpack eval` finds it by its entry point."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig

PACKAGE = """\
import torch
from pgpack.models.source import FoundModel
class Table(torch.nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table = torch.nn.Parameter(table)
    def forward(self, ids):
        return self.table[ids]
def find(wanted):
    if set(wanted.shapes) == {"successor"}:
        return FoundModel(lambda state: Table(state["successor"]).eval(), seq_len=32)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as pip leaves it: one module, and metadata with one entry point."""
    folder = tmp_path / "site"
    metadata = folder / "successors-1.dist-info"
    metadata.mkdir(parents=True)
    (folder / "successors.py").write_text(PACKAGE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: successors\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pgpack.models]\nsuccessors = successors:find\n")
    return folder


def evaluate(checkpoint: Path, text: TextFolder, path: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "pgpack_cli.pgpack_app", "eval", checkpoint, "--val", text.val_glob,
        "--tokenizer", text.tokenizer_path, "--max-tokens", "320", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)


def test_a_package_s_model_is_found_for_a_bare_checkpoint(
    package: Path, text_folder: TextFolder, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "bare.safetensors"
    save_tensors(checkpoint, {"successor": np.zeros((400, 400), np.float32)}, {})
    found = evaluate(checkpoint, text_folder, str(package))
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["nats"] == pytest.approx(math.log(400))
    without = evaluate(checkpoint, text_folder, "")
    assert without.returncode == 1
    assert "--model FILE.py:build" in without.stderr


def test_the_challenge_s_models_are_still_found_beside_it(
    package: Path, tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model.safetensors"
    state = {name: tensor.detach().numpy() for name, tensor in initialize_(GPT(tiny), 0).state_dict().items()}
    save_tensors(checkpoint, state, {"model_config": tiny.to_json()})
    alone, beside = (evaluate(checkpoint, text_folder, path) for path in ("", str(package)))
    assert alone.returncode == beside.returncode == 0, beside.stderr
    assert json.loads(alone.stdout)["nats"] == json.loads(beside.stdout)["nats"]
