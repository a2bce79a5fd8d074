"""SentencePiece tokenizers: trained here or given, and the byte tables that turn nats per token into bits per byte.

Owns `Tokenizer` and `ByteTables`. Refuses a vocabulary without a U+2581 piece: its byte counts would be wrong.

Source: settings and tables as in openai/parameter-golf (the 1024-piece FineWeb model and train_gpt.py).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from pgpack.errors import DataError

SPACE = "\u2581"  # how SentencePiece writes a space
MAX_VOCABULARY = 65_536  # shards hold uint16 tokens


@dataclass(frozen=True, eq=False)
class ByteTables:
    """Bytes of text that each token stands for.

    Shape: (V,) each. A token costs `base_bytes[token]`, and one more for its leading space unless the token
    before it is a boundary (control, unknown or unused piece), after which the decoder drops the space.
    """

    base_bytes: NDArray[np.int64]
    leading_space: NDArray[np.bool_]
    boundary: NDArray[np.bool_]

    def count(self, previous: NDArray[np.integer], target: NDArray[np.integer]) -> int:
        """Bytes of text that the `target` tokens decode to, each following its `previous` token."""
        spaces = self.leading_space[target] & ~self.boundary[previous]
        return int(self.base_bytes[target].sum()) + int(spaces.sum())


class Tokenizer:
    """A SentencePiece model and the sha256 of its file.

    Raises: DataError when the bytes are not a SentencePiece model that can be counted in bytes.
    """

    def __init__(self, model: bytes, source: str) -> None:
        self.model, self.source = model, source
        self.sha256 = hashlib.sha256(model).hexdigest()
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"{source} is not a SentencePiece .model file") from error
        if self.processor.unk_id() == self.processor.piece_to_id(SPACE):
            raise DataError(f"{source} has no piece for a space (U+2581); bits per byte would be miscounted")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """The tokenizer in a .model file."""
        if not path.is_file():
            raise DataError(f"tokenizer {path} does not exist; give a SentencePiece file as --tokenizer FILE.model")
        return cls(path.read_bytes(), str(path))

    @property
    def vocab_size(self) -> int:
        return int(self.processor.vocab_size())

    @property
    def bos_id(self) -> int:
        return int(self.processor.bos_id())

    def encode(self, texts: Iterable[str]) -> NDArray[np.uint16]:
        """All documents as one token stream; each starts with the begin token, as in the challenge's shards."""
        if self.bos_id < 0:
            raise DataError(f"{self.source} has no begin-of-document piece; documents could not be told apart")
        parts = [np.array([self.bos_id, *self.processor.encode(text)], dtype=np.uint16) for text in texts]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)

    def decode(self, tokens: NDArray[np.integer]) -> str:
        """Text of tokens; control tokens give nothing."""
        return str(self.processor.decode(tokens.tolist()))

    @cached_property
    def byte_tables(self) -> ByteTables:
        """The challenge's byte tables over this vocabulary."""
        size = self.vocab_size
        base = np.zeros(size, dtype=np.int64)
        leading, boundary = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        sp = self.processor
        for token in range(size):
            if sp.is_control(token) or sp.is_unknown(token) or sp.is_unused(token):
                boundary[token] = True
            elif sp.is_byte(token):
                base[token] = 1
            else:
                piece = sp.id_to_piece(token)
                leading[token] = piece.startswith(SPACE)
                base[token] = len(piece.removeprefix(SPACE).encode("utf-8"))
        return ByteTables(base, leading, boundary)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-pair model with byte fallback, as the challenge trains its own; equal texts give equal files.

    Raises: DataError when the texts are too few for `vocab_size` pieces.
    """
    if not 300 <= vocab_size <= MAX_VOCABULARY:
        raise DataError(f"vocabulary of {vocab_size} pieces: must be 300 to {MAX_VOCABULARY} (256 are bytes)")
    sentences = [line for text in texts for line in text.splitlines() if line.strip()]
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
        raise DataError(
            f"no tokenizer of {vocab_size} pieces could be trained on {len(sentences)} lines of text; "
            "give more text or another --vocab-size"
        ) from error
    tokenizer = Tokenizer(model.getvalue(), "the trained tokenizer")
    if tokenizer.vocab_size != vocab_size:
        raise DataError(
            f"the text only gives {tokenizer.vocab_size} of {vocab_size} pieces; "
            f"give more text or --vocab-size {tokenizer.vocab_size}"
        )
    return tokenizer
