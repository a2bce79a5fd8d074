"""config.json and tokenizer of a model folder as the fields of a GGUF: the inverse of `families` and `tokenizer`.

    config.json --> llama.block_count, llama.attention.head_count, ...
    tokenizer.json --> tokenizer.ggml.tokens, .merges, .token_type, .pre

Owns the families of `families`. Refuses what llama.cpp would read otherwise: a pre-tokenizer, a rotary scaling or a
tokenizer that has no name there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .families import FAMILIES, LLAMA3, Family, llama3_factors
from .tokenizer import BYTE, CONTROL, NORMAL, PATTERNS, UNKNOWN, UNUSED, USER_DEFINED

Json = Mapping[str, Any]
GPT2_PATTERN = PATTERNS["gpt-2"][0]
ASSUMED: Json = {  # field of a config -> what llama.cpp computes, whatever the field says
    "hidden_act": ("silu", "swish"),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
    "use_sliding_window": (False,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
ASSUMED_ROPE: Json = {"partial_rotary_factor": (1,), "beta_fast": (32,), "beta_slow": (1,), "truncate": (True,)}
YARN_ONLY = ("attention_factor", "mscale", "mscale_all_dim")
NAMED = (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))  # transformers' name, llama.cpp's


def family_of(config: Json) -> tuple[str, Family]:
    """The architecture of a GGUF and its family. Raises: ValueError for any other."""
    if "model_type" not in config:
        raise ValueError("there is no config.json with a model_type to tell its architecture")
    kind = str(config["model_type"])
    if kind not in FAMILIES:
        raise ValueError(f"a GGUF is written of {', '.join(FAMILIES)}, not of {kind}")
    return kind, FAMILIES[kind]


def model_fields(config: Json) -> dict[str, Any]:
    """What llama.cpp must know of the model. Raises: ValueError, KeyError where the config does not say it."""
    arch, _ = family_of(config)
    _refuse_other(config)
    if arch == "gpt2":
        hidden, heads = config["n_embd"], config["n_head"]
        of = {
            "block_count": config["n_layer"],
            "context_length": config.get("n_positions", 1024),
            "embedding_length": hidden,
            "feed_forward_length": config.get("n_inner") or 4 * hidden,
            "attention.head_count": heads,
            "attention.layer_norm_epsilon": float(config.get("layer_norm_epsilon", 1e-5)),
        }
    else:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        head_dim = _head_dim(config)
        of = {
            "block_count": config["num_hidden_layers"],
            "context_length": config["max_position_embeddings"],
            "embedding_length": hidden,
            "feed_forward_length": config["intermediate_size"],
            "attention.head_count": heads,
            "attention.head_count_kv": config.get("num_key_value_heads") or heads,
            "attention.layer_norm_rms_epsilon": float(config.get("rms_norm_eps", 1e-6)),
            "attention.key_length": head_dim,
            "attention.value_length": head_dim,
            "rope.freq_base": float(_rope(config).get("rope_theta", 10_000.0)),
            "rope.dimension_count": head_dim,
            "vocab_size": config["vocab_size"],
            **_scaling(config),
        }
    return {"general.architecture": arch, **{f"{arch}.{name}": value for name, value in of.items()}}


def rope_factors(config: Json) -> Any:
    """The table that llama.cpp has of Llama 3's rotary scaling, None where there is none. Shape: (head_dim / 2,)."""
    rope = _rope(config)
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return None
    told = {name: float(rope[name]) for name in LLAMA3 if name in rope}
    return llama3_factors(_head_dim(config), float(rope.get("rope_theta", 10_000.0)), float(rope["factor"]), told)


def _head_dim(config: Json) -> int:
    if found := config.get("head_dim"):
        return int(found)
    return (
        128
        if config.get("model_type") == "qwen3"
        else int(config["hidden_size"]) // int(config["num_attention_heads"])
    )


def _refuse_other(config: Json) -> None:
    """Raises ValueError for a model that llama.cpp would compute otherwise, without a word."""
    rope = _rope(config)
    for fields, assumed in ((config, ASSUMED), (config, ASSUMED_ROPE), (rope, ASSUMED_ROPE)):
        for name, values in assumed.items():
            if fields.get(name) is not None and fields[name] not in values:
                raise ValueError(f"its {name} is {fields[name]}, and llama.cpp takes {values[0]}")
    if own := next((name for name in YARN_ONLY if rope.get(name) is not None), None):
        raise ValueError(f"its rotary scaling has an {own} of its own, which has no place in a GGUF")


