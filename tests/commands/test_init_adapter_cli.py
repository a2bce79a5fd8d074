"""`pgpack init-adapter`: what it writes is Python, says what to do, and once filled in runs a model."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgtrain.model.tensor_table import tensor_shapes
from pgtrain.presets import PRESETS
from tests.checkpoint.test_dialects import as_banks, drawn
from tests.commands.workshop import CONFIG, pgpack, succeed

FILLED = {
    'raise NotImplementedError("return logits (batch, time, vocabulary), with the softcap, in float32")': (
        "return self.model.forward_logits(ids)"
    ),
    'raise NotImplementedError("make your model here: model = GPT(...) in float32, without torch.compile")': (
        f"from pgtrain.model.gpt import GPT; from pgtrain.model.model_config import GPTConfig; model = GPT({CONFIG})"
    ),
}


def filled_in(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for before, after in FILLED.items():
        assert before in text
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def test_a_filled_in_adapter_passes_its_own_check_and_evaluates_as_the_model_does(
    model: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter.py"
    said = succeed(pgpack("init-adapter", adapter, "--checkpoint", model)).out
    assert "fill in the two functions" in said
    assert "blocks.0.attn.c_q.weight (16, 16)" in adapter.read_text(encoding="utf-8")
    filled_in(adapter)
    done = subprocess.run([sys.executable, str(adapter), str(model)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok: (1, 16, 310)\n"), done.stderr
    ours = succeed(pgpack("eval", model, "--json", "-q")).json
    theirs = succeed(pgpack("eval", model, "--model", f"{adapter}:build", "--json", "-q")).json
    assert theirs["bpb"] == pytest.approx(ours["bpb"], rel=1e-6)


def test_an_adapter_that_is_not_filled_in_says_what_to_do(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.py"
    succeed(pgpack("init-adapter", adapter))
    ast.parse(adapter.read_text(encoding="utf-8"))
    done = subprocess.run([sys.executable, str(adapter), str(model)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make your model here" in done.stderr


def test_a_banked_checkpoint_gets_the_way_back_into_banks(tmp_path: Path) -> None:
    shapes = as_banks(tensor_shapes(PRESETS["lanes-tiny"].model))
    torch.save(drawn(shapes), tmp_path / "final_model.pt")
    adapter = tmp_path / "adapter.py"
    succeed(pgpack("init-adapter", adapter, "--checkpoint", tmp_path / "final_model.pt"))
    text = adapter.read_text(encoding="utf-8")
    assert "banked(state_dict), strict=True" in text
    space: dict = {}
    exec(compile(text.split("if __name__")[0], "adapter", "exec", dont_inherit=True), space)
    loaded = {name: torch.tensor(array) for name, array in load_checkpoint(tmp_path / "final_model.pt").items()}
    assert {name: tuple(tensor.shape) for name, tensor in space["banked"](loaded).items()} == shapes


def test_other_names_and_existing_files_are_refused(tmp_path: Path) -> None:
    refused = pgpack("init-adapter", tmp_path / "adapter.txt")
    assert (refused.code, "ending in .py" in refused.err) == (2, True)
    (tmp_path / "adapter.py").write_text("mine")
    assert pgpack("init-adapter", tmp_path / "adapter.py").code == 2
    assert (tmp_path / "adapter.py").read_text() == "mine"
