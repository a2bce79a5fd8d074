"""Tokenizers of Hugging Face folders: tokenizer.json, read by the package `tokenizers` (extra `hf` or `gguf`).

Special tokens are added as the tokenizer's configuration says (add_bos_token, add_eos_token), else as its
post-processor does. Chat templates are not applied. Special tokens written out in a text are read as such, as
everywhere in that world; their bytes count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import DataError, ToolMissing

from .data import Tokens, token_dtype
from .tokenizer import ByteTables, TokenizedText, byte_position, counts_of_pieces, counts_up_to

SPACE = "\u2581"
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
PLAIN = "the quick brown fox"
EXTRA = "this tokenizer is read by the package tokenizers; install it with: pip install 'pgpack[hf]'"


class JsonTokenizer:
    """A tokenizer.json; implements `pgpack.text.tokenizer.Tokenizer`.

    `settings`: tokenizer_config.json, where there is one. `sha256`: of the tokenizer.json.
    Raises: DataError when it is none, ToolMissing without the package.
    """

    def __init__(self, blob: bytes, source: str, settings: Mapping[str, Any] | None = None) -> None:
        try:
            from tokenizers import Tokenizer as Backend
        except ImportError as error:
            raise ToolMissing(f"{source}: {EXTRA}") from error
        self.source, self.sha256 = source, hashlib.sha256(blob).hexdigest()
        try:
            self.layout: dict[str, Any] = json.loads(blob)
            _refuse_other_json(self.layout, source)
            self.backend = Backend.from_str(_without_dropout(self.layout, blob.decode("utf-8")))
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - the package raises nothing narrower
            raise DataError(f"{source} is not a tokenizer.json that the package tokenizers reads ({error})") from None
        self.backend.no_truncation()
        self.backend.no_padding()
        self.blob, self.settings = blob, dict(settings or {})
        self.first, self.last = self._added(self.settings)

    @cached_property
    def vocab_size(self) -> int:
        return 1 + max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1)

    @property
    def bos_id(self) -> int | None:
        return self.first[0] if self.first else None

    @cached_property
    def document_token(self) -> int | None:
        """What it begins a text with; else the begin or the end of its settings, else its only special token."""
        if self.bos_id is not None:
            return self.bos_id
        named = [token for which in ("bos", "eos") if (token := self._named(self.settings, which)) is not None]
        special = [token for token, added in self.backend.get_added_tokens_decoder().items() if added.special]
        return next(iter(named or (special if len(special) == 1 else ())), None)

    @property
    def files(self) -> dict[str, bytes]:
        settings = json.dumps(self.settings, indent=2).encode("utf-8") + b"\n"
        return {"tokenizer.json": self.blob} | ({"tokenizer_config.json": settings} if self.settings else {})

    @cached_property
    def split_at(self) -> dict[int, str]:
        return {token: added.content for token, added in self.backend.get_added_tokens_decoder().items()}

    def encode_documents(self, texts: Iterable[str]) -> Tokens:
        """All documents as one token stream, each from its `document_token` on, with what the tokenizer adds."""
        first, dtype = self.document_token, token_dtype(self.vocab_size)
        if first is None:
            raise DataError(
                f"{self.source} names no token that a document begins or ends with; documents could not be told "
                'apart: put "bos_token" into a tokenizer_config.json beside it'
            )
        parts = [self.encode(text).tokens for text in texts]
        begun = [part if len(part) and part[0] == first else np.array([first, *part], dtype) for part in parts]
        return np.concatenate(begun) if begun else np.zeros(0, dtype)

    def encode(self, text: str) -> TokenizedText:
        """One document between the special tokens that the tokenizer adds."""
        found = self.backend.encode(text, add_special_tokens=False)
        tokens, blob = found.ids, text.encode("utf-8")
        counts = counts_of_pieces([self._pieces[token] for token in tokens], blob)
        if counts is None:
            ends = np.array([end for _, end in found.offsets], np.int64)
            counts = counts_up_to(byte_position(text)[ends], len(blob))
        none = [np.zeros(len(part), np.int32) for part in (self.first, self.last)]
        n_bytes = np.concatenate((none[0], counts, none[1]))
        return TokenizedText(np.array([*self.first, *tokens, *self.last], token_dtype(self.vocab_size)), n_bytes)

    def decode(self, tokens: NDArray[np.integer]) -> str:
        """Text of tokens; special tokens give nothing."""
        return str(self.backend.decode(tokens.tolist(), skip_special_tokens=True))

    def spelled(self, tokens: NDArray[np.integer]) -> str:
        """Text of tokens; special tokens are spelled out."""
        return str(self.backend.decode(tokens.tolist(), skip_special_tokens=False))

    @cached_property
    def byte_tables(self) -> ByteTables:
        """Bytes by piece. Raises: DataError where a piece alone does not say whether a space goes before it, or
        where pieces spell another text than the one that they were made of."""
        found = self._tables if self._byte_level or self._marks_spaces else None
        tokens = self.backend.encode(PLAIN, add_special_tokens=False).ids
        if found is None or not (
            self._unknown in tokens or found.counted(np.array(tokens)).n_bytes.sum() == len(PLAIN)
        ):
            raise DataError(
                f"{self.source}: the bytes of its tokens cannot be told without their text; "
                "give text as --text PATH instead of shards"
            )
        return found

    @property
    def _tables(self) -> ByteTables:
        boundary = np.zeros(self.vocab_size, bool)
        boundary[[token for token, added in self.backend.get_added_tokens_decoder().items() if added.special]] = True
        base = np.where(boundary, 0, [len(piece) for piece in self._pieces])
        begins = np.array([piece.startswith(b" ") for piece in self._pieces])
        leading = begins & ~boundary & self._adds_first_space
        return ByteTables(base - leading, leading, boundary)

    @property
    def _unknown(self) -> int | None:
        """The token for what no piece spells."""
        model = self.layout["model"]
        named = model.get("unk_token")
        unknown = model.get("unk_id") if named is None else self.backend.token_to_id(named)
        return unknown if isinstance(unknown, int) else None

    @property
    def _byte_level(self) -> bool:
        return '"ByteLevel"' in json.dumps([self.layout.get("decoder"), self.layout.get("pre_tokenizer")])

    @property
    def _marks_spaces(self) -> bool:
        return SPACE in json.dumps(self.layout.get("decoder"), ensure_ascii=False)

    @property
    def _adds_first_space(self) -> bool:
        """Whether it puts a space before a text that has none."""
        tokens = self.backend.encode("a", add_special_tokens=False).ids
        return b"".join(self._pieces[token] for token in tokens)[:1] == b" "

    @cached_property
    def pieces(self) -> list[bytes]:
        """The text of every piece inside a document; nothing for special ones."""
        pieces = list(self._pieces)
        for token, added in self.backend.get_added_tokens_decoder().items():
            pieces[token] = b"" if added.special else pieces[token]
        return pieces

    @cached_property
    def _pieces(self) -> list[bytes]:
        """The text of every piece inside a document, as far as a piece alone says."""
        pieces = [b""] * self.vocab_size
        byte_of = byte_level_alphabet() if self._byte_level else {}
        for piece, token in self.backend.get_vocab(with_added_tokens=False).items():
            if self._byte_level and all(letter in byte_of for letter in piece):
                pieces[token] = bytes(byte_of[letter] for letter in piece)
            elif code := BYTE.fullmatch(piece):
                pieces[token] = bytes([int(code[1], 16)])
            else:
                pieces[token] = piece.replace(SPACE, " ").encode("utf-8", "replace")
        for token, added in self.backend.get_added_tokens_decoder().items():
            pieces[token] = added.content.encode("utf-8", "replace")
        return pieces

    def _added(self, settings: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        plain = self.backend.encode("a", add_special_tokens=False).ids
        whole = self.backend.encode("a", add_special_tokens=True).ids
        at = next((i for i in range(len(whole)) if plain and whole[i : i + len(plain)] == plain), 0)
        first, last = whole[:at], whole[at + len(plain) :]
        return self._said(settings, "bos", first), self._said(settings, "eos", last)

    def _said(self, settings: Mapping[str, Any], which: str, found: Sequence[int]) -> list[int]:
        """What the settings say of one end; what the post-processor adds where they say nothing."""
        wanted = settings.get(f"add_{which}_token")
        if not isinstance(wanted, bool):
            return list(found)
        token = self._named(settings, which)
        if wanted:
            return list(found) or ([] if token is None else [token])
        return [each for each in found if token is not None and each != token]

    def _named(self, settings: Mapping[str, Any], which: str) -> int | None:
        """The token that the settings call the begin or the end."""
        named = settings.get(f"{which}_token")
        name = named.get("content") if isinstance(named, Mapping) else named
        token = self.backend.token_to_id(name) if isinstance(name, str) else None
        return None if token is None else int(token)


def _refuse_other_json(layout: Any, source: str) -> None:
    """Raises: DataError for JSON that is none of the package's, and is called what it is."""
    if isinstance(layout, dict) and not isinstance(layout.get("model"), dict):
        kind = "Mistral's tekken.json" if {"config", "vocab"} <= layout.keys() else "JSON of another kind"
        raise DataError(
            f"{source} is not a tokenizer.json that the package tokenizers reads, but {kind}; give the "
            "tokenizer.json of that model"
        )


def _without_dropout(layout: Mapping[str, Any], text: str) -> str:
    """tokenizer.json with merges that are always made: dropping some at random serves training alone."""
    model = layout["model"]
    return json.dumps({**layout, "model": {**model, "dropout": None}}) if model.get("dropout") else text


def byte_level_alphabet() -> dict[str, int]:
    """Character -> byte, as byte-level pieces are written.

    Source: GPT-2's encoder.py: printable Latin-1 stands for itself, the other bytes for U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
