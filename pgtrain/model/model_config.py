"""What a model is, as plain values: sizes and options.

Owns `GPTConfig`. Refuses torch: plans and tables are printed without loading it. Which layer runs when is in
`pgtrain.model.layer_plan`, names and shapes of tensors are in `pgtrain.model.tensor_table`.

Every option names its source. "baseline" is openai/parameter-golf train_gpt.py; "#N" is pull request N there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgpack.errors import CheckpointError, DataError

FORMAT = "pgtrain-checkpoint-1"  # of a checkpoint whose metadata holds such a config
ACTIVATIONS = ("relu2", "relu3", "leaky_relu2")
CHOICES: dict[str, tuple[str, ...]] = {
    "mlp_activation": ACTIVATIONS,
    "weight_init": ("baseline", "orthogonal"),
    "projection_init": ("matrix", "gaussian"),
    "embed_init": ("normal", "spectral", "svd"),
    "smear": ("none", "channel", "keep", "window", "window_bias"),
    "bigram_hash": ("xor", "mul31", "mul104729"),
    "rope_scaling": ("none", "ntk", "yarn"),
    "attn_gate": ("none", "window", "dense", "double"),
    "norm_scale": ("none", "block", "virtual"),
    "skips": ("add", "gate", "none"),
    "lane_residuals": ("own", "both"),
    "lane_skip": ("attn", "both"),
    "lane_split": ("after_skip", "before_skip", "no_skip"),
    "lane_scope": ("rest", "layers", "decoder"),
    "lane_final": ("mean", "mlp", "attn"),
    "sharing": ("none", "encoder_decoder", "single", "consecutive"),
    "adapters": ("none", "bounded", "plain"),
    "repartition": ("none", "permute", "gate", "static"),
    "repartition_order": ("independent", "matched", "with_values"),
}


@dataclass(frozen=True)
class GPTConfig:
    """Everything that decides which tensors a GPT has and what it computes from them.

    Raises: DataError when the fields do not describe a model (heads that do not divide the width, ...).
    """

    # Size. Source: baseline. num_layers counts layers of one pass before looping; mlp_mult may be a fraction.
    vocab_size: int = 1024
    num_layers: int = 9
    model_dim: int = 512
    num_heads: int = 8
    num_kv_heads: int = 4
    mlp_mult: float = 2.0
    seq_len: int = 1024
    # relu2: baseline; leaky_relu2, LeakyReLU(0.5)^2: #549, #1394; relu3: later non-records.
    mlp_activation: str = "relu2"
    logit_softcap: float = 30.0

    # Embedding. tie_embeddings: baseline. embed_dim (0 = model_dim): a narrower table with learned embed_proj and
    # head_proj, #1394 and #1546. *_residual_rank: x + B(Ax) beside a full-width table, the untried idea of #1546.
    tie_embeddings: bool = True
    embed_dim: int = 0
    # Controls of #1546: projections also at full width, where no parameter of the table is lost; and projections that
    # are not orthogonal at the start: N(0, 1 / rows) where `matrix` begins them as every other matrix.
    projected: bool = False
    projection_init: str = "matrix"
    input_residual_rank: int = 0
    output_residual_rank: int = 0
    # normal: N(0, tied_embed_init_std), baseline. spectral: singular values S_1 / sqrt(k), "overtone", record of
    # 2026-03-19. svd: the best rank-embed_dim approximation of a full random table, finding 25 of #212.
    tied_embed_init_std: float = 0.005
    embed_init: str = "normal"
    # Matrices uniform in +-1/sqrt(in) or orthogonal (record of 2026-03-19, #1394); output projections zero in both.
    weight_init: str = "baseline"
    # Previous token's embedding mixed in. channel: #212 (11L). keep: #433. window: #1667, #1855. window_bias: #212
    # (int6). boundary_token (-1 = none): no smear across the start of a document, fix of #1855.
    smear: str = "none"
    boundary_token: int = -1
    # Attention sees its own document only (there: variable-length attention over packed documents), #1855.
    within_documents: bool = False
    # Hashed table of token pairs. xor: #212 (11L). mul31: #212 (int6). mul104729: #433. 0 buckets = none.
    bigram_buckets: int = 0
    bigram_dim: int = 128
    bigram_hash: str = "xor"

    # Attention. qk_norm, q_gain (per head): baseline. rope_dims (0 = all of the head): partial RoPE, #1394.
    rope_base: float = 10000.0
    qk_gain_init: float = 1.5
    qk_norm: bool = True
    rope_dims: int = 0
    # ntk: base * (T / rope_train_len)^(d/(d-2)) beyond rope_train_len (0 = seq_len), #212, #1394. yarn: frequencies
    # interpolated by parts for rope_max_len, Peng et al. 2023, arXiv:2309.00071, as in the record of 2026-03-24.
    rope_scaling: str = "none"
    rope_train_len: int = 0
    rope_max_len: int = 0
    # Exclusive self attention in the last N blocks: the part along the own value is removed, arXiv:2603.09078, #1394.
    xsa_last_n: int = 0
    # Per-head gate on the attention output. window: sigmoid(scale * W x[:12]), #1787, #1855. dense: sigmoid(W x),
    # arXiv:2505.06708. double: 2 sigmoid(W x[:12]), one at the start, #1667.
    attn_gate: str = "none"
    attn_gate_scale: float = 1.0
    gate_window: int = 12
    # v <- a v_first + b v, learned a = b = 1/2 at the start, Zhou et al. 2024, arXiv:2410.17897.
    value_residual: bool = False

    # Layers. norm_scale: rms_norm times 1 / sqrt(layer + 1), by block (#1394) or by virtual layer (#2090).
    norm_scale: str = "none"
    # Every block first mixes its input with the embedding, per channel (resid_mix): baseline. False: it reads the
    # stream as it is, the simplification that #1546 expects decoupling to allow.
    x0_mix: bool = True
    # U-Net skips: x + w s (baseline), or lerp(w s, x, sigmoid(g)) (#1394), or none (#212 flat, #2090 naive).
    skips: str = "add"
    # Two residual lanes from this layer to the end (-1 = never), #1204, #1546, #1855; "both" and lane_mlp_mix: #2090.
    lane_start: int = -1
    lane_residuals: str = "own"
    lane_mlp_mix: bool = False
    lane_skip: str = "attn"
    # The first layer with lanes takes its skip before it splits (#1546), after (#1855, #2090), or not at all, which
    # leaves every later one the skip that was saved after its own (#1546 with PARALLEL_SKIP_LANE0_ONLY=0).
    lane_split: str = "after_skip"
    # What runs in lanes. rest: everything after the split, ours. layers: layers from lane_start on; earlier ones that
    # a loop runs again go on with the stream from before the split (#1546, #2090). decoder: those in the second half
    # of the pass (#1855). The same unless lane_start lies in a loop or in the first half.
    lane_scope: str = "rest"
    lane_final: str = "mean"
    lane_residual_init: float = 1.1
    # Depth recurrence: layers loop_start..loop_end run num_loops more times, #1394, #1546. The whole stack as a loop
    # is the 3 x 3 of #212. More loops than these at evaluation: Huginn, arXiv:2502.05171.
    num_loops: int = 0
    loop_start: int = 0
    loop_end: int = 0
    # Adapters of this rank on q, k, v and the output projection, one for each run of each layer of a stack that loops
    # as a whole: LORA_RANK of #212.
    loop_lora_rank: int = 0
    # Which physical block a layer uses. encoder_decoder: 2 blocks, #2090. single: ALBERT, arXiv:1909.11942.
    # consecutive: shared_blocks blocks, 000111222, #433.
    sharing: str = "none"
    shared_blocks: int = 0
    # PRISM, #2090: per-virtual-layer scales. bounded: elu and softplus keep them positive, as there; plain: products.
    adapters: str = "none"
    # PRISM: q and k channels permuted per virtual layer. gate and static blend with the unpermuted ones.
    repartition: str = "none"
    repartition_seed: int = 1729
    repartition_heads: bool = True
    repartition_channels: bool = True
    repartition_encoder_only: bool = False
    anchor_heads: int = 0
    repartition_static: float = 0.5
    # Controls of #2090, where the heads of q and of k are shuffled apart and values stay. matched: groups of query
    # heads move with their key head; with_values: the value head as well, so that heads only change places.
    repartition_order: str = "independent"
    # The learned gate's share at the start, which #2090 also pulls its mean back to by a penalty of weight 1.
    repartition_penalty: float = 1.0
    repartition_start: float = 0.5
    # EBLS, #433: every layer has its own scales and a rank-N deviation from its shared block, times a learned gamma.
    # Controls: ebls_penalty = 0 and ebls_b_std > 0 (with B = 0 the loss says nothing about gamma at the start).
    ebls_rank: int = 0
    ebls_penalty: float = 0.01
    ebls_b_std: float = 0.0
    # A head for the token after next, with this weight in the training loss; dropped from checkpoints. #212.
    mtp_weight: float = 0.0

    def __post_init__(self) -> None:
        for field in ("vocab_size", "num_layers", "model_dim", "num_heads", "num_kv_heads", "seq_len"):
            if getattr(self, field) < 1:
                raise DataError(f"model {field} is {getattr(self, field)}, must be at least 1")
        for field, known in CHOICES.items():
            if getattr(self, field) not in known:
                raise DataError(f"unknown {field} {getattr(self, field)!r}; known: {', '.join(known)}")
        if self.model_dim % self.num_heads or (self.model_dim // self.num_heads) % 2:
            raise DataError(
                f"model_dim {self.model_dim} with {self.num_heads} heads gives heads of "
                f"{self.model_dim / self.num_heads:g} channels; the rotary embedding needs an even whole number"
            )
        if self.num_heads % self.num_kv_heads:
            raise DataError(f"{self.num_heads} heads cannot share {self.num_kv_heads} key/value heads evenly")
        if self.logit_softcap <= 0 or self.mlp_hidden < 1:
            raise DataError("logit_softcap and mlp_mult must be positive")
        for problem, sentence in self._contradictions():
            if problem:
                raise DataError(sentence)

    def _contradictions(self) -> tuple[tuple[bool, str], ...]:
        """(is it so, what to say) for pairs of options that do not make a model together."""
        layers, looped = self.num_layers, self.num_loops > 0
        return (
            (self.rope_dims % 2 != 0 or not 0 <= self.rope_dims <= self.head_dim,
             f"rope_dims {self.rope_dims} must be even and at most the {self.head_dim} channels of a head"),
            (self.rope_scaling == "ntk" and self.rotary_dims < 4, "ntk scaling needs at least 4 rotary channels"),
            (self.rope_scaling == "yarn" and self.rope_max_len < self.rope_reference_len,
             f"yarn needs rope_max_len of at least {self.rope_reference_len}, found {self.rope_max_len}"),
            (self.smear in ("window", "window_bias") and self.gate_window > self.table_dim,
             f"gate_window {self.gate_window} is wider than the embedding ({self.table_dim})"),
            (self.attn_gate in ("window", "double") and self.gate_window > self.model_dim,
             f"gate_window {self.gate_window} is wider than the model ({self.model_dim})"),
            (self.embed_init == "svd" and self.table_dim > self.model_dim,
             f"embed_init=svd needs embed_dim below model_dim {self.model_dim}, found {self.embed_dim}"),
            (self.embed_init == "svd" and self.projection_init == "gaussian",
             "embed_init=svd draws the projections itself; leave projection_init at matrix"),
            (looped and not 0 <= self.loop_start <= self.loop_end < layers,
             f"loop_start {self.loop_start} and loop_end {self.loop_end} must lie in the {layers} layers"),
            (self.loop_lora_rank > 0
             and (not looped or (self.loop_start, self.loop_end) != (0, layers - 1) or self.sharing != "none"),
             f"loop_lora_rank {self.loop_lora_rank} needs num_loops with loop_start 0 and loop_end {layers - 1}"),
            (self.lane_start >= layers, f"lane_start {self.lane_start} is not one of the {layers} layers"),
            (self.sharing == "consecutive" and (self.shared_blocks < 1 or layers % self.shared_blocks != 0),
             f"{layers} layers cannot be shared evenly by {self.shared_blocks} blocks; set shared_blocks"),
            (self.sharing == "encoder_decoder" and layers < 2, "sharing=encoder_decoder needs at least 2 layers"),
            (self.within_documents and self.boundary_token < 0,
             "within_documents needs boundary_token, the token that starts a document"),
            (not self.x0_mix and (self.ebls_rank > 0 or self.adapters != "none"),
             "x0_mix=False goes with neither ebls_rank nor adapters, which bring mixes of their own"),
            (not 0 <= self.anchor_heads <= self.num_heads,
             f"anchor_heads {self.anchor_heads} must be between 0 and the {self.num_heads} heads"),
            (not 0.0 < self.repartition_start < 1.0,
             f"repartition_start {self.repartition_start} must lie between 0 and 1"),
            (self.vocab_size < self.table_dim and self.embed_init != "normal",
             f"embed_init={self.embed_init} needs at least as many tokens as channels ({self.table_dim})"),
        )  # fmt: skip

    @property
    def head_dim(self) -> int:
        return self.model_dim // self.num_heads

    @property
    def kv_dim(self) -> int:
        """Width of keys and of values, all heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def mlp_hidden(self) -> int:
        """Hidden units of the MLP: mlp_mult * model_dim, rounded to a whole number."""
        return round(self.mlp_mult * self.model_dim)

    @property
    def table_dim(self) -> int:
        """Width of the embedding table."""
        return self.embed_dim or self.model_dim

    @property
    def has_projections(self) -> bool:
        """Whether embed_proj and head_proj stand between the table and the stream."""
        return self.projected or self.table_dim != self.model_dim

    @property
    def rotary_dims(self) -> int:
        """Channels of a head that turn with the position."""
        return self.rope_dims or self.head_dim

    @property
    def rope_reference_len(self) -> int:
        """Length up to which positions are not rescaled."""
        return self.rope_train_len or self.seq_len

    @property
    def num_blocks(self) -> int:
        """Physical blocks."""
        return {"none": self.num_layers, "encoder_decoder": 2, "single": 1}.get(self.sharing, self.shared_blocks)

    @property
    def virtual_layers(self) -> int:
        """Layers of one pass with all its loops."""
        return self.num_layers + self.num_loops * (self.loop_end - self.loop_start + 1 if self.num_loops else 0)

    @property
    def num_skips(self) -> int:
        """U-Net skips: one per encoder layer, and the encoder is the smaller half of the looped stack."""
        return 0 if self.skips == "none" else self.virtual_layers // 2

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> GPTConfig:
        """The config that `to_json` wrote; a key this version does not know is refused, never ignored.

        A key that is missing takes its default, which is always the baseline's behaviour, so that checkpoints of
        earlier versions mean what they meant.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise CheckpointError(f"model_config has unknown keys {', '.join(unknown)}; use a newer pgtrain")
        return cls(**values)
