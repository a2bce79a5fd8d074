"""`kill -9` in the middle of a sweep loses at most the trial in flight; the second run finishes and equals one that
was never interrupted. (For training runs: tests/training/test_train.py.)"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pgpack_cli.pgpack_app import app as pgpack_app
from pgpack_cli.pgtrain_app import app as pgtrain_app

ROOT = Path(__file__).resolve().parents[2]
OWN_OF_A_RUN = {"created", "quantize_s", "encode_s", "decode_s", "eval_s", "peak_bytes", "crc32"}
Row = dict[str, Any]

# Four quantizers under three codings, and one recipe that fails: thirteen trials, four different sets of weights.
SWEEP = """
import hashlib, sys, time
from pathlib import Path
import numpy as np
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.loss.evaluator import BitsPerByte
from pgpack.recipe.spaces import read_space
from pgpack.study.card import StudyMeta
from pgpack.study.study import recording
from pgpack.measure import Measurer
from pgpack.sweep.runner import jobs_of, run_jobs

class ErrorOfWeights:
    digest = "error of the weights"
    def evaluate(self, tensors):
        error = float(sum(np.abs(tensors[name] - array).sum() for name, array in checkpoint.items()))
        with open(folder / "evaluated", "a") as file:
            print(hashlib.sha256(tensors["w"].tobytes()).hexdigest(), file=file, flush=True)
        return BitsPerByte(error, error / 2, error / 4, 10, 20, 0.0)

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
checkpoint = from_tensors({"w": rng.standard_normal((48, 40)).astype(np.float32), "g": np.ones(9, np.float32)})
space = "ndim<=1=cast; *=rtn(bits={3:6})|{zlib,rans,bitpack}" + chr(10) + "ndim<=1=cast; *=gptq|rans"
meta = StudyMeta(checkpoint="w", checkpoint_digest=checkpoint.digest, evaluator_digest=ErrorOfWeights.digest,
                 pgpack_version="1", created="2000-01-01T00:00:00+00:00")
with recording(folder, meta) as (study, journal):
    measurer = Measurer(checkpoint, ErrorOfWeights(), lambda recipe: None, strict=True)
    jobs = jobs_of(read_space(space))
    run_jobs(lambda setting: measurer, jobs, study, journal, lambda trial: time.sleep(float(sys.argv[2])))
"""
N_TRIALS, N_WEIGHTS = 13, 4

# Of the commands: a model of 100,000 parameters, twelve trials.
SHAPE = "--layers 2 --dim 64 --heads 4 --kv-heads 2 --seq-len 64 --batch-tokens 512 --steps 20 -q"
SPACE = "--bits 4,6 --clip-sigmas 8,12 --codec zlib:9,rans,brotli:5 --max-tokens 4096 -q"


def sweep_in(folder: Path, pause_s: float) -> list[str]:
    return [sys.executable, "-c", SWEEP, str(folder), str(pause_s)]


def lines_of(folder: Path) -> list[bytes]:
    """Complete rows on disk."""
    path = folder / "trials.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def measurements(folder: Path) -> list[Row]:
    """Rows without what belongs to a run: its times."""
    rows = [json.loads(line) for line in lines_of(folder)]
    return [{key: value for key, value in row.items() if key not in OWN_OF_A_RUN} for row in rows]


def kill_after(command: Sequence[str], folder: Path, n_rows: int) -> None:
    """Start `command` and send SIGKILL once `n_rows` rows are on disk."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(lines_of(folder)) < n_rows:
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The rows of a sweep that nobody stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(sweep_in(folder, 0), cwd=ROOT, check=True)
    rows = measurements(folder)
    assert (len(rows), sum(row["status"] == "failed" for row in rows)) == (N_TRIALS, 1)
    return rows


def test_a_killed_sweep_goes_on_and_equals_an_undisturbed_one(undisturbed: list[Row], tmp_path: Path) -> None:
    written: list[bytes] = []
    for n_rows in (3, 8):  # killed twice, then left alone
        kill_after(sweep_in(tmp_path, 0.05), tmp_path, n_rows)
        assert lines_of(tmp_path)[: len(written)] == written, "rows of an earlier run changed"
        written = lines_of(tmp_path)
        assert n_rows <= len(written) < N_TRIALS
    subprocess.run(sweep_in(tmp_path, 0), cwd=ROOT, check=True)
    assert lines_of(tmp_path)[: len(written)] == written
    assert measurements(tmp_path) == undisturbed
    assert max(Counter(row["key"] for row in measurements(tmp_path)).values()) == 1
    evaluated = Counter((tmp_path / "evaluated").read_text().split())
    assert len(evaluated) == N_WEIGHTS
    assert sum(evaluated.values()) <= N_WEIGHTS + 2, "at most the trials in flight are evaluated again"


def test_a_row_torn_by_the_kill_is_measured_again(undisturbed: list[Row], tmp_path: Path) -> None:
    kill_after(sweep_in(tmp_path, 0.05), tmp_path, 3)
    path = tmp_path / "trials.jsonl"
    path.write_bytes(path.read_bytes()[:-25])  # as if the kill had hit in the middle of a write
    kept = lines_of(tmp_path)
    subprocess.run(sweep_in(tmp_path, 0), cwd=ROOT, check=True)
    assert lines_of(tmp_path)[: len(kept)] == kept
    assert measurements(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_sweep_command_goes_on_and_equals_an_undisturbed_one(tmp_path: Path) -> None:
    """The same through `pgpack sweep` on a trained model, with calibration, evaluation and all outputs."""

    def succeed(app: Any, *arguments: object) -> None:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    model, whole, killed = tmp_path / "model.safetensors", tmp_path / "whole", tmp_path / "killed"
    succeed(pgtrain_app, "data", "-o", tmp_path / "text", "--vocab-size", 512, "-q")
    succeed(pgtrain_app, "run", "--data", tmp_path / "text", *SHAPE.split(), "-o", model)
    space = SPACE.split()
    succeed(pgpack_app, "sweep", model, *space, "--out", whole)
    command = [sys.executable, "-m", "pgpack_cli.pgpack_app", "sweep", str(model), *space, "--out", str(killed)]
    kill_after(command, killed, 3)
    written = lines_of(killed)
    assert 3 <= len(written) < 12
    succeed(pgpack_app, "sweep", model, *space, "--out", killed)
    assert lines_of(killed)[: len(written)] == written
    assert measurements(killed) == measurements(whole)
    assert len(measurements(whole)) == 12
    for name in ("best.pgpack", "frontier.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
