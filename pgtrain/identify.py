"""Which model a state dict of a public script belongs to: what shapes tell, and a measurement for what they do not.

    names, shapes --> systems whose table they are, in these sizes --few tokens of text--> the one with the least loss

Tensor names and shapes never say which activation, loop, lane or rotary setting a script ran with. Systems that fit
are told apart by their loss on a little text, which differs by whole nats; fields of the best are then tried alone.
Owns the candidates and the choice. Refuses to guess: without text, or where losses are near each other, it says what
to give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pgpack.checkpoint.dialects import unbanked_shapes
from pgpack.errors import CheckpointError, DataError
from pgpack.models.probe import CLEAR
from pgtrain.model.dialects import fits
from pgtrain.model.model_config import ACTIVATIONS, GPTConfig
from pgtrain.model.tensor_table import infer_config, visible_fields

from .presets import PRESETS, SYSTEMS

Shapes = Mapping[str, tuple[int, ...]]
Measure = Callable[[GPTConfig], float]
# What only training uses, or only the first step: candidates that differ in nothing else are one.
UNSEEN = ("qk_gain_init", "weight_init", "embed_init", "tied_embed_init_std", "ebls_b_std", "ebls_penalty",
          "repartition_penalty", "repartition_start",
          "lane_residual_init", "mtp_weight")  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A system in the sizes of the state dict; `names` of all systems that are the same model."""

    names: tuple[str, ...]
    config: GPTConfig


@dataclass(frozen=True)
class Identified:
    """The model, and one sentence that says how it was found."""

    config: GPTConfig
    how: str


def candidates(stored: Shapes, changes: Mapping[str, Any] | None = None) -> list[Candidate]:
    """The systems that a state dict may be of, `changes` applied to each.

    Raises CheckpointError when it is of none.
    """
    shapes = unbanked_shapes(stored)
    exact = {name: preset.model for name, preset in PRESETS.items() if fits(preset.model, shapes)}
    found: dict[GPTConfig, list[str]] = {}
    for name, model in (exact or {name: system.model for name, system in SYSTEMS.items()}).items():
        config = sized(model, shapes, changes)
        if config is not None and fits(config, shapes):
            found.setdefault(replace(config, **{key: getattr(GPTConfig(), key) for key in UNSEEN}), []).append(name)
    if not found:
        found = {infer_config(shapes, **(changes or {})): ["baseline"]}
    return [Candidate(tuple(names), config) for config, names in found.items()]


def named(name: str, stored: Shapes, changes: Mapping[str, Any] | None = None) -> GPTConfig:
    """The system `name` in the sizes of a state dict where it fits, else in its own."""
    shapes = unbanked_shapes(stored)
    config = sized(PRESETS[name].model, shapes, changes)
    if config is not None and fits(config, shapes):
        return config
    return replace(PRESETS[name].model, **(changes or {}))


def identify(stored: Shapes, measure: Measure | None, changes: Mapping[str, Any] | None = None) -> Identified:
    """The model of a state dict. `measure` gives the nats per token of a config on a little text; None: no text.

    Raises: CheckpointError when it is no system's; DataError, naming the flag to give, when it may be several.
    """
    found = candidates(stored, changes)
    if len(found) == 1 and measure is None:
        return Identified(found[0].config, f"its tensors are those of {found[0].names[0]}")
    if measure is None:
        raise DataError(f"{_choice(found)}; give one as --model NAME")
    losses = {id(each): measure(each.config) for each in found} if len(found) > 1 else {}
    ranked = sorted(found, key=lambda each: losses.get(id(each), 0.0))
    shown = ", ".join(f"{each.names[0]} {losses[id(each)]:.2f}" for each in ranked[:4] if losses)
    if len(ranked) > 1 and losses[id(ranked[1])] - losses[id(ranked[0])] < CLEAR:
        raise DataError(
            f"{_choice(found)}; on a little text they lose alike ({shown} nats); give one as --model NAME"
        )
    how = f"its tensors are those of {ranked[0].names[0]}"
    if losses:
        others = "another system" if len(found) == 2 else f"{len(found) - 1} other systems"
        how += f", told from {others} by the loss on a little text ({shown} nats)"
    return _refined(Identified(ranked[0].config, how), measure, set(changes or ()))


def _refined(found: Identified, measure: Measure, fixed: set[str]) -> Identified:
    """Fields that shapes do not show, changed where that lowers the loss clearly; `fixed` ones are the user's."""
    config, how, best = found.config, found.how, measure(found.config)
    for field, values in _hidden(config).items():
        for value in values:
            if field in fixed or value == getattr(config, field):
                continue
            try:
                loss = measure(replace(config, **{field: value}))
            except DataError:
                continue
            if loss < best - CLEAR:
                how += f"; {field}={value} lowers it from {best:.2f} to {loss:.2f}"
                config, best = replace(config, **{field: value}), loss
    return Identified(config, how)


def _hidden(config: GPTConfig) -> dict[str, tuple[Any, ...]]:
    """Fields of the public scripts that leave no trace in names and shapes, with the values they have there."""
    return {
        "mlp_activation": ACTIVATIONS,
        "rope_dims": (0, 16) if config.head_dim > 16 else (0,),
        "xsa_last_n": tuple(n for n in (0, 4, config.num_layers) if n <= config.num_layers),
        "norm_scale": ("none", "block"),
    }


def sized(model: GPTConfig, shapes: Shapes, changes: Mapping[str, Any] | None = None) -> GPTConfig | None:
    """`model` in the sizes that names and shapes show; None when these cannot be its tensors."""
    blocks = {name.split(".")[1] for name in shapes if name.startswith(("blocks.", "shared_blocks."))}
    at = "shared_blocks.0" if "shared_blocks.0.attn.q_gain" in shapes else "blocks.0"
    try:
        values = visible_fields(shapes, at)
    except CheckpointError:
        return None
    layers = {"none": len(blocks), "encoder_decoder": _rows(shapes, "virtual_attn_scales", model.num_layers)}
    layers["consecutive"] = _rows(shapes, f"{at}.attn_scales", 0) * len(blocks)
    values |= {
        "num_layers": layers.get(model.sharing, model.num_layers),
        "shared_blocks": len(blocks) if model.sharing == "consecutive" else model.shared_blocks,
        "input_residual_rank": _rows(shapes, "input_residual.A.weight", 0),
        "output_residual_rank": _rows(shapes, "output_residual.A.weight", 0),
        "bigram_buckets": _rows(shapes, "bigram_hash.embed.weight", 0),
        "bigram_dim": shapes.get("bigram_hash.embed.weight", (0, model.bigram_dim))[1],
    }
    if model.xsa_last_n == model.num_layers:
        values["xsa_last_n"] = values["num_layers"]
    try:
        return replace(model, **{**values, **(changes or {})})
    except DataError:
        return None


def _rows(shapes: Shapes, name: str, default: int) -> int:
    return shapes[name][0] if shapes.get(name) else default


def _choice(found: list[Candidate]) -> str:
    """What the candidates are, and in which fields they differ."""
    differing = [
        field.name for field in fields(GPTConfig) if len({asdict(each.config)[field.name] for each in found}) > 1
    ]
    names = ", ".join(each.names[0] for each in found)
    return (
        f"the tensors may be those of {names}, which differ in {', '.join(differing)}: nothing in a state dict "
        "says which"
    )
