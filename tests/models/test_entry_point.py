"""Anybody's package may say how a checkpoint becomes a model: `pgpack eval` finds it by its entry point."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.models.registry import GROUP
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from tests.commands.workshop import pgpack, succeed

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


def flags(checkpoint: Path, text: TextFolder) -> tuple[object, ...]:
    measured = ("--max-tokens", 320, "--json")
    return ("eval", checkpoint, "--val", text.val_glob, "--tokenizer", text.tokenizer_path, *measured)


def test_a_package_s_model_is_found_for_a_bare_checkpoint(
    package: Path, text_folder: TextFolder, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "bare.safetensors"
    save_tensors(checkpoint, {"successor": np.zeros((400, 400), np.float32)}, {})
    command = [sys.executable, "-m", "pgpack_cli.pgpack_app", *map(str, flags(checkpoint, text_folder))]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["nats"] == pytest.approx(math.log(400))
    without = pgpack(*flags(checkpoint, text_folder))
    assert without.code == 1
    assert "--model FILE.py:build" in without.err


def test_the_challenge_s_models_are_still_found_beside_it(
    package: Path, tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "model.safetensors"
    state = {name: tensor.detach().numpy() for name, tensor in initialize_(GPT(tiny), 0).state_dict().items()}
    save_tensors(checkpoint, state, {"model_config": tiny.to_json()})
    alone = succeed(pgpack(*flags(checkpoint, text_folder))).json
    monkeypatch.syspath_prepend(package)
    assert "successors" in {point.name for point in entry_points(group=GROUP)}
    assert succeed(pgpack(*flags(checkpoint, text_folder))).json["nats"] == alone["nats"]
