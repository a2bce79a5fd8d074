"""Text as users name it: every kind of file, split by what documents say, read no further than needed."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pgpack.errors import DataError
from pgpack.text import compressed
from pgpack.text.data import digest_tokens, overlap_fraction, repeated
from pgpack.text.documents import PART, Part, read_parts
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.source import BUILTIN, DOCUMENT_PARTS, TextSource, is_text, open_source, split
from pgpack.text.stream import ApartTokens, DocumentTokens
from pgpack.text.tokenizer import TokenizedText

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
SENTENCE = "the cat sat on a mat and then it ran off to see the sun in"
WORDS = [*SENTENCE.split(), "Zürich", "über", "漢字"]


def documents(n: int, seed: int = 0, words: int = 40) -> list[str]:
    choose = random.Random(seed)
    return [f"Document {i}: " + " ".join(choose.choices(WORDS, k=words)) + ".\n" for i in range(n)]


def joined(texts: Iterable[str]) -> bytes:
    return "\0\n".join(texts).encode()


def texts_of(parts: Iterable[Part]) -> list[str]:
    return [part.text for part in parts]


def tokens_of(parts: Iterator[Part], tokenizer: SentencePiece, n_tokens: int | None = None) -> TokenizedText:
    return DocumentTokens(parts, tokenizer, "a text").counted(n_tokens)


@pytest.mark.parametrize("packed", PACKERS)
def test_every_kind_of_file_gives_its_text_as_it_stands(packed: str, tmp_path: Path) -> None:
    texts = ["one Ö\r\n", " two\nlines \n", "three"]
    rows = "".join(json.dumps({"id": i, "body": text}) + "\n" for i, text in enumerate(texts))
    for name, content, field in (
        ("a.txt", joined(texts), ""),
        ("a.MD", joined(texts), ""),
        ("a.jsonl", rows.encode(), "body"),
    ):
        path = tmp_path / (name + packed)
        path.write_bytes(PACKERS[packed](b"\xef\xbb\xbf" + content))
        assert texts_of(read_parts(path, field)) == texts
        assert texts_of(open_source([str(tmp_path)], field).parts()) == texts
        path.unlink()


@pytest.mark.parametrize("packed", PACKERS)
def test_parquet_gives_one_column(packed: str, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["one", None, "zwei Ö"], "n": [1, 2, 3]}), path)
    path = path.rename(tmp_path / f"a.parquet{packed}")
    path.write_bytes(PACKERS[packed](path.read_bytes()))
    assert texts_of(read_parts(path)) == ["one", "zwei Ö"]
    with pytest.raises(DataError, match="has no column body; it has text, n: name one as --field"):
        list(read_parts(path, "body"))
    with pytest.raises(DataError, match="column n holds int, expected strings"):
        list(read_parts(path, "n"))
    path.write_bytes(PACKERS[packed](b"PAR1 and no more"))
    with pytest.raises(DataError, match=r"not a complete \.parquet file"):
        list(read_parts(path))


@pytest.mark.parametrize("kind", ["binary", "large_binary", "large_string"])
def test_a_column_of_bytes_is_the_text_that_they_spell(kind: str, tmp_path: Path) -> None:
    """Other tools write text without saying that it is."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = ["one", "zwei \u00d6"]
    stored = texts if kind == "large_string" else [text.encode() for text in texts]
    parquet.write_table(pa.table({"text": pa.array(stored, getattr(pa, kind)())}), tmp_path / "a.parquet")
    assert [part.text for part in read_parts(tmp_path / "a.parquet")] == texts
    if kind != "large_string":
        parquet.write_table(pa.table({"text": pa.array([b"\xd6l"], getattr(pa, kind)())}), tmp_path / "b.parquet")
        with pytest.raises(DataError, match=r"column text holds bytes that are no UTF-8 text .*; save it as strings"):
            list(read_parts(tmp_path / "b.parquet"))


@pytest.mark.parametrize("name", ["c4-train.00000-of-01024.json.gz", "data.json"])
def test_lines_of_json_are_told_how_to_be_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(DataError, match=r"is not text that I know; .*; let the name of lines of JSON end in \.jsonl"):
        open_source([str(tmp_path / name)])


