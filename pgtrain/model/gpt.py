"""The GPT of the challenge and its options: tokens in, soft-capped logits out.

    ids -> embedding = x0 -> layers, the first half saving, the second taking skips -> final_norm -> head -> softcap
                             (from lane_start on in two lanes, merged before final_norm)

Owns `GPT`, its initial weights and `build`. What runs when is `pgtrain.model.layer_plan`, what a layer computes
`pgtrain.model.blocks`; tensor names are those of `pgtrain.model.tensor_table`, options and sources those of
`pgtrain.model.model_config`, and the public scripts that it was compared with are in MODEL.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .blocks import Block, LayerValues, Pass, RunAdapter, rms_norm, rotary_tables, same_document
from .embedding import BigramHash, LowRankResidual, SmearGate, factorize, harmonic_spectrum
from .layer_plan import LayerStep, layer_plan, uses_of
from .model_config import GPTConfig
from .repartition import permutation_tables
from .shrinkage import DeviatingBlock
from .tensor_table import TRAINING_ONLY, blocks_name, check_shapes, parameter_group

ZERO_AT_START = (
    "attn.proj.weight",
    "mlp.proj.weight",
    "lm_head.weight",
    "bigram_hash.proj.weight",
    "_residual.B.weight",
    "attn_gate_proj.weight",
    "perm_gate.weight",
)
MIN_ADAPTED = 1e-4  # PRISM keeps adapted scales and gains above this
Lanes = tuple[Tensor, Tensor]


class FinalNorm(nn.Module):
    """The last RMS norm. A module, so that a forward hook sees the final hidden state."""

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x)


class GPT(nn.Module):
    """Decoder-only transformer with a U-Net of skips over its virtual layers."""

    # There are only those that the config asks for.
    virtual_attn_scales: nn.Parameter
    virtual_mlp_scales: nn.Parameter
    virtual_resid_mix_delta: nn.Parameter
    virtual_q_gain_mult: nn.Parameter
    q_sources: Tensor
    k_sources: Tensor
    v_sources: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        dim, width = config.model_dim, config.table_dim
        self.tok_emb = nn.Embedding(config.vocab_size, width)
        self.bigram_hash = BigramHash(config) if config.bigram_buckets else None
        self.smear_gate = SmearGate(config) if config.smear != "none" else None
        self.smear_lambda = nn.Parameter(torch.zeros(1)) if config.smear == "window" else None
        self.embed_proj = nn.Linear(width, dim, bias=False) if config.has_projections else None
        rank = config.input_residual_rank
        self.input_residual = LowRankResidual(dim, rank) if rank else None
        skips = (config.num_skips, dim)
        self.skip_weights = nn.Parameter(torch.ones(skips)) if config.skips != "none" else None
        self.skip_gates = nn.Parameter(torch.zeros(skips)) if config.skips == "gate" else None
        kind = DeviatingBlock if config.ebls_rank else Block
        blocks = nn.ModuleList(kind(config, i, uses) for i, uses in enumerate(uses_of(config)))
        self.add_module(blocks_name(config), blocks)
        self._add_lanes()
        self._add_virtual_layers()
        rank, layers = config.loop_lora_rank, range(config.num_layers)
        runs = range(config.num_loops + 1 if rank else 0)
        of_run = (nn.ModuleList(RunAdapter(config) for _ in layers) for _ in runs)
        self.lora_adapters = nn.ModuleList(of_run) if rank else None
        self.final_norm = FinalNorm()
        rank = config.output_residual_rank
        self.output_residual = LowRankResidual(dim, rank) if rank else None
        self.head_proj = nn.Linear(dim, width, bias=False) if config.has_projections else None
        self.lm_head = None if config.tie_embeddings else nn.Linear(width, config.vocab_size, bias=False)
        self.mtp_head = nn.Linear(dim, dim, bias=False) if config.mtp_weight else None
        self.plan = layer_plan(config)

    def _add_lanes(self) -> None:
        config = self.config
        if config.lane_start >= 0:
            start = torch.full((config.num_layers, 2), config.lane_residual_init)
            self.parallel_post_lambdas = nn.Parameter(torch.ones(config.num_layers, 2, 2))
            self.parallel_resid_lambdas = nn.Parameter(start)

    def _add_virtual_layers(self) -> None:
        config, rows = self.config, self.config.virtual_layers
        if config.adapters != "none":
            self.virtual_attn_scales = nn.Parameter(torch.ones(rows, config.model_dim))
            self.virtual_mlp_scales = nn.Parameter(torch.ones(rows, config.model_dim))
            self.virtual_resid_mix_delta = nn.Parameter(torch.zeros(rows, 2, config.model_dim))
            self.virtual_q_gain_mult = nn.Parameter(torch.ones(rows, config.num_heads))
        if config.repartition != "none":
            for name, table in zip("qkv", permutation_tables(config), strict=True):
                self.register_buffer(f"{name}_sources", table, persistent=False)

    @property
    def layers(self) -> Sequence[Block]:
        """The physical blocks."""
        return cast("Sequence[Block]", self.get_submodule(blocks_name(self.config)))

    def set_loops_(self, loops: int) -> None:
        """Run the looped segment `loops` more times from now on; 0 before looping is enabled in training."""
        self.plan = layer_plan(self.config, loops)

    def embed(self, ids: Tensor) -> Tensor:  # (B, T) int64 -> (B, T, D)
        """The stream before the first layer."""
        x: Tensor = self.tok_emb(ids)
        if torch.is_autocast_enabled(ids.device.type):
            x = x.to(torch.get_autocast_dtype(ids.device.type))
        if self.bigram_hash is not None:
            x = x + self.bigram_hash(ids)
        if self.smear_gate is not None and self.smear_gate.before_norm:
            x = self.smear_gate(x, ids, self.smear_lambda)
        x = rms_norm(x)
        if self.smear_gate is not None and not self.smear_gate.before_norm:
            x = self.smear_gate(x, ids, self.smear_lambda)
        if self.embed_proj is not None:
            x = self.embed_proj(x)
        return x if self.input_residual is None else self.input_residual(x)

    def hidden(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:  # (B, T) int64 -> (B, T, D)
        """(the normalised stream after the last layer, penalties that training adds to the loss)."""
        x = self.embed(ids)
        visible = same_document(ids, self.config.boundary_token) if self.config.within_documents else None
        shared = Pass(x, *rotary_tables(self.config, ids.shape[1], ids.device), visible)
        saved: list[Tensor | Lanes] = []
        lanes: Lanes | None = None
        layers = self.layers
        for step in self.plan:
            block = layers[step.block]
            values = self._values(block, step)
            skip = saved.pop() if step.skip >= 0 else None
            if not step.in_lanes:
                x = x if skip is None else self._with_skip(x, skip, step.skip)
                x = block(x, step, values, shared)
            elif lanes is None:
                lanes = self._run_lanes(block, self._split(x, skip, step), step, values, shared)
            else:
                lanes = lanes if skip is None else self._lanes_with_skip(lanes, skip, step.skip)
                lanes = self._run_lanes(block, lanes, step, values, shared)
            if step.saves:
                saved.append(lanes if step.in_lanes and lanes is not None else x)
        return self.final_norm(x if lanes is None else self._merge(lanes)), shared.penalties

    def logits(self, hidden: Tensor) -> Tensor:  # (B, T, D) -> (B, T, V) float32
        """Soft-capped logits in float32."""
        if self.output_residual is not None:
            hidden = self.output_residual(hidden)
        if self.head_proj is not None:
            hidden = self.head_proj(hidden)
        out = F.linear(hidden, self.tok_emb.weight if self.lm_head is None else self.lm_head.weight)
        cap = self.config.logit_softcap
        return cap * torch.tanh(out.float() / cap)

    def forward_logits(self, ids: Tensor) -> Tensor:  # (B, T) int64 -> (B, T, V) float32
        """Logits of the next token at every position, after the soft cap, in float32."""
        return self.logits(self.hidden(ids)[0])

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:  # (B, T), (B, T) -> ()
        """Mean cross-entropy in nats per token; in training mode with the penalties of the options added to it.

        Penalties: repartition_penalty * (mean gate - repartition_start)^2 of every layer of a gated repartition
        (#2090; its main script counts the last layer of each block only, its train_gpt_exp_wt.py all); ebls_penalty *
        sum of gammas (#433); mtp_weight * cross-entropy of the token after next, read by mtp_head through the same
        output head (#212).
        """
        hidden, penalties = self.hidden(ids)
        loss = _cross_entropy(self.logits(hidden), targets)
        if not self.training:
            return loss
        if self.config.ebls_rank and self.config.ebls_penalty:
            gammas = [block.gammas().sum() for block in self.layers if isinstance(block, DeviatingBlock)]
            penalties.append(self.config.ebls_penalty * torch.stack(gammas).sum())
        if self.mtp_head is not None and targets.shape[1] > 1:
            ahead = self.logits(self.mtp_head(hidden[:, :-1]))
            penalties.append(self.config.mtp_weight * _cross_entropy(ahead, targets[:, 1:]))
        return loss + sum(penalties) if penalties else loss

    def _values(self, block: Block, step: LayerStep) -> LayerValues:
        """The small tensors of one virtual layer: the block's own, adapted where PRISM adapts them."""
        values = block.own_values(step.use)
        if self.lora_adapters is not None:  # loops beyond the trained ones are like the last
            run = cast("Any", self.lora_adapters[min(step.use, self.config.num_loops)])
            values = values._replace(adapter=run[step.block])
        if self.config.adapters != "none":
            attn = values.attn_scale * self.virtual_attn_scales[step.row]
            mlp = values.mlp_scale * self.virtual_mlp_scales[step.row]
            gain = values.q_gain * self.virtual_q_gain_mult[step.row]
            if self.config.adapters == "bounded":
                attn, mlp = (F.elu(scale - 1.0) + 1.0 + MIN_ADAPTED for scale in (attn, mlp))
                gain = F.softplus(gain, beta=4.0).clamp_min(MIN_ADAPTED)
            assert values.resid_mix is not None  # the config refuses adapters without it
            values = LayerValues(attn, mlp, values.resid_mix + self.virtual_resid_mix_delta[step.row], gain)
        if self.config.repartition == "none" or (self.config.repartition_encoder_only and not step.encoder):
            return values
        tables = [self.q_sources, self.k_sources]
        if self.config.repartition_order == "with_values":
            tables.append(self.v_sources)
        return values._replace(permutation=tuple(table[step.row] for table in tables))

    def _with_skip(self, x: Tensor, skip: Tensor | Lanes, row: int) -> Tensor:
        """x + w s, or between w s and x where a learned gate says; of saved lanes the MLP's, as in #1546."""
        assert self.skip_weights is not None
        skip = skip[1] if isinstance(skip, tuple) else skip
        scaled = self.skip_weights[row].to(x.dtype) * skip
        if self.skip_gates is None:
            return x + scaled
        return torch.lerp(scaled, x, torch.sigmoid(self.skip_gates[row]).to(x.dtype))

    def _split(self, x: Tensor, skip: Tensor | Lanes | None, step: LayerStep) -> Lanes:
        """Both lanes start as the stream; the skip of this layer comes before (#1546) or after (#1855) the split."""
        if skip is None:
            return x, x
        if self.config.lane_split == "after_skip":
            x = self._with_skip(x, skip, step.skip)
            return x, x
        return self._lanes_with_skip((x, x), skip, step.skip)

    def _lanes_with_skip(self, lanes: Lanes, skip: Tensor | Lanes, row: int) -> Lanes:
        for_attn, for_mlp = skip if isinstance(skip, tuple) else (skip, skip)
        first = self._with_skip(lanes[0], for_attn, row)
        return first, self._with_skip(lanes[1], for_mlp, row) if self.config.lane_skip == "both" else lanes[1]

    def _run_lanes(self, block: Block, lanes: Lanes, step: LayerStep, values: LayerValues, shared: Pass) -> Lanes:
        """Attention reads the first lane, the MLP the second, both at once; each writes to both lanes.

        own:   lane_i <- r_i lane_i + a_i attention + m_i mlp
        both:  lane_i <- r_mlp (r_attn lane_i + a_i attention) + m_i mlp
        """
        attn = block.attend(block.mix(lanes[0], values, shared), step, values, shared)
        read = block.mix(lanes[1], values, shared) if self.config.lane_mlp_mix else lanes[1]
        mlp = block.expand(read, step, values)
        keep = self.parallel_resid_lambdas[step.layer].to(attn.dtype)
        from_attn, from_mlp = self.parallel_post_lambdas[step.layer].to(attn.dtype)
        if self.config.lane_residuals == "both":
            first, second = (keep[1] * (keep[0] * lanes[i] + from_attn[i] * attn) for i in (0, 1))
        else:
            first, second = (keep[i] * lanes[i] + from_attn[i] * attn for i in (0, 1))
        return first + from_mlp[0] * mlp, second + from_mlp[1] * mlp

    def _merge(self, lanes: Lanes) -> Tensor:
        if self.config.lane_final == "mean":
            return 0.5 * (lanes[0] + lanes[1])
        return lanes[0] if self.config.lane_final == "attn" else lanes[1]


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


@torch.no_grad()
def initialize_(model: GPT, seed: int) -> GPT:
    """Fill the weights from `seed` alone; the model comes back.

    Embedding N(0, tied_embed_init_std) when tied, N(0, 1) when not; output projections zero; other matrices
    uniform in +-1/sqrt(in) or orthogonal; LoRA's A N(0, 1) / rank; gains, scales, gates, skips keep their constants.
    """
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    adapted = {name for name, _ in model.named_parameters() if name.startswith("lora_adapters.") and name[-1] == "A"}
    drawn = adapted | {name for name, _ in model.named_parameters() if parameter_group(name) == "matrix"}
    for name, parameter in model.named_parameters():
        if name == "tok_emb.weight":
            _initialize_embedding_(model, generator)
        elif name.endswith(ZERO_AT_START):
            parameter.zero_()
        elif name == "bigram_hash.embed.weight" or (name.endswith("attn_gate_w") and config.attn_gate == "dense"):
            parameter.normal_(0.0, 0.01, generator=generator)
        elif name.endswith("perm_gate.bias"):
            parameter.fill_(math.log(config.repartition_start / (1.0 - config.repartition_start)))
        elif name.endswith("_residual.A.weight"):
            parameter.normal_(0.0, 0.02, generator=generator)
        elif name.endswith("_lora_A"):
            parameter.normal_(0.0, 1.0 / config.ebls_rank, generator=generator)
        elif name.endswith("_lora_B"):
            parameter.normal_(0.0, config.ebls_b_std, generator=generator)
        elif _is_projection(name) and config.projection_init == "gaussian":
            parameter.normal_(0.0, parameter.shape[0] ** -0.5, generator=generator)
        elif name in drawn and not (_is_projection(name) and config.embed_init == "svd"):
            if config.weight_init == "orthogonal" and parameter_group(name) == "matrix":
                nn.init.orthogonal_(parameter, generator=generator)
            else:
                bound = parameter.shape[1] ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)
    return model


def _is_projection(name: str) -> bool:
    return name in ("embed_proj.weight", "head_proj.weight")


def _initialize_embedding_(model: GPT, generator: torch.Generator) -> None:
    config, table = model.config, model.tok_emb.weight
    std = config.tied_embed_init_std if config.tie_embeddings else 1.0
    if config.embed_init != "svd":
        table.normal_(0.0, std, generator=generator)
        if config.embed_init == "spectral":
            table.copy_(harmonic_spectrum(table))
        return
    full = torch.empty(config.vocab_size, config.model_dim).normal_(0.0, std, generator=generator)
    parts = factorize(full, config.table_dim)
    table.copy_(parts[0])
    if model.embed_proj is not None and model.head_proj is not None:
        model.embed_proj.weight.copy_(parts[1])
        model.head_proj.weight.copy_(parts[2])


def deployable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict that a checkpoint holds: all but those that only training uses (mtp_head)."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(TRAINING_ONLY)}


def build(config: GPTConfig, state_dict: Mapping[str, Tensor]) -> GPT:
    """A model in eval mode that holds `state_dict`'s tensors as they are (no copy).

    Tensors that only training uses are neither needed nor kept.
    Raises: CheckpointError when names or shapes are not exactly those of `config`.
    """
    held = deployable(state_dict)
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in held.items()})
    with _Undrawn():
        model = GPT(config)
    model.mtp_head = None
    model.load_state_dict(held, strict=True, assign=True)
    return model.requires_grad_(False).eval()


class _Undrawn(TorchFunctionMode):
    """No first values are drawn: memory is not even touched. A meta device would load torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return named.get("tensor", args[0] if args else None)
        return func(*args, **named)
