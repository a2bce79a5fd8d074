"""Small models of the public training scripts, in our options: the systems whose logits are in logits.npz.

A case is (script, options on top of SIZE, loops in this pass; None = all). Scripts are files of
github.com/openai/parameter-golf at a commit of the pull request:

    baseline   train_gpt.py                                                                     4908dc46
    1394       2026-04-05_SP8192_GPTQ-Embeddings_SDClip_Loop45x2/train_gpt_human.py             f4fa11fe
    1546       2026-04-11_decouple416_parstart7_cliptuned/train_gpt.py, decompressed            9070eb58
    2090       30-04-2026_PRISM_random_repart_projections/train_gpt_prism_token_limit.py        3ffdbaf3
    2090-exp   30-04-2026_PRISM_random_repart_projections/train_gpt_exp_wt.py                   3ffdbaf3
    433        2026-03-22_EBLS_LearnedSharing/train_gpt.py                                      1c4a4912
    212-int6   2026-03-20_Int6_3xMLP/train_gpt.py                                               7237476a
    212-11l    2026-03-21_11L_XSA_EMA_TTT/train_gpt.py                                          7237476a
    1855       2026-04-27_SP8192_LQER_SparseGate_BOSSmearFix_9HpStack_1.0611/train_gpt.py       1e439663
    value      2026-03-22_ValueResidual_GatedAttention_anantdgoel/train_gpt.py                  c0a29392

logits.npz holds, per case, the logits of the last 3 of the 12 tokens IDS, in float32 from the script's own modules in
eval mode on a CPU (flash attention replaced by torch's scaled_dot_product_attention, document by document in the
"documents" case; tensors that the script builds but never reads are random), with the weights of `golden_state`.
lanes.npz holds those of the last cases.
Shape: (3, 32). Written once, never regenerated.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import parameter_group, tensor_shapes

Fields = dict[str, Any]
SIZE: Fields = {
    "vocab_size": 32,
    "num_layers": 6,
    "model_dim": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "mlp_mult": 2.0,
    "seq_len": 16,
}
IDS = (3, 17, 5, 1, 30, 8, 9, 2, 1, 4, 21, 12)  # 1 starts a document

RECORD: Fields = {
    "mlp_activation": "leaky_relu2",
    "skips": "gate",
    "norm_scale": "block",
    "rope_dims": 4,
    "xsa_last_n": 6,
    "rope_scaling": "ntk",
}
LOOPED = RECORD | {"num_loops": 2, "loop_start": 2, "loop_end": 3}
LANES = LOOPED | {"lane_start": 4}
OLD_LANES = {"lane_start": 4, "lane_residuals": "both", "lane_skip": "both", "lane_mlp_mix": True}
SHARED = RECORD | {"sharing": "encoder_decoder"}
PRISM = SHARED | {"adapters": "bounded", "norm_scale": "virtual"}
THREE = {"num_layers": 3, "num_loops": 2, "loop_start": 0, "loop_end": 2}
BIGRAM = {"bigram_buckets": 50, "bigram_dim": 8}
ELEVEN = BIGRAM | {"smear": "channel", "xsa_last_n": 4, "rope_dims": 4, "norm_scale": "block", "rope_scaling": "ntk"}
GATED = LANES | {
    "lane_split": "before_skip",
    "rope_scaling": "none",
    "attn_gate": "window",
    "attn_gate_scale": 0.5,
    "smear": "window",
    "boundary_token": 1,
}
LAYERS = {"lane_scope": "layers"}
BOTH = LAYERS | {"lane_skip": "both", "lane_split": "no_skip"}
DECODER = {"lane_scope": "decoder"}
EARLY = LAYERS | {"lane_split": "before_skip", "lane_final": "mlp"}
EBLS = {"sharing": "consecutive", "shared_blocks": 3, "ebls_rank": 4, "smear": "keep", "bigram_hash": "mul104729"}

CASES: dict[str, tuple[str, Fields, int | None]] = {
    "baseline": ("baseline", {}, None),
    "baseline-untied": ("baseline", {"tie_embeddings": False}, None),
    "1394-loops": ("1394", LOOPED, None),
    "1394-no-loops": ("1394", LOOPED, 0),
    "1394-embed-24-beyond-length": ("1394", LOOPED | {"embed_dim": 24, "rope_train_len": 8}, None),
    "1546-loops": ("1546", LANES, None),
    "1546-no-loops": ("1546", LANES, 0),
    "1546-embed-24-loops": ("1546", LANES | {"embed_dim": 24}, None),
    "1546-embed-24-no-loops-mlp-lane": (
        "1546",
        LANES | {"embed_dim": 24, "lane_final": "mlp", "lane_mlp_mix": True},
        0,
    ),
    "2090-standard": ("2090", RECORD, None),
    "2090-lanes-loops": ("2090", LOOPED | OLD_LANES | {"lane_final": "mlp"}, None),
    "2090-lanes-no-loops": ("2090", LOOPED | OLD_LANES | {"lane_final": "attn"}, 0),
    "2090-early-lanes": ("2090", RECORD | OLD_LANES | {"lane_start": 1}, None),
    "2090-albert": ("2090", RECORD | {"sharing": "single", "skips": "none"}, None),
    "2090-naive": ("2090", SHARED | {"skips": "none"}, None),
    "2090-wo": ("2090", PRISM, None),
    "2090-wt": ("2090", PRISM | {"repartition": "permute"}, None),
    "2090-adapt": ("2090", PRISM | {"repartition": "gate"}, None),
    "2090-wt-anchors": ("2090-exp", PRISM | {"repartition": "permute", "anchor_heads": 2}, None),
    "2090-wt-channels-only": ("2090-exp", PRISM | {"repartition": "permute", "repartition_heads": False}, None),
    "2090-wt-encoder-only": ("2090-exp", PRISM | {"repartition": "permute", "repartition_encoder_only": True}, None),
    "433": ("433", EBLS | BIGRAM, None),
    "212-int6": (
        "212-int6",
        BIGRAM | {"mlp_mult": 3.0, "smear": "window_bias", "bigram_hash": "mul31"},
        None,
    ),
    "212-3x3": ("212-int6", THREE, None),
    "212-3x3-flat": ("212-11l", THREE | {"skips": "none"}, None),
    "212-11l-flat": ("212-11l", ELEVEN | {"rope_train_len": 8, "skips": "none"}, None),
    "212-11l-skips": ("212-11l", ELEVEN | {"rope_train_len": 8}, None),
    "1855-loops": ("1855", GATED, None),
    "1855-no-loops": ("1855", GATED, 0),
    "1855-documents": ("1855", GATED | {"within_documents": True}, None),
    "1855-dense-gate": (
        "1855",
        GATED | {"attn_gate": "dense", "smear": "none", "rope_scaling": "ntk", "rope_train_len": 8},
        None,
    ),
    "value-residual": ("value", {"value_residual": True, "xsa_last_n": 3, "norm_scale": "block"}, None),
    "1855-double-gate": ("1855", GATED | {"attn_gate": "double"}, None),
    # Lanes that start in a loop or in the first half of the pass: their logits are in lanes.npz.
    **{f"1546-lanes-from-{i}": ("1546", LANES | LAYERS | {"lane_start": i}, None) for i in (0, 1, 2, 3)},
    "1546-lanes-from-1-no-loops": ("1546", LANES | LAYERS | {"lane_start": 1}, 0),
    "1546-lanes-from-3-two-layers-of-three": ("1546", LANES | LAYERS | {"lane_start": 3, "loop_end": 4}, None),
    **{f"1546-both-lanes-skip-from-{i}": ("1546", LANES | BOTH | {"lane_start": i}, None) for i in (2, 3, 4)},
    "1546-both-lanes-skip-from-4-no-loops": ("1546", LANES | BOTH, 0),
    **{f"1855-lanes-from-{i}": ("1855", GATED | DECODER | {"lane_start": i}, None) for i in (1, 2, 3)},
    **{f"2090-lanes-from-{i}": ("2090", LOOPED | OLD_LANES | EARLY | {"lane_start": i}, None) for i in (2, 3)},
    "212-3x3-adapters": ("212-int6", THREE | {"loop_lora_rank": 3}, None),
    "212-3x3-flat-adapters": ("212-11l", THREE | {"skips": "none", "loop_lora_rank": 3, "xsa_last_n": 1}, None),
}


def golden_config(name: str) -> GPTConfig:
    """The model of a case."""
    return GPTConfig(**(SIZE | CASES[name][1]))


def golden_state(name: str) -> dict[str, NDArray[np.float32]]:
    """The weights of a case, drawn tensor by tensor in the order of their names.

    numpy's default_rng(crc32 of the case's name); matrices, tables, heads and LoRA factors N(0, 1) / sqrt(last axis),
    everything else uniform in [0.2, 1.2), except scalars without axes, which are 0.5 and draw nothing.
    """
    config, rng = golden_config(name), np.random.default_rng(zlib.crc32(name.encode()))
    state: dict[str, NDArray[np.float32]] = {}
    for tensor, shape in sorted(tensor_shapes(config).items()):
        if shape == ():
            state[tensor] = np.full((), 0.5, np.float32)
        elif parameter_group(tensor) != "scalar" or "_lora_" in tensor:
            state[tensor] = (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)
        else:
            state[tensor] = rng.uniform(0.2, 1.2, shape).astype(np.float32)
    return state