@pytest.mark.parametrize("packed", [".gz", ".xz", ".zst"])
def test_a_file_cut_short_is_refused_and_one_of_several_frames_is_whole(packed: str, tmp_path: Path) -> None:
    texts, path = documents(3000), tmp_path / f"a.txt{packed}"
    halves = [PACKERS[packed](half) for half in (joined(texts[:1500]) + b"\0\n", joined(texts[1500:]))]
    path.write_bytes(b"".join(halves))
    assert texts_of(read_parts(path)) == texts
    for n in (len(halves[0]) // 2, len(halves[0]) + len(halves[1]) // 2):
        path.write_bytes(b"".join(halves)[:n])
        with pytest.raises(DataError, match=f"is not a complete {packed} file"):
            list(read_parts(path))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "a.jsonl",
            b'{"id": 1, "content": "x"}',
            'expected one JSON object with a "text" string; it has id, content',
        ),
        ("a.jsonl", b'["x"]', 'line 1: expected one JSON object with a "text" string'),
        ("a.jsonl", b'{"text": "x"}\n\n{"text"', "line 3: expected one JSON object"),
        ("a.txt", b"good\n" * 50_000 + b"\xff", "not UTF-8 text"),
        ("a.txt", gzip.compress(b"good\n" * 50, mtime=0), "a.txt is packed; let its name end in .gz"),
        ("a.txt", lzma.compress(b"good\n" * 50), "a.txt is packed; let its name end in .xz"),
        ("a.txt.gz", gzip.compress("good".encode("utf-32"), mtime=0), "a.txt.gz is UTF-32 text; save it as UTF-8"),
        ("a.jsonl", '{"text": "good"}'.encode("utf-16"), "a.jsonl is UTF-16 text; save it as UTF-8"),
    ],
)
def test_a_wrong_line_is_named(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        list(read_parts(tmp_path / name))


def test_half_a_surrogate_is_replaced_and_pairs_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(rb'{"text": "a\ud83d\ude42b\ud83dc"}')
    assert texts_of(read_parts(tmp_path / "a.jsonl")) == ["a🙂b\ufffdc"]


def test_long_documents_come_in_parts_that_are_the_document(tmp_path: Path) -> None:
    choose = random.Random(0)
    paragraphs = ["".join(documents(choose.randint(1, 40), seed)) for seed in range(500)]
    text = "\n\n".join(paragraphs)
    assert len(text) > 2 * PART
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "x"}))
    (tmp_path / "c.txt").write_text("x" * 5 * PART)
    for name in ("a.txt", "b.jsonl", "c.txt"):
        parts = [part for part in read_parts(tmp_path / name) if part.name.endswith("#0")]
        whole = "x" * 5 * PART if name == "c.txt" else text
        assert "".join(texts_of(parts)) == whole
        assert [part.number for part in parts] == list(range(len(parts)))
        assert all(PART <= len(part.text) <= 3 * PART for part in parts[:-1])
        if name != "c.txt":
            assert all(part.text.endswith("\n\n") for part in parts[:-1])


def test_only_the_first_part_of_a_document_has_a_begin_token(tmp_path: Path, tokenizer: SentencePiece) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(documents(9000)), encoding="utf-8")
    source = open_source([str(tmp_path)])
    assert len(list(source.parts())) > 2
    found = tokens_of(source.parts(), tokenizer)
    assert np.flatnonzero(found.tokens == tokenizer.bos_id).tolist() == [0]
    assert found.n_bytes.sum() == (tmp_path / "a.txt").stat().st_size


def test_no_document_is_on_both_sides_whatever_files_hold_it(tmp_path: Path) -> None:
    texts = documents(300)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:200]))
    (tmp_path / "y.txt").write_bytes(joined(texts[100:]))  # a hundred documents are in both
    parted = split(open_source([str(tmp_path)]))
    val, calib = ({text.strip() for text in texts_of(side)} for side in (parted.val(), parted.calib()))
    assert not val & calib
    assert val | calib == {text.strip() for text in texts}
    assert 0.1 < len(val) / len(texts) < 0.3
    fewer = split(TextSource((tmp_path / "y.txt",)))
    assert {text.strip() for text in texts_of(fewer.val())} == val & {text.strip() for text in texts[100:]}
    other = split(open_source([str(tmp_path)]), seed=1)
    assert {text.strip() for text in texts_of(other.val())} != val


def test_names_of_files_and_the_order_of_flags_say_nothing(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i}.txt").write_bytes(joined(documents(20, seed=i)))
        shutil.copy(tmp_path / f"{i}.txt", tmp_path / f"renamed-{(7 * i) % 12}.txt")
    (tmp_path / "packed.gz").write_bytes(b"not named as text")
    given = [str(tmp_path / f"{i}.txt") for i in range(12)]
    sources = [given, given[::-1], [str(tmp_path / "renamed-*.txt")], [*given, given[0]]]
    (tmp_path / "9.txt.gz").write_bytes(gzip.compress((tmp_path / "9.txt").read_bytes(), mtime=0))
    sources.append([*given[:9], *given[10:], str(tmp_path / "9.txt.gz")])
    found = [texts_of(split(open_source(source)).val()) for source in sources]
    assert all(each == found[0] for each in found)
    assert len(found[0]) > 12


