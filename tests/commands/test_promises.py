"""Every sentence of README that promises a refusal or an exit code is tried; a new one must be added here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from tests.commands.workshop import Finished, pgpack
from tests.synthetic_study import write_study

README = Path(__file__).resolve().parents[2].joinpath("README.md").read_text(encoding="utf-8")
PROMISE = re.compile(r"refus|[Ee]xit code|is an error")
RECIPE = "role:control=cast; *=gptq(bits=6)|rans"
CODES = {
    0: "ok",
    1: "error",
    2: "usage",
    3: "nothing fits the budget",
    4: "verification failed",
    5: "stopped but resumable",
    130: "interrupted",
}


def promises() -> list[str]:
    """The sentences outside of code and tables."""
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    text = "\n".join(line for line in prose.splitlines() if not line.startswith("|"))
    return [part.strip() for part in re.split(r"(?<=[.;])\s+|\n\n", text) if PROMISE.search(part)]


@pytest.fixture
def bare(model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bare.safetensors"
    save_tensors(path, dict(load_checkpoint(model).items()), {})
    return path


def strict(model: Path, bare: Path, text: Path, out: Path) -> tuple[Finished, int, str]:
    return pgpack("pack", bare, "--recipe", RECIPE, "--strict", "-o", out), 2, "--strict: "


def overlap(model: Path, bare: Path, text: Path, out: Path) -> tuple[Finished, int, str]:
    shards = text / "*val*.bin"
    words = ("--recipe", "role:control=cast; *=rtn(bits=4)|rans", "--out", out)
    return pgpack("sweep", model, *words, "--val", shards, "--calib", shards), 1, "100.0% of the evaluated text"


def idle_rule(model: Path, bare: Path, text: Path, out: Path) -> tuple[Finished, int, str]:
    return pgpack("pack", bare, "--recipe", f"nothing.*=cast; {RECIPE}", "-o", out), 2, "governs nothing"


def error_as_json(model: Path, bare: Path, text: Path, out: Path) -> tuple[Finished, int, str]:
    finished = pgpack("eval", bare, "--json")
    assert finished.out == ""
    return finished, 1, "give text as --text PATH"


def flag_to_give(model: Path, bare: Path, text: Path, out: Path) -> tuple[Finished, int, str]:
    return pgpack("eval", bare), 1, "give text as --text PATH"


def other_quantizer(model: Path, bare: Path, text: Path, out: Path) -> tuple[Finished, int, str]:
    packed = bare.with_name("gptq.safetensors")
    integers = {"qweight": (8, 64), "qzeros": (2, 8), "g_idx": (64,)}
    tensors = {f"model.layers.0.mlp.up_proj.{name}": np.ones(shape, np.int32) for name, shape in integers.items()}
    tensors["model.layers.0.mlp.up_proj.scales"] = np.ones((2, 64), np.float16)
    save_file(tensors, packed)
    return pgpack("pack", packed, "--recipe", RECIPE, "-o", out), 1, "its weights were quantized"


TRIED: dict[str, Callable[[Path, Path, Path, Path], tuple[Finished, int, str]]] = {
    "of an error none: the sentence is on stderr": error_as_json,
    "`--strict` refuses instead": strict,
    "(GPTQ, AWQ, bitsandbytes, HQQ, EXL2, MLX, ...) are refused by name": other_quantizer,
    "every command refuses and says by how much": overlap,
    "a rule that matches nothing is an error": idle_rule,
    "or refused with the flag to give": flag_to_give,
}


@pytest.mark.parametrize("promise", TRIED)
def test_a_promised_refusal_is_kept(promise: str, model: Path, bare: Path, text_folder: Path, tmp_path: Path) -> None:
    finished, code, said = TRIED[promise](model, bare, text_folder, tmp_path / "out")
    assert finished.code == code
    assert said in finished.err
    assert not (tmp_path / "out").exists()


def test_no_promise_of_the_readme_is_left_untried() -> None:
    known = (*TRIED, "Exit codes: 0 ok")
    assert [sentence for sentence in promises() if not any(each in sentence for each in known)] == []
    assert all(any(each in sentence for sentence in promises()) for each in known)


def test_the_exit_codes_of_the_readme_are_those_of_the_commands(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (listed,) = re.findall(r"Exit codes: ([^.]*)\.", README)
    assert listed == ", ".join(f"{code} {meaning}" for code, meaning in CODES.items())
    study, artifact = tmp_path / "study", tmp_path / "x.pgpack"
    write_study(study)
    assert pgpack("frontier", study).code == 0
    assert pgpack("frontier", tmp_path).code == 1
    assert pgpack("frontier").code == 2
    assert pgpack("pack", model, "--budget", "300B", "-o", artifact, "-q").code == 3
    assert pgpack("pack", model, "--recipe", "*=rtn(bits=8)|rans", "-o", artifact, "-q").code == 0
    assert pgpack("verify", artifact, "--budget", "300B").code == 4

    def stopped(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pgpack.bench.sweeping.sweep", stopped)
    monkeypatch.setattr("pgpack.study.study.Study.load", stopped)
    assert pgpack("sweep", model, "--recipe", "*=rtn(bits=8)|rans", "--out", tmp_path / "new", "-q").code == 5
    assert pgpack("frontier", study).code == 130
