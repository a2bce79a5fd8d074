"""Tokens of a text, read no further than they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np

from .agreement import check_agreement, what_is_lost, what_shards_lose
from .data import Tokens, read_tokens, token_dtype
from .documents import Part
from .letters import Overlap
from .shard_files import find_shards
from .tokenizer import TokenizedText, Tokenizer

SAMPLE = 1 << 16  # characters that tell whether a tokenizer loses some


class TokenSource(Protocol):
    """Where tokens come from. `name`: for messages."""

    name: str

    def tokens(self, n_tokens: int | None = None) -> Tokens:
        """The first `n_tokens`, or as many as there are; None: all. Raises: DataError when they cannot be read."""
        ...

    def counted(self, n_tokens: int | None = None) -> TokenizedText:
        """The same with the bytes that they stand for."""
        ...


class ShardTokens:
    """Tokens of the shards that a glob names, counted by tables. Implements `TokenSource`.

    Refuses shards that another tokenizer wrote (`check_agreement`).
    """

    def __init__(self, pattern: str, tokenizer: Tokenizer) -> None:
        self.name, self.tokenizer = pattern, tokenizer

    @cached_property
    def _all(self) -> Tokens:
        tokens = read_tokens(find_shards(self.name), self.tokenizer.vocab_size)
        check_agreement(tokens, self.tokenizer, self.name)
        return tokens

    @property
    def lost(self) -> str:
        """A sentence on what the tokens do not say of their text; '' where that is nothing that can be told."""
        return what_shards_lose(self._all, self.tokenizer, self.name)

    def tokens(self, n_tokens: int | None = None) -> Tokens:
        return self._all[:n_tokens]

    def counted(self, n_tokens: int | None = None) -> TokenizedText:
        return self.tokenizer.byte_tables.counted(self._all[:n_tokens])


class DocumentTokens:
    """Tokens of documents, which are tokenized as they are needed. Implements `TokenSource`.

    A document without a token is left out; a part that goes on with a document begins with no special token.
    """

    def __init__(self, parts: Iterator[Part], tokenizer: Tokenizer, name: str) -> None:
        self.parts, self.tokenizer, self.name = parts, tokenizer, name
        self.read = hashlib.sha256()  # of every part that was read
        self._held: list[TokenizedText] = []
        self._n_tokens = 0
        self._sample = ""

    @property
    def lost(self) -> str:
        """A sentence on what the tokenizer loses of what was read so far; '' where that is nothing to speak of."""
        return what_is_lost(self._sample, self.tokenizer)

    def tokens(self, n_tokens: int | None = None) -> Tokens:
        return self.counted(n_tokens).tokens

    def counted(self, n_tokens: int | None = None) -> TokenizedText:
        while n_tokens is None or self._n_tokens < n_tokens:
            part = next(self.parts, None)
            if part is None:
                break
            self.read.update(hashlib.sha256(part.text.encode("utf-8")).digest())
            self._take(part)
        if len(self._held) > 1:
            self._held = [TokenizedText.joined(self._held, token_dtype(self.tokenizer.vocab_size))]
        whole = TokenizedText.joined(self._held, token_dtype(self.tokenizer.vocab_size))
        return whole if n_tokens is None else whole.first(n_tokens)

    def _take(self, part: Part) -> None:
        self._sample += part.text[: SAMPLE - len(self._sample)]
        found = self.tokenizer.encode(part.text)
        if not found.n_bytes.any():
            return
        if part.number and len(found) and int(found.tokens[0]) == self.tokenizer.bos_id:
            found = TokenizedText(found.tokens[1:], found.n_bytes[1:])
        self._held.append(found)
        self._n_tokens += len(found)


class ApartTokens:
    """A source without the passages that also occur in other tokens. Implements `TokenSource`.

    Licences, headings and quotations stand in many documents: what of them is evaluated must not be calibrated on.
    `n_left_out`: tokens of such passages among those that were read.
    """

    def __init__(self, source: TokenSource, others: Tokens, tokenizer: Tokenizer) -> None:
        self.name, self.source, self.others = source.name, source, others
        self.overlap = Overlap(tokenizer)
        self.n_left_out = 0

    def tokens(self, n_tokens: int | None = None) -> Tokens:
        return self.counted(n_tokens).tokens

    def counted(self, n_tokens: int | None = None) -> TokenizedText:
        wanted = n_tokens
        while True:
            whole = self.source.counted(wanted)
            left_out = self.overlap.repeated(whole.tokens, self.others)
            self.n_left_out = int(np.count_nonzero(left_out))
            kept = len(whole) - self.n_left_out
            if wanted is None or n_tokens is None or kept >= n_tokens or len(whole) < wanted:
                return TokenizedText(whole.tokens[~left_out], whole.n_bytes[~left_out]).first(n_tokens)
            wanted += 2 * self.n_left_out
