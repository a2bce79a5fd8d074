"""What version control leaves in the place of a large file is said to be that, whatever the file should have been."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError, DataError
from pgpack.text.documents import read_parts
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.text.shard_files import read_layout

OF_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1918982\n"
OF_ANNEX = "/annex/objects/SHA256E-s1918982--" + "0" * 64 + ".bin\n"
POINTERS = [(OF_LFS, "a git-lfs pointer.*run `git lfs pull`"), (OF_ANNEX, "a git-annex pointer.*run `git annex get`")]


@pytest.mark.parametrize(("pointer", "said"), POINTERS)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.jsonl", "a.txt.gz", "a.jsonl.zst"])
def test_a_pointer_is_no_text(tmp_path: Path, name: str, pointer: str, said: str) -> None:
    (tmp_path / name).write_text(pointer)
    with pytest.raises(DataError, match=rf"{name} is {said}"):
        list(read_parts(tmp_path / name))


@pytest.mark.parametrize(("pointer", "said"), POINTERS)
def test_a_pointer_is_no_parquet_file(tmp_path: Path, pointer: str, said: str) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_text(pointer)
    with pytest.raises(DataError, match=said):
        list(read_parts(tmp_path / "a.parquet"))


@pytest.mark.parametrize(("pointer", "said"), POINTERS)
@pytest.mark.parametrize("name", ["val_0.bin", "val_0.npy"])
def test_a_pointer_is_no_shard(tmp_path: Path, name: str, pointer: str, said: str) -> None:
    (tmp_path / name).write_text(pointer)
    with pytest.raises(DataError, match=said):
        read_layout(tmp_path / name)


@pytest.mark.parametrize(("pointer", "said"), POINTERS)
@pytest.mark.parametrize("name", ["a.model", "tokenizer.json", "tokenizer.model"])
def test_a_pointer_is_no_tokenizer(tmp_path: Path, name: str, pointer: str, said: str) -> None:
    (tmp_path / name).write_text(pointer)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=said):
            load_tokenizer(path)


@pytest.mark.parametrize(("pointer", "said"), POINTERS)
def test_a_pointer_is_no_checkpoint(tmp_path: Path, pointer: str, said: str) -> None:
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(tmp_path / "model.safetensors")


def test_a_text_about_pointers_is_a_text(tmp_path: Path) -> None:
    text = OF_LFS + "is what stands in the place of a large file. " * 40
    (tmp_path / "a.txt").write_text(text)
    assert [part.text for part in read_parts(tmp_path / "a.txt")] == [text]
