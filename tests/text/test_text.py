"""Documents, tokens and shards."""

from __future__ import annotations

import json
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.errors import DataError
from pgpack.text.corpus import read_text_folder, vocab_size_of
from pgpack.text.data import BatchSampler, digest_tokens, overlap_fraction, read_tokens, write_shards
from pgpack.text.documents import Document, read_documents, split_documents
from pgpack.text.sentence_piece import SPACE, SentencePiece, train_tokenizer
from pgpack.text.shard_files import find_shards, shard_length
from pgpack.text.text_folder import TextFolder


def test_builtin_corpus_is_english_of_about_two_megabytes_without_repeats(corpus: list[Document]) -> None:
    n_bytes = sum(len(d.text.encode("utf-8")) for d in corpus)
    assert 1_200_000 < n_bytes < 3_000_000
    assert len({d.name for d in corpus}) == len(corpus)
    assert corpus[0].name.startswith("topics/")
    paragraphs = [" ".join(p.split()) for d in corpus for p in d.text.split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs)
    assert sum(" the " in d.text for d in corpus) > len(corpus) // 2


def test_builtin_validation_text_does_not_occur_in_training(corpus: list[Document], tokenizer: SentencePiece) -> None:
    train, val = split_documents(corpus, 0.08)
    val_tokens = tokenizer.encode_documents(d.text for d in val)
    assert 0.04 < sum(len(d.text) for d in val) / sum(len(d.text) for d in corpus) < 0.16
    assert overlap_fraction(tokenizer.encode_documents(d.text for d in train), val_tokens) < 0.005


def test_a_document_keeps_its_side_when_others_come(corpus: list[Document]) -> None:
    _, val = split_documents(corpus, 0.1)
    _, fewer = split_documents(corpus[::2], 0.1)
    assert {d.name for d in fewer} == {d.name for d in val} & {d.name for d in corpus[::2]}


@pytest.mark.parametrize("share", [1e-9, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("n", [2, 3])
def test_few_documents_divide_at_any_share(share: float, n: int) -> None:
    documents = [Document(f"{k}.txt#0", f"text {k}") for k in range(n)]
    train, val = split_documents(documents, share)
    assert train
    assert val
    assert sorted([*train, *val], key=lambda each: each.name) == documents


def test_a_document_that_is_alone_is_cut_and_nothing_of_it_is_lost() -> None:
    text = "\n\n".join(f"paragraph {k} of words" for k in range(100))
    train, val = split_documents([Document("one.txt#0", text)], 0.08)
    assert (len(train) > len(val), len(val) > 0, 8 <= len(train) + len(val) <= 16) == (True, True, True)
    assert sorted("".join(d.text for d in (*train, *val))) == sorted(text)


def test_documents_that_names_do_not_divide_are_refused() -> None:
    with pytest.raises(DataError, match="every document is called a"):
        split_documents([Document("a.txt#0", "one"), Document("a.txt#0", "two")], 0.5)


def test_documents_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\0\ntwo\r\nlines\n\0\n")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n\n{"text": "four"}\n')
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(b'{"text": "five"}'))
    (tmp_path / "d.txt.zst").write_bytes(zstandard.ZstdCompressor().compress("sechs Öfen".encode()))
    (tmp_path / "e.md").write_text("seven", encoding="utf-8")
    (tmp_path / "ignored.bin").write_bytes(b"\xff\xff")
    texts = [d.text.strip() for d in read_documents([tmp_path])]
    assert texts == ["one", "two\nlines", "three", "four", "five", "sechs Öfen", "seven"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"\xff\xfe", "is UTF-16 text; save it as UTF-8"),
        ("a.jsonl", b'{"tex": "x"}', 'line 1: expected one JSON object with a "text"'),
        ("a.jsonl", b'{"text": 3}', "is a int"),
        ("a.txt.xz", b"abc", "not a complete .xz"),
        ("a.txt.zst", b"abc", "not a complete .zst"),
        ("a.bin", b"abc", "not text that I know"),
        ("a.txt", b"  \n", "every text in them is empty"),
    ],
)
def test_unreadable_text_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_documents([tmp_path / name])


