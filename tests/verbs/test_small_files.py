"""Small JSON files that programs write and read back: no changed byte is read as data, and older files still open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.bench.rates import RATES_FILE, Rates, keep_rates, read_rates
from pgpack.errors import DataError, FormatError
from pgpack.files import checked_json, checksum_fits, with_checksum
from pgpack.formats.own.manifest import Manifest
from pgpack.inspect import Anatomy, SizeStage, TensorAnatomy
from pgpack.text.corpus import vocab_size_of, write_text_folder
from pgpack.text.documents import Document
from pgpack.text.text_folder import TextFolder

MANIFEST = Manifest(
    recipe="*=rtn|raw",
    recipe_canonical="*=rtn|raw",
    recipe_digest="a" * 64,
    n_bytes=10,
    sha256="b" * 64,
    weights_digest="c" * 64,
    checkpoint_digest="d" * 64,
    n_params=5,
    pgpack_version="0.1.0",
    bpb=1.25,
    sizes={"tensors": {"w": 8}, "overhead": {"header": 2}},
)
ANATOMY = Anatomy("e" * 64, 10, (TensorAnatomy("w", (2, 2), 8, 0.5),), (SizeStage("file", 10),), "nats")
RATES = Rates(1.5, 2.5, 3.5, measured=True)


def manifest(folder: Path, data: bytes) -> Any:
    return Manifest.from_json(data.decode())


def anatomy(folder: Path, data: bytes) -> Any:
    return Anatomy.from_json(data.decode())


def rates(folder: Path, data: bytes) -> Any:
    (folder / RATES_FILE).write_bytes(data)
    if not (found := read_rates(folder)).measured:
        raise FormatError("rates of another machine")
    return found


def vocab_size(folder: Path, data: bytes) -> Any:
    (folder / "text" / "corpus.json").write_bytes(data)
    return vocab_size_of(TextFolder.open(folder / "text"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    documents = [Document(str(i), f"the quick brown fox {i} jumps over the lazy dog; {'x' * i}") for i in range(40)]
    write_text_folder(documents, folder / "text", None, 300, 0.3)
    keep_rates(folder, RATES)
    return folder


def written(place: Path) -> dict[str, tuple[bytes, Callable[[Path, bytes], Any], Any]]:
    return {
        "manifest": (MANIFEST.to_json().encode(), manifest, MANIFEST),
        "anatomy": (ANATOMY.to_json().encode(), anatomy, ANATOMY),
        "rates": ((place / RATES_FILE).read_bytes(), rates, RATES),
        "corpus": ((place / "text" / "corpus.json").read_bytes(), vocab_size, 300),
    }


@pytest.mark.parametrize("name", ["manifest", "anatomy", "rates", "corpus"])
def test_no_changed_byte_is_read_as_data(name: str, place: Path) -> None:
    data, read, value = written(place)[name]
    assert read(place, data) == value
    for at in range(len(data)):
        for bit in (1, 4, 0x20):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            try:
                assert read(place, changed) == value, (at, bit)
            except (FormatError, DataError, UnicodeDecodeError):
                continue
            assert at > len(data) - 40, "the name of the checksum, or the last line end"
    read(place, data)


@pytest.mark.parametrize("name", ["manifest", "anatomy", "rates", "corpus"])
def test_files_of_older_programs_open(name: str, place: Path) -> None:
    data, read, value = written(place)[name]
    row = json.loads(data)
    assert row.pop("crc32")
    assert read(place, json.dumps(row, indent=1).encode() + b"\n") == value
    read(place, data)


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), st.sampled_from([None, 2]))
def test_what_is_checked_is_what_was_written(row: dict[str, Any], indent: int | None) -> None:
    row.pop("crc32", None)
    text = with_checksum(json.dumps({**row, "last": 1}, indent=indent))
    assert checksum_fits(text)
    assert checked_json(text + "\n") == {**row, "last": 1}
    assert json.loads(text) == {**row, "last": 1, "crc32": json.loads(text)["crc32"]}
