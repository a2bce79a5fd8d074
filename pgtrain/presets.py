"""Named systems as one literal table: fields of GPTConfig and TrainConfig that differ from theirs.

Owns numbers only. A preset never changes once published; a better one gets a new name. Every system of the source
studies is here in full size, with the parameter count its source logged, and as a twin NAME-tiny of the same
structure that trains on two CPU cores in about two minutes; twins of one study have one width, to be compared.

Sources: pull requests of openai/parameter-golf, by number. Training settings of the full sizes are the sources' where
TrainConfig has them, with the number of steps that their runs reached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pgpack.errors import DataError
from pgtrain.model.model_config import GPTConfig
from pgtrain.training.train_config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """One setting: what it is for, the model, the training, the pull request it is from."""

    purpose: str
    model: GPTConfig
    training: TrainConfig
    source: str = ""


# 1,956,392 parameters, every matrix above 65,536 elements, so that packers that keep small tensors in fp16 treat it
# as they treat a large model. Tried on one seed and the same validation text, 2,048 tokens a step: 280 steps 1.829
# bpb; 3 layers, 300 steps 1.783 (1.4 x the cost per step); matrix_lr 0.04 1.809 there; matrix_lr 0.01 with 0.03
# elsewhere 1.851 here.
DEMO = Preset(
    purpose="built-in corpus, about two minutes",
    model=GPTConfig(
        vocab_size=1024, num_layers=2, model_dim=288, num_heads=4, num_kv_heads=4, mlp_mult=3.0, seq_len=256
    ),
    training=TrainConfig(
        steps=200,
        batch_tokens=2048,
        matrix_lr=0.02,
        warmup_steps=5,
        warmdown_steps=120,
        muon_momentum_steps=50,
        ema_decay=0.9,
    ),
)

# The stack that #1394 began and later records share.
_STACK = GPTConfig(
    vocab_size=8192,
    num_layers=11,
    mlp_mult=4.0,
    mlp_activation="leaky_relu2",
    seq_len=2048,
    skips="gate",
    norm_scale="block",
    rope_dims=16,
    rope_scaling="ntk",
    xsa_last_n=11,
    qk_gain_init=5.0,
    weight_init="orthogonal",
)
_LOOPED = replace(_STACK, num_loops=2, loop_start=3, loop_end=5)
_LANES = replace(_LOOPED, lane_start=8)
_SHARED = replace(_STACK, sharing="encoder_decoder")
_PRISM = replace(_SHARED, adapters="bounded", norm_scale="virtual")
_EBLS = GPTConfig(
    model_dim=1024,
    num_heads=16,
    mlp_mult=3.0,
    sharing="consecutive",
    shared_blocks=3,
    ebls_rank=8,
    smear="keep",
    bigram_buckets=10240,
    bigram_hash="mul104729",
)
_THREE = GPTConfig(num_layers=3, mlp_mult=3.0, num_loops=2, loop_start=0, loop_end=2)
_ELEVEN = GPTConfig(
    num_layers=11,
    mlp_mult=3.0,
    seq_len=2048,
    rope_dims=16,
    rope_scaling="ntk",
    xsa_last_n=4,
    norm_scale="block",
    smear="channel",
    bigram_buckets=2048,
    weight_init="orthogonal",
)
_SPARSE_GATE = replace(
    _LANES,
    lane_split="before_skip",
    rope_scaling="none",
    attn_gate="window",
    attn_gate_scale=0.5,
    smear="window",
    boundary_token=1,
    within_documents=True,
)

_BASELINE_RUN = TrainConfig(
    steps=13_800, batch_tokens=524_288, warmdown_steps=1200, grad_clip=0.0, ema_decay=0.0, micro_batches=8
)
_INT6_RUN = replace(
    _BASELINE_RUN,
    steps=12_507,
    matrix_lr=0.06,
    scalar_lr=0.06,
    embed_lr=0.07,
    warmdown_steps=12_487,
    muon_momentum=0.99,
    grad_clip=1.0,
)
_LANES_RUN = TrainConfig(
    steps=4727,
    batch_tokens=786_432,
    matrix_lr=0.022,
    embed_lr=0.03,
    scalar_lr=0.02,
    warmdown_steps=3153,
    muon_momentum=0.97,
    muon_momentum_start=0.92,
    muon_momentum_steps=1500,
    muon_row_norm=True,
    weight_decay=0.095,
    embed_weight_decay=0.095,
    scalar_weight_decay=0.02,
    grad_clip=0.3,
    ema_decay=0.997,
    loops_from=0.35,
    micro_batches=8,
)
_LOOP45_RUN = replace(
    _LANES_RUN,
    steps=5000,
    matrix_lr=0.02,
    warmdown_steps=3335,
    muon_momentum=0.99,
    weight_decay=0.085,
    embed_weight_decay=0.085,
    loops_from=0.5,
)
_PRISM_RUN = replace(
    _LANES_RUN,
    steps=2500,
    warmdown_steps=1800,
    muon_momentum=0.99,
    embed_weight_decay=0.085,
    ema_decay=0.9965,
    loops_from=0.0,
)
_EBLS_RUN = TrainConfig(
    steps=4572,
    batch_tokens=524_288,
    matrix_lr=0.02,
    warmdown_steps=3000,
    muon_momentum=0.99,
    muon_momentum_start=0.92,
    muon_momentum_steps=1500,
    weight_decay=0.04,
    grad_clip=0.3,
    ema_decay=0.0,
    swa_every=50,
    qat_bits=6,
    qat_clip=0.0,
    qat_from=0.0,
    micro_batches=8,
)
_ELEVEN_RUN = TrainConfig(
    steps=8585,
    batch_tokens=524_288,
    matrix_lr=0.025,
    embed_lr=0.035,
    scalar_lr=0.025,
    warmdown_steps=3000,
    muon_momentum=0.99,
    muon_momentum_start=0.92,
    muon_momentum_steps=1500,
    weight_decay=0.04,
    embed_weight_decay=0.04,
    scalar_weight_decay=0.04,
    grad_clip=0.3,
    ema_decay=0.997,
    micro_batches=8,
)
_SPARSE_GATE_RUN = replace(
    _LANES_RUN,
    steps=4932,
    matrix_lr=0.026,
    min_lr=0.1,
    warmdown_steps=4192,
    muon_orthogonalizer="polar_express",
    embed_weight_decay=0.085,
    adam_beta2=0.99,
    ema_decay=0.9965,
    document_batches=True,
)

SYSTEMS = {
    "baseline": Preset("the challenge's baseline", GPTConfig(), _BASELINE_RUN, "train_gpt.py"),
    "loop45": Preset(
        "layers 4-5 three times, gated skips, XSA",
        replace(_STACK, num_loops=2, loop_start=4, loop_end=5, qk_gain_init=4.0),
        _LOOP45_RUN,
        "#1394",
    ),
    "lanes": Preset(
        "layers 3-5 three times, two lanes from layer 8",
        _LANES,
        _LANES_RUN,
        "#1546",
    ),
    "embed-384": Preset(
        "lanes, decoupled embedding of 3/4 the width", replace(_LANES, embed_dim=384), _LANES_RUN, "#1546"
    ),
    "embed-448": Preset(
        "lanes, decoupled embedding of 7/8 the width", replace(_LANES, embed_dim=448), _LANES_RUN, "#1546"
    ),
    "embed-416": Preset(
        "lanes from 7, embedding of 13/16 the width",
        replace(_LANES, embed_dim=416, lane_start=7),
        _LANES_RUN,
        "#1546",
    ),
    "embed-residual": Preset(
        "lanes, x + B(Ax) at both ends, rank 1/16 the width",
        replace(_LANES, input_residual_rank=32, output_residual_rank=32),
        _LANES_RUN,
        "#1546",
    ),
    "prism-standard": Preset("11 blocks, no sharing: the control", _STACK, _PRISM_RUN, "#2090"),
    "prism-albert": Preset(
        "one block 11 times, no skips", replace(_STACK, sharing="single", skips="none"), _PRISM_RUN, "#2090"
    ),
    "prism-naive": Preset(
        "two blocks, 5 and 6 times, no skips",
        replace(_SHARED, skips="none"),
        _PRISM_RUN,
        "#2090",
    ),
    "prism-wo": Preset("two blocks with skips and per-depth adapters", _PRISM, _PRISM_RUN, "#2090"),
    "prism-wt": Preset(
        "prism-wo, q and k permuted at every depth", replace(_PRISM, repartition="permute"), _PRISM_RUN, "#2090"
    ),
    "prism-adapt": Preset(
        "prism-wo, a learned gate blends the two", replace(_PRISM, repartition="gate"), _PRISM_RUN, "#2090"
    ),
    "prism-static": Preset(
        "prism-wo, half of the permutation", replace(_PRISM, repartition="static"), _PRISM_RUN, "#2090"
    ),
    "int6-3x": Preset("baseline with MLP of 3 x", GPTConfig(mlp_mult=3.0), _INT6_RUN, "#212"),
    "recurrence-3x3": Preset("3 blocks 3 times, flat", replace(_THREE, skips="none"), _INT6_RUN, "#212"),
    "recurrence-3x3-skips": Preset("3 blocks 3 times, U-Net skips", _THREE, _INT6_RUN, "#212"),
    "eleven": Preset("11 layers, XSA, partial RoPE, SmearGate, BigramHash", _ELEVEN, _ELEVEN_RUN, "#212"),
    "factorized": Preset(
        "baseline, table of rank 1/4 the width by SVD",
        GPTConfig(embed_dim=128, embed_init="svd"),
        _BASELINE_RUN,
        "#212",
    ),
    "mtp": Preset(
        "baseline and a head for the second token",
        GPTConfig(mtp_weight=0.5),
        replace(_BASELINE_RUN, steps=13_400),
        "#212",
    ),
    "ebls": Preset("3 blocks 3 times with shrunken rank-8 deviations", _EBLS, _EBLS_RUN, "#433"),
    "ebls-no-penalty": Preset(
        "control: nothing pulls gamma down", replace(_EBLS, ebls_penalty=0.0), _EBLS_RUN, "#433"
    ),
    "ebls-random-b": Preset("control: B random at the start", replace(_EBLS, ebls_b_std=0.02), _EBLS_RUN, "#433"),
    "sparse-gate": Preset("lanes, sparse attention gate, SmearGate", _SPARSE_GATE, _SPARSE_GATE_RUN, "#1855"),
}

# Fields of the twins. With 1,024 tokens of vocabulary; 17 virtual layers need narrow ones to stay at two minutes.
_STACK_TINY = {"model_dim": 96, "rope_dims": 8}
_PRISM_TINY = {"model_dim": 128, "rope_dims": 8}
_EBLS_TINY = {"model_dim": 160, "num_heads": 8, "num_kv_heads": 2, "bigram_buckets": 2048, "bigram_dim": 32}
TINY_FIELDS: dict[str, dict[str, Any]] = {
    "baseline": {"model_dim": 144},
    "loop45": _STACK_TINY,
    "lanes": _STACK_TINY,
    "embed-384": _STACK_TINY | {"embed_dim": 72},
    "embed-448": _STACK_TINY | {"embed_dim": 84},
    "embed-416": _STACK_TINY | {"embed_dim": 78},
    "embed-residual": _STACK_TINY | {"input_residual_rank": 6, "output_residual_rank": 6},
    **{name: _PRISM_TINY for name in SYSTEMS if name.startswith("prism-")},
    "int6-3x": {"model_dim": 144},
    "recurrence-3x3": {"model_dim": 144},
    "recurrence-3x3-skips": {"model_dim": 144},
    "eleven": {"model_dim": 128, "rope_dims": 8, "bigram_buckets": 1024, "bigram_dim": 32},
    "factorized": {"model_dim": 144, "embed_dim": 36},
    "mtp": {"model_dim": 144},
    "ebls": _EBLS_TINY,
    "ebls-no-penalty": _EBLS_TINY,
    "ebls-random-b": _EBLS_TINY,
    "sparse-gate": _STACK_TINY,
}


def _twin(name: str, fields: dict[str, Any]) -> Preset:
    full = SYSTEMS[name]
    shape = {"vocab_size": 1024, "num_heads": 4, "num_kv_heads": 2, "seq_len": 256} | fields
    training = replace(DEMO.training, loops_from=full.training.loops_from)
    return Preset(full.purpose, replace(full.model, **shape), training, full.source)


PRESETS = {"demo": DEMO} | SYSTEMS | {f"{name}-tiny": _twin(name, fields) for name, fields in TINY_FIELDS.items()}


def find_preset(name: str) -> Preset:
    """The preset called `name`. Raises: DataError listing the known names."""
    if name not in PRESETS:
        raise DataError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
