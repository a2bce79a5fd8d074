"""A tokenizer that does not give a text back says how much of it: what is lost costs no bits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pgpack.errors import DataError
from pgpack.text.agreement import unknown_tokens, what_is_lost, what_shards_lose
from pgpack.text.documents import read_parts
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.text.json_tokenizer import JsonTokenizer
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.shard_files import read_layout
from pgpack.text.stream import DocumentTokens
from tests.text.made_tokenizers import byte_level, llama, sentence_piece, unigram, word_piece

pytest.importorskip("tokenizers")
TEXT = "the cat sat on a mat, and then it ran off  to\tsee the sun return. " * 20
STRANGE = "\u6f22\u5b57 \u00c5 \u00df " * 40
WORDS = ["the cat sat on a mat and then it ran off to see the sun return"] * 50


def json_of(made) -> JsonTokenizer:
    return JsonTokenizer(made.to_str().encode(), "it")


@pytest.mark.parametrize(
    ("tokenizer", "text", "share"),
    [
        (lambda: json_of(word_piece()), TEXT.upper(), "8"),
        (lambda: json_of(unigram()), TEXT + STRANGE, "1"),
        (lambda: SentencePiece(sentence_piece(WORDS, byte_fallback=False, vocab_size=60), "it"), TEXT + STRANGE, "1"),
        (
            lambda: SentencePiece(sentence_piece(WORDS, normalization_rule_name="nmt_nfkc_cf"), "it"),
            TEXT.title(),
            "3",
        ),
    ],
)
def test_what_the_tokens_do_not_give_back_is_told(tokenizer, text: str, share: str) -> None:
    said = what_is_lost(text, tokenizer())
    assert said.startswith(f"it loses {share}")
    assert "too low to be compared" in said


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        (lambda: json_of(byte_level()), TEXT + STRANGE),
        (lambda: json_of(llama()), TEXT + STRANGE + "<s> and </s> in a text " * 20),
        (lambda: SentencePiece(sentence_piece(WORDS), "it"), TEXT + STRANGE),
        (lambda: SentencePiece(sentence_piece(WORDS, normalization_rule_name="nmt_nfkc"), "it"), TEXT * 9 + "\ufb01"),
        (lambda: SentencePiece(sentence_piece(WORDS, treat_whitespace_as_suffix=True), "it"), TEXT),
        (lambda: json_of(byte_level()), ""),
        (lambda: json_of(byte_level()), " \n"),
    ],
)
def test_spaces_and_a_few_characters_are_not_spoken_of(tokenizer, text: str) -> None:
    assert what_is_lost(text, tokenizer()) == ""


def no_bytes(**settings) -> SentencePiece:
    return SentencePiece(sentence_piece(WORDS, byte_fallback=False, vocab_size=60, **settings), "it")


@pytest.mark.parametrize(
    "tokenizer",
    [
        no_bytes,
        lambda: no_bytes(model_type="char"),
        lambda: no_bytes(model_type="word"),
        lambda: json_of(unigram()),
    ],
    ids=["pieces", "characters", "words", "unigram of a tokenizer.json"],
)
def test_shards_of_text_that_the_tokenizer_does_not_know_say_so(tokenizer) -> None:
    made = tokenizer()
    tokens = made.encode(TEXT + STRANGE * 3).tokens
    said = what_shards_lose(tokens, made, "val_0.bin")
    assert re.match(r"[1-9]\d?\.\d% of the tokens of val_0\.bin are what it writes for what it does not know", said)
    assert what_shards_lose(made.encode("the cat sat " * 30).tokens, made, "val_0.bin") == ""


def test_shards_of_a_tokenizer_without_capitals_say_so() -> None:
    folds = SentencePiece(sentence_piece(WORDS, normalization_rule_name="nmt_nfkc_cf"), "it")
    assert "it writes no capitals" in what_shards_lose(folds.encode(TEXT).tokens, folds, "val_0.bin")


@pytest.mark.parametrize(
    "tokenizer",
    [lambda: json_of(byte_level()), lambda: json_of(llama()), lambda: SentencePiece(sentence_piece(WORDS), "it")],
    ids=["bytes", "llama", "SentencePiece with bytes"],
)
def test_shards_of_a_tokenizer_that_spells_everything_say_nothing(tokenizer) -> None:
    made = tokenizer()
    assert unknown_tokens(made) == []
    assert what_shards_lose(made.encode(TEXT + STRANGE).tokens, made, "val_0.bin") == ""


def test_documents_are_looked_at_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT.upper(), encoding="utf-8")
    tokens = DocumentTokens(read_parts(tmp_path / "a.txt"), json_of(word_piece()), "a.txt")
    assert tokens.lost == ""
    tokens.counted(None)
    assert "loses" in tokens.lost


def test_merges_are_never_dropped_at_random(tmp_path: Path) -> None:
    layout = json.loads(byte_level().to_str())
    layout["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(layout))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    plain = json_of(byte_level())
    for _ in range(8):
        assert tokenizer.encode(TEXT).tokens.tolist() == plain.encode(TEXT).tokens.tolist()
    assert tokenizer.files["tokenizer.json"] == (tmp_path / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_wide_characters_without_a_mark_are_no_utf_8(tmp_path: Path, coding: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode(coding))
    with pytest.raises(DataError, match="full of NUL"):
        list(read_parts(tmp_path / "a.txt"))


def test_a_few_nuls_in_a_text_are_read(tmp_path: Path) -> None:
    text = TEXT + "a\0b" + TEXT
    (tmp_path / "a.txt").write_text(text)
    assert "".join(part.text for part in read_parts(tmp_path / "a.txt")) == text


@pytest.mark.parametrize("name", ["a.csv", "a.html", "a.json"])
def test_text_of_another_ending_is_called_no_text_and_no_shard(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXT)
    with pytest.raises(DataError, match=r"no text of a kind that is read .* and no token shard"):
        read_layout(tmp_path / name)


@pytest.mark.parametrize(
    "tokenizer",
    [lambda: SentencePiece(sentence_piece(WORDS), "it"), lambda: json_of(byte_level(normalizer=one_space()))],
    ids=["SentencePiece", "tokenizer.json"],
)
def test_spaces_that_are_left_out_are_told_where_they_are_many(tokenizer) -> None:
    code = "the cat sat:\n        on a mat\n        and then\n" * 20
    assert re.match(r"it loses spaces that are \d\d\.\d% of the characters", what_is_lost(code, tokenizer()))


def one_space():
    from tokenizers import Regex, normalizers

    return normalizers.Replace(Regex(r"\s+"), " ")


def with_added(made, **flags):
    from tokenizers import AddedToken

    made.add_tokens([AddedToken("<tok>", **flags)])
    return made


@pytest.mark.parametrize(
    "tokenizer",
    [
        lambda: with_added(byte_level(), lstrip=True),
        lambda: with_added(byte_level(), rstrip=True, special=True),
        lambda: with_added(byte_level(normalizer=trimmed()), normalized=False),
        lambda: with_added(byte_level(prefix=True)),
        lambda: with_added(llama(), normalized=False),
        lambda: with_added(llama()),
    ],
    ids=["left", "right", "trimmed", "space first", "llama", "llama, normalized"],
)
def test_added_tokens_that_eat_or_add_spaces_are_told_of_in_shards(tokenizer) -> None:
    made = json_of(tokenizer())
    tokens = made.encode("the cat <tok> sat on <tok>a mat " * 30).tokens
    assert re.match(
        r"\d+\.\d% of the tokens of v are such as '<tok>', beside which it", what_shards_lose(tokens, made, "v")
    )
    assert what_shards_lose(made.encode("the cat sat on a mat " * 30).tokens, made, "v") == ""


def trimmed():
    from tokenizers import normalizers

    return normalizers.Strip()


@pytest.mark.parametrize("make", [byte_level, lambda: with_added(byte_level(), special=True)])
def test_added_tokens_that_leave_spaces_alone_are_not(make) -> None:
    made = json_of(with_added(make()))
    tokens = made.encode("<|endoftext|>" + "the cat <tok> sat on <tok>a mat " * 30).tokens
    assert what_shards_lose(tokens, made, "v") == ""


@pytest.mark.parametrize(("old", "new"), [(" ", "  "), (" ", ""), ("the", "that")])
def test_pieces_of_another_text_than_was_given_count_no_bytes(old: str, new: str) -> None:
    from tokenizers import normalizers

    made = json_of(byte_level(normalizer=normalizers.Replace(old, new)))
    with pytest.raises(
        DataError, match="the bytes of its tokens cannot be told without their text; give text as --text"
    ):
        assert made.byte_tables
    assert made.encode("the cat").n_bytes.sum() == len("the cat")
