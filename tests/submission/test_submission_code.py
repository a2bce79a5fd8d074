"""Training scripts as they are shipped: the round trip is executed, bytes are counted, the folder appears whole."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.errors import BudgetExceeded, SubmissionError
from pgpack.loss.evaluator import BitsPerByte
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.submission.decoder import Decoder, make_decoder
from pgpack.submission.folder import folder_files, write_folder
from pgpack.submission.minify import minified
from pgpack.submission.self_extracting import (
    MINIFIED,
    PACKED,
    RAW,
    code_file,
    extracted,
    reads_itself,
    self_extracting,
)
from pgpack.submission.submission import About, RunResult, Submission
from tests.submission.submission_folder import weights

if importlib.util.find_spec("python_minifier") is None:
    pytest.skip("needs python-minifier", allow_module_level=True)

SCRIPT = (
    '''"""A script that prints how it was run."""
import sys


def greeting(number_of_times: int = 2) -> str:
    """Long enough that packing pays."""
    parts = []
    for index in range(number_of_times):
        parts.append(f"hello {index} from {__name__}")
    return ", ".join(parts)


'''
    + "\n".join(f"def unused_function_{i}(argument):\n    return argument + {i * i}\n" for i in range(60))
    + """
if __name__ == "__main__":
    print(greeting(), sys.argv[1:], __file__.endswith("train_gpt.py"))
"""
)


@functools.cache
def decoder_of(artifacts: tuple[bytes, ...]) -> Decoder:
    return make_decoder(artifacts)


def submission(budget: int = 100_000, seeds: tuple[int | None, ...] = (0, 42), measured: bool = True) -> Submission:
    """A submission of small random models."""
    runs = []
    for i, seed in enumerate(seeds):
        data = pack(from_tensors(weights(i)), parse_recipe("*=rtn(bits=6)|rans")).data
        loss = BitsPerByte(2.5 + i / 100, 1.06 + i / 100, None, 1000, 4000, 1.0) if measured else None
        runs.append(RunResult(seed, data, "*=rtn(bits=6)|rans", 328, "step:1", loss))
    decoder = decoder_of(tuple(run.artifact for run in runs))
    return Submission(runs, code_file("train_gpt.py", SCRIPT), decoder, budget, About(name="A name"))


def test_a_shipped_script_behaves_as_the_given_one(tmp_path: Path) -> None:
    printed = []
    for name, data in (("given", SCRIPT.encode()), ("shipped", code_file("train_gpt.py", SCRIPT).shipped)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train_gpt.py").write_bytes(data)
        command = [sys.executable, "-I", str(tmp_path / name / "train_gpt.py"), "x"]
        printed.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert printed[0] == printed[1] != ""


def test_what_is_extracted_is_what_was_minified() -> None:
    code = code_file("train_gpt.py", SCRIPT)
    assert code.form == PACKED
    back = extracted(code.shipped)
    assert ast.dump(ast.parse(back)) == ast.dump(ast.parse(minified(SCRIPT)))
    assert code.conventions["raw"] == len(back)
    assert code.conventions["as shipped"] == len(code.shipped) < len(back) < len(code.given)


def test_a_script_that_reads_its_own_source_is_not_packed() -> None:
    code = code_file("train_gpt.py", SCRIPT + "\nimport inspect\ndef f():\n    return inspect.getsource(greeting)\n")
    assert code.form == MINIFIED
    assert code.shipped == code.running


@pytest.mark.parametrize(
    "lines",
    [
        "from triton import jit\n@jit\ndef kernel(x):\n    return x\n",
        "import triton as t\n@t.jit\ndef kernel(x):\n    return x\n",
        "from inspect import getsource as read\nprint(read(greeting))\n",
        "import torch.jit as j\nscripted = j.script(greeting)\n",
    ],
)
def test_an_alias_does_not_hide_that_a_script_needs_its_source(lines: str) -> None:
    assert list(reads_itself(lines))
    assert code_file("train_gpt.py", SCRIPT + "\n" + lines).form == MINIFIED


def test_a_name_of_its_own_is_no_reader_of_source() -> None:
    assert not list(reads_itself("def jit(f):\n    return f\n@jit\ndef kernel(x):\n    return x\n"))


def test_a_raw_script_is_shipped_byte_for_byte_and_a_tiny_one_is_not_packed() -> None:
    assert code_file("train_gpt.py", SCRIPT, raw=True).shipped == SCRIPT.encode()
    assert code_file("train_gpt.py", SCRIPT, raw=True).form == RAW
    assert code_file("train_gpt.py", "x = 1\n").form == MINIFIED


def test_text_that_is_no_python_is_refused_in_one_sentence() -> None:
    for raw in (False, True):
        with pytest.raises(SubmissionError, match="does not parse"):
            code_file("train_gpt.py", "def broken(:\n", raw=raw)


def test_every_byte_value_of_a_source_survives_packing() -> None:
    source = ('x = "' + "".join(chr(i) for i in range(32, 0x250) if chr(i) not in '"\\') + '"\n').encode()
    assert extracted(self_extracting(source)) == source


def test_the_numbers_of_a_submission_add_up() -> None:
    made = submission()
    files, document = folder_files(made), made.document()
    assert document["bytes_code"] == len(files["train_gpt.py"]) + len(files["decode.py"])
    assert document["bytes_model"] == max(len(files[name]) for name in ("model_seed0.pgpack", "model_seed42.pgpack"))
    assert document["bytes_total"] == document["bytes_code"] + document["bytes_model"]
    assert document["bytes_code_conventions"]["as shipped"] == document["bytes_code"]
    assert document["val_bpb"] == pytest.approx(1.065)
    assert document["val_bpb_std"] == pytest.approx(0.01 / 2**0.5)
    assert set(document["counted_files"]) <= set(files)
    assert json.loads(files["submission.json"]) == document
    text = files["README.md"].decode()
    assert f"{document['bytes_total']:,}" in text
    assert "1.065000" in text


def test_what_was_not_measured_is_null_and_said_to_be_missing() -> None:
    made = submission(seeds=(None,), measured=False)
    files = folder_files(made)
    assert made.document()["val_bpb"] is None
    assert "val_bpb *fill in*" in files["README.md"].decode()
    assert {"model.pgpack", "train.log"} <= set(files)


def test_code_and_weights_share_one_budget() -> None:
    total = submission().n_total
    folder_files(submission(total))
    with pytest.raises(BudgetExceeded, match="1 over the budget"):
        folder_files(submission(total - 1))


def test_two_runs_of_one_seed_are_refused() -> None:
    with pytest.raises(SubmissionError, match="seed"):
        submission(seeds=(1, 1))


def test_a_folder_that_exists_is_never_touched(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    write_folder(target, {"a": b"1"})
    with pytest.raises(SubmissionError, match="exists"):
        write_folder(target, {"a": b"2"})
    assert (target / "a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
