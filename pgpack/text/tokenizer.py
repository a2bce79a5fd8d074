"""What a tokenizer is, and the bytes of text that its tokens stand for.

    text --encode--> TokenizedText (tokens, bytes of each token counted from the text)
    tokens of shards, no text at hand --ByteTables--> the same, by the pieces

Owns `Tokenizer`, which every kind implements, and the two ways to count bytes. What a piece looks like never counts
where the text is known: normalization, prefixes and unknown characters make it differ from the text.
Source: tables as in openai/parameter-golf (train_gpt.py). Where we differ: a space inside or at the end of a piece is
one byte, not the three of U+2581 (google/sentencepiece #18, #278, #650).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .data import Tokens

Counts = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """Tokens and the UTF-8 bytes that each stands for. Shape: (n,) each; special tokens stand for none."""

    tokens: Tokens
    n_bytes: Counts

    def __len__(self) -> int:
        return len(self.tokens)

    def first(self, n_tokens: int | None) -> TokenizedText:
        """The first `n_tokens`, or all where there are fewer; None: all."""
        return TokenizedText(self.tokens[:n_tokens], self.n_bytes[:n_tokens])

    @cached_property
    def scored_bytes(self) -> int:
        """Bytes of all tokens but the first, which nothing predicts."""
        return int(self.n_bytes[1:].sum(dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence[TokenizedText], dtype: type[np.unsignedinteger]) -> TokenizedText:
        """All parts after one another; `dtype`: of the tokens, which counts where there is no part."""
        tokens = [part.tokens for part in parts] or [np.zeros(0, dtype)]
        n_bytes = [part.n_bytes for part in parts] or [np.zeros(0, np.int32)]
        return cls(np.concatenate(tokens).astype(dtype, copy=False), np.concatenate(n_bytes))


@dataclass(frozen=True, eq=False)
class ByteTables:
    """Bytes of text that each piece stands for, for tokens whose text is not at hand.

    Shape: (V,) each. A token costs `base_bytes[token]`, and one more for its leading space unless the token
    before it is a boundary (control, unknown or unused piece), after which the decoder drops the space. Where the
    tokenizer ends a text with a space of its own, `dummy_space` marks pieces that end in one; a boundary takes it
    back.
    """

    base_bytes: NDArray[np.int64]
    leading_space: NDArray[np.bool_]
    boundary: NDArray[np.bool_]
    dummy_space: NDArray[np.bool_] | None = None

    @property
    def vocab_size(self) -> int:
        return len(self.base_bytes)

    def count(self, previous: NDArray[np.integer], target: NDArray[np.integer]) -> int:
        """Bytes of text that the `target` tokens decode to, each following its `previous` token."""
        return int(self._each(previous, target).sum(dtype=np.int64))

    def counted(self, tokens: Tokens) -> TokenizedText:
        """The tokens of shards with their bytes; the first counts as if it followed a boundary."""
        n_bytes = np.zeros(len(tokens), np.int32)
        n_bytes[:1] = self.base_bytes[tokens[:1]]
        for start in range(1, len(tokens), 1 << 20):  # a table look-up takes 8 bytes a token
            stop = start + (1 << 20)
            target = tokens[start:stop]
            n_bytes[start:stop] = self._each(tokens[start - 1 : start - 1 + len(target)], target)
        return TokenizedText(tokens, n_bytes)

    def _each(self, previous: NDArray[np.integer], target: NDArray[np.integer]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.base_bytes[target] + (self.leading_space[target] & ~self.boundary[previous])
        if self.dummy_space is not None:
            found = found - (self.dummy_space[previous] & self.boundary[target])
        return found


class Tokenizer(Protocol):
    """Text <-> tokens of one vocabulary.

    `source`: where it came from, for messages. `sha256`: hex, of the file that defines it. `bos_id`: the token that
    it begins a text with, None where it begins with none. `document_token`: what documents of a stream begin with;
    None where there is none. `files`: what `load_tokenizer` reads it from again, name -> contents.
    """

    source: str
    sha256: str

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def document_token(self) -> int | None: ...

    @property
    def files(self) -> dict[str, bytes]: ...

    @property
    def split_at(self) -> Mapping[int, str]: ...

    def encode(self, text: str) -> TokenizedText:
        """One document with the special tokens that the tokenizer adds; the bytes sum to those of `text` in UTF-8."""
        ...

    def encode_documents(self, texts: Iterable[str]) -> Tokens:
        """All documents as one stream, each from its `document_token` on. Raises: DataError where there is none."""
        ...

    def decode(self, tokens: NDArray[np.integer]) -> str:
        """Text of tokens; special tokens give nothing."""
        ...

    def spelled(self, tokens: NDArray[np.integer]) -> str:
        """The same with special tokens spelled out, which a text may name."""
        ...

    @property
    def pieces(self) -> list[bytes]:
        """The text of every token inside a document in UTF-8, as far as a piece alone says; nothing for special
        tokens."""
        ...

    @property
    def byte_tables(self) -> ByteTables:
        """Bytes by piece, for tokens without their text. Raises: DataError where the pieces do not tell."""
        ...


def counts_of_pieces(pieces: Sequence[bytes], text: bytes) -> Counts | None:
    """The length of every piece where together they are the text, but for a space put before it; else None."""
    joined = b"".join(pieces)
    counts = np.fromiter(map(len, pieces), np.int32, len(pieces))
    if joined == text:
        return counts
    if pieces and pieces[0][:1] == b" " and joined[1:] == text:
        counts[0] -= 1
        return counts
    return None


def counts_up_to(ends: NDArray[np.integer], n_bytes: int) -> Counts:
    """Bytes of each token, where token i ends at byte ends[i] of a text of `n_bytes`.

    What lies before a token and after the one before it is the token's; what lies after the last token is the last
    one's. Tokens that end inside one character end there together: the first of them gets it.
    """
    if len(ends) == 0:
        return np.zeros(0, np.int32)
    stops = np.maximum.accumulate(np.minimum(ends, n_bytes))
    stops[-1] = n_bytes
    return np.diff(stops, prepend=0).astype(np.int32)


def byte_position(text: str) -> NDArray[np.int64]:
    """The UTF-8 bytes before each character, and of all. Shape: (len(text) + 1,)."""
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate(([0], np.cumsum(sizes)))