def test_counted_bytes_equal_decoded_bytes_on_every_document(
    corpus: list[Document], tokenizer: SentencePiece
) -> None:
    for document in corpus[::3]:
        tokens = tokenizer.encode_documents([document.text])
        counted = tokenizer.byte_tables.count(tokens[:-1], tokens[1:])
        assert counted == len(tokenizer.decode(tokens).encode("utf-8")), document.name


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=80).map(lambda s: s.replace("\0", "")))
def test_counted_bytes_equal_decoded_bytes_on_any_text(tokenizer: SentencePiece, text: str) -> None:
    tokens = tokenizer.encode_documents(
        ["a" + text]
    )  # a first letter: the decoder drops a space that opens a document
    counted = tokenizer.byte_tables.count(tokens[:-1], tokens[1:])
    assert counted == len(tokenizer.decode(tokens).encode("utf-8"))


def test_rare_characters_fall_back_to_single_bytes(tokenizer: SentencePiece) -> None:
    text = "naïve 漢字 🙂 Ω"
    tokens = tokenizer.encode_documents([text])
    tables = tokenizer.byte_tables
    assert any(tokenizer.processor.is_byte(int(t)) for t in tokens)
    assert tokenizer.decode(tokens) == text
    assert tables.count(tokens[:-1], tokens[1:]) == len(text.encode("utf-8"))


def test_byte_tables_follow_the_definition(tokenizer: SentencePiece) -> None:
    tables, sp = tokenizer.byte_tables, tokenizer.processor
    for token in (sp.pad_id(), sp.bos_id(), sp.eos_id(), sp.unk_id()):
        assert tables.boundary[token]
        assert tables.base_bytes[token] == 0
    the, space = sp.piece_to_id(SPACE + "the"), sp.piece_to_id(SPACE)
    assert (tables.base_bytes[the], tables.leading_space[the]) == (3, True)
    assert (tables.base_bytes[space], tables.leading_space[space]) == (0, True)
    assert tables.count(np.array([sp.bos_id(), the]), np.array([the, the])) == 3 + 4


def test_equal_texts_give_equal_tokenizers_and_each_document_starts_with_bos() -> None:
    texts = ["some words and more words " * 20, "other letters, 123 and 456 " * 20]
    a, b = train_tokenizer(texts, 300), train_tokenizer(texts, 300)
    assert a.sha256 == b.sha256
    tokens = a.encode_documents(texts)
    assert list(np.flatnonzero(tokens == a.bos_id)) == [0, len(a.encode_documents(texts[:1]))]


def test_a_tokenizer_that_cannot_be_made_or_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"another --vocab-size|only gives"):
        train_tokenizer(["three short words"], 2000)
    with pytest.raises(DataError, match="must be 300"):
        train_tokenizer(["x"], 10)
    with pytest.raises(DataError, match="does not exist"):
        SentencePiece.load(tmp_path / "no.model")
    (tmp_path / "bad.model").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a SentencePiece"):
        SentencePiece.load(tmp_path / "bad.model")


def test_shards_hold_the_challenge_layout_and_come_back(tmp_path: Path) -> None:
    tokens = np.array([1, 500, 65_535, 0], dtype=np.uint16)
    (path,) = write_shards(tokens, tmp_path, "corpus_val")
    blob = path.read_bytes()
    assert struct.unpack("<256i", blob[:1024]) == (20240520, 1, 4) + (0,) * 253
    assert struct.unpack("<4H", blob[1024:]) == (1, 500, 65_535, 0)
    assert shard_length(path) == 4
    assert np.array_equal(read_tokens([path, path]), np.concatenate([tokens, tokens]))


