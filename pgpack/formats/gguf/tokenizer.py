"""The tokenizer of a GGUF as the tokenizer.json that `tokenizers` and transformers read.

    "gpt2"   tokens, merges and the name of a pre-tokenizer --> byte-level BPE
    "llama"  SentencePiece pieces with scores --> BPE with byte fallback, its merges in the order of the scores

Owns these two; of the pre-tokenizers those in PATTERNS. Source: src/llama-vocab.cpp of ggml-org/llama.cpp for the
patterns; Kudo & Richardson 2018, arXiv:1808.06226: a SentencePiece BPE joins the pair whose piece scores best.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[str, Any]
SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of tokens
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS: dict[str, tuple[str, ...]] = {  # name of a pre-tokenizer -> patterns that cut one after the other
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "roberta-bpe"), (_GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), (r"\p{N}", _GPT2)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"), (_WORDS % r"\p{N}{1,3}",)),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"), (_WORDS % r"\p{N}",)),
}
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")  # a word that is a token is one, whatever the merges say
NFC = ("qwen2",)
OF_ARCHITECTURE = {"gpt2": "gpt-2", "qwen2": "qwen2", "qwen3": "qwen2"}  # where a file does not name one
UNCLEAR = "default"  # what converters wrote that knew no name


def why_no_tokenizer(fields: Fields) -> str:
    """Why tokenizer.json cannot be rebuilt, '' where it can."""
    tokens, kind = fields.get("tokenizer.ggml.tokens"), fields.get("tokenizer.ggml.model")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return "the file holds no tokens"
    if len(set(tokens)) < len(tokens):
        return "two of its tokens are the same"
    if kind == "gpt2":
        if _pattern_name(fields) not in PATTERNS:
            return f"its pre-tokenizer {_pattern_name(fields)!r} is none of {', '.join(PATTERNS)}"
        return "" if isinstance(fields.get("tokenizer.ggml.merges"), list) else "the file holds no merges"
    if kind == "llama":
        scores = fields.get("tokenizer.ggml.scores")
        told = isinstance(scores, list) and len(scores) == len(tokens)
        return "" if told else "its pieces have no scores"
    return f"it is of kind {kind!r}, neither gpt2 (byte-level BPE) nor llama (SentencePiece BPE)"


def tokenizer_json(fields: Fields) -> bytes:
    """tokenizer.json. Raises: ValueError where it cannot be rebuilt (`why_no_tokenizer`)."""
    if lacking := why_no_tokenizer(fields):
        raise ValueError(lacking)
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    kinds: list[int] = fields.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    byte_level = fields["tokenizer.ggml.model"] == "gpt2"
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(_added(tokens, kinds)),
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": _post_processor(fields, tokens, byte_level),
        "decoder": None,
        "model": None,
    }
    parts = _byte_level(fields, tokens) if byte_level else _sentencepiece(fields, tokens, kinds)
    return json.dumps(document | parts, ensure_ascii=False).encode()


def tokenizer_config_json(fields: Fields) -> bytes:
    """tokenizer_config.json: the special tokens and the chat template."""
    tokens = fields.get("tokenizer.ggml.tokens", [])
    arch = fields["general.architecture"]
    document: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": starts_with_bos(fields),
        "model_max_length": fields.get(f"{arch}.context_length", 1024),
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token = fields.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(token, int) and 0 <= token < len(tokens):
            document[f"{name}_token"] = tokens[token]
    if template := fields.get("tokenizer.chat_template"):
        document["chat_template"] = template
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


def generation_config_json(fields: Fields) -> bytes:
    """generation_config.json: where text begins and ends."""
    ids = {f"{name}_token_id": fields.get(f"tokenizer.ggml.{key}_token_id") for name, key in (
        ("bos", "bos"), ("eos", "eos"), ("pad", "padding")
    )}  # fmt: skip
    return json.dumps({key: value for key, value in ids.items() if value is not None}, indent=2).encode()


def starts_with_bos(fields: Fields) -> bool:
    """Whether a text begins with the begin token: as the file says, else as llama.cpp takes it."""
    told = fields.get("tokenizer.ggml.add_bos_token")
    usual = fields.get("tokenizer.ggml.model") == "llama" or fields.get("tokenizer.ggml.pre") in WHOLE_WORDS
    return bool(usual if told is None else told)


def _pattern_name(fields: Fields) -> str:
    name = str(fields.get("tokenizer.ggml.pre", UNCLEAR))
    return OF_ARCHITECTURE.get(str(fields.get("general.architecture")), name) if name == UNCLEAR else name


def _byte_level(fields: Fields, tokens: list[str]) -> dict[str, Any]:
    name, merges = _pattern_name(fields), fields["tokenizer.ggml.merges"]
    whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    cuts = [_cut(pattern) for pattern in PATTERNS[name]]
    return {
        "normalizer": {"type": "NFC"} if name in NFC else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, whole]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(tokens, [merge.split(" ") for merge in merges], None, name in WHOLE_WORDS),
    }


def _cut(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _sentencepiece(fields: Fields, tokens: list[str], kinds: list[int]) -> dict[str, Any]:
    scores = fields["tokenizer.ggml.scores"]
    prefix = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    normalizers = [{"type": "Prepend", "prepend": SPACE}] * prefix + [spaces]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * prefix
    unknown = fields.get("tokenizer.ggml.unknown_token_id", next(iter(_of_kind(kinds, UNKNOWN)), None))
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": _bpe(tokens, _merges(tokens, scores, kinds), None if unknown is None else tokens[unknown], False)
        | {"fuse_unk": True, "byte_fallback": True},
    }


def _merges(tokens: list[str], scores: list[float], kinds: list[int]) -> list[list[str]]:
    """Every way to join two pieces into a third, the best third first."""
    pieces = {tokens[i]: i for i in _of_kind(kinds, NORMAL, USER_DEFINED, UNUSED)}
    found: list[tuple[float, int, int, str, str]] = []
    for piece, i in pieces.items():
        for at in range(1, len(piece)):
            left, right = piece[:at], piece[at:]
            if left in pieces and right in pieces:
                found.append((-scores[i], pieces[left], pieces[right], left, right))
    return [[left, right] for *_, left, right in sorted(found)]


def _of_kind(kinds: list[int], *wanted: int) -> Iterator[int]:
    return (i for i, kind in enumerate(kinds) if kind in wanted)


def _bpe(tokens: list[str], merges: list[list[str]], unknown: str | None, whole_words: bool) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": whole_words,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": merges,
    }


def _added(tokens: list[str], kinds: list[int]) -> Iterator[dict[str, Any]]:
    """Tokens that are looked for in a text before it is cut."""
    special = {CONTROL, UNKNOWN}
    for i in _of_kind(kinds, CONTROL, USER_DEFINED, UNKNOWN):
        yield {
            "id": i,
            "content": tokens[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kinds[i] in special,
        }


def _post_processor(fields: Fields, tokens: list[str], byte_level: bool) -> dict[str, Any] | None:
    """The begin token before a text, where it is to be."""
    bos = fields.get("tokenizer.ggml.bos_token_id")
    if not starts_with_bos(fields) or not isinstance(bos, int) or not 0 <= bos < len(tokens):
        trim = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
        return trim if byte_level else None
    first = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}
    a, b = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    again = {"SpecialToken": {"id": tokens[bos], "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [first, a],
        "pair": [first, a, again, b],
        "special_tokens": {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}},
    }
