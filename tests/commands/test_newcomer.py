"""What a newcomer stumbled over: names that lead nowhere, numbers without digits, bars without an end."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pgpack_cli.screen.output import run

from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from pgpack.files import refuse_occupied
from pgpack.progress import progress_bar, shown
from pgpack.tables import decimals
from tests.commands.workshop import pgpack, succeed


@pytest.fixture(scope="module")
def bare(model: Path) -> Path:
    path = model.with_name("without-text.safetensors")
    save_tensors(path, dict(load_checkpoint(model).items()), {})
    return path


@pytest.mark.parametrize("flags", [("--text", "lost.txt"), ("--val", "lost*.bin"), ("--tokenizer", "lost.model")])
def test_text_that_is_named_and_not_there_is_never_left_out_silently(
    bare: Path, tmp_path: Path, flags: tuple[str, str]
) -> None:
    out = tmp_path / "x.pgpack"
    lost = pgpack("pack", bare, "--budget", "9kB", "--effort", 0, *flags, "-o", out, "-q")
    assert lost.code == 1
    assert flags[1] in lost.err
    assert not out.exists()


@pytest.mark.parametrize(
    "verb", [("inspect",), ("unpack", "-o", "x.npz"), ("eval",), ("transcode", "-o", "x.pgpack")]
)
def test_a_damaged_file_is_named(artifact: Path, tmp_path: Path, verb: tuple[str, ...]) -> None:
    broken = tmp_path / "broken.pgpack"
    broken.write_bytes(artifact.read_bytes()[:-9])
    finished = pgpack(verb[0], broken, *verb[1:])
    assert finished.code == 4
    assert finished.err.startswith(f"error: {broken}: the file has ")


def test_a_bar_below_a_line_ends_with_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(True, None, "artifact", "searching") as bar:
        bar.update()
        bar.say("one: 5 B")
    said = capsys.readouterr().err
    assert "one: 5 B\n" in said
    assert said.endswith("\nsearching: 1 artifact after 00:00\n")


def test_what_exists_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def command() -> None:
        refuse_occupied(tmp_path)

    (tmp_path / "mine").touch()
    monkeypatch.setattr("sys.argv", ["pgpack"])
    with pytest.raises(SystemExit):
        run(command, "pgpack")
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} exists; give another name")


def test_a_small_number_keeps_three_digits() -> None:
    said = [decimals(value, 5) for value in (0.07493, 0.001, 0.000999, 4.93e-6, 0.0, -2e-7)]
    assert said == ["0.07493", "0.00100", "0.000999", "4.93e-06", "0.00000", "-2e-07"]


def test_the_smallest_losses_are_told_apart(model: Path, tmp_path: Path) -> None:
    flags = (
        "--recipe",
        "role:control=cast; *=rtn(bits=8)|rans",
        "--eval",
        "--max-tokens",
        512,
        "-o",
        tmp_path / "x.pgpack",
    )
    out = succeed(pgpack("pack", model, *flags)).out
    kl = re.search(r"KL ([0-9.e-]+) nats", out)
    assert kl is not None
    assert 0 < float(kl[1]) < 1e-3
    assert len(kl[1].partition("e")[0].replace(".", "").lstrip("0")) <= 3


def test_a_bar_of_what_nobody_knows_the_end_of_counts_in_words() -> None:
    with progress_bar(None, "artifact", "searching", quiet=False) as bar:
        bar.update()
        assert str(bar).startswith("searching: 1 artifact after 00:0")


def test_a_folder_of_logs_alone_is_no_submission(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("step 1 loss 2.0\n")
    found = pgpack("verify", tmp_path)
    assert found.code == 1
    assert "is no submission folder: no script, no artifact and no submission.json" in found.err
    (tmp_path / "train_gpt.py").write_text("print('step 1')\n")
    assert pgpack("verify", tmp_path).code == 4