def _rope(config: Json) -> dict[str, Any]:
    """What the config says of rotary positions, as transformers 4 and 5 write it."""
    found = {"rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
    return found | (config.get("rope_scaling") or {}) | (config.get("rope_parameters") or {})


def _scaling(config: Json) -> dict[str, Any]:
    rope = _rope(config)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("default", "llama3", None):
        return {}
    if kind not in ("linear", "yarn"):
        raise ValueError(f"a rotary scaling {kind!r} has no place in a GGUF")
    original = rope.get("original_max_position_embeddings")
    found = {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    return found | ({"rope.scaling.original_context_length": original} if original else {})


def tokenizer_fields(companions: Mapping[str, bytes], vocab_size: int) -> dict[str, Any]:
    """The tokenizer of a GGUF, padded to the rows of the table. Raises: ValueError where llama.cpp has none such."""
    if "tokenizer.json" not in companions:
        raise ValueError("the artifact holds no tokenizer.json")
    document: dict[str, Any] = json.loads(companions["tokenizer.json"])
    settings: dict[str, Any] = json.loads(companions.get("tokenizer_config.json", b"{}"))
    model = document["model"]
    if model.get("type") != "BPE":
        raise ValueError(f"a tokenizer of type {model.get('type')!r} has no place in a GGUF")
    added = {entry["id"]: entry for entry in document.get("added_tokens", [])}
    pieces = {number: piece for piece, number in model["vocab"].items()}
    pieces |= {number: entry["content"] for number, entry in added.items()}
    size = max(vocab_size, max(pieces) + 1)
    tokens = [pieces.get(number, f"[PAD{number}]") for number in range(size)]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    found: dict[str, Any] = {"tokenizer.ggml.tokens": tokens}
    if model.get("byte_fallback"):
        kinds = [_kind(number, pieces, added, model.get("unk_token")) for number in range(size)]
        found |= {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": _scores(tokens, merges)}
        prefix = '"Prepend"' in json.dumps([document.get("normalizer"), document.get("pre_tokenizer")])
        found["tokenizer.ggml.add_space_prefix"] = prefix
    else:
        kinds = [_kind(number, pieces, added, None) for number in range(size)]
        found |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": _pre(document)}
        found["tokenizer.ggml.merges"] = [" ".join(pair) for pair in merges]
        found["tokenizer.ggml.add_space_prefix"] = False
    found["tokenizer.ggml.token_type"] = kinds
    numbers = {piece: number for number, piece in pieces.items()}
    for name, key in NAMED:
        told = settings.get(f"{name}_token")
        piece = told.get("content") if isinstance(told, dict) else told
        if piece in numbers:
            found[f"tokenizer.ggml.{key}_token_id"] = numbers[piece]
    found["tokenizer.ggml.add_bos_token"] = _adds_bos(document, settings)
    template = settings.get("chat_template") or companions.get("chat_template.jinja", b"").decode("utf-8")
    return found | ({"tokenizer.chat_template": template} if isinstance(template, str) and template else {})


def _kind(number: int, pieces: Mapping[int, str], added: Mapping[int, Json], unknown: str | None) -> int:
    if number not in pieces:
        return UNUSED
    if unknown is not None and pieces[number] == unknown:
        return UNKNOWN
    if number in added:
        return CONTROL if added[number].get("special") else USER_DEFINED
    is_byte = unknown is not None and len(pieces[number]) == 6 and pieces[number].startswith("<0x")
    return BYTE if is_byte else NORMAL


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """Of a SentencePiece BPE: pieces are joined in the order of their scores, so the first merge that makes one tells
    its rank; what no merge makes is never asked for its score."""
    rank: dict[str, int] = {}
    for left, right in merges:
        rank.setdefault(left + right, len(rank))
    return [-float(rank.get(token, 0)) for token in tokens]


def _pre(document: Json) -> str:
    """The name of a byte-level pre-tokenizer. Raises: ValueError where it has none."""
    found = tuple(_cuts(document.get("pre_tokenizer")))
    for name, patterns in PATTERNS.items():
        if patterns == found:
            return name
    raise ValueError("its pre-tokenizer has no name in llama.cpp")


def _cuts(step: Any) -> list[str]:
    """The patterns that a pre-tokenizer cuts by, one after the other."""
    kind = step.get("type") if isinstance(step, dict) else None
    if kind == "Sequence":
        return [pattern for part in step["pretokenizers"] for pattern in _cuts(part)]
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return [GPT2_PATTERN] if step.get("use_regex", True) else []
    if kind == "Digits" and step.get("individual_digits"):
        return [r"\p{N}"]
    if kind == "Split" and "Regex" in step.get("pattern", {}):
        return [step["pattern"]["Regex"]]
    raise ValueError(f"a pre-tokenizer {kind!r} has no name in llama.cpp")


def _adds_bos(document: Json, settings: Json) -> bool:
    told = settings.get("add_bos_token")
    if isinstance(told, bool):
        return told
    after = document.get("post_processor") or {}
    return any("SpecialToken" in each for each in (after.get("single") or [])[:1])
