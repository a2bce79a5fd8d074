"""The same twice: calibrations, artifacts, submissions and pages are equal byte for byte, whatever the number of
threads and the folder, and a study that was stopped ends like one that was not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.test_kill import lines_of
from tests.commands.workshop import pgpack, succeed

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "@calib=tokens(count=512); role:control=cast; *=gptq|rans"
SPACE = ("--recipe", RECIPE.replace("gptq", "gptq(bits={4,5})"), "--max-tokens", "512", "--jobs", "1", "--no-cache")
ABOUT = '{"name": "a", "author": "b", "github_id": "c", "date": "2026-01-01"}'
PROGRAM = "from pgpack_cli.pgpack_app import main; main()"


def run(folder: Path, threads: int, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", PROGRAM, *arguments, "-q"]
    subprocess.run(command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_files_are_equal_with_one_thread_and_two_of_one_process_and_two_and_from_two_folders(
    model: Path, tmp_path: Path
) -> None:
    found = []
    for threads, name in ((1, "here"), (2, "a longer/path")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        shutil.copytree(model.parent / "text", folder / "text")
        shutil.copyfile(model, folder / "m.safetensors")
        (folder / "train.py").write_text("print(1)\n")
        (folder / "about.json").write_text(ABOUT)
        run(folder, threads, "calibrate", "m.safetensors", "-o", "h.safetensors", "--tokens", "512")
        run(folder, threads, "pack", "m.safetensors", "--recipe", RECIPE, "-o", "m.pgpack", "--no-cache")
        run(folder, threads, "sweep", "m.safetensors", *SPACE, "--jobs", str(threads), "--out", "study")
        submission = ("--submission", "sub", "--train-script", "train.py", "--about", "about.json", "--no-cache")
        run(folder, threads, "pack", "m.safetensors", "--recipe", RECIPE, *submission)
        run(folder, threads, "report", "study", "-o", "page.html")
        found.append({p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    of_a_run = {"study/trials.jsonl", "study/trials.lock", "study/study.json"}  # times, a process, a date
    of_a_run |= {"study/tensors.jsonl"}  # in the order of completion
    assert found[0].keys() == found[1].keys() > of_a_run
    assert {"sub/train.log", "study/report.html", "page.html"} <= found[0].keys()
    assert [name for name in found[0].keys() - of_a_run if found[0][name] != found[1][name]] == []


def test_a_study_that_was_stopped_ends_with_the_page_of_one_that_was_not(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    succeed(pgpack("sweep", model, *SPACE, "--out", whole, "-q"))
    with monkeypatch.context() as patch:
        patch.setattr("pgpack.bench.sweeping.write_best", lambda *_: pytest.fail("stopped here"))
        with pytest.raises(pytest.fail.Exception):
            pgpack("sweep", model, *SPACE, "--out", stopped, "-q")
    journal = stopped / "trials.jsonl"
    journal.write_bytes(lines_of(stopped)[0] + b"\n")
    succeed(pgpack("sweep", model, *SPACE, "--out", stopped, "-q"))
    for name in ("report.html", "frontier.csv", "frontier.svg", "best.pgpack", "best.pgpack.json", "anatomy.json"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name


def test_two_calibrations_are_one_file(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        succeed(pgpack("calibrate", model, "-o", tmp_path / name, "--tokens", 512, "-q"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
