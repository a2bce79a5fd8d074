"""Whether text and tokens say the same: of shards by their tokens, of documents by their characters.

Whether shards were written by the tokenizer given for them: read back and written again, they are the same.

Measured: 0.998 of the tokens of right pairs come back (a chunk is cut inside a word at most), 0.90 to 0.93 where
two tokenizers of one size were trained alike on other text, 0.73 where the numbers mean nothing; 0.97 of a vocabulary
of 400 whose pieces are whole words, which join in any order.
"""

from __future__ import annotations

import difflib
from collections import Counter

import numpy as np

from pgpack.errors import DataError

from .data import Tokens
from .tokenizer import Tokenizer

CHUNK, CHUNKS = 256, 8
SHORTEST = 64  # tokens that say something
AGREED = 0.985
LOST = 0.005  # share of the characters that is worth a sentence; what NFKC rewrites is far less of most texts
SPACES = 0.02  # the same of spaces that are left out: two after a full stop are less
STRANGE = "\ue000\uf8ff"  # characters for private use, which no vocabulary is trained on
CAPITALS = "The Quick Brown Fox"


def check_agreement(tokens: Tokens, tokenizer: Tokenizer, name: str) -> None:
    """Raises: DataError when `tokens`, of the shards `name`, are not what the tokenizer makes of their own text."""
    boundary = tokenizer.byte_tables.boundary
    shares = []
    for start in np.linspace(0, max(0, len(tokens) - CHUNK), CHUNKS).astype(int):
        chunk = tokens[start : start + CHUNK]
        runs = [run[~boundary[run]] for run in np.split(chunk, np.flatnonzero(boundary[chunk]))]
        written = [int(token) for run in runs for token in run]
        if len(written) >= SHORTEST:
            again = [
                int(t) for run in runs for t in tokenizer.encode(tokenizer.decode(run)).tokens if not boundary[t]
            ]
            shares.append(difflib.SequenceMatcher(None, written, again, autojunk=False).ratio())
    if shares and float(np.mean(shares)) < AGREED:
        raise DataError(
            f"{name} was not written by {tokenizer.source}: of its tokens, read back and written again, "
            f"{1 - float(np.mean(shares)):.0%} differ; give the tokenizer of these shards"
        )


def what_is_lost(text: str, tokenizer: Tokenizer) -> str:
    """A sentence on the characters of `text` that its tokens do not give back (unknown pieces, lower case, one space
    where there are several); '' where they are few. Which space stands for which does not count."""
    back = tokenizer.spelled(tokenizer.encode(text).tokens)
    there = Counter("".join(text.split()))
    lost = there - Counter(back)
    share = lost.total() / max(1, there.total())
    n_spaces = len(text) - there.total() - sum(map(str.isspace, back))
    if share > LOST:
        what = f"{share:.1%} of the characters (most often {lost.most_common(1)[0][0]!r})"
    elif n_spaces > SPACES * len(text):
        what = f"spaces that are {n_spaces / len(text):.1%} of the characters (of several it writes one)"
    else:
        return ""
    return (
        f"{tokenizer.source} loses {what}: nothing pays for them, so that bits per byte are too low to be compared "
        "with those of another tokenizer"
    )


def what_shards_lose(tokens: Tokens, tokenizer: Tokenizer, name: str) -> str:
    """A sentence on what the text of shards said and their tokens do not: unknown pieces, spaces beside added tokens,
    capitals; '' for nothing.

    Without the text that is all that can be told.
    """
    unknown = unknown_tokens(tokenizer)
    share = float(np.isin(tokens, unknown).mean()) if len(tokens) and unknown else 0.0
    compare = "bits per byte are not to be compared with those of another tokenizer"
    if share > LOST:
        return (
            f"{share:.1%} of the tokens of {name} are what {tokenizer.source} writes for what it does not know: the "
            f"bytes of that text are not counted, so that {compare}"
        )
    moving = tokens_that_move_spaces(tokens, tokenizer)
    share = float(np.isin(tokens, moving).mean()) if moving else 0.0
    if share > LOST:
        return (
            f"{share:.1%} of the tokens of {name} are such as {tokenizer.split_at[moving[0]]!r}, beside which "
            f"{tokenizer.source} drops or adds spaces that no token tells: bytes are miscounted by about as many, so "
            f"that {compare}"
        )
    if np.array_equal(tokenizer.encode(CAPITALS).tokens, tokenizer.encode(CAPITALS.lower()).tokens):
        return f"{tokenizer.source} writes no capitals: nothing pays for them, so that {compare}"
    return ""


def unknown_tokens(tokenizer: Tokenizer) -> list[int]:
    """The tokens that stand for whatever the tokenizer has no piece for; none where it spells everything."""
    tokens = tokenizer.encode(STRANGE).tokens
    if all(char in tokenizer.decode(tokens) for char in STRANGE):
        return []
    pieces = tokenizer.pieces
    found = set(tokens.tolist()) - set(tokenizer.encode("").tokens.tolist())  # less what begins and ends a text
    return sorted(token for token in found if not pieces[token] or pieces[token].strip())


def tokens_that_move_spaces(tokens: Tokens, tokenizer: Tokenizer) -> list[int]:
    """Of the added tokens among `tokens`, those beside which tables count other spaces than there are. That which
    documents begin with makes no difference."""
    there = (set(np.unique(tokens).tolist()) - {tokenizer.document_token}) & tokenizer.split_at.keys()
    if not there:
        return []
    tables = tokenizer.byte_tables

    def n_bytes(text: str) -> int:
        return int(tables.counted(tokenizer.encode(text).tokens).n_bytes.sum())

    found = []
    for token in sorted(there) if n_bytes("a b") == len("a b") else ():
        name = tokenizer.split_at[token]
        own = 0 if tables.boundary[token] else len(name.encode())
        if any(n_bytes(f"a{gap}{name}{gap}b") != own + len(f"a{gap}{gap}b") for gap in ("", " ")):
            found.append(token)
    return found
