"""GGUF files of tiny models, written by the package gguf as convert_hf_to_gguf.py of llama.cpp writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .tiny_hf import tiny_model

STEMS = {  # transformers' part of a name -> llama.cpp's
    "embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "gate_proj": "ffn_gate", "up_proj": "ffn_up",
    "down_proj": "ffn_down", "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm",
    "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}  # fmt: skip


def llamacpp_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    new = next(new for old, new in STEMS.items() if f".{stem}".endswith(f".{old}"))
    layer = next((part for part in stem.split(".") if part.isdigit()), None)
    return f"{new}.{kind}" if layer is None else f"blk.{layer}.{new}.{kind}"


def turned(array: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows i and i + d/2 of every head become neighbours, one row at a time."""
    found = np.empty_like(array)
    size = len(array) // n_heads
    for head in range(n_heads):
        for i in range(size // 2):
            found[head * size + 2 * i] = array[head * size + i]
            found[head * size + 2 * i + 1] = array[head * size + size // 2 + i]
    return found


def write_gguf(
    path: Path, arch: str, kind: str = "F32", tokenizer: Any = None, model: Any = None, each: int = 0, **fields: Any
) -> Any:
    """Writes the model (a tiny random one by default) with matrices of `kind`, and returns it; `each`: in parts of so
    many tensors, PATH's stem-0000I-of-0000N.gguf."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    model = tiny_model(arch) if model is None else model
    config = model.config
    writer = GGUFWriter(path, arch, split_max_tensors=each)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if arch == "gpt2":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if arch == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if tokenizer is not None:
        tokenizer(writer)
    for name, value in fields.items():
        writer.add_string(name.replace("__", "."), value)
    heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
    for name, parameter in model.named_parameters():
        array = parameter.detach().numpy()
        if arch == "llama":
            array = next((turned(array, n) for key, n in heads.items() if key in name), array)
        if arch == "gpt2" and array.ndim == 2 and "wte" not in name and "wpe" not in name:
            array = array.T
        array = np.ascontiguousarray(array)
        if array.ndim < 2 or kind == "F32":
            writer.add_tensor(llamacpp_name(name), array)
        else:
            to = GGMLQuantizationType[kind]
            writer.add_tensor(llamacpp_name(name), quants.quantize(array, to), raw_dtype=to)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model
