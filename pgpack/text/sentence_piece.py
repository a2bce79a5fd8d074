"""SentencePiece tokenizers: trained here or given.

Source: settings as in openai/parameter-golf (the 1024-piece FineWeb model).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import DataError, no_file

from .data import Tokens, token_dtype
from .tokenizer import ByteTables, TokenizedText, counts_of_pieces, counts_up_to

SPACE = "\u2581"  # how SentencePiece writes a space
TOO_FEW_PIECES = re.compile(r"required_chars\. \d+ vs (\d+)")  # what sentencepiece says of a small vocabulary
MAX_VOCABULARY = 65_536  # of a tokenizer trained here
PICKLE = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))  # how one begins
RANKS = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:\w{2}==|\w{3}=) 0\n[A-Za-z0-9+/]+={0,2} 1\n")  # base64, numbered from 0
PIECE, END = 0x12, 0x28  # protobuf tags of a piece in a text and of its end: the last field of a piece


def _other_kind(model: bytes) -> str:
    """A sentence's end on a file that is no model: what it is, where its first bytes tell, and what to give."""
    give = "give a SentencePiece .model, a tokenizer.json or a model's folder"
    if model.startswith(PICKLE):
        return f" but a pickle, and reading that may run code; {give}"
    if RANKS.match(model) is not None:
        return " but tiktoken's ranks, which lack how text is split; give the tokenizer.json of that model"
    return f"; {give}"


class SentencePiece:
    """A SentencePiece model and the sha256 of its file; implements `pgpack.text.tokenizer.Tokenizer`.

    `begins`: whether a text begins with the begin token, where there is one.
    Raises: DataError when the bytes are not a SentencePiece model.
    """

    def __init__(self, model: bytes, source: str, begins: bool = True) -> None:
        import sentencepiece

        self.model, self.source, self.begins = model, source, begins
        self.sha256 = hashlib.sha256(model).hexdigest()
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"{source} is not a SentencePiece .model file{_other_kind(model)}") from error
        if not model or not self.processor.vocab_size():  # nothing is a model without pieces to it
            raise DataError(f"{source} is not a SentencePiece .model file: it holds no pieces")

    @classmethod
    def load(cls, path: Path) -> SentencePiece:
        """The tokenizer in a .model file."""
        if not path.is_file():
            raise DataError(f"tokenizer {path} {no_file(path)}; give a SentencePiece file as --tokenizer FILE.model")
        return cls(path.read_bytes(), str(path))

    @property
    def vocab_size(self) -> int:
        return int(self.processor.vocab_size())

    @property
    def bos_id(self) -> int | None:
        return self.document_token if self.begins else None

    @property
    def document_token(self) -> int | None:
        token = int(self.processor.bos_id())
        return token if token >= 0 else None

    @property
    def files(self) -> dict[str, bytes]:
        plain = {} if self.begins else {"tokenizer_config.json": b'{"add_bos_token": false}\n'}
        return {"tokenizer.model": self.model} | plain

    @property
    def split_at(self) -> dict[int, str]:
        """None: the spaces beside a user's own pieces stay what they are."""
        return {}

    def encode(self, text: str) -> TokenizedText:
        """One document, its begin token first."""
        tokens = self.processor.encode(text)
        blob = text.encode("utf-8")
        counts = counts_of_pieces([self._pieces[token] for token in tokens], blob)
        if counts is None:
            counts = counts_up_to(self._ends(text, len(tokens)), len(blob))
        first = [] if self.bos_id is None else [self.bos_id]
        n_bytes = np.concatenate((np.zeros(len(first), np.int32), counts))
        return TokenizedText(np.array([*first, *tokens], token_dtype(self.vocab_size)), n_bytes)

    def encode_documents(self, texts: Iterable[str]) -> Tokens:
        """All documents as one token stream; each starts with the begin token, as in the challenge's shards."""
        if (first := self.document_token) is None:
            raise DataError(f"{self.source} has no begin-of-document piece; documents could not be told apart")
        dtype = token_dtype(self.vocab_size)
        parts = [np.array([first, *self.processor.encode(text)], dtype) for text in texts]
        return np.concatenate(parts) if parts else np.zeros(0, dtype)

    def decode(self, tokens: NDArray[np.integer]) -> str:
        """Text of tokens; control tokens give nothing."""
        return str(self.processor.decode(tokens.tolist()))

    def spelled(self, tokens: NDArray[np.integer]) -> str:
        """As `decode`: no text is read as a control token."""
        return self.decode(tokens)

    @cached_property
    def byte_tables(self) -> ByteTables:
        """The challenge's byte tables over this vocabulary.

        Raises: DataError without a piece for a space: such counts would be wrong.
        """
        sp, size = self.processor, self.vocab_size
        if sp.unk_id() == sp.piece_to_id(SPACE):
            raise DataError(f"{self.source} has no piece for a space (U+2581); bits per byte would be miscounted")
        base = np.array([len(piece) for piece in self._pieces], dtype=np.int64)
        leading, trailing, boundary = np.zeros((3, size), dtype=bool)
        for token in range(size):
            if sp.is_control(token) or sp.is_unknown(token) or sp.is_unused(token):
                boundary[token], base[token] = True, 0
            elif not sp.is_byte(token):
                trailing[token] = self._pieces[token].endswith(b" ")
                leading[token] = self._pieces[token].startswith(b" ")
        if not self._keeps_first_space:
            base -= leading
        else:
            leading[:] = False
        adds_last = str(sp.encode("a", out_type=str)[-1]).endswith(SPACE)
        return ByteTables(base, leading, boundary, trailing if adds_last else None)

    @property
    def _keeps_first_space(self) -> bool:
        """Whether a text that begins with a space has a piece that says so."""
        plain, spaced = ("".join(self.processor.encode(text, out_type=str)) for text in ("a", " a"))
        return plain[:1] != SPACE == spaced[:1]

    @cached_property
    def pieces(self) -> list[bytes]:
        """The text of every piece inside a document; nothing for control and unknown ones."""
        sp = self.processor
        is_special = [sp.is_control(t) or sp.is_unknown(t) or sp.is_unused(t) for t in range(self.vocab_size)]
        return [b"" if special else piece for special, piece in zip(is_special, self._pieces, strict=True)]

    @cached_property
    def _pieces(self) -> list[bytes]:
        """The text of every piece inside a document."""
        sp = self.processor
        return [
            bytes([int(sp.id_to_piece(token)[1:-1], 16)])
            if sp.is_byte(token)
            else str(sp.id_to_piece(token)).replace(SPACE, " ").encode("utf-8", "replace")
            for token in range(self.vocab_size)
        ]

    def _ends(self, text: str, n_pieces: int) -> NDArray[np.int64]:
        """Where every piece ends in the UTF-8 bytes of `text`, as the library's serialized protobuf says it.

        (Its Python forms of the offsets changed between releases; these bytes did not.)
        """
        blob: bytes = self.processor.encode(text, out_type="serialized_proto")
        ends: list[int] = []
        at = 0
        while at < len(blob):
            tag = blob[at]
            length, at = _varint(blob, at + 1)
            if tag & 7 == 2:
                at += length
                if tag == PIECE:
                    ends.append(_last_varint(blob, at))
        if len(ends) != n_pieces:
            raise DataError(
                f"{self.source}: this release of sentencepiece gives no offsets of pieces; install another"
            )
        return np.array(ends, np.int64)


