"""A dry run refuses what the run refuses before it reads any text: the same code, the same sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pgpack.checkpoint.checkpoint import save_tensors
from tests.commands.workshop import pgpack, succeed

TRAINED = "*=tcq(step=0.02,states=8)|rans_scaled(states=8); @tune=steps(count=3)"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two matrices of no model, without tokenizer and text."""
    path, rng = tmp_path_factory.mktemp("dry") / "bare.safetensors", np.random.default_rng(0)
    arrays = {name: rng.standard_normal((32, 32)).astype(np.float32) for name in ("a.weight", "b.weight")}
    save_tensors(path, arrays, {})
    return path


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model that nothing calls."""
    path = tmp_path_factory.mktemp("code") / "adapter.py"
    path.write_text("def build(state):\n    raise SystemError('a dry run builds no model')\n")
    return path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "pack {model} --budget 1MB --calibration nothere -o {out}",
            "does not exist; write one with",
        ),
        ("pack {model} --budget 1MB --model nothere.py:build -o {out}", "nothere.py does not exist"),
        ("pack {model} --budget 1MB --device xpu9 -o {out}", "unknown device 'xpu9'"),
        ("pack {model} --budget 1MB --tokenizer nothere -o {out}", "nothere"),
        ("pack {bare} --recipe {recipe} -o {out}", "tuning runs the model on calibration text"),
        (
            "pack {bare} --budget 3kB --effort 9 -o {out}",
            "drift followed, compensated runs the model on calibration text",
        ),
        ("pack {bare} --budget 3kB --metric bpb -o {out}", "names no validation text and no tokenizer"),
        ("pack {bare} --budget 3kB --text builtin -o {out}", "names no tokenizer"),
        ("sweep {bare} --text builtin -o {out}", "names no tokenizer"),
        ("calibrate {bare} --text builtin -o {out}", "names no tokenizer"),
        ("calibrate {model} --field x -o {out}", "--field x is of .jsonl and .parquet"),
        ("eval {bare}", "names no validation text and no tokenizer"),
        ("eval {model} --max-tokens 1", "too few for one window"),
        ("eval {model} --model {code} --set num_layers=2", "--set changes fields of a pgtrain model"),
        ("eval {model} --model {code}:nobody", "has no function nobody"),
        ("calibrate {model} --val {val} --calib {val} -o {out}", "also occurs in the calibration text"),
        ("pack {model} --budget 1MB --val {val} --calib {val} -o {out}", "also occurs in the calibration text"),
        ("sweep {model} --val {docs} --calib {docs} -o {out}", "100.0% of the evaluated text also occurs"),
        ("verify {bare} --eval --checkpoint {bare}", "names no validation text and no tokenizer"),
        ("eval {model} --set num_layer=2", "no field is called num_layer (near it: num_layers"),
        ("pack {model} --budget 8kB --set num_layers=two -o {out}", "num_layers is a whole number"),
        ("sweep {model} --model demo --set nothing -o {out}", "give FIELD=VALUE"),
        ("sweep {model} --model demo --set num_layers=3 -o {out}", "the tensors are not those of demo in any size"),
        ("sweep {model} --model dem --set num_layers=3 -o {out}", "model file dem does not exist, and no preset"),
        ("pack {model} --budget 300 -o {out}", "nothing fits 300 bytes: the coarsest recipe takes"),
        ("sweep {bare} --budget 100 -o {out}", "nothing fits 100 bytes: the coarsest recipe takes"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    line: str, said: str, model: Path, bare: Path, text_folder: Path, code: Path, tmp_path: Path
) -> None:
    values = {"model": model, "bare": bare, "out": tmp_path / "out", "recipe": TRAINED, "code": code}
    values |= {"val": text_folder / "*_val_*.bin", "docs": text_folder.parent / "documents.txt"}
    words = [word.format(**values) for word in line.split()]
    dry, real = pgpack(*words, "--dry-run"), pgpack(*words)
    assert said in dry.err.replace("\n", " ")
    assert said in real.err.replace("\n", " ")
    assert dry.code == real.code > 0
    assert not list(tmp_path.iterdir())


def test_a_dry_run_that_reads_no_text_asks_for_none(bare: Path, tmp_path: Path) -> None:
    out = tmp_path / "y.pgpack"
    succeed(pgpack("pack", bare, "--recipe", "*=rtn|rans", "-o", out, "-q"))
    succeed(pgpack("verify", out, "--checkpoint", bare, "--dry-run"))
    succeed(pgpack("transcode", out, "--checkpoint", bare, "-o", tmp_path / "z.pgpack", "--dry-run"))
    assert not (tmp_path / "z.pgpack").exists()


@pytest.mark.parametrize(
    "line",
    [
        "eval {model} --set mlp_activation=relu3",
        "pack {model} --budget 8kB --val {val} --calib {train} -o {out}",
        "pack {model} --budget 2kB -o {out}",
        "sweep {model} --model {code} --seq-len 32 --budget 90% -o {out}",
    ],
)
def test_a_dry_run_of_what_runs_is_not_refused(
    line: str, model: Path, text_folder: Path, code: Path, tmp_path: Path
) -> None:
    values = {"model": model, "out": tmp_path / "out", "code": code}
    values |= {"val": text_folder / "*_val_*.bin", "train": text_folder / "*_train_*.bin"}
    assert "about" in succeed(pgpack(*(word.format(**values) for word in line.split()), "--dry-run")).out
