"""Fields of a model that names and shapes do not show, with the values that each may have.

Values are those of the public scripts and their usual neighbours. A group is searched as one coordinate: fields that
mean nothing apart, such as where a loop starts and ends and how often it runs, are one group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pgtrain.model.model_config import ACTIVATIONS, GPTConfig

from .trace import Trace

Choice = Mapping[str, Any]
DEEPEST = 16  # layers that shared blocks are tried for where no table says
MOST_LOOPS = 4  # repetitions that a loop is tried for where no table says
BOUNDARY = 1  # the token that starts a document in every public script


@dataclass(frozen=True)
class Group:
    """`fields` are searched together; `choices` of a config are what they may be beside its other fields.

    `usual`: which of them a public script has. `lean`: how far the loss may fall towards one that the model never had
    (see `evidence`), measured on the models of `make bench-identify`. `between`: of numbers, values on both sides of
    a config's own that are no choice.
    """

    fields: tuple[str, ...]
    choices: Callable[[GPTConfig, Trace], Sequence[Choice]]
    usual: Callable[[GPTConfig], bool] = lambda config: True
    lean: float = 0.035
    between: Callable[[GPTConfig], Sequence[Choice]] = lambda config: ()

    @property
    def name(self) -> str:
        return self.fields[0] if len(self.fields) == 1 else " and ".join(self.fields[:2])

    def is_number(self, config: GPTConfig) -> bool:
        """Whether what is searched may be any number, not one of a few."""
        return isinstance(getattr(config, self.fields[0]), float)


STRUCTURE = ("num_loops", "loop_start", "loop_end", "sharing", "num_layers", "skips", "adapters")
LANE_WAYS: tuple[Choice, ...] = (
    {"lane_scope": "layers", "lane_split": "after_skip", "lane_skip": "attn", "lane_residuals": "own"},  # #1546
    {"lane_scope": "layers", "lane_split": "no_skip", "lane_skip": "both", "lane_residuals": "own"},
    {"lane_scope": "decoder", "lane_split": "before_skip", "lane_skip": "attn", "lane_residuals": "own"},  # #1855
    {"lane_scope": "layers", "lane_split": "before_skip", "lane_skip": "both", "lane_residuals": "both"},  # #2090
    {"lane_scope": "rest", "lane_split": "after_skip", "lane_skip": "attn", "lane_residuals": "own"},  # ours
)


def structures(trace: Trace) -> list[Choice]:
    """Every order of layers that the tensors allow: sharing, depth, loops, and whether stored skips are read."""
    known = {name: trace.fields[name] for name in STRUCTURE if name in trace.fields}
    adapters = ("bounded", "plain", "none") if trace.has_tables else ("none",)
    found = []
    for order, skips, adapter in product(_orders(trace, known), {trace.skips, "none"}, adapters):
        # Skips and tables that are stored and not read: only #212's flat loops and #2090's shared modes have them.
        loops = order.get("num_loops", known.get("num_loops", 0))
        if skips != trace.skips and not (loops or order.get("sharing", "none") in ("single", "encoder_decoder")):
            continue
        found.append({**_flat(), **order, **known, "skips": skips, "adapters": adapter})
    return sorted(found, key=lambda each: (each["skips"] != trace.skips, each["num_loops"] > 0))


def _flat() -> dict[str, Any]:
    return {"num_loops": 0, "loop_start": 0, "loop_end": 0, "sharing": "none"}


def _orders(trace: Trace, known: Choice) -> Iterator[dict[str, Any]]:
    """Layers and loops of `trace.blocks` blocks in as many virtual layers as the tables allow."""
    blocks, virtual = trace.blocks, set(trace.virtual)
    if "sharing" in known:
        yield {}
        return
    if not virtual or blocks in virtual:
        yield {"num_layers": blocks}
    for kind, count in (("single", 1), ("encoder_decoder", 2)):
        if blocks == count:
            for depth in sorted(virtual or range(count + 1, DEEPEST + 1)):
                yield {"sharing": kind, "num_layers": depth}
    if blocks == 1:
        return
    for length in range(1, blocks + 1):
        extra = {n - blocks for n in virtual} if virtual else {length * loops for loops in range(1, MOST_LOOPS + 1)}
        for more in sorted(extra):
            if more >= length and more % length == 0:
                for start in range(blocks - length + 1):
                    loop = {"num_loops": more // length, "loop_start": start, "loop_end": start + length - 1}
                    yield {"num_layers": blocks, **loop}


def _each(field: str, values: Sequence[Any]) -> list[Choice]:
    return [{field: value} for value in dict.fromkeys(values)]


def _halfway(field: str, values: Sequence[float]) -> Callable[[GPTConfig], list[Choice]]:
    """Half way, by ratio, from a config's own value to the next of these below and above; past the last as far."""

    def beside(config: GPTConfig) -> list[Choice]:
        own = float(getattr(config, field))
        below = max((value for value in values if value < own), default=own / 2)
        above = min((value for value in values if value > own), default=own * 2)
        return _each(field, [float(f"{(own * other) ** 0.5:.3g}") for other in (below, above)])

    return beside


