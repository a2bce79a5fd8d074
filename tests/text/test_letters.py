"""A text that was rewritten without saying anything else overlaps with itself; another text does not."""

from __future__ import annotations

import json
import random
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pgpack.text.data import overlap_fraction
from pgpack.text.json_tokenizer import JsonTokenizer
from pgpack.text.letters import LETTERS, Overlap, letters_of
from pgpack.text.sentence_piece import SentencePiece
from pgpack.text.source import open_source, split
from pgpack.text.stream import ApartTokens, DocumentTokens
from pgpack.text.tokenizer import Tokenizer

from .made_tokenizers import byte_level, llama, word_piece

SENTENCE = "the cat sat on a mat then it ran off to see Zürich über naïve café 漢字 Ελλάς in 1984, sun; stone river"
WORDS = SENTENCE.split()


def text_of(seed: int, n_words: int = 1500) -> str:
    """Lines of about 60 characters in paragraphs."""
    choose = random.Random(seed)
    words = choose.choices(WORDS, k=n_words)
    paragraphs = [" ".join(words[i : i + 75]) + "." for i in range(0, n_words, 75)]
    return "\n\n".join(textwrap.fill(paragraph, 60) for paragraph in paragraphs) + "\n"


def wrapped(text: str, width: int) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), width) for part in text.split("\n\n"))


REWRITTEN: dict[str, Callable[[str], str]] = {
    "line ends": lambda text: text.replace("\n", "\r\n"),
    "byte order marks": lambda text: "\ufeff" + text.replace("\n\n", "\n\n\ufeff"),
    "trailing spaces": lambda text: text.replace("\n", "  \n"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "compatible": lambda text: unicodedata.normalize("NFKC", text),
    "rewrapped": lambda text: wrapped(text, 37),
    "one line": lambda text: " ".join(text.split()),
    "tabs": lambda text: text.replace("\n", "\n\t").replace(" ", "\t"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "other marks": lambda text: text.replace(",", "\u2026").replace(";", " \u2014 "),
    "cut elsewhere": lambda text: text[LETTERS:],
}


def json_tokenizer(made: object) -> JsonTokenizer:
    return JsonTokenizer(made.to_str().encode(), "made", {})  # type: ignore[attr-defined]


@pytest.fixture(scope="module", params=["pieces", "bytes", "llama", "words"])
def cutter(request: pytest.FixtureRequest, tokenizer: SentencePiece) -> Tokenizer:
    made = {"bytes": byte_level, "llama": llama, "words": word_piece}
    return tokenizer if request.param == "pieces" else json_tokenizer(made[request.param]())


@pytest.mark.parametrize("how", REWRITTEN)
def test_a_text_written_otherwise_is_the_same(how: str, cutter: Tokenizer) -> None:
    text = text_of(1)
    before, after = text_of(2, 400), text_of(3, 400)
    calib = cutter.encode(f"{before}\n{REWRITTEN[how](text)}\n{after}").tokens
    assert Overlap(cutter).share(calib, cutter.encode(text).tokens) > 0.85


@pytest.mark.parametrize("how", ["line ends", "decomposed", "rewrapped"])
def test_windows_of_tokens_alone_do_not_find_it(how: str) -> None:
    cutter = json_tokenizer(byte_level())
    text = text_of(1)
    parts = [cutter.encode(each).tokens for each in (REWRITTEN[how](text), text)]
    assert overlap_fraction(*parts) < 0.02 < Overlap(cutter).share(*parts)


def test_another_text_of_the_same_words_is_another(cutter: Tokenizer) -> None:
    calib, val = (cutter.encode(text_of(seed, 6_000)).tokens for seed in (4, 5))
    assert Overlap(cutter).share(calib, val) == 0.0


def test_what_is_shared_is_counted(tokenizer: SentencePiece) -> None:
    shared, own = text_of(6, 4000), text_of(7, 12_000)
    val = tokenizer.encode(f"{own}\n\n{wrapped(shared, 41)}").tokens
    assert Overlap(tokenizer).share(tokenizer.encode(shared).tokens, val) == pytest.approx(0.25, abs=0.03)


def test_texts_shorter_than_a_window_share_nothing(cutter: Tokenizer) -> None:
    tokens = [cutter.encode(text).tokens for text in ("", "the cat", text_of(1))]
    for short in tokens[:2]:
        for pair in ((short, tokens[2]), (tokens[2], short), (short, short)):
            assert Overlap(cutter).share(*pair) == 0.0


def test_where_documents_begin_counts_for_nothing(tokenizer: SentencePiece) -> None:
    text = text_of(8)
    parts = [text[i : i + 97] for i in range(0, len(text), 97)]
    cut = tokenizer.encode_documents(parts)
    assert Overlap(tokenizer).share(cut, tokenizer.encode(text).tokens) > 0.9


def test_a_rewritten_copy_on_the_other_side_is_left_out(tmp_path: Path) -> None:
    tokenizer = json_tokenizer(byte_level())
    texts = [text_of(seed, 300) for seed in range(20, 60)]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
        (tmp_path / f"{number}-dos.txt").write_bytes(wrapped(text, 44).replace("\n", "\r\n").encode())
    parted = split(open_source([str(tmp_path)]))
    val, calib = (DocumentTokens(side, tokenizer, "a text") for side in (parted.val(), parted.calib()))
    shared = Overlap(tokenizer)
    assert shared.share(calib.tokens(), val.tokens()) > 0.3
    apart = ApartTokens(calib, val.tokens(), tokenizer)
    assert shared.share(apart.tokens(), val.tokens()) < 0.02
    own = {letters_of(part.text) for part in parted.calib()} - {letters_of(part.text) for part in parted.val()}
    kept = letters_of(tokenizer.decode(apart.tokens()))
    assert sum(each in kept for each in own) >= 0.9 * len(own)


def test_the_letters_of_several_tokens_are_found_where_they_lie() -> None:
    cutter = json_tokenizer(byte_level(260))
    text = "漢字 ünïcode " * 40
    tokens = cutter.encode(text).tokens
    found = Overlap(cutter).repeated(np.concatenate([tokens[:20] * 0 + tokens[0], tokens]), tokens)
    assert found[-len(tokens) + 40 : -40].all()


def test_layouts_of_tokenizers_give_every_piece(cutter: Tokenizer) -> None:
    assert len(cutter.pieces) == cutter.vocab_size
    text = json.loads('"caf\\u00e9 the cat"')
    spelled = b"".join(cutter.pieces[token] for token in cutter.encode(text).tokens)
    assert letters_of(spelled.decode()).lower().endswith(b"thecat")
