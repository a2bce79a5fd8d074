"""The files that AutoTokenizer of transformers needs, of a folder that has a SentencePiece model alone.

    tokenizer.model --pieces, scores--> tokenizer.json, tokenizer_config.json     where both write the same tokens

transformers would make them of the model itself, with a package for protobuf that few have. Owns the probe: files
that do not write what the model writes are not made (a unigram model, a normalization of its own).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgpack.errors import DataError
from pgpack.formats.gguf.tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    tokenizer_config_json,
    tokenizer_json,
    why_no_tokenizer,
)
from pgpack.text.find_tokenizer import tokenizer_of
from pgpack.text.sentence_piece import SPACE, SentencePiece
from pgpack.text.tokenizer_files import JSON, MERGES, MODEL, SETTINGS, VOCAB

from .folders import config_of

PROBES = (
    "The quick brown fox, it's 2024: 3.14 of them!",
    " a  space, and a na\u00efve caf\u00e9 in \u6771\u4eac \U0001f600",
    "def f(x):\n\treturn x ** 2\n\n",
    "\ufb01ne \u00bd",
)


def with_tokenizer_files(companions: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The companions with what AutoTokenizer lacks; as they are where nothing is lacking or nothing can be made."""
    if MODEL not in companions or JSON in companions or (VOCAB in companions and MERGES in companions):
        return companions
    try:
        model = tokenizer_of(companions, MODEL)
        if not isinstance(model, SentencePiece):
            return companions
        fields = _fields(model, config_of(companions).get("max_position_embeddings"))
        if why_no_tokenizer(fields):
            return companions
        made = {SETTINGS: tokenizer_config_json(fields), **companions, JSON: tokenizer_json(fields)}
        again = tokenizer_of(made, JSON)
        same = again is not None and all(
            model.encode(text).tokens.tolist() == again.encode(text).tokens.tolist() for text in PROBES
        )
    except (DataError, ImportError):
        return companions
    return made if same else companions


def _fields(model: SentencePiece, length: object) -> dict[str, Any]:
    """The model as a GGUF would say it."""
    sp = model.processor
    pieces = range(model.vocab_size)
    kinds = [
        UNKNOWN if sp.is_unknown(i) else CONTROL if sp.is_control(i) else BYTE if sp.is_byte(i) else NORMAL
        for i in pieces
    ]
    ids = {"bos": sp.bos_id(), "eos": sp.eos_id(), "unknown": sp.unk_id(), "padding": sp.pad_id()}
    return {
        "general.architecture": "llama",
        "llama.context_length": length if isinstance(length, int) else 1 << 20,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [sp.id_to_piece(i) for i in pieces],
        "tokenizer.ggml.scores": [sp.get_score(i) for i in pieces],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_bos_token": model.begins and sp.bos_id() >= 0,
        "tokenizer.ggml.add_space_prefix": str(sp.encode("a", out_type=str)[0]).startswith(SPACE),
        **{f"tokenizer.ggml.{name}_token_id": token for name, token in ids.items() if token >= 0},
    }