def test_token_files_of_llm_c_are_read(tmp_path: Path) -> None:
    tokens = np.array([1, 128_000, 7], "<u4")
    path = tmp_path / "llama3_val.bin"
    path.write_bytes(struct.pack("<256i", 20240801, 7, 3, *[0] * 253) + tokens.tobytes())
    assert np.array_equal(read_tokens([path]), tokens)


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    (path,) = write_shards(np.arange(10, dtype=np.uint16), tmp_path, "x")
    blob = path.read_bytes()
    for damaged in (blob[:-1], blob + b"\0", blob[:500], b"\1" + blob[1:], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            shard_length(path)
    path.write_bytes(blob)
    with pytest.raises(DataError, match="holds token 9, the vocabulary ends at 8"):
        read_tokens([path], vocab_size=9)


def test_byte_count_shards_are_not_tokens(tmp_path: Path) -> None:
    write_shards(np.arange(4, dtype=np.uint16), tmp_path, "fineweb_val_bytes")
    with pytest.raises(DataError, match="no token shards"):
        find_shards(str(tmp_path / "*.bin"))


def test_one_epoch_of_batches_visits_each_window_once() -> None:
    tokens = np.arange(1 + 8 * 25, dtype=np.uint16)
    sampler = BatchSampler(tokens, seq_len=8, batch_tokens=32, seed=5)
    assert sampler.windows == 24
    starts = []
    for step in range(6):
        ids, targets = sampler.batch(step)
        assert ids.shape == (4, 8)
        assert np.array_equal(ids + 1, targets)
        starts += ids[:, 0].tolist()
    assert len(set(starts)) == 24
    assert {b - a for a, b in zip(sorted(starts), sorted(starts)[1:], strict=False)} == {8}


def test_batches_depend_on_seed_and_step_only() -> None:
    tokens = np.random.default_rng(0).integers(0, 999, 5000).astype(np.uint16)
    a, b, c = (BatchSampler(tokens, 16, 64, seed) for seed in (1, 1, 2))
    a.batch(100)
    assert np.array_equal(a.batch(7)[0], b.batch(7)[0])
    assert not np.array_equal(a.batch(7)[0], c.batch(7)[0])
    with pytest.raises(DataError, match="not a multiple"):
        BatchSampler(tokens, 16, 60, 1)
    with pytest.raises(DataError, match="too few"):
        BatchSampler(tokens[:20], 16, 64, 1)


@settings(max_examples=60, deadline=None)
@given(
    calib=st.lists(st.integers(0, 2), max_size=60),
    val=st.lists(st.integers(0, 2), max_size=40),
    width=st.integers(1, 6),
)
def test_overlap_equals_counting_by_hand(calib: list[int], val: list[int], width: int) -> None:
    windows = {tuple(calib[i : i + width]) for i in range(len(calib) - width + 1)}
    hits = [tuple(val[i : i + width]) in windows for i in range(len(val) - width + 1)]
    expected = sum(hits) / len(hits) if hits and len(calib) >= width else 0.0
    found = overlap_fraction(np.array(calib, dtype=np.uint16), np.array(val, dtype=np.uint16), width)
    assert found == pytest.approx(expected)


def test_digest_is_of_the_tokens_alone() -> None:
    tokens = np.arange(100, dtype=np.uint16)
    assert digest_tokens(tokens[::2]) == digest_tokens(tokens[::2].copy())
    assert digest_tokens(tokens) != digest_tokens(tokens[::-1])


def test_the_folder_record_agrees_with_its_shards(text_folder: TextFolder, shard_folder: Path) -> None:
    record = json.loads((shard_folder / "corpus.json").read_text())
    assert text_folder.count_tokens() == (record["train_tokens"], record["val_tokens"])
    assert vocab_size_of(text_folder) == record["vocab_size"] == 400
    train, val = read_text_folder(text_folder, 400)
    assert (digest_tokens(train), digest_tokens(val)) == (record["train_sha256"], record["val_sha256"])


def test_a_folder_without_its_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pgtrain data -o"):
        TextFolder.open(tmp_path / "nothing")
    with pytest.raises(DataError, match="no token shards"):
        TextFolder.open(tmp_path)
