"""What measures does not load torch's compiler: it takes seconds to import, and nothing here uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pgpack.checkpoint.checkpoint import save_tensors
from pgpack.text.text_folder import TextFolder
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig

COUNTED = """
import json, sys
from pgpack_cli.pgpack_app import main
for verb, *flags in json.loads(sys.argv[1]):
    sys.argv = ["pgpack", verb, *flags]
    try:
        main()
    except SystemExit as ended:
        print(verb, "ended with", ended.code, "torch._dynamo" in sys.modules)
"""
RECIPE = ("--recipe", "ndim<=1=cast|raw; role:control=cast; *=gptq(bits=6)|rans; @calib=tokens(count=256)")


def test_no_command_loads_the_compiler_of_torch(tiny: GPTConfig, text_folder: TextFolder, tmp_path: Path) -> None:
    """One process for all: what the first loads is loaded for the others too, and named with the first."""
    checkpoint = tmp_path / "model.safetensors"
    state = {name: tensor.detach().numpy() for name, tensor in initialize_(GPT(tiny), 0).state_dict().items()}
    save_tensors(checkpoint, state, {"model_config": tiny.to_json()})
    verbs: dict[str, tuple[object, ...]] = {
        "eval": (),
        "calibrate": ("-o", tmp_path / "c", "--tokens", 256),
        "pack": (*RECIPE, "--eval", "--no-cache", "-o", tmp_path / "a.pgpack"),
    }
    texts = ("--val", text_folder.val_glob, "--calib", text_folder.train_glob)
    common = (checkpoint, *texts, "--tokenizer", text_folder.tokenizer_path, "--max-tokens", 320, "-q")
    commands = [[verb, *map(str, (*common, *flags))] for verb, flags in verbs.items()]
    command = [sys.executable, "-c", COUNTED, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if " ended with " in line]
    assert said == [f"{verb} ended with 0 False" for verb in verbs], done.stdout + done.stderr
