"""Tokenizers of every kind: the bytes of their tokens are the text's, their special tokens are what folders say."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.errors import DataError
from pgpack.text.agreement import check_agreement
from pgpack.text.documents import Document
from pgpack.text.find_tokenizer import load_tokenizer, tokenizer_of
from pgpack.text.json_tokenizer import JsonTokenizer
from pgpack.text.sentence_piece import SentencePiece, train_tokenizer
from pgpack.text.tokenizer import Tokenizer
from tests.text.made_tokenizers import KINDS, byte_level, llama, sentence_piece, word_piece

pytest.importorskip("tokenizers")
AWKWARD = [
    *"abc the   \n\t\r",
    *("漢", "é", "e\u0301", "ﬁ", "Å", "🙂", "👨‍👩‍👧", "İ", "ß", "Ａ", "한", "\u1100\u1161"),
    *("<|endoftext|>", "<s>", "</s>", "[SEP]", "<unk>", "<0x41>"),
    *("\u00a0", "\u3000", "\u200b", "\ufeff", "\u2581", "\x00", "\x7f", "\U0010ffff"),
]
TEXTS = st.lists(st.sampled_from(AWKWARD), max_size=24).map("".join) | st.text(max_size=40)
MODELS = {
    "the challenge's": {"normalization_rule_name": "nmt_nfkc", "add_dummy_prefix": False},
    "Llama's": {"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
    "suffix": {"treat_whitespace_as_suffix": True},
    "suffix without dummy": {"treat_whitespace_as_suffix": True, "add_dummy_prefix": False},
    "across words": {"split_by_whitespace": False, "allow_whitespace_only_pieces": True},
    "spaces kept, no dummy": {"remove_extra_whitespaces": False, "add_dummy_prefix": False},
    "no bytes": {"byte_fallback": False, "vocab_size": 120},
    "unigram": {"model_type": "unigram"},
    "lower case": {"normalization_rule_name": "nmt_nfkc_cf"},
}
SENTENCE = "the cat sat on a mat and then it ran off to see the sun return"
WORDS = [*SENTENCE.split(), "naïve", "漢字"]


def lines(n: int = 400, gap: int = 3) -> list[str]:
    choose = random.Random(0)
    return ["".join(w + " " * choose.randint(1, gap) for w in choose.choices(WORDS, k=12)).strip() for _ in range(n)]


@pytest.fixture(scope="module")
def made() -> dict[str, JsonTokenizer]:
    return {kind: JsonTokenizer(make().to_str().encode(), kind) for kind, make in KINDS.items()}


@pytest.fixture(scope="module")
def pieces() -> dict[str, SentencePiece]:
    return {kind: SentencePiece(sentence_piece(lines(), **settings), kind) for kind, settings in MODELS.items()}


def check_bytes(tokenizer: Tokenizer, text: str) -> None:
    found = tokenizer.encode(text)
    assert len(found.tokens) == len(found.n_bytes)
    assert (found.n_bytes >= 0).all()
    n_special = len(tokenizer.encode("").tokens)
    assert found.n_bytes.sum() == (len(text.encode()) if len(found) > n_special else 0)


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
def test_bytes_of_tokens_sum_to_those_of_any_text(made: dict[str, JsonTokenizer], kind: str, text: str) -> None:
    check_bytes(made[kind], text)


@pytest.mark.parametrize("kind", MODELS)
@given(text=TEXTS)
def test_bytes_of_pieces_sum_to_those_of_any_text(pieces: dict[str, SentencePiece], kind: str, text: str) -> None:
    check_bytes(pieces[kind], text)


def test_every_token_inside_a_character_has_its_own_bytes(made: dict[str, JsonTokenizer]) -> None:
    for kind, text in (("byte-level", "a漢🙂"), ("llama", "a\u0416🙂"), ("byte-level, trimmed offsets", "\n\n 漢 ")):
        tokenizer = made[kind]
        found = tokenizer.encode(text)
        for cut in range(len(found) + 1):  # wherever a window ends, the bytes are those of the tokens before
            plain = [token for token in found.tokens[:cut].tolist() if token != tokenizer.bos_id]
            joined = b"".join(tokenizer._pieces[token] for token in plain)
            dummy = kind == "llama" and len(plain) > 0
            assert found.n_bytes[:cut].sum() == len(joined) - dummy
            assert text.encode().startswith(joined[dummy:])


@pytest.mark.parametrize("kind", MODELS)
def test_tables_count_what_shards_decode_to(pieces: dict[str, SentencePiece], kind: str) -> None:
    """Pieces with a space inside or at the end, runs of spaces (google/sentencepiece #18, #278, #650)."""
    tokenizer = pieces[kind]
    texts = lines(60) if "Llama" in kind or "kept" in kind else lines(60, gap=1)
    texts = [text.replace("naïve", "sun").replace("漢字", "mat") for text in texts]  # no unknown character
    tokens = tokenizer.encode_documents(texts)
    counted = tokenizer.byte_tables.counted(tokens)
    ends = [*np.flatnonzero(tokens == 1)[1:], len(tokens)]
    # What is taken back for a space that the tokenizer put last is taken back by the next begin token.
    sums = [int(counted.n_bytes[: end + 1].sum()) for end in ends[:-1]]
    sizes = np.cumsum([len(text.encode()) for text in texts])
    assert sums == sizes[:-1].tolist()
    if kind.startswith("the challenge's"):
        assert tokenizer.byte_tables.dummy_space is None


def test_spaces_inside_pieces_are_there_to_be_counted(pieces: dict[str, SentencePiece]) -> None:
    def spaced(kind: str, where: str) -> bool:
        names = [pieces[kind].processor.id_to_piece(token) for token in range(pieces[kind].vocab_size)]
        return any("\u2581" in (name[1:] if where == "inside" else name[-1:]) for name in names if name != "\u2581")

    assert spaced("suffix", "end")
    assert spaced("across words", "inside")
    assert spaced("Llama's", "inside")
    assert not spaced("the challenge's", "inside")


def test_tables_of_a_tokenizer_json_count_as_its_text_does(made: dict[str, JsonTokenizer]) -> None:
    for kind in ("byte-level", "byte-level, a space first", "llama"):
        tokenizer = made[kind]
        for text in ["hello world", "x  y\n\n\tz 漢字 🙂", "def f(x):\n    return x"]:
            found = tokenizer.encode(text)
            tokens = found.tokens if kind != "byte-level, a space first" else np.array([0, *found.tokens], np.uint16)
            assert tokenizer.byte_tables.counted(tokens).n_bytes.sum() == len(text.encode()), (kind, text)
    with pytest.raises(DataError, match="cannot be told without their text; give text as --text PATH"):
        _ = made["word pieces"].byte_tables


def test_a_tokenizer_of_the_same_size_is_refused_for_shards(corpus: list[Document]) -> None:
    right, other = (train_tokenizer((d.text for d in corpus[start::20]), 600) for start in (0, 1))
    tokens = right.encode_documents(d.text for d in corpus[:60])
    check_agreement(tokens, right, "a.bin")
    with pytest.raises(DataError, match=r"a\.bin was not written by the trained tokenizer: .* \d+% differ"):
        check_agreement(tokens, other, "a.bin")
    shuffled = np.random.default_rng(0).permutation(600).astype(np.uint16)[tokens]
    with pytest.raises(DataError, match="was not written by"):
        check_agreement(shuffled, right, "a.bin")
    short = right.encode_documents(" ".join(d.text.split()[:4]) for d in corpus[:200])
    check_agreement(short, right, "documents of four words")


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (
            pickle.dumps({"itos": {0: "a"}}),
            "but a pickle, and reading that may run code; give a SentencePiece .model",
        ),
        (b"IQ== 0\nIg== 1\nIHRoZQ== 2\n", "but tiktoken's ranks, which lack how text is split; give the tokenizer"),
        (b"1 '\\x00' 1\n2 '\\x01' 1\n", "; give a SentencePiece .model, a tokenizer.json or a model's folder"),
    ],
)
def test_a_tokenizer_of_another_kind_is_called_what_it_is(tmp_path: Path, contents: bytes, said: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(contents)
    with pytest.raises(DataError) as refused:
        load_tokenizer(tmp_path / "tokenizer.model")
    assert f"is not a SentencePiece .model file{' ' * (said[0] == 'b')}{said}" in str(refused.value)


def test_pieces_that_are_whole_words_tell_another_tokenizer_too() -> None:
    """They join in any order, so that most of them come back whatever the numbers mean."""
    choose = random.Random(0)
    sentence = f"{SENTENCE} who said hello to 3 dogs in 1999, never mind; naïve café über straße"
    words = sentence.split()
    texts = [" ".join(choose.choice(words) for _ in range(60)) for _ in range(300)]
    right, other = (
        SentencePiece(sentence_piece(texts, model_type=kind, vocab_size=400, add_dummy_prefix=True), kind)
        for kind in ("unigram", "bpe")
    )
    tokens = right.encode_documents(texts)
    check_agreement(tokens, right, "a.bin")
    with pytest.raises(DataError, match="was not written by"):
        check_agreement(tokens[tokens < other.vocab_size], other, "a.bin")


@pytest.mark.parametrize("kind", MODELS)
def test_right_shards_agree_whatever_the_model_does_with_spaces(pieces: dict[str, SentencePiece], kind: str) -> None:
    tokenizer = pieces[kind]
    check_agreement(tokenizer.encode_documents(lines(100)), tokenizer, kind)


FLAGS: list[dict[str, Any]] = [
    {},
    {"add_bos_token": True, "bos_token": "<|endoftext|>"},
    {"add_bos_token": True, "bos_token": {"content": "<|endoftext|>", "__type": "AddedToken"}},
    {"add_bos_token": False, "bos_token": "<|endoftext|>"},
    {"add_bos_token": False, "add_eos_token": True, "eos_token": "<|endoftext|>"},
    {"add_bos_token": True, "bos_token": None},
]


@pytest.mark.parametrize("settings", FLAGS)
def test_the_begin_token_follows_the_settings(settings: dict[str, Any]) -> None:
    tokenizer = JsonTokenizer(byte_level().to_str().encode(), "t", settings)
    begins = bool(settings.get("add_bos_token") and settings["bos_token"])
    found = tokenizer.encode("hello")
    assert tokenizer.bos_id == (0 if begins else None)
    assert (int(found.tokens[0]) == 0) == begins
    assert (int(found.tokens[-1]) == 0) == bool(settings.get("add_eos_token"))
    assert found.n_bytes.sum() == 5


def test_the_begin_token_follows_the_post_processor_unless_the_settings_forbid_it() -> None:
    blob = llama().to_str().encode()
    assert JsonTokenizer(blob, "t").bos_id == 1
    assert JsonTokenizer(blob, "t", {"add_bos_token": True, "bos_token": "<s>"}).first == [1]
    assert JsonTokenizer(blob, "t", {"add_bos_token": False, "bos_token": "<s>"}).bos_id is None
    both = JsonTokenizer(word_piece().to_str().encode(), "t")
    assert (both.first, both.last) == ([1], [2])


@pytest.mark.parametrize("kind", ["byte-level", "llama", "unigram", "word pieces"])
def test_tokens_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    KINDS[kind]().save(str(tmp_path / "tokenizer.json"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    for text in ["hello world", "the cat\n\n  sat 漢字 🙂 ", "<s> and <|endoftext|> inside"]:
        tokens = ours.encode(text).tokens
        assert tokens.tolist() == theirs(text)["input_ids"]
        assert ours.decode(tokens) == theirs.decode(tokens.tolist(), skip_special_tokens=True)


def test_truncation_and_padding_of_the_file_are_left_out() -> None:
    backend = byte_level()
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    tokenizer = JsonTokenizer(backend.to_str().encode(), "t")
    assert tokenizer.decode(tokenizer.encode("hello world and more").tokens) == "hello world and more"
    assert len(tokenizer.encode("x")) == 1


def test_large_vocabularies_have_wide_tokens() -> None:
    backend = byte_level()
    backend.add_tokens([f"[{number}]" for number in range(66_000)])
    tokenizer = JsonTokenizer(backend.to_str().encode(), "t")
    found = tokenizer.encode("hello [65999]")
    assert tokenizer.vocab_size > 1 << 16
    assert (found.tokens.dtype, int(found.tokens.max())) == (np.uint32, tokenizer.vocab_size - 1)
    assert byte_level().get_vocab_size() < 1 << 16
    assert JsonTokenizer(byte_level().to_str().encode(), "t").encode("x").tokens.dtype == np.uint16


def test_the_tokenizer_is_found_among_companions_and_in_folders(tmp_path: Path, tokenizer: SentencePiece) -> None:
    blob, model = byte_level().to_str().encode(), tokenizer.model
    settings = b'{"add_bos_token": true, "bos_token": "<|endoftext|>"}'
    assert tokenizer_of({"config.json": b"{}"}) is None
    found = tokenizer_of({"tokenizer.json": blob, "tokenizer.model": model, "tokenizer_config.json": settings})
    assert isinstance(found, JsonTokenizer)
    assert found.bos_id == 0
    alone = tokenizer_of({"tokenizer.model": model})
    assert isinstance(alone, SentencePiece)
    assert alone.bos_id == 1
    without = tokenizer_of({"tokenizer.model": model, "tokenizer_config.json": b'{"add_bos_token": false}'})
    assert without is not None
    assert without.bos_id is None
    for name, content in (("a/tokenizer.json", blob), ("b/spm.model", model), ("a/tokenizer_config.json", settings)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    given = [load_tokenizer(tmp_path / name) for name in ("a", "a/tokenizer.json", "b", "b/spm.model")]
    assert [type(each) for each in given] == [JsonTokenizer, JsonTokenizer, SentencePiece, SentencePiece]
    assert [each.bos_id for each in given] == [0, 0, 1, 1]
    assert given[1].source == str(tmp_path / "a/tokenizer.json")


def test_the_two_files_of_gpt2_are_a_tokenizer(tmp_path: Path) -> None:
    backend = byte_level()
    layout = json.loads(backend.to_str())["model"]
    vocabulary, merges = layout["vocab"], [" ".join(pair) for pair in layout["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}')
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|b|>": len(vocabulary) + 1, "<|a|>": len(vocabulary)}))
    backend.add_tokens(["<|a|>", "<|b|>"])
    found = load_tokenizer(tmp_path)
    for text in ["hello world", "the cat\n sat 漢字 <|endoftext|> x<|b|><|a|>"]:
        assert found.encode(text).tokens.tolist() == backend.encode(text).ids


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"tokenizer.json": b"{}"}, r"tokenizer\.json is not a tokenizer\.json that"),
        ({"tokenizer.json": b"\xff"}, "is not a tokenizer.json that"),
        ({"tokenizer.model": b"nonsense"}, "not a SentencePiece"),
        ({"vocab.json": b"[]", "merges.txt": b""}, "not a byte-level tokenizer"),
        ({"tokenizer.model": b"x", "tokenizer_config.json": b"[1"}, r"tokenizer_config\.json is not a JSON object"),
        ({"readme.txt": b"x"}, "holds no tokenizer"),
    ],
)
def test_what_is_no_tokenizer_is_refused_in_one_sentence(
    files: dict[str, bytes], sentence: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as refused:
        load_tokenizer(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        ("tekken.json", '{"config": {"pattern": "x"}, "vocab": [{"rank": 0}]}', "but Mistral's tekken.json; give"),
        ("tokenizer_config.json", '{"tokenizer_class": "X"}', "but JSON of another kind; give"),
        ("dict.txt", "the 99\ncat 4\n", r"is not a SentencePiece \.model file; give"),
        ("yttm.model", "10 20\n1 2\n3 4 5\n", r"is not a SentencePiece \.model file; give"),
    ],
)
def test_vocabularies_of_others_are_called_no_more_than_they_are(
    tmp_path: Path, name: str, contents: str, said: str
) -> None:
    (tmp_path / name).write_text(contents, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        load_tokenizer(tmp_path / name)
