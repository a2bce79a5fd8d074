"""Token files without the challenge's header: nanoGPT's .bin, an array of numpy's."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pgpack.errors import DataError
from pgpack.text.data import digest_tokens, read_tokens, write_shards
from pgpack.text.shard_files import shard_length

TOKENS = np.random.default_rng(0).integers(0, 300, 3000)


def stored(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


def test_bare_numbers_of_16_bits_are_tokens_where_the_vocabulary_says_so(tmp_path: Path) -> None:
    path = stored(tmp_path / "val.bin", TOKENS.astype("<u2").tobytes())
    (shard,) = write_shards(TOKENS.astype(np.uint16), tmp_path, "same")
    assert shard_length(path) == 3000
    assert digest_tokens(read_tokens([path], 300)) == digest_tokens(read_tokens([shard], 300))
    assert read_tokens([path, shard], 65_536).dtype == np.uint16


@pytest.mark.parametrize(
    ("numbers", "vocab_size", "said"),
    [
        (TOKENS.astype("<u2"), None, "no header of a token shard, and no vocabulary says"),
        (TOKENS.astype("<u2"), 65_537, "a vocabulary of 65,537 do not fit into 16 bits"),
        (TOKENS.astype("<u2"), 299, "holds token 299, read as uint16 without a header, the vocabulary ends at 298"),
        (TOKENS.astype("<u4"), 300, "every second number of 16 bits is 0"),
        (TOKENS.astype("<i8"), 300, "every second number of 16 bits is 0"),
    ],
)
def test_bare_numbers_that_may_be_something_else_are_refused(
    tmp_path: Path, numbers: np.ndarray, vocab_size: int | None, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read_tokens([stored(tmp_path / "val.bin", numbers.tobytes())], vocab_size)


WORD_IDS = np.random.default_rng(1).integers(300, 32_000, 3000).astype("<u2")
EVALUATION = struct.pack("<256i", 20240522, 1, 50, 400, *[0] * 252)  # of llm.c's multiple choice
OTHERS: dict[str, bytes] = {
    "a packed data set of lit-gpt": b"LITPKDS" + struct.pack("<QBQ", 1, 8, 3000) + WORD_IDS.tobytes(),
    "a chunk of litdata": struct.pack("<4I", 2, 16, 1016, 6016) + WORD_IDS.tobytes(),
    "an index of Megatron's": b"MMIDIDX\0\0" + struct.pack("<QBQ", 1, 8, 3) + bytes(24) + b"\0",
    "a zip file, as of torch": b"PK\x03\x04" + WORD_IDS.tobytes(),
    "a GGUF": b"GGUF" + WORD_IDS.tobytes(),
    "packed with gzip": b"\x1f\x8b\x08\0" + WORD_IDS.tobytes(),
    "not a token shard": EVALUATION + WORD_IDS.tobytes(),
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_files_of_others_are_not_read_as_tokens_even_of_a_large_vocabulary(tmp_path: Path, what: str) -> None:
    with pytest.raises(DataError, match=f"val.bin is {what}"):
        read_tokens([stored(tmp_path / "val.bin", OTHERS[what])], 65_536)


@pytest.mark.parametrize("begins", [(2, 16, 1016, 6014), (2, 20, 1016, 6016), (0, 8, 9), (1, 1)])
def test_tokens_that_begin_as_numbers_of_32_bits_do_are_tokens(tmp_path: Path, begins: tuple[int, ...]) -> None:
    contents = struct.pack(f"<{len(begins)}I", *begins) + WORD_IDS.tobytes()
    found = read_tokens([stored(tmp_path / "val.bin", contents)], 65_536)
    assert found.tobytes() == contents


def test_an_array_without_numpys_header_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a \.npy without numpy's header, which would say its type"):
        read_tokens([stored(tmp_path / "part-0.npy", WORD_IDS.tobytes())], 65_536)


@pytest.mark.parametrize(
    "contents",
    [
        struct.pack("<256i", 20240520, 9, 4, *[0] * 253) + bytes(8),  # a version that nobody has
        struct.pack("<256i", 7, 1, 4, *[0] * 253) + bytes(range(8)),  # a header of another kind
        struct.pack("<3i", 20240520, 1, 4),  # cut
        b"\1\0\2",
    ],
)
def test_a_header_that_is_not_known_is_not_read_as_tokens(tmp_path: Path, contents: bytes) -> None:
    path = stored(tmp_path / "val.bin", contents)
    with pytest.raises(DataError, match="not a token shard: its header does not start with 20240520"):
        read_tokens([path], 65_536)
    with pytest.raises(DataError, match="not a token shard"):
        shard_length(path)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", ">i4", "<u4", "<i8"])
def test_an_array_of_numpys_says_its_type_itself(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "val.npy"
    np.save(path, TOKENS.astype(dtype))
    assert shard_length(path) == 3000
    for vocab_size in (300, 65_536, 128_000, None):
        assert np.array_equal(read_tokens([path], vocab_size), TOKENS)
    assert read_tokens([path], 300).dtype == np.uint16
    assert read_tokens([path], 128_000).dtype == np.uint32
    with pytest.raises(DataError, match="holds token 299, the vocabulary ends at 298"):
        read_tokens([path], 299)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), int), np.zeros(3), np.zeros(3, bool), np.array([None, 1], object), np.array(3)]
)
def test_an_array_that_is_no_row_of_whole_numbers_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "val.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(DataError, match="no row of whole numbers"):
        read_tokens([path], 300)


def test_what_an_array_holds_is_checked_as_well(tmp_path: Path) -> None:
    path = tmp_path / "val.npy"
    np.save(path, np.array([1, -1]))
    with pytest.raises(DataError, match="holds -1, which is no token"):
        read_tokens([path], 300)
    np.save(path, np.array([1, 1 << 40]))
    with pytest.raises(DataError, match=r"holds 1099511627776, which is no token"):
        read_tokens([path])
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"\0"):
        with pytest.raises(DataError, match="incomplete or damaged"):
            read_tokens([stored(path, damaged)], 300)
    for damaged in (whole[:9], whole[:40], whole[:10] + b"(" * 118 + whole[128:]):
        with pytest.raises(DataError, match="no row of whole numbers"):
            read_tokens([stored(path, damaged)], 300)


@pytest.mark.parametrize("name", ["x_val_000000.bin", "x.npy"])
def test_an_empty_shard_is_called_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"{name} is an empty file, and no token shard; fetch or write it again"):
        shard_length(tmp_path / name)


def test_numbers_of_fairseq_are_no_tokens_of_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "valid.bin").write_bytes(np.arange(4, 200, dtype="<u2").tobytes())
    (tmp_path / "valid.idx").write_bytes(b"TNTIDX\0\0" + bytes(40))
    with pytest.raises(DataError, match="is a text of fairseq's, whose numbers are those of its dictionary"):
        read_tokens([tmp_path / "valid.bin"], 300)
    with pytest.raises(DataError, match="is an index of fairseq's; its tokens lie beside it"):
        shard_length(tmp_path / "valid.idx")
