"""Small models of every option, with helpers that fill and run them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from pgtrain.model.gpt import GPT, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import parameter_group

SMALL = GPTConfig(vocab_size=64, num_layers=4, model_dim=32, num_heads=4, num_kv_heads=2, seq_len=16)
OPTIONS: dict[str, dict] = {
    "baseline": {},
    "untied": {"tie_embeddings": False},
    "decoupled": {"embed_dim": 20},
    "decoupled-untied": {"embed_dim": 20, "tie_embeddings": False},
    "projected": {"projected": True},
    "projected-gaussian": {"embed_dim": 20, "projection_init": "gaussian"},
    "no-x0": {"x0_mix": False},
    "residual-input": {"input_residual_rank": 3},
    "residual-output": {"output_residual_rank": 2},
    "residual-both": {"input_residual_rank": 3, "output_residual_rank": 2},
    "one-kv-head": {"num_kv_heads": 1, "qk_norm": False},
    "all-kv-heads": {"num_kv_heads": 4, "mlp_activation": "relu3"},
    "leaky": {"mlp_activation": "leaky_relu2", "mlp_mult": 2.5},
    "partial-rope-ntk": {"rope_dims": 4, "rope_scaling": "ntk", "rope_train_len": 6},
    "yarn": {"rope_scaling": "yarn", "rope_max_len": 64},
    "exclusive": {"xsa_last_n": 2},
    "gate-window": {"attn_gate": "window", "attn_gate_scale": 0.5},
    "gate-dense": {"attn_gate": "dense"},
    "gate-double": {"attn_gate": "double"},
    "value-residual": {"value_residual": True},
    "norm-scale": {"norm_scale": "block"},
    "gated-skips": {"skips": "gate"},
    "flat": {"skips": "none"},
    "lanes": {"lane_start": 2, "skips": "gate"},
    "lanes-from-the-start": {"lane_start": 0, "lane_residuals": "both", "lane_skip": "both", "lane_mlp_mix": True},
    "lanes-split-first": {"lane_start": 1, "lane_split": "before_skip", "lane_final": "attn"},
    "looped": {"num_loops": 2, "loop_start": 1, "loop_end": 2},
    "lanes-in-the-loop": {"num_loops": 1, "loop_start": 1, "loop_end": 2, "lane_start": 2, "skips": "gate"},
    "lanes-beside-the-stream": {
        "num_loops": 1, "loop_start": 1, "loop_end": 2, "lane_start": 2, "lane_scope": "layers", "skips": "gate",
    },
    "lanes-without-their-skip": {"lane_start": 2, "lane_skip": "both", "lane_split": "no_skip"},
    "lanes-decoder": {"num_loops": 1, "loop_start": 1, "loop_end": 2, "lane_start": 1, "lane_scope": "decoder"},
    "looped-stack": {"num_loops": 2, "loop_end": 3, "skips": "none"},
    "looped-adapters": {"num_loops": 2, "loop_end": 3, "loop_lora_rank": 2},
    "albert": {"sharing": "single"},
    "encoder-decoder": {"sharing": "encoder_decoder"},
    "prism": {"sharing": "encoder_decoder", "adapters": "bounded", "norm_scale": "virtual"},
    "prism-plain": {"sharing": "single", "adapters": "plain", "skips": "none"},
    "permuted": {"sharing": "encoder_decoder", "repartition": "permute", "rope_dims": 4},
    "permuted-gate": {"repartition": "gate"},
    "permuted-matched": {"repartition": "permute", "repartition_order": "matched"},
    "permuted-with-values": {"repartition": "gate", "repartition_order": "with_values", "repartition_start": 0.7},
    "permuted-static": {"repartition": "static", "anchor_heads": 2},
    "permuted-encoder": {"repartition": "permute", "repartition_encoder_only": True, "repartition_heads": False},
    "ebls": {"sharing": "consecutive", "shared_blocks": 2, "ebls_rank": 3},
    "smear-channel": {"smear": "channel"},
    "smear-keep": {"smear": "keep"},
    "smear-window": {"smear": "window", "boundary_token": 1},
    "smear-window-bias": {"smear": "window_bias"},
    "bigram-xor": {"bigram_buckets": 50, "bigram_dim": 6},
    "bigram-mul": {"bigram_buckets": 50, "bigram_dim": 6, "bigram_hash": "mul31"},
    "within-documents": {"within_documents": True, "boundary_token": 1},
    "mtp": {"mtp_weight": 0.5},
    "everything": {
        "within_documents": True, "boundary_token": 1, "smear": "window",
        "embed_dim": 24, "input_residual_rank": 2, "output_residual_rank": 2,
        "bigram_buckets": 40, "bigram_dim": 4, "rope_dims": 4, "rope_scaling": "ntk", "rope_train_len": 8,
        "xsa_last_n": 3, "attn_gate": "window", "value_residual": True, "norm_scale": "virtual", "skips": "gate",
        "lane_start": 3, "num_loops": 1, "loop_start": 1, "loop_end": 2, "adapters": "bounded",
        "repartition": "gate", "sharing": "consecutive", "shared_blocks": 2, "ebls_rank": 2, "mtp_weight": 0.3,
    },
}  # fmt: skip
every_option = pytest.mark.parametrize("name", OPTIONS)


def config_of(name: str, **more: object) -> GPTConfig:
    return dataclasses.replace(SMALL, **(OPTIONS[name] | more))


def random_model(config: GPTConfig, seed: int = 0) -> GPT:
    """A model in training mode with nothing left at zero or one, so that every term acts."""
    model, generator = GPT(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.3 if parameter_group(name) == "scalar" else 0.0, 0.3, generator=generator)
    return model


def tokens(seed: int = 0, length: int = 12) -> Tensor:
    return torch.randint(0, SMALL.vocab_size, (2, length), generator=torch.Generator().manual_seed(seed))


def logits_with(state: dict[str, Tensor], config: GPTConfig) -> Tensor:
    """Logits of a model that has `state` where names agree and its initial weights elsewhere."""
    model = initialize_(GPT(config), 0).eval()
    model.load_state_dict(model.state_dict() | {k: v for k, v in state.items() if k in model.state_dict()})
    return model.forward_logits(tokens()).detach()
