"""Finetuning for the packer: a folder in, a folder out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pgpack_cli.pgtrain_app import app

from pgpack.checkpoint.checkpoint import load_checkpoint
from tests.models.tiny_hf import write_folder, write_tokenizer

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(write_folder(tmp_path_factory.mktemp("llama"), "llama"))


def test_the_command_writes_a_folder_again(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for i in range(12):
        (text / f"{i}.txt").write_text(f"the quick brown fox {i} jumps over the lazy dog and runs to a river. " * 40)
    out = tmp_path / "cheaper"
    arguments = ["finetune", str(folder), "--for-packer", "14kB", "--steps", "4", "-o", str(out), "--text", str(text)]
    result = CliRunner().invoke(app, [*arguments, "--calib-tokens", "1024", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["n_bytes"] > 0
    before, after = load_checkpoint(folder), load_checkpoint(out)
    assert after.shapes == before.shapes
    assert (out / "config.json").exists()
    assert any(not np.array_equal(after.tensor(n), before.tensor(n)) for n in before.stored_shapes)


def test_a_size_that_is_none_is_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["finetune", str(folder), "--for-packer", "12 plums", "-o", str(out)])
    assert result.exit_code != 0
    assert not out.exists()
