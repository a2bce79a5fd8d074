"""Tiny random models of transformers, of every layout that folders come in: hidden 32, 2 layers, 300 pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCABULARY, HIDDEN, LENGTH = 300, 32, 64
_LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": LENGTH,
}  # fmt: skip
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}
_PLAIN = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {  # name -> (model type of transformers, fields of its config)
    "llama": ("llama", _LLAMA | {"tie_word_embeddings": False}),
    "llama-tied": ("llama", _LLAMA | {"tie_word_embeddings": True}),
    "gpt2": ("gpt2", _GPT2),
    "qwen2": ("qwen2", _LLAMA | {"tie_word_embeddings": False}),
    "qwen3": ("qwen3", _LLAMA | {"head_dim": 8, "tie_word_embeddings": True}),
    "gpt_neox": ("gpt_neox", _PLAIN),
    "phi": ("phi", _LLAMA),
    "gemma": ("gemma", _LLAMA | {"head_dim": 8} | _ENDS),
    "opt": ("opt", {
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "ffn_dim": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": LENGTH, "word_embed_proj_dim": 24,
    } | _ENDS),
    "mamba": ("mamba", {
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 4,
    }),
    "mamba2": ("mamba2", {
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": 2, "state_size": 4, "num_heads": 8,
        "head_dim": 8, "n_groups": 2,
    }),
    "mixtral": ("mixtral", _LLAMA | {"num_local_experts": 3}),
    "qwen2_moe": ("qwen2_moe", _LLAMA | _EXPERTS | {"shared_expert_intermediate_size": 40}),
    "qwen3_moe": ("qwen3_moe", _LLAMA | _EXPERTS | {"head_dim": 8, "mlp_only_layers": [1]}),
    "olmoe": ("olmoe", _LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}),
}  # fmt: skip


def tiny_model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A random model in eval mode whose every parameter, biases and norms too, is some number."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, fields = FAMILIES[family]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(fields | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def write_folder(folder: Path, family: str = "llama", shards: bool = False, dtype: str = "", **changes: Any) -> Path:
    """The folder that `save_pretrained` writes, one file or several, in float32 unless `dtype` says otherwise."""
    model = tiny_model(family, **changes)
    if dtype:
        model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="20kB" if shards else "1GB")
    return folder


def as_torch_files(folder: Path) -> Path:
    """The folder with its safetensors rewritten as transformers wrote them before: pytorch_model*.bin."""
    from safetensors.torch import load_file

    renamed = {}
    for path in sorted(folder.glob("model*.safetensors")):
        name = path.name.replace("model", "pytorch_model", 1).replace(".safetensors", ".bin")
        torch.save(load_file(path), folder / name)
        renamed[path.name] = name
        path.unlink()
    if (index := folder / "model.safetensors.index.json").is_file():
        text = json.loads(index.read_text())
        text["weight_map"] = {tensor: renamed[file] for tensor, file in text["weight_map"].items()}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(text))
        index.unlink()
    return folder


def tokens(n: int = 2 * LENGTH, seed: int = 1) -> torch.Tensor:
    """Random ids. Shape: (n // LENGTH, LENGTH)."""
    drawn = np.random.default_rng(seed).integers(0, VOCABULARY, n)
    return torch.from_numpy(drawn).reshape(-1, LENGTH)


def reference_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    """What AutoModelForCausalLM.from_pretrained of the folder gives, in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(ids).logits


def write_tokenizer(folder: Path, pieces: int = VOCABULARY) -> Path:
    """A byte-level tokenizer of `pieces` tokens beside a model, as `save_pretrained` writes it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = ["the quick brown fox jumps over the lazy dog and runs to an old river, caf\u00e9 \u20ac"] * 3
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    ends = ["<|pad|>", "<|begin|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, initial_alphabet=alphabet, special_tokens=ends, show_progress=False
    )
    tokenizer.train_from_iterator(text, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=ends[2], pad_token=ends[0]).save_pretrained(folder)
    return folder
