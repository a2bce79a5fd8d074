"""Shards and tokenizer that `pgtrain data` wrote are read as data only while they are what it wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from pgpack.errors import DataError
from pgpack.files import with_checksum
from pgpack.text import data as token_data
from pgpack.text.corpus import read_text_folder, write_text_folder
from pgpack.text.data import read_tokens, write_shards
from pgpack.text.documents import Document
from pgpack.text.shard_files import find_shards
from pgpack.text.text_folder import TextFolder

PIECES, HEADER = 300, 1024


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "text"
    documents = [Document(str(i), f"the quick brown fox {i} jumps over the lazy dog; {'x' * i}") for i in range(60)]
    with patch.object(token_data, "SHARD_TOKENS", 500):  # several shards a side
        write_text_folder(documents, folder, None, PIECES, 0.3)
    assert len(find_shards(str(folder / "*_train_*.bin"))) > 1
    return folder


@pytest.fixture(params=["of today", "of before there were digests of shards"])
def folder(written: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    copy = tmp_path / "text"
    shutil.copytree(written, copy)
    if request.param != "of today":
        row = json.loads((copy / "corpus.json").read_text())
        del row["shards"], row["crc32"]
        (copy / "corpus.json").write_text(with_checksum(json.dumps(row, indent=2)) + "\n")
    return copy


def read(folder: Path) -> int:
    return sum(len(side) for side in read_text_folder(TextFolder.open(folder), PIECES))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def cut_with_its_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8:12] = (int.from_bytes(data[8:12], "little") - 3).to_bytes(4, "little")
    path.write_bytes(bytes(data[:-6]))


CHANGES = {
    "a token": lambda folder: flip(folder / "corpus_train_000000.bin", HEADER + 40),
    "a token of the second shard": lambda folder: flip(folder / "corpus_train_000001.bin", HEADER + 40),
    "a token of validation": lambda folder: flip(folder / "corpus_val_000000.bin", HEADER),
    "cut, and its header with it": lambda folder: cut_with_its_header(folder / "corpus_val_000000.bin"),
    "of another text": lambda folder: write_shards(np.arange(99, dtype=np.uint16), folder, "corpus_val"),
    "two shards exchanged": lambda folder: (
        shutil.copy(folder / "corpus_train_000000.bin", folder / "aside"),
        (folder / "corpus_train_000001.bin").replace(folder / "corpus_train_000000.bin"),
        (folder / "aside").replace(folder / "corpus_train_000001.bin"),
    ),
    "a shard gone": lambda folder: (folder / "corpus_train_000001.bin").unlink(),
    "a shard more": lambda folder: shutil.copy(
        folder / "corpus_train_000000.bin", folder / "corpus_train_000099.bin"
    ),
    "the tokenizer": lambda folder: flip(folder / "tokenizer.model", 30),
    "the record": lambda folder: flip(folder / "corpus.json", 30),
}


@pytest.mark.parametrize("change", [*CHANGES])
def test_what_was_changed_since_is_refused_and_the_sentence_mends(folder: Path, change: str) -> None:
    assert read(folder)
    CHANGES[change](folder)
    with pytest.raises(DataError) as refused:
        read(folder)
    said = str(refused.value)
    assert "\n" not in said
    assert "--force" in said
    assert "remove corpus.json" in said
    if change not in ("the tokenizer", "the record"):
        (folder / "corpus.json").unlink()
        assert read(folder)


def test_part_of_a_side_is_read_as_far_as_it_is_on_record(written: Path) -> None:
    first, *_, last = find_shards(str(written / "corpus_train_*.bin"))
    assert len(read_tokens([first], PIECES)) == 500
    assert len(read_tokens([last, first], PIECES)) > 500
    assert find_shards(str(written / "corpus_train_000000.bin")) == [first]


@pytest.mark.parametrize("text", [None, '{"name": "somebody\'s own"}', "[1, 2]"])
def test_shards_of_others_are_read_as_they_are(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "corpus.json").write_text(text)
    paths = write_shards(np.arange(9, dtype=np.uint16), tmp_path, "corpus_val")
    assert read_tokens(paths, PIECES).tolist() == list(range(9))


def test_other_shards_beside_recorded_ones_are_read_as_they_are(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "text"
    shutil.copytree(written, folder)
    before = read(folder)
    write_shards(np.arange(9, dtype=np.uint16), folder, "mine_train")
    assert read(folder) == before + 9
