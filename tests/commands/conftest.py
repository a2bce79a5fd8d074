"""A trained model of a few thousand parameters with its text, made once by the commands themselves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.words import WORDS

RECIPE = "role:control=cast; *=gptq(clip=12)|rans"


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and a tokenizer of 310 pieces from sixty short documents."""
    folder = tmp_path_factory.mktemp("commands")
    choose = random.Random(0)  # in random order, or the validation text would occur in the calibration text
    documents = (" ".join(choose.choices(WORDS, k=120)) + f". Document {i}." for i in range(60))
    (folder / "documents.txt").write_text("\n\0\n".join(documents), encoding="utf-8")
    flags = ("--vocab-size", 310, "--val-fraction", 0.2, "-q")
    succeed(pgtrain("data", folder / "documents.txt", "-o", folder / "text", *flags))
    return folder / "text"


@pytest.fixture(scope="session")
def model(text_folder: Path) -> Path:
    """A checkpoint that carries its text."""
    path = text_folder.parent / "model.safetensors"
    shape = ("--layers", 2, "--dim", 16, "--heads", 2, "--kv-heads", 1, "--seq-len", 32)
    training = ("--batch-tokens", 128, "--steps", 4, "-q")
    succeed(pgtrain("run", "--data", text_folder, *shape, *training, "-o", path))
    return path


@pytest.fixture(scope="session")
def artifact(model: Path) -> Path:
    """The model packed and measured."""
    path = model.with_name("model.pgpack")
    succeed(pgpack("pack", model, "--recipe", RECIPE, "--eval", "-o", path, "-q"))
    return path
