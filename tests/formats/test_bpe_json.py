"""bpe_json: any bytes come back, a trained tokenizer is told by its merges, and hostile streams cost little."""

from __future__ import annotations

import json
import random
import resource
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.errors import CorruptArtifact
from pgpack.formats.own.bpe_json import MAX_ENTRIES, TOLD, BpeJson
from tests.contracts.check_codecs import check_byte_codec

CODEC = BpeJson()


def trained(n_merges: int = 300, specials: int = 3, at_end: int = 2) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges as a trainer writes them: specials, letters, what each merge joins, later additions."""
    rng = random.Random(0)
    tokens = [f"<|{i}|>" for i in range(specials)] + [*'abcdeĠ"\\é'] + ["\u00e9\U0001f600"]
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        pair = (rng.choice(tokens[specials:]), rng.choice(tokens[specials:]))
        if "".join(pair) not in tokens and len("".join(pair)) < 20:
            merges.append(pair)
            tokens.append("".join(pair))
    tokens += [f"<added {i}>".replace(" ", "_") for i in range(at_end)]
    return {token: i for i, token in enumerate(tokens)}, merges


def document(old: bool, **style: object) -> bytes:
    vocabulary, merges = trained()
    listed = [" ".join(pair) for pair in merges] if old else [list(pair) for pair in merges]
    model = {"type": "BPE", "dropout": None, "vocab": vocabulary, "merges": listed}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model}, **style).encode()


STYLES = [{"indent": 2}, {"indent": 2, "ensure_ascii": False}, {"separators": (",", ":")}, {}]


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("style", STYLES, ids=str)
def test_the_vocabulary_is_told_by_the_merges_however_the_json_is_written(old: bool, style: dict) -> None:
    plain = b"\0\1binary before" + document(old, **style) + b'{"vocab": "and after"}\xff'
    coded = CODEC.encode(plain)
    assert coded[:1] == TOLD
    assert CODEC.decode(coded, len(plain)) == plain
    told = sum(len("".join(pair).encode()) for pair in trained()[1])
    assert len(coded) < len(plain) - told


def test_it_keeps_the_contract_of_byte_codecs() -> None:
    check_byte_codec(CODEC)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"\\u0120": 8', b'"\\u0120": 9'),  # a number out of order
        lambda text: text.replace(b'": 20,', b'" : 20,'),  # one entry written otherwise
        lambda text: text.replace(b'"merges"', b'"rules"'),
        lambda text: text.replace(b'"vocab"', b'"words"'),
        lambda text: text[: len(text) // 2],
        lambda text: text[::-1],
    ],
)
def test_what_is_written_otherwise_comes_back_as_it_was(change) -> None:
    plain = change(document(True))
    assert plain != document(True)
    assert CODEC.decode(CODEC.encode(plain), len(plain)) == plain


@given(
    st.lists(st.sampled_from([b'"vocab": {', b'"merges": [', b'"a": 0', b'"a b"', b",", b"}", b"]", b"\1", b"\0"]))
)
def test_any_shards_of_such_a_file_come_back(parts: list[bytes]) -> None:
    plain = b"".join(parts)
    assert CODEC.decode(CODEC.encode(plain), len(plain)) == plain


def fields(*values: bytes, merges: bytes = b"a b") -> bytes:
    return TOLD + b"".join(struct.pack("<I", len(value)) + value for value in values) + merges


PLAIN_GLUE = (b": ", b", ", b'"', b" ", b'"', b", ")
HOSTILE = {
    "glue of a megabyte": fields(b"", b"", b"", bytes(1 << 20), *PLAIN_GLUE[1:], b"x\n" * 100_000),
    "a run without merges": fields(b"", b"", b"", *PLAIN_GLUE, b"\x01" + b"9" * 18),
    "a run of a number too long to read": fields(b"", b"", b"", *PLAIN_GLUE, b"\x01" + b"9" * 10_000),
    "a run of less than nothing": fields(b"", b"", b"", *PLAIN_GLUE, b"\x01-5"),
    "more tokens than any vocabulary": fields(b"", b"", b"", *PLAIN_GLUE, b"\n" * MAX_ENTRIES),
    "more merges than any vocabulary": fields(b"", b"", b"", *PLAIN_GLUE, b"x", merges=b"\n" * MAX_ENTRIES),
    "long glue a million times": fields(b"", b"", b"", *[b"x" * 64] * 6, b"\n" * (MAX_ENTRIES - 1)),
    "a length beyond the stream": TOLD + struct.pack("<I", 0xFFFFFFFF),
    "no fields": TOLD,
    "another mark": b"\2",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_stream_is_refused_in_little_time_and_memory(attack: str) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(CorruptArtifact):
        CODEC.decode(HOSTILE[attack], 1 << 20)
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10
