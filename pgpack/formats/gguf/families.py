"""What the model families of a GGUF are called in transformers: names of tensors, their arithmetic, config.json.

    blk.0.attn_q.weight --names--> model.layers.0.self_attn.q_proj.weight
    rows of q and k of Llama    llama.cpp turns pairs (i, i + 1), transformers halves (i, i + d/2) of a head
    matrices of GPT-2           transformers keeps them (in, out)

Owns the families llama, qwen2, qwen3 and gpt2; any other keeps llama.cpp's names. Source: convert_hf_to_gguf.py and
gguf-py/gguf/constants.py of ggml-org/llama.cpp, for names and the order of rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Fields = Mapping[str, Any]
LLAMA_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{}.attn_norm": "model.layers.{}.input_layernorm",
    "blk.{}.attn_q": "model.layers.{}.self_attn.q_proj",
    "blk.{}.attn_k": "model.layers.{}.self_attn.k_proj",
    "blk.{}.attn_v": "model.layers.{}.self_attn.v_proj",
    "blk.{}.attn_output": "model.layers.{}.self_attn.o_proj",
    "blk.{}.attn_q_norm": "model.layers.{}.self_attn.q_norm",
    "blk.{}.attn_k_norm": "model.layers.{}.self_attn.k_norm",
    "blk.{}.ffn_norm": "model.layers.{}.post_attention_layernorm",
    "blk.{}.ffn_gate": "model.layers.{}.mlp.gate_proj",
    "blk.{}.ffn_up": "model.layers.{}.mlp.up_proj",
    "blk.{}.ffn_down": "model.layers.{}.mlp.down_proj",
}
GPT2_NAMES = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "blk.{}.attn_norm": "transformer.h.{}.ln_1",
    "blk.{}.attn_qkv": "transformer.h.{}.attn.c_attn",
    "blk.{}.attn_output": "transformer.h.{}.attn.c_proj",
    "blk.{}.ffn_norm": "transformer.h.{}.ln_2",
    "blk.{}.ffn_up": "transformer.h.{}.mlp.c_fc",
    "blk.{}.ffn_down": "transformer.h.{}.mlp.c_proj",
}
TURNED = ("attn_q.", "attn_k.")  # of Llama: weights and biases whose rows are in another order
LAID_ACROSS = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")  # of GPT-2
ROPE_FREQS = "rope_freqs.weight"  # a table that llama.cpp has of Llama 3.1 and later; the config says the same
READ = frozenset(  # fields that config.json says, or that say nothing of the arithmetic
    (
        "context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.causal",
        "rope.dimension_count", "rope.freq_base", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor",
        "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout", "pooling_type",
    )
)  # fmt: skip
NEUTRAL = {  # fields at the value that changes nothing
    "rope.scaling.attn_factor": (1,),
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (1, -1),
    "rope.scaling.yarn_beta_fast": (32,),
    "rope.scaling.yarn_beta_slow": (1,),
    "logit_scale": (1,),
    "residual_scale": (1,),
    "embedding_scale": (1,),
}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA3_LENGTHS = (8192, *(2**n for n in range(5, 21)))  # the first of them is that of Llama 3


@dataclass(frozen=True)
class Family:
    """`architecture`: class of transformers; `names`: llama.cpp's stem of a name -> transformers'."""

    model_type: str
    architecture: str
    names: Mapping[str, str]
    fields: Mapping[str, Any] = field(default_factory=dict)

    def renamed(self, name: str) -> str | None:
        """transformers' name of a tensor, None where the family has none such."""
        stem, _, kind = name.rpartition(".")
        layer = re.match(r"blk\.(\d+)\.", stem)
        if layer is None:
            return f"{self.names[stem]}.{kind}" if stem in self.names else None
        pattern = self.names.get(f"blk.{{}}{stem[layer.end() - 1 :]}")
        return None if pattern is None else f"{pattern.format(layer[1])}.{kind}"

    def llamacpp_name(self, name: str) -> str | None:
        """The inverse of `renamed`."""
        stem, _, kind = name.rpartition(".")
        numbered = re.sub(r"\.(\d+)\.", ".{}.", stem, count=1)
        layer = re.search(r"\.(\d+)\.", stem)
        found = next((ours for ours, theirs in self.names.items() if theirs == numbered), None)
        return None if found is None else f"{found.format(layer[1] if layer else '')}.{kind}"

    def to_transformers(self, name: str, array: Array, n_heads: Mapping[str, int]) -> Array:
        """A tensor in the order of transformers; `name` is llama.cpp's. `n_heads`: of "q" and "k"."""
        return self._moved(name, array, n_heads, halves_of_pairs)

    def to_llamacpp(self, name: str, array: Array, n_heads: Mapping[str, int]) -> Array:
        """The inverse of `to_transformers`."""
        return self._moved(name, array, n_heads, pairs_of_halves)

    def _moved(
        self, name: str, array: Array, n_heads: Mapping[str, int], turn: Callable[[Array, int], Array]
    ) -> Array:
        if self.model_type == "llama":
            for key in TURNED:
                if f".{key}" in name:
                    return turn(array, n_heads[key[len("attn_")]])
        if self.model_type == "gpt2" and name.endswith(LAID_ACROSS):
            return np.ascontiguousarray(array.T)
        return array

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a tensor once it is moved, whichever way."""
        across = self.model_type == "gpt2" and name.endswith(LAID_ACROSS)
        return shape[::-1] if across else shape


FAMILIES = {
    "llama": Family("llama", "LlamaForCausalLM", LLAMA_NAMES, {"hidden_act": "silu"}),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM", LLAMA_NAMES, {"hidden_act": "silu", "use_sliding_window": False}),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM", LLAMA_NAMES, {"hidden_act": "silu", "use_sliding_window": False}),
    "gpt2": Family("gpt2", "GPT2LMHeadModel", GPT2_NAMES, {"activation_function": "gelu_new"}),
}


def halves_of_pairs(array: Array, n_heads: int) -> Array:
    """Rows of q or k (or of their biases) in transformers' order. Shape: (n_heads * d, ...)."""
    heads = array.reshape(n_heads, array.shape[0] // n_heads // 2, 2, *array.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(array.shape)


def pairs_of_halves(array: Array, n_heads: int) -> Array:
    """The inverse of `halves_of_pairs`."""
    heads = array.reshape(n_heads, 2, array.shape[0] // n_heads // 2, *array.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(array.shape)


def heads_of(fields: Fields) -> dict[str, int]:
    """Number of heads of "q" and of "k". Raises: KeyError, ValueError where a GGUF's fields do not say."""
    arch = fields["general.architecture"]
    n_heads = _of_all_layers(fields[f"{arch}.attention.head_count"])
    n_kv = _of_all_layers(fields.get(f"{arch}.attention.head_count_kv", n_heads))
    if not isinstance(n_heads, int) or not isinstance(n_kv, int) or n_heads < 1 or n_kv < 1:
        raise ValueError("the number of heads differs from layer to layer")
    return {"q": n_heads, "k": n_kv}


def config_fields(fields: Fields, shapes: Mapping[str, tuple[int, ...]], rope: Array | None) -> dict[str, Any]:
    """The config.json of a GGUF of one of FAMILIES. `shapes`: by llama.cpp's names; `rope`: its table of factors.

    Raises: KeyError, ValueError where the fields say something that the family has not.
    """
    arch = fields["general.architecture"]
    family = FAMILIES[arch]
    of = {
        name.removeprefix(f"{arch}."): _of_all_layers(value)
        for name, value in fields.items()
        if name.startswith(f"{arch}.")
    }
    if of.get("expert_count"):
        raise ValueError("a mixture of experts")
    _refuse_other_arithmetic(arch, of)
    heads, hidden = heads_of(fields), of["embedding_length"]
    found: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": shapes["token_embd.weight"][0],
        "tie_word_embeddings": "output.weight" not in shapes,
        "dtype": "float32",
        **{f"{name}_token_id": fields.get(f"tokenizer.ggml.{key}_token_id") for name, key in SPECIAL},
        **family.fields,
    }
    if arch == "gpt2":
        return found | {
            "n_embd": hidden,
            "n_layer": of["block_count"],
            "n_head": heads["q"],
            "n_positions": of["context_length"],
            "n_inner": of["feed_forward_length"],
            "layer_norm_epsilon": _short(of["attention.layer_norm_epsilon"]),
        }
    found |= {
        "hidden_size": hidden,
        "intermediate_size": of["feed_forward_length"],
        "num_hidden_layers": of["block_count"],
        "num_attention_heads": heads["q"],
        "num_key_value_heads": heads["k"],
        "head_dim": of.get("attention.key_length", hidden // heads["q"]),
        "max_position_embeddings": of["context_length"],
        "rms_norm_eps": _short(of["attention.layer_norm_rms_epsilon"]),
        "rope_theta": _short(of.get("rope.freq_base", 10_000.0)),
    }
    for name in ("rope.dimension_count", "attention.value_length"):
        if of.get(name, found["head_dim"]) != found["head_dim"]:
            raise ValueError(f"heads of {found['head_dim']}, and {arch}.{name} is {of[name]}")
    if arch != "qwen2":
        found["attention_bias"] = "blk.0.attn_q.bias" in shapes
    if arch == "llama":
        found["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    scaling = _rope_scaling(of, found, rope)
    return found | ({"rope_scaling": scaling} if scaling else {})


def _of_all_layers(value: Any) -> Any:
    """A value that is written once for every layer, where they are all the same: that value."""
    return value[0] if isinstance(value, list) and value and all(each == value[0] for each in value) else value


def _refuse_other_arithmetic(arch: str, of: Fields) -> None:
    """Raises: ValueError for a field that the family in transformers has nothing for, at a value that counts."""
    for name, value in of.items():
        window = name == "attention.sliding_window" and value >= of["context_length"]
        if name not in READ and value and value not in NEUTRAL.get(name, ()) and not window:
            raise ValueError(f"{arch}.{name} is {value}")
    if of.get("attention.causal") is False:
        raise ValueError(f"{arch}.attention.causal is false")


SPECIAL = (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))  # transformers' name, llama.cpp's


def _rope_scaling(of: Fields, found: Mapping[str, Any], rope: Array | None) -> dict[str, Any] | None:
    """Raises: ValueError for a scaling that transformers would do otherwise."""
    kind = of.get("rope.scaling.type", "linear")  # llama.cpp's own, where only a factor is there
    if rope is not None:
        factor = float(rope.max())
        for length in LLAMA3_LENGTHS:
            told = {**LLAMA3, "original_max_position_embeddings": length}
            if np.allclose(rope, llama3_factors(found["head_dim"], found["rope_theta"], factor, told), rtol=1e-3):
                return {"rope_type": "llama3", "factor": _short(factor), **told}
        raise ValueError("a table of rotary factors that is not Llama 3's")
    factor = of.get("rope.scaling.factor", of.get("rope.scale_linear", 0)) or 1
    if kind in ("none", "") or (kind == "linear" and factor == 1):
        return None
    if kind not in ("linear", "yarn"):
        raise ValueError(f"a rotary scaling {kind!r}")
    told = {"rope_type": kind, "factor": _short(factor)}
    original = of.get("rope.scaling.original_context_length")
    return told | ({"original_max_position_embeddings": original} if original and kind == "yarn" else {})


def llama3_factors(
    head_dim: int, theta: float, factor: float, told: Mapping[str, float] = LLAMA3
) -> NDArray[np.float64]:
    """What Llama 3.1 divides each rotary frequency by. Shape: (head_dim / 2,). `told`: what differs from LLAMA3.

    Source: Llama 3.1's reference code; short waves stay, long ones are stretched by `factor`, between them smoothly.
    """
    low, high, length = ({**LLAMA3, **told}[key] for key in LLAMA3)
    waves = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((length / waves - low) / (high - low), 0, 1)
    mixed: NDArray[np.float64] = 1 / ((1 - smooth) / factor + smooth)
    return mixed


def _short(value: float) -> float:
    """A float32 as the shortest decimal that is the same float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
