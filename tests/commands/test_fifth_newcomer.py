"""What a fifth newcomer stumbled over: a form that is written and not read back, `-o -`, folders where files belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpack.bench.unpacking import FOLDER, FORMS
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