def _rope_dims(config: GPTConfig, _: Trace) -> list[Choice]:
    step = _dims_step(config)
    return _each("rope_dims", [0, *(dims for dims in range(step, config.head_dim, step))])


def _dims_step(config: GPTConfig) -> int:
    head = config.head_dim
    return 2 if head <= 32 else 4 if head <= 64 else 8


def _dims_between(config: GPTConfig) -> list[Choice]:
    own, half = config.rotary_dims, _dims_step(config) // 2
    return [] if half < 2 else _each("rope_dims", [own - half, *([own + half] if own < config.head_dim else [])])


def _shares_of(head: int) -> tuple[int, ...]:
    """Even parts of a head that scripts turn: all, half, a quarter."""
    return (head, head // 4 * 2, head // 8 * 2)


def _usual_dims(config: GPTConfig) -> bool:
    return config.rotary_dims in (16, *_shares_of(config.head_dim))


def _xsa(config: GPTConfig, _: Trace) -> list[Choice]:
    """0 to all; all is the number of layers, as the scripts write it."""
    return _each("xsa_last_n", [*range(config.num_blocks), config.num_layers])


def _norm_scales(config: GPTConfig, _: Trace) -> list[Choice]:
    return _each("norm_scale", ("none", "block", "virtual"))


def _gate_scales(config: GPTConfig, _: Trace) -> list[Choice]:
    return _each("attn_gate_scale", GATE_SCALES) if config.attn_gate == "window" else []


def _lane_starts(config: GPTConfig, trace: Trace) -> list[Choice]:
    return _each("lane_start", range(-1, config.num_layers)) if trace.has_lanes else []


def _lane_ways(config: GPTConfig, trace: Trace) -> list[Choice]:
    if config.lane_start < 0:
        return []
    mixes = product(LANE_WAYS, (False, True))
    return [{**way, "lane_mlp_mix": mix} for way, mix in mixes]


def _lane_finals(config: GPTConfig, trace: Trace) -> list[Choice]:
    return _each("lane_final", ("mean", "mlp", "attn")) if config.lane_start >= 0 else []


def _documents(config: GPTConfig, _: Trace) -> list[Choice]:
    smears = config.smear in ("window", "window_bias")
    ways = [(-1, False), *([(BOUNDARY, False)] if smears else []), (BOUNDARY, True)]
    return [{"boundary_token": token, "within_documents": within} for token, within in ways]


def _hashes(config: GPTConfig, trace: Trace) -> list[Choice]:
    known = "bigram_hash" in trace.fields or not config.bigram_buckets
    return [] if known else _each("bigram_hash", ("mul31", "mul104729"))


def _repartitions(config: GPTConfig, trace: Trace) -> list[Choice]:
    if config.sharing not in ("single", "encoder_decoder") and "repartition" not in trace.fields:
        return []
    kinds = ("gate",) if "repartition" in trace.fields else ("none", "permute", "static")
    return [
        {"repartition": kind, "repartition_heads": heads, "repartition_channels": channels,
         "repartition_encoder_only": only, "anchor_heads": anchors, "repartition_order": order}
        for kind in kinds
        for heads, channels, only, anchors, order in (
            (True, True, False, 0, "independent"),
            *(() if kind == "none" else (
                (False, True, False, 0, "independent"), (True, False, False, 0, "independent"),
                (True, True, True, 0, "independent"), (True, True, False, config.num_heads // 2, "independent"),
                (True, True, False, config.num_heads // 4, "independent"),
                (True, True, False, 0, "matched"), (True, True, False, 0, "with_values"))),
        )
    ]  # fmt: skip


def _static_shares(config: GPTConfig, _: Trace) -> list[Choice]:
    return _each("repartition_static", SHARES) if config.repartition == "static" else []


def _yarn(config: GPTConfig, _: Trace) -> list[Choice]:
    """Only the share of rope_max_len in the length that positions are not rescaled up to acts."""
    stretched = [{"rope_scaling": "yarn", "rope_max_len": k * config.rope_reference_len} for k in (2, 4, 8, 16)]
    return [{"rope_scaling": "none", "rope_max_len": 0}, *stretched]


BASE_LEAN, CAP_LEAN = 0.065, 0.05  # of numbers, which have a next value close by
SHARES = (0.5, 0.25, 0.75)
GATE_SCALES = (1.0, 0.5, 0.25, 2.0, 4.0)
BASES = (1e4, 1e3, 2e3, 5e3, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6)
SOFTCAPS = (30.0, 10.0, 15.0, 20.0)
GROUPS = (
    Group(STRUCTURE, lambda config, trace: structures(trace)),
    Group(("mlp_activation",), lambda config, trace: _each("mlp_activation", ACTIVATIONS)),
    Group(("norm_scale",), _norm_scales),
    Group(("xsa_last_n",), _xsa, lambda config: config.xsa_last_n in (0, 4, config.num_layers)),
    Group(("rope_dims",), _rope_dims, _usual_dims, between=_dims_between),
    Group(
        ("rope_base",),
        lambda config, trace: _each("rope_base", BASES),
        lambda config: config.rope_base == BASES[0],
        BASE_LEAN,
        _halfway("rope_base", BASES),
    ),
    Group(("rope_scaling", "rope_max_len"), _yarn, lambda config: config.rope_scaling != "yarn"),
    Group(("lane_start",), _lane_starts),
    Group(
        ("lane_scope", "lane_split", "lane_skip", "lane_residuals", "lane_mlp_mix"),
        _lane_ways,
        lambda config: config.lane_scope != "rest",
    ),
    Group(("lane_final",), _lane_finals),
    Group(("attn_gate_scale",), _gate_scales, between=_halfway("attn_gate_scale", GATE_SCALES)),
    Group(
        ("within_documents", "boundary_token"),
        _documents,
        lambda config: config.attn_gate == "window" or not config.within_documents,
    ),
    Group(("bigram_hash",), _hashes),
    Group(
        ("repartition", "repartition_heads", "repartition_channels", "repartition_encoder_only", "anchor_heads",
         "repartition_order"),
        _repartitions,
        lambda config: config.repartition_order == "independent",
    ),
    Group(
        ("repartition_static",),
        _static_shares,
        lambda config: config.repartition_static == SHARES[0],
        between=_halfway("repartition_static", SHARES),
    ),
    Group(("qk_norm",), lambda config, trace: _each("qk_norm", (True, False)), lambda config: config.qk_norm),
    Group(
        ("logit_softcap",),
        lambda config, trace: _each("logit_softcap", SOFTCAPS),
        lambda config: config.logit_softcap == SOFTCAPS[0],
        CAP_LEAN,
        _halfway("logit_softcap", SOFTCAPS),
    ),
)  # fmt: skip
_BY_FIELD = {group.fields[0]: group for group in GROUPS}
PAIRS = tuple(
    (_BY_FIELD[a], _BY_FIELD[b])
    for a, b in (
        ("rope_dims", "rope_base"),
        ("lane_start", "lane_scope"),
        ("lane_start", "lane_final"),
        ("num_loops", "norm_scale"),
        ("num_loops", "lane_start"),
        ("xsa_last_n", "attn_gate_scale"),
    )
)
