"""Folders of training text with a tokenizer of any kind, and what is said of a path that is no file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pgpack.calibration.calibration import load_calibration
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CalibrationError, CheckpointError, DataError, PgpackError
from pgpack.models.adapter_file import require_model_file
from pgpack.text.corpus import read_text_folder, vocab_size_of, write_text_folder
from pgpack.text.documents import Document, find_texts
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.text_folder import TextFolder

from .made_tokenizers import KINDS, SENTENCES, byte_level

TEXTS = [f"{sentence} {number}" for number, sentence in enumerate(SENTENCES)]
DOCUMENTS = [Document(str(number), text) for number, text in enumerate(TEXTS)]


def folder_of(made: object, folder: Path, **settings: object) -> Path:
    """A model's folder with this tokenizer in it."""
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))  # type: ignore[attr-defined]
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("named", ["", "tokenizer.json"])
def test_shards_of_a_model_s_own_tokenizer_are_read_with_it_and_count_the_text_s_bytes(
    named: str, tmp_path: Path
) -> None:
    given = folder_of(byte_level(), tmp_path / "model", bos_token="<|endoftext|>", eos_token="<|endoftext|>") / named
    record = write_text_folder(DOCUMENTS, tmp_path / "text", load_tokenizer(given), 1024, 0.3)
    folder = TextFolder.open(tmp_path / "text")
    tokenizer = load_tokenizer(folder.tokenizer_path)
    train, val = read_text_folder(folder, vocab_size_of(folder))
    assert vocab_size_of(folder) == record.vocab_size == tokenizer.vocab_size == 300
    assert val.dtype == np.uint16
    assert record.val_text_bytes == record.val_bytes == sum(len(t.encode()) for t in read_back(val, tokenizer))
    assert sorted(read_back(train, tokenizer) + read_back(val, tokenizer)) == sorted(TEXTS)


def read_back(tokens: np.ndarray, tokenizer: object) -> list[str]:
    """The documents of a stream, parted where the tokenizer's document token stands."""
    begins = np.flatnonzero(tokens == tokenizer.document_token)  # type: ignore[attr-defined]
    assert len(begins)
    assert begins[0] == 0
    return [tokenizer.decode(part) for part in np.split(tokens, begins[1:])]  # type: ignore[attr-defined]


def test_a_vocabulary_beyond_16_bits_gets_shards_of_32(tmp_path: Path) -> None:
    wide = byte_level()
    wide.add_tokens([f"piece{number}" for number in range(1 << 16)])
    write_text_folder(DOCUMENTS, tmp_path / "text", load_tokenizer(folder_of(wide, tmp_path / "model")), 1024, 0.3)
    folder = TextFolder.open(tmp_path / "text")
    assert read_text_folder(folder, vocab_size_of(folder))[0].dtype == np.uint32


def test_a_tokenizer_that_does_not_part_documents_is_refused_with_the_cure(tmp_path: Path) -> None:
    two = byte_level()
    two.add_special_tokens(["<|other|>"])
    with pytest.raises(DataError, match=r'put "bos_token" into a tokenizer_config\.json'):
        write_text_folder(DOCUMENTS, tmp_path / "text", load_tokenizer(folder_of(two, tmp_path / "model")), 1024, 0.3)
    assert not (tmp_path / "text").exists()


def test_writing_again_with_another_tokenizer_leaves_none_of_the_older(tmp_path: Path) -> None:
    given = load_tokenizer(folder_of(byte_level(), tmp_path / "model", bos_token="<|endoftext|>"))
    longer = [Document(document.name, document.text * 40) for document in DOCUMENTS]
    for tokenizer, left in ((given, "tokenizer.json"), (None, "tokenizer.model"), (given, "tokenizer.json")):
        write_text_folder(longer, tmp_path / "text", tokenizer, 300, 0.3)
        assert TextFolder.open(tmp_path / "text").tokenizer_path.name == left


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is_read_from_again(kind: str, tmp_path: Path) -> None:
    given = load_tokenizer(folder_of(KINDS[kind](), tmp_path / "model"))
    (tmp_path / "again").mkdir()
    for name, data in given.files.items():
        (tmp_path / "again" / name).write_bytes(data)
    again = load_tokenizer(tmp_path / "again")
    assert again.sha256 == given.sha256
    assert again.encode(TEXTS[0]).tokens.tolist() == given.encode(TEXTS[0]).tokens.tolist()


READERS: dict[str, tuple[Callable[[Path], object], type[PgpackError]]] = {
    "tokenizer": (SentencePiece.load, DataError),
    "any tokenizer": (load_tokenizer, DataError),
    "text": (lambda path: find_texts([path]), DataError),
    "model file": (lambda path: require_model_file(f"{path}:build"), DataError),
    "calibration": (load_calibration, CalibrationError),
    "checkpoint": (load_checkpoint, CheckpointError),
}


@pytest.mark.parametrize("reader", READERS)
def test_only_what_is_not_there_does_not_exist(reader: str, tmp_path: Path) -> None:
    read, error = READERS[reader]
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "link.py").symlink_to(tmp_path / "nothing")
    with pytest.raises(error, match="does not exist"):
        read(tmp_path / "nothing.py")
    wrong = (
        ("folder.py", "folder|holds no"),
        ("pipe.py", "is a pipe"),
        ("link.py", "is a link to nothing"),
    )
    for name, true in wrong:
        with pytest.raises(error, match=true) as refused:
            read(tmp_path / name)
        assert "not exist" not in str(refused.value)
