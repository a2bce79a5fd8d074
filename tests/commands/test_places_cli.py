"""A folder where a file belongs, a file where a folder belongs, closed places: one sentence, its code."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgpack.errors import remedy
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.models.tiny_hf import write_folder, write_tokenizer

RECIPE = "role:control=cast; *=rtn(bits=6)|rans"
DROP, OVERRIDE, SEARCH = 24, 1, 2  # prctl: PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, its artifact, a study of it, a checkpoint, a calibration."""
    folder = tmp_path_factory.mktemp("places")
    write_tokenizer(write_folder(folder / "model", "llama"))
    succeed(pgpack("pack", folder / "model", "--recipe", RECIPE, "-o", folder / "a.pgpack", "-q"))
    succeed(pgpack("sweep", folder / "model", "--recipe", RECIPE, "-o", folder / "study", "-q"))
    (folder / "empty").mkdir()
    return folder


def without_rights(*arguments: object, program: str = "pgpack") -> subprocess.CompletedProcess[str]:
    """A command of somebody for whom modes count, root or not."""

    def drop() -> None:
        for capability in (OVERRIDE, SEARCH):
            ctypes.CDLL(None).prctl(DROP, capability, 0, 0, 0)

    command = [sys.executable, "-m", f"pgpack_cli.{program}_app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=drop)


@pytest.mark.parametrize("verb", ["unpack", "transcode"])
@pytest.mark.parametrize("name", ["model", "empty", "study", "model/model.safetensors"])
def test_what_is_no_artifact_at_all_did_not_fail_a_verification(place: Path, verb: str, name: str) -> None:
    """They ended with 4, as a damaged artifact does."""
    refused = pgpack(verb, place / name, "-o", place / f"{verb}.pgpack")
    assert refused.code == (2 if (verb, name) == ("transcode", "model/model.safetensors") else 1)
    assert refused.err.count("error: ") <= 1
    assert "not an artifact" in refused.err or "pgpack pack" in refused.err


def test_a_torch_file_of_no_artifact_is_a_checkpoint_too(place: Path, tmp_path: Path) -> None:
    succeed(pgpack("unpack", place / "a.pgpack", "-o", tmp_path / "a.pt"))
    refused = pgpack("unpack", tmp_path / "a.pt", "-o", tmp_path / "b.npz")
    assert (refused.code, "a checkpoint is packed with `pgpack pack`" in refused.err) == (1, True)


def test_a_pipe_is_no_damaged_artifact_and_a_cut_one_is(place: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused = pgpack("unpack", tmp_path / "pipe", "-o", tmp_path / "x.npz")
    assert (refused.code, "is a pipe or a device" in refused.err) == (1, True)
    (tmp_path / "cut.pgpack").write_bytes((place / "a.pgpack").read_bytes()[:-5])
    assert pgpack("unpack", tmp_path / "cut.pgpack", "-o", tmp_path / "x.npz").code == 4


@pytest.mark.parametrize("verb", [("inspect",), ("pack", "--recipe", RECIPE, "-o", "x.pgpack"), ("analyze",)])
def test_a_study_is_no_checkpoint_whatever_it_keeps(place: Path, verb: tuple[str, ...], tmp_path: Path) -> None:
    """Its calibration, the only safetensors file in it, was packed as if it were a model."""
    statistics = tmp_path / "h.safetensors"
    made = (
        "calibrate",
        place / "model",
        "--calib",
        "random",
        "--seq-len",
        16,
        "--tokens",
        64,
        "-o",
        statistics,
        "-q",
    )
    succeed(pgpack(*made))
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.json").write_bytes((place / "study" / "study.json").read_bytes())
    (study / "calibration-0a1b2c3d-64.safetensors").write_bytes(statistics.read_bytes())
    refused = pgpack(verb[0], study, *verb[1:])
    assert (refused.code, "a study, not a checkpoint" in refused.err) == (1, True)
    refused = pgpack(verb[0], statistics, *verb[1:])
    assert (refused.code, "statistics of a calibration, not a checkpoint" in refused.err) == (1, True)


def test_token_shards_are_no_checkpoint(text_folder: Path) -> None:
    """A folder of one shard was read as the checkpoint in it, of two the user was to choose."""
    refused = pgpack("inspect", text_folder)
    assert (refused.code, "token shards, not a checkpoint" in refused.err) == (1, True)


def test_a_study_is_no_submission(place: Path) -> None:
    refused = pgpack("verify", place / "study")
    assert (refused.code, "is no submission folder" in refused.err) == (1, True)


@pytest.mark.parametrize("verb", ["frontier", "report"])
def test_a_file_is_no_study(place: Path, verb: str) -> None:
    refused = pgpack(verb, place / "a.pgpack")
    assert (refused.code, "holds no study.json; give the folder" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("name", "said"), [("empty", "is a folder; name a file in it as --recipe @FILE"), ("a.pgpack", "is a file")]
)
def test_a_place_is_no_recipe(place: Path, name: str, said: str) -> None:
    refused = pgpack("plan", place / "model", "--recipe", place / name)
    assert (refused.code, said in refused.err) == (2, True)


@pytest.mark.parametrize("out", ["closed/demo", "a.pgpack/demo"])
def test_the_plan_of_a_demo_that_cannot_be_written_is_refused(place: Path, out: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    (tmp_path / "a.pgpack").touch()
    refused = without_rights("demo", "--dry-run", "-o", tmp_path / out)
    assert refused.returncode == 1, refused
    assert refused.stdout == ""


def test_closed_places_say_who_can_open_them(place: Path, tmp_path: Path) -> None:
    """Of a file that may not be read the advice was to give a folder that may be written to."""
    shut, closed = tmp_path / "shut", tmp_path / "closed.safetensors"
    shut.mkdir()
    (shut / "a.pgpack").write_bytes(b"x")
    (shut / "text.txt").write_text("words " * 100)
    closed.write_bytes((place / "model" / "model.safetensors").read_bytes())
    closed.chmod(0)
    shut.chmod(0)
    plan = ("plan", place / "model", "--recipe", "*=tcq(step=0.001)|rans_scaled")
    try:
        for arguments, said in (
            (("inspect", closed), "closed.safetensors: Permission denied; have its owner let you read it"),
            ((*plan, "--calibration", closed), "Permission denied; have its owner let you read it"),
            (("unpack", shut / "a.pgpack", "-o", tmp_path / "x.npz"), f"have the owner of {shut} let you in"),
            (("eval", place / "model", "--text", tmp_path), f"{shut}: Permission denied"),
            (("inspect", shut), f"have the owner of {shut} let you in"),
        ):
            refused = without_rights(*arguments)
            assert refused.returncode == 1, refused
            assert said in refused.stderr
            assert refused.stderr.count("error: ") == 1
            assert "may write to" not in refused.stderr
        refused = without_rights("run", "--data", shut, "-o", tmp_path / "r.safetensors", program="pgtrain")
        assert (refused.returncode, f"{shut}: Permission denied" in refused.stderr) == (1, True)
    finally:
        shut.chmod(0o700)


def test_a_place_that_may_be_read_and_not_written_is_told_to_be_another(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    denied = PermissionError(13, "Permission denied", str(tmp_path / "a"))
    assert remedy(denied).startswith("give a directory that you may write to")


def test_what_a_text_folder_holds_is_found_in_order_and_hidden_folders_are_not_asked(tmp_path: Path) -> None:
    from pgpack.text.documents import find_texts

    for name in ("b/two.txt", "a.md", "b/a/one.jsonl", ".git/x.txt", "b/.hidden.txt", "c.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".git").chmod(0)
    found = [str(path.relative_to(tmp_path)) for path in find_texts([tmp_path])]
    assert found == [
        "a.md",
        "b/a/one.jsonl",
        "b/two.txt",
    ]
    (tmp_path / ".git").chmod(0o700)


def test_pgtrain_curve_takes_no_folder(place: Path) -> None:
    assert pgtrain("curve", place / "model", "-o", place / "c.svg").code == 2