def _varint(blob: bytes, at: int) -> tuple[int, int]:
    """A protobuf number and where it ends."""
    value = shift = 0
    while True:
        byte = blob[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _last_varint(blob: bytes, stop: int) -> int:
    """The number that ends at `stop`, the end of a piece."""
    at = stop - 1
    value = blob[at]
    while blob[at - 1] >= 128:
        at -= 1
        value = value << 7 | blob[at] & 127
    if blob[at - 1] != END:
        raise DataError("this release of sentencepiece gives no offsets of pieces; install another")
    return value


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> SentencePiece:
    """A byte-pair model with byte fallback, as the challenge trains its own; equal texts give equal files.

    Raises: DataError when the texts are too few for `vocab_size` pieces.
    """
    if not 300 <= vocab_size <= MAX_VOCABULARY:
        raise DataError(f"vocabulary of {vocab_size} pieces: must be 300 to {MAX_VOCABULARY} (256 are bytes)")
    sentences = [line for text in texts for line in text.splitlines() if line.strip()]
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=0.999,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="nmt_nfkc",
            add_dummy_prefix=False,
            hard_vocab_limit=False,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            num_threads=1,
            shuffle_input_sentence=False,
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except RuntimeError as error:
        few = TOO_FEW_PIECES.search(str(error))
        remedy = "give more text or another --vocab-size" if few is None else (
            f"its characters and the 256 bytes alone take {few[1]}: give --vocab-size {few[1]} or more"
        )  # fmt: skip
        raise DataError(
            f"no tokenizer of {vocab_size} pieces could be trained on {len(sentences)} lines of text; {remedy}"
        ) from error
    tokenizer = SentencePiece(model.getvalue(), "the trained tokenizer")
    if tokenizer.vocab_size != vocab_size:
        raise DataError(
            f"the text only gives {tokenizer.vocab_size} of {vocab_size} pieces; "
            f"give more text or --vocab-size {tokenizer.vocab_size}"
        )
    return tokenizer
