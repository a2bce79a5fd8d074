"""The cache at the command line: what a second command need not do again, and `pgpack cache`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pgpack.bench.workpiece import Workpiece
from pgpack.cache.options import default_folder
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.loss.bpb import TextEvaluator
from pgpack.study.study import Study
from tests.commands.conftest import RECIPE
from tests.commands.workshop import pgpack, succeed

SPACE = ("--recipe", "role:control=cast; *=gptq(bits={4,6},clip=12)|{zlib,rans}")
OWN_OF_A_RUN = ("created", "quantize_s", "encode_s", "decode_s", "eval_s", "peak_bytes", "crc32")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures and no page: they take longer than a small sweep."""
    monkeypatch.setattr("pgpack.bench.sweeping.write_outputs", lambda study, breakdown: ())


def refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError("this was computed before")


def rows(folder: Path) -> list[dict[str, Any]]:
    """What a study measured, times aside."""
    found = [json.loads(trial.to_json()) for trial in Study.load(folder).trials]
    return [{key: value for key, value in row.items() if key not in OWN_OF_A_RUN} for row in found]


@pytest.mark.usefixtures("plain")
def test_a_second_study_runs_no_model_at_all(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = (*SPACE, "--cache", tmp_path / "cache", "-q")
    monkeypatch.setattr("pgpack.pack.AT_ONCE", 0)  # the model's matrices are small
    succeed(pgpack("sweep", model, *flags, "--out", tmp_path / "a"))
    monkeypatch.setattr(Workpiece, "observe", refuse)
    monkeypatch.setattr(TextEvaluator, "evaluate_module", refuse)
    monkeypatch.setattr("pgpack.quantizers.gptq.Gptq.quantize", refuse)
    said = succeed(pgpack("sweep", model, *flags[:-1], "--out", tmp_path / "b")).err
    assert rows(tmp_path / "b") == rows(tmp_path / "a")
    assert len(rows(tmp_path / "b")) == 4
    assert "5 of 5 losses" in said  # of four trials and the fp32 model


@pytest.mark.usefixtures("plain")
def test_a_damaged_cache_changes_no_row(model: Path, tmp_path: Path) -> None:
    flags = (*SPACE, "--cache", tmp_path / "cache", "-q")
    succeed(pgpack("sweep", model, *flags, "--out", tmp_path / "a"))
    for path in (tmp_path / "cache").rglob("??/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    succeed(pgpack("sweep", model, *flags, "--out", tmp_path / "b"))
    assert rows(tmp_path / "b") == rows(tmp_path / "a")


def test_packing_twice_computes_once_and_writes_the_same_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--recipe", RECIPE, "--eval", "--json", "-q", "--cache", tmp_path / "cache")
    first = succeed(pgpack("pack", model, *flags, "-o", tmp_path / "a")).json
    alone = succeed(pgpack("pack", model, *flags[:-2], "--no-cache", "-o", tmp_path / "b")).json
    monkeypatch.setattr(Workpiece, "observe", refuse)
    monkeypatch.setattr(TextEvaluator, "evaluate_module", refuse)
    second = succeed(pgpack("pack", model, *flags, "-o", tmp_path / "c")).json
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert first["bpb"] == alone["bpb"] == second["bpb"]
    assert first["kl"] == alone["kl"] == second["kl"]


def test_no_cache_reads_and_writes_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPACK_CACHE", str(tmp_path / "cache"))
    succeed(pgpack("pack", model, "--recipe", RECIPE, "-q", "--no-cache", "-o", tmp_path / "a"))
    assert not (tmp_path / "cache").exists()
    succeed(pgpack("pack", model, "--recipe", RECIPE, "-q", "-o", tmp_path / "b"))
    assert (tmp_path / "cache").is_dir()


def test_another_model_configuration_is_another_model(model: Path) -> None:
    """The weights are the same: only the configuration tells that Hessians and losses are not."""
    from dataclasses import replace

    from pgpack.bench.options import BenchOptions

    loaded = load_checkpoint(model)
    config = json.loads(loaded.metadata["model_config"])
    changed = {**loaded.metadata, "model_config": json.dumps({**config, "rope_base": 2 * config["rope_base"]})}
    other = replace(loaded, metadata=changed)
    digests = [Workpiece(model, each, BenchOptions()).model_digest for each in (loaded, loaded, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_changed_model_file_or_what_it_imports_is_another_model(tmp_path: Path, model: Path) -> None:
    from pgpack.bench.options import BenchOptions

    loaded = load_checkpoint(model)
    file = tmp_path / "model.py"

    def digest(text: str) -> str:
        file.write_text(text)
        return Workpiece(model, loaded, BenchOptions(model=f"{file}:build", seq_len=32)).model_digest

    assert digest("def build(state): ...\n") == digest("def build(state): ...\n")
    assert digest("def build(state): ...\n") != digest("def build(state): return None\n")


def test_ls_counts_what_is_there_and_gc_deletes_it(model: Path, tmp_path: Path) -> None:
    flags = ("--cache", tmp_path / "cache")
    assert succeed(pgpack("cache", "ls", *flags)).out.startswith("0 B in ")
    succeed(pgpack("pack", model, "--recipe", RECIPE, "--eval", "-q", *flags, "-o", tmp_path / "a"))
    files = list((tmp_path / "cache").rglob("??/*"))
    listed = succeed(pgpack("cache", "ls", *flags, "--json")).json
    assert listed["n_bytes"] == sum(path.stat().st_size for path in files)
    assert sum(kind["entries"] for kind in listed["kinds"].values()) == len(files)
    assert {"calibration", "encoded", "evaluation"} <= listed["kinds"].keys()
    printed = succeed(pgpack("cache", "ls", *flags)).out
    assert "calibration" in printed
    assert "just now" in printed
    files[0].write_bytes(b"torn")
    assert succeed(pgpack("cache", "gc", *flags, "--check", "--json")).json["damaged"] == 1
    kept = succeed(pgpack("cache", "gc", *flags, "--limit", "1kB", "--json")).json
    assert kept["n_bytes"] <= 1000
    assert "0 B left in" in succeed(pgpack("cache", "gc", *flags, "--all")).out
    assert not list((tmp_path / "cache").rglob("??/*"))


def test_gc_takes_a_limit_or_all() -> None:
    assert pgpack("cache", "gc", "--all", "--limit", "1GB").code == 2


def test_the_folder_is_that_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own" / "pgpack"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert default_folder() == tmp_path / ".cache" / "pgpack"
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_folder() == tmp_path / "Library" / "Caches" / "pgpack"


def test_tuning_is_done_once_for_every_coding(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = "role:control=cast; *=tcq(step=0.02,states=8)|{}; @tune=steps(count=2)"
    flags = ("-q", "--json", "--cache", tmp_path / "cache")
    first = succeed(pgpack("pack", model, "--recipe", tuned.format("rans_scaled"), *flags, "-o", tmp_path / "a")).json
    monkeypatch.setattr("pgpack.refine.tuning.tune", refuse)
    second = succeed(pgpack("pack", model, "--recipe", tuned.format("zlib"), *flags, "-o", tmp_path / "b")).json
    assert first["weights_digest"] == second["weights_digest"]