def test_files_of_one_name_are_documents_of_their_own(tmp_path: Path) -> None:
    for i, text in enumerate(documents(60)):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "README.md").write_text(text, encoding="utf-8")
    (tmp_path / "all.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(60)))
    apart, together = (split(open_source([str(tmp_path / name)])) for name in ("[0-9]*", "all.jsonl"))
    assert sorted(texts_of(apart.val())) == sorted(texts_of(together.val()))
    assert sorted(texts_of(apart.calib())) == sorted(texts_of(together.calib()))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_documents_leave_no_side_empty(n: int, tmp_path: Path) -> None:
    for seed in range(12):
        (tmp_path / "a.txt").write_bytes(joined(documents(n, seed)))
        parted = split(open_source([str(tmp_path / "a.txt")]))
        sides = [texts_of(side) for side in (parted.val(), parted.calib())]
        assert all(sides)
        assert sorted(sides[0] + sides[1]) == sorted(documents(n, seed))


def test_a_document_alone_is_cut_and_one_of_a_few_letters_refused(tmp_path: Path) -> None:
    text = "\n\n".join(documents(40))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    parted = split(open_source([str(tmp_path / "a.txt")]))
    sides = [texts_of(side) for side in (parted.val(), parted.calib())]
    assert all(sides)
    assert sorted("".join(sides[0] + sides[1])) == sorted(text)
    assert parted.source.document_parts == 1
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="too short to be split; give more, or --val PATH and --calib PATH"):
        split(open_source([str(tmp_path / "a.txt")]))


def test_builtin_is_the_corpus_of_the_demo(
    corpus: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pgpack.text.source._builtin", lambda: corpus)  # built once for all tests
    assert texts_of(open_source([BUILTIN]).parts()) == [document.text for document in corpus]
    parted = split(open_source([BUILTIN]))
    assert len(list(parted.val())) + len(list(parted.calib())) == len(corpus)
    (tmp_path / BUILTIN).mkdir()
    (tmp_path / BUILTIN / "a.txt").write_text("mine")
    assert texts_of(open_source([f"./{BUILTIN}"]).parts()) == ["mine"]
    with pytest.raises(DataError, match=r"alone, or a file of that name as \./builtin"):
        open_source([BUILTIN, "a.txt"])


def test_shards_and_texts_are_told_apart_by_name(tmp_path: Path) -> None:
    for name in ("a.bin", "b.txt", "c.jsonl.zst"):
        (tmp_path / name).write_bytes(b"")
    texts = [BUILTIN, tmp_path, tmp_path / "b.txt", tmp_path / "*.zst", tmp_path / "missing.md"]
    shards = [tmp_path / "a.bin", tmp_path / "*.bin", tmp_path / "missing_*.bin"]
    assert [is_text(str(name)) for name in [*texts, *shards]] == [True] * len(texts) + [False] * len(shards)
    with pytest.raises(DataError, match="does not exist; give files or folders of text, or the word builtin"):
        open_source([str(tmp_path / "missing.md")])


class _CountedFile(io.FileIO):
    """A file that tells how much of it is read."""

    n_bytes = 0

    def readinto(self, buffer: Any) -> int:
        n = super().readinto(buffer)
        _CountedFile.n_bytes += n
        return n


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> type[_CountedFile]:
    """What the readers read of files."""
    monkeypatch.setattr(compressed, "open", lambda path, mode: io.BufferedReader(_CountedFile(path)), raising=False)
    monkeypatch.setattr(_CountedFile, "n_bytes", 0)
    return _CountedFile


def test_ten_gigabytes_are_not_read_for_some_thousand_tokens(
    tmp_path: Path, tokenizer: SentencePiece, reads: type[_CountedFile]
) -> None:
    path = tmp_path / "big.txt"
    path.write_bytes(joined(documents(20_000)))
    os.truncate(path, 10 * 10**9)  # the rest are zeros, of which nothing must be seen
    tracemalloc.start()
    parted = split(open_source([str(path)]))
    sides = [tokens_of(side, tokenizer, 16_384) for side in (parted.val(), parted.calib())]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(side) for side in sides] == [16_384, 16_384]
    assert reads.n_bytes < 4_000_000
    assert peak < 64 * 2**20


