"""What measures does not load torch's compiler: it takes seconds to import, and nothing here uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig

COUNTED = """
import sys
from pgpack_cli.pgpack_app import main
try:
    main()
except SystemExit as ended:
    print("ended with", ended.code, "torch._dynamo" in sys.modules)
"""
RECIPE = ("--recipe", "ndim<=1=cast|raw; role:control=cast; *=gptq(bits=6)|rans; @calib=tokens(count=256)")


@pytest.mark.parametrize("verb", ["eval", "calibrate", "pack"])
def test_no_command_loads_the_compiler_of_torch(
    verb: str, tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model.safetensors"
    state = {name: tensor.detach().numpy() for name, tensor in initialize_(GPT(tiny), 0).state_dict().items()}
    save_tensors(checkpoint, state, {"model_config": tiny.to_json()})
    flags = {
        "eval": (),
        "calibrate": ("-o", tmp_path / "c", "--tokens", 256),
        "pack": (*RECIPE, "--eval", "--no-cache", "-o", tmp_path / "a.pgpack"),
    }[verb]
    text = (
        "--val",
        text_folder.val_glob,
        "--calib",
        text_folder.train_glob,
        "--tokenizer",
        text_folder.tokenizer_path,
    )
    command = [sys.executable, "-c", COUNTED, verb, checkpoint, *text, "--max-tokens", 320, *flags, "-q"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "ended with 0 False", done.stdout + done.stderr
