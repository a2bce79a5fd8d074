"""Small models of every system and of every setting that leaves no trace, trained briefly: what identification is
tried on.

A case is the options on top of SIZE. Owns the cases and their training; `identify_confusion` is what is made of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgtrain.model.gpt import GPT, deployable, initialize_
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.optim import make_optimizers
from pgtrain.training.train_config import TrainConfig

Fields = dict[str, Any]
BATCH = 1024  # tokens of a step
STEPS = 1400  # a minute of one core: 0.042 s a step, the mean of all cases
SIZE: Fields = {
    "num_layers": 4, "model_dim": 32, "num_heads": 2, "num_kv_heads": 1, "mlp_mult": 2.0, "seq_len": 64,
}  # fmt: skip
RECORD: Fields = {
    "mlp_activation": "leaky_relu2", "skips": "gate", "norm_scale": "block", "rope_dims": 8, "xsa_last_n": 4,
}  # fmt: skip
LOOPED = RECORD | {"num_loops": 1, "loop_start": 1, "loop_end": 2}
LANES = LOOPED | {"lane_start": 3, "lane_scope": "layers"}
OLD_LANES = {"lane_split": "before_skip", "lane_residuals": "both", "lane_skip": "both", "lane_mlp_mix": True}
GATED = LANES | {
    "attn_gate": "window", "attn_gate_scale": 0.5, "smear": "window", "lane_split": "before_skip",
    "lane_scope": "decoder", "boundary_token": 1,
}  # fmt: skip
FLAT: Fields = {"num_layers": 3, "skips": "none", "loop_start": 0, "loop_end": 2}
ALBERT = RECORD | {"sharing": "single", "skips": "none"}
NAIVE = RECORD | {"sharing": "encoder_decoder", "skips": "none"}
PRISM = RECORD | {"sharing": "encoder_decoder", "adapters": "bounded", "norm_scale": "virtual", "num_layers": 6}
EBLS: Fields = {"sharing": "consecutive", "shared_blocks": 2, "ebls_rank": 2, "smear": "keep"}
BIGRAM: Fields = {"bigram_buckets": 512, "bigram_dim": 8}

CASES: dict[str, Fields] = {
    "baseline": {},
    "relu3": {"mlp_activation": "relu3"},
    "leaky": {"mlp_activation": "leaky_relu2"},
    "untied": {"tie_embeddings": False},
    "narrow": {"embed_dim": 16},
    **{f"rope-base-{base:g}": {"rope_base": base} for base in (1e3, 1.2e4, 3e4, 5e4, 5e5)},
    **{f"rope-dims-{dims}": {"rope_dims": dims} for dims in (4, 8, 12)},
    **{f"softcap-{cap:g}": {"logit_softcap": cap} for cap in (10.0, 12.0, 14.0, 15.0, 20.0, 28.0)},
    **{f"xsa-{n}": {"xsa_last_n": n} for n in (1, 2, 4)},
    **{f"window-{n}": {"seq_len": n} for n in (32, 48, 96, 128)},
    "norm-block": {"norm_scale": "block"},
    "record": RECORD,
    **{f"record-base-{base:g}": RECORD | {"rope_base": base} for base in (1e3, 5e4)},
    "record-cap-15": RECORD | {"logit_softcap": 15.0},
    "loop-1-of-1": RECORD | {"num_loops": 1, "loop_start": 1, "loop_end": 1},
    "loop-2-from-0": RECORD | {"num_loops": 1, "loop_start": 0, "loop_end": 1},
    "loop-2-from-1": LOOPED,
    "loop-2-from-2": RECORD | {"num_loops": 1, "loop_start": 2, "loop_end": 3},
    "loop-2-of-1": RECORD | {"num_loops": 2, "loop_start": 2, "loop_end": 2},
    "loop-virtual-norm": LOOPED | {"norm_scale": "virtual"},
    "loop-no-norm": LOOPED | {"norm_scale": "none"},
    "flat-2": FLAT | {"num_loops": 1},
    "flat-3": FLAT | {"num_loops": 2},
    "flat-part": {"skips": "none", "num_loops": 2, "loop_start": 1, "loop_end": 2},
    "flat-none": {"skips": "none"},
    "three-skips": FLAT | {"num_loops": 2, "skips": "add"},
    "adapters": FLAT | {"num_loops": 2, "loop_lora_rank": 2},
    "lanes-3": LANES,
    "lanes-2-in-the-loop": LANES | {"lane_start": 2},
    "lanes-1": LANES | {"lane_start": 1},
    "lanes-mlp": LANES | {"lane_final": "mlp"},
    "lanes-attn": LANES | {"lane_final": "attn"},
    "lanes-both-skip": LANES | {"lane_start": 2, "lane_skip": "both", "lane_split": "no_skip"},
    "lanes-old": LANES | OLD_LANES | {"lane_start": 2, "lane_final": "mlp"},
    "lanes-decoder": LANES | {"lane_start": 2, "lane_scope": "decoder", "lane_split": "before_skip"},
    **{f"gate-{scale:g}": GATED | {"attn_gate_scale": scale} for scale in (0.5, 1.0, 2.0)},
    "gate-no-borders": GATED | {"boundary_token": -1},
    "gate-documents": GATED | {"within_documents": True},
    "gate-dense": RECORD | {"attn_gate": "dense"},
    "gate-double": RECORD | {"attn_gate": "double"},
    **{f"albert-{depth}": ALBERT | {"num_layers": depth} for depth in (3, 5, 8)},
    **{f"naive-{depth}": NAIVE | {"num_layers": depth} for depth in (4, 6, 7)},
    "prism-wo": PRISM,
    "prism-plain": PRISM | {"adapters": "plain"},
    "prism-block-norm": PRISM | {"norm_scale": "block"},
    "prism-wt": PRISM | {"repartition": "permute"},
    "prism-wt-channels": PRISM | {"repartition": "permute", "repartition_heads": False},
    "prism-static": PRISM | {"repartition": "static"},
    "prism-adapt": PRISM | {"repartition": "gate"},
    "ebls": EBLS,
    "ebls-bigram": EBLS | BIGRAM | {"bigram_hash": "mul104729"},
    "bigram-mul31": BIGRAM | {"bigram_hash": "mul31", "smear": "window_bias"},
    "bigram-xor": BIGRAM | {"smear": "channel", "rope_dims": 8, "norm_scale": "block", "xsa_last_n": 2},
    "value-residual": {"value_residual": True},
}


def config_of(name: str, vocab_size: int) -> GPTConfig:
    return GPTConfig(vocab_size=vocab_size, **(SIZE | CASES[name]))


def trained(config: GPTConfig, tokens: NDArray[np.int64], steps: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """The tensors of a model after some steps of BATCH tokens, as a script saves them: nothing but tensors."""
    model = initialize_(GPT(config), seed).train()
    optimizers = list(make_optimizers(model, TrainConfig()).values())
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    draw = np.random.default_rng(seed)
    for step in range(steps):
        starts = draw.integers(0, len(tokens) - config.seq_len - 1, BATCH // config.seq_len)
        ids = torch.from_numpy(tokens[starts[:, None] + np.arange(config.seq_len + 1)])
        for group, rate in groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10, 2 * (steps - step) / steps)
        model(ids[:, :-1], ids[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
    return {name: tensor.detach().clone() for name, tensor in deployable(model.state_dict()).items()}