@pytest.mark.parametrize("packed", [".gz", ".xz", ".zst"])
def test_a_compressed_text_is_not_read_whole_either(
    packed: str, tmp_path: Path, tokenizer: SentencePiece, reads: type[_CountedFile]
) -> None:
    frame = PACKERS[packed](joined(documents(4000)) + b"\0\n")
    (tmp_path / f"a.txt{packed}").write_bytes(frame * 60)
    parted = split(open_source([str(tmp_path)]))
    assert len(tokens_of(parted.val(), tokenizer, 8_192)) == 8_192
    assert reads.n_bytes < 10 * len(frame)


def test_one_endless_document_is_split_and_read_in_bounded_memory(
    tmp_path: Path, tokenizer: SentencePiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = " ".join(WORDS) + "\n"
    monkeypatch.setattr(
        "pgpack.text.source.read_parts",
        lambda path, field, longest: (
            Part("big#0", i, f"{i} {line}" + line * (longest // len(line))) for i in range(10**9)
        ),
    )
    (tmp_path / "big.txt").write_text("here")
    tracemalloc.start()
    parted = split(open_source([str(tmp_path)]))
    found = tokens_of(parted.val(), tokenizer, 16_384)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 16_384
    assert peak < 128 * 2**20
    first = list(islice(parted.val(), DOCUMENT_PARTS))
    assert [part.number for part in first] == list(range(DOCUMENT_PARTS))


def test_what_is_asked_for_first_changes_no_token(tmp_path: Path, tokenizer: SentencePiece) -> None:
    (tmp_path / "a.txt").write_bytes(joined(documents(200)))
    source = open_source([str(tmp_path)])
    grown = DocumentTokens(source.parts(), tokenizer, "a text")
    lengths = [len(grown.tokens(n)) for n in (10, 500, 100)]
    assert lengths == [10, 500, 100]
    assert digest_tokens(grown.tokens()) == digest_tokens(tokens_of(source.parts(), tokenizer).tokens)
    assert len(grown.tokens(10**9)) == len(grown.tokens())


def test_passages_that_are_evaluated_are_left_out_of_the_other_side(tmp_path: Path, tokenizer: SentencePiece) -> None:
    licence = " ".join(f"clause {i} holds" for i in range(60))
    (tmp_path / "a.txt").write_bytes(joined(f"{text} {licence}" for text in documents(60, words=90)))
    parted = split(open_source([str(tmp_path)]))
    val, calib = (DocumentTokens(side, tokenizer, "a text") for side in (parted.val(), parted.calib()))
    assert overlap_fraction(calib.tokens(), val.tokens()) > 0.3
    apart = ApartTokens(calib, val.tokens(), tokenizer)
    assert overlap_fraction(apart.tokens(), val.tokens()) == 0.0
    assert apart.n_left_out > 60 * 64 // 2
    assert len(apart.tokens(2000)) == 2000  # more is read until there are enough
    assert apart.tokens(2000).tolist() == apart.tokens()[:2000].tolist()
    assert len(apart.counted()) + apart.n_left_out == len(calib.tokens())


@given(
    tokens=st.lists(st.integers(0, 2), max_size=60),
    others=st.lists(st.integers(0, 2), max_size=40),
    width=st.integers(1, 6),
)
def test_repeated_tokens_are_those_of_windows_found_by_hand(tokens: list[int], others: list[int], width: int) -> None:
    windows = {tuple(others[i : i + width]) for i in range(len(others) - width + 1)}
    starts = [i for i in range(len(tokens) - width + 1) if tuple(tokens[i : i + width]) in windows]
    expected = [any(start <= i < start + width for start in starts) for i in range(len(tokens))]
    found = repeated(np.array(tokens, np.uint16), np.array(others, np.uint16), width)
    assert found.tolist() == expected


@pytest.mark.parametrize("data", ["data-00000-of-00001.arrow", "train.json", "part.csv"])
def test_what_is_about_a_folder_of_other_data_is_not_its_text(tmp_path: Path, data: str) -> None:
    (tmp_path / data).write_bytes(b"x" * 90)
    with pytest.raises(DataError, match=rf"holds no text \(it holds {data}\); expected files ending in"):
        open_source([str(tmp_path)])
    (tmp_path / "README.md").write_text("# What it is\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"holds README\.md, which are about it, and {data}, of a kind that is not"):
        open_source([str(tmp_path)])
    (tmp_path / "a.txt").write_text("a text", encoding="utf-8")
    assert len(open_source([str(tmp_path)]).files) == 2
