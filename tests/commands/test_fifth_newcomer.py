"""What a fifth newcomer stumbled over: forms that are not read back, `-o -`, folders where files belong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click
import pytest
from pgpack_cli.options.types import NamedPath

from pgpack.bench.unpacking import FOLDER, FORMS
from pgpack.files import replace_file
from tests.commands.test_fourth_newcomer import FLAGS
from tests.commands.workshop import pgpack, succeed
from tests.models.tiny_hf import write_folder, write_tokenizer

RECIPE = "role:control=cast; *=rtn(bits=6)|rans"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder and, beside it, its artifact."""
    folder = tmp_path_factory.mktemp("fifth")
    write_tokenizer(write_folder(folder / "model", "llama"))
    succeed(pgpack("pack", folder / "model", "--recipe", RECIPE, "-o", folder / "a.pgpack", "-q"))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_is_written_is_read_by_every_command_that_reads_checkpoints(
    packed: Path, tmp_path: Path, form: str
) -> None:
    back, again = tmp_path / (f"b.{form}" if form != FOLDER else "b"), tmp_path / "c.pgpack"
    succeed(pgpack("unpack", packed / "a.pgpack", "--as", form, "-o", back, *(("--type", "f32") * (form == "gguf"))))
    rows = succeed(pgpack("inspect", back, "--json")).json["tensors"]
    n_values = sum(tensor["numel"] for tensor in rows)
    assert n_values == sum(t["numel"] for t in succeed(pgpack("inspect", packed / "model", "--json")).json["tensors"])
    assert succeed(pgpack("plan", back, "--recipe", RECIPE, "--json")).json
    succeed(pgpack("pack", back, "--recipe", "*=cast(dtype=fp32)|raw", "-o", again, "-q"))
    succeed(pgpack("verify", again, "--checkpoint", back))
    beside = succeed(
        pgpack("compare", packed / "model", back, "--prompt", "the", "--max-new-tokens", 2, "--json")
    ).json
    assert beside


PATHS = [(f"{verb} {flag.opts[-1]}", flag) for verb, flag in FLAGS if isinstance(flag.type, click.Path)]


@pytest.mark.parametrize(("name", "flag"), PATHS, ids=[name for name, _ in PATHS])
def test_no_flag_or_argument_makes_a_file_of_a_dash(
    name: str, flag: click.Parameter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(flag.type, NamedPath), name
    with pytest.raises(click.BadParameter, match="- is no name: nothing goes through a pipe"):
        flag.type.convert("-", flag, click.Context(click.Command(name)))
    if not flag.type.exists:
        assert Path(flag.type.convert("./-", flag, click.Context(click.Command(name)))) == Path("-")


def test_a_dash_as_output_is_one_sentence_and_no_file(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (
        ("pack", packed / "model", "--recipe", RECIPE, "-o", "-"),
        ("unpack", packed / "a.pgpack", "-o", "-"),
        ("unpack", packed / "a.pgpack", "--as", "folder", "--output", "-"),
        ("transcode", packed / "a.pgpack", "-o", "-"),
        ("sweep", packed / "model", "-o", "-"),
        ("init-adapter", "-o", "-"),
    ):
        done = pgpack(*command)
        assert done.code == 2, done
        assert done.err.count("Error: ") == 1
        assert "- is no name" in done.err
    assert not list(tmp_path.iterdir())
    succeed(pgpack("unpack", packed / "a.pgpack", "-o", "./-", "--as", "npz"))
    assert Path("-").is_file()


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_pipe_or_a_device_is_never_replaced_by_a_file(packed: Path, tmp_path: Path, force: tuple[str, ...]) -> None:
    """`--force` put a file into the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe.pgpack")
    done = pgpack("pack", packed / "model", "--recipe", RECIPE, "-o", tmp_path / "pipe.pgpack", *force)
    assert done.code == 2
    assert "is a pipe or a device, and files are written whole" in done.err
    with pytest.raises(OSError, match="a pipe or a device"):
        replace_file(tmp_path / "pipe.pgpack", b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe.pgpack").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.pgpack"]
