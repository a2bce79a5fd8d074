"""Which model a state dict of a public script belongs to: what its tensors show, and a measurement for the rest.

    names, shapes --> fields they decide --little text--> the rest by loss --all of it--> each field beside its rivals
                                                                                      --> Identified, or a question

Tensor names and shapes never say which activation, loop, lane or rotary setting a script ran with. Refuses to guess:
without text, where several answers lose alike, and where the best loses so much that it is no model of the text, it
says what to give and what the guesses lose.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pgpack.checkpoint.dialects import unbanked_shapes
from pgpack.errors import CheckpointError, DataError
from pgtrain.model.dialects import fits, without_unused
from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import check_shapes

from .identification import reach
from .identification.contest import Judge, Standing
from .identification.evidence import Losses
from .identification.hidden_fields import BASES, GROUPS, STRUCTURE, Group
from .identification.reader import Reader
from .identification.search import Asked, Found, confirm, search
from .identification.stationary import Gradients, rise
from .identification.trace import Shapes, Trace, read_trace
from .identification.window import window_of
from .identification.yardstick import BESIDE
from .presets import PRESETS, SYSTEMS

FIRST_WINDOW, LONGEST_WINDOW = 64, 256  # tokens of the windows that guesses are judged on
ROUNDS = 3  # of the length of windows and what is searched in windows of it
HOPELESS = 0.5  # nats above the bound at which all of the text would not help: the error of a loss on little text
SHOWN = 4  # rivals that a refusal names
# What only training uses, or only the first step: candidates that differ in nothing else are one.
UNSEEN = ("qk_gain_init", "weight_init", "embed_init", "tied_embed_init_std", "ebls_b_std", "ebls_penalty",
          "repartition_penalty", "repartition_start", "projection_init",
          "lane_residual_init", "mtp_weight")  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What decides one field. `by`: "names", "shapes", "loss" (where losses are near each other, the gradient as well
    and values that training never touched), "usage" where the loss does not tell it from what no public script has,
    "user", or "nothing" where no value of it changes the model. `behind`: the next value and how many nats per token
    it loses more, where a loss was asked."""

    field: str
    value: Any
    by: str
    behind: tuple[str, float] | None = None

    def __str__(self) -> str:
        said = f"{self.field}={_value(self.value)}"
        return said if self.behind is None else f"{said} ({self.behind[0]} {self.behind[1]:+.4f})"


@dataclass(frozen=True)
class Identified:
    """A model, what decides each of its fields, and its loss beside that of a bigram of the same text.

    Units: nats per token."""

    config: GPTConfig
    evidence: tuple[Evidence, ...]
    nats: float
    bigram: float
    n_tokens: int

    @property
    def how(self) -> str:
        """One sentence for people."""
        by_loss, by_usage = (
            ", ".join(str(each) for each in self.evidence if each.by == by) for by in ("loss", "usage")
        )
        usual = f"; as public scripts have it, for the text hardly tells, give it if yours differs: {by_usage}"
        return (
            f"found by its tensors and by its loss on {self.n_tokens:,} tokens ({self.nats:.3f} nats, a bigram of "
            f"the text {self.bigram:.3f}): {by_loss}{usual if by_usage else ''}; in brackets the next value and what "
            "it loses more"
        )

    def to_json(self) -> str:
        """The evidence as JSON, for study, artifact and whoever reads them."""
        fields = {
            each.field: {"value": each.value, "by": each.by}
            | ({} if each.behind is None else {"next": each.behind[0], "behind": round(each.behind[1], 6)})
            for each in self.evidence
        }
        figures = {"nats": round(self.nats, 6), "bigram": round(self.bigram, 6), "tokens": self.n_tokens}
        config = json.loads(self.config.to_json())
        return json.dumps({**figures, "config": config, "fields": fields}, separators=(",", ":"))


def identify(
    stored: Shapes, reader: Reader | None, said: Mapping[str, Any] | None = None, seq_len: int | None = None
) -> Identified:
    """The model of a state dict. `reader`: what reads text under a guess; None: there is no text. `said`: fields that
    the user gives; `seq_len`: the length of windows, where it is known.

    Raises: CheckpointError when the tensors are no system's; DataError, naming the flag to give, when several models
    lose alike, or none reads the text.
    """
    shapes, said = unbanked_shapes(stored), dict(said or {})
    seq_len = seq_len or said.get("seq_len")
    trace = read_trace(shapes)
    if any(field in trace.fields and trace.fields[field] != value for field, value in said.items()):
        _refuse_said(trace, said)
    said.pop("seq_len", None)
    asked = Asked(shapes, trace, said, seq_len or FIRST_WINDOW)
    plain = GPTConfig(lane_start=0 if trace.has_lanes else -1)
    if not any(True for group in GROUPS[:1] for _ in asked.choices(plain, group)[1:]):
        check_shapes(_nearest(asked), without_unused(_nearest(asked), shapes))
        raise CheckpointError(f"no order of layers has these tensors ({_layers(trace)}); give the model as "
                              "--model NAME or FILE.py:build")  # fmt: skip
    if reader is None:
        raise DataError(
            "nothing in a state dict says which activation, loop or rotary setting its script ran with; give the "
            "system as --model NAME, or text that its loss tells it by"
        )
    window = min(asked.seq_len, LONGEST_WINDOW, reader.n_tokens)
    judge = _judge(reader, window, asked)
    best = search(asked, judge, _settings())
    if best is None:
        raise CheckpointError(_no_model(trace))
    _require_sense(best, judge.nats(best), reader, HOPELESS)
    for _ in range(ROUNDS):
        if seq_len is None:
            best, length = _with_window(reader, best, said)
        else:
            length = seq_len
        if length != asked.seq_len:
            asked, window = replace(asked, seq_len=length), min(length, LONGEST_WINDOW, reader.n_tokens)
            judge = _judge(reader, window, asked)
        best = _stretched(best, length)
        found = confirm(asked, judge, best)
        if seq_len or found.config == best:
            break
        best = found.config
    _require_sense(found.config, found.nats, reader)
    _require_known(found)
    return _identified(found, asked, reader, seq_len)


def named(name: str, stored: Shapes, said: Mapping[str, Any] | None = None) -> GPTConfig:
    """The system `name` in the sizes of a state dict.

    Raises: CheckpointError where the tensors are not its own in any size, saying which and which flag to give.
    """
    shapes, model = unbanked_shapes(stored), PRESETS[name].model
    try:
        trace = read_trace(shapes)
        depths = _depths(model, trace)
        bare = {depth: _sized(replace(model, rope_dims=0), trace, depth, said or {}) for depth in depths}
        if not any(fits(config, shapes) for config in bare.values()):
            check_shapes(bare[depths[0]], without_unused(bare[depths[0]], shapes))
        sized = [_sized(model, trace, depth, said or {}) for depth in depths if fits(bare[depth], shapes)]
        if trace.virtual and not any(config.virtual_layers in trace.virtual for config in sized):
            raise DataError(f"{name} has {sized[0].virtual_layers} layers in a pass, and these are {_layers(trace)}")
    except (CheckpointError, DataError) as error:
        raise CheckpointError(
            f"the tensors are not those of {name} in any size: {error}; give what differs as --set FIELD=VALUE, or "
            "leave --model out, and the system is looked for"
        ) from error
    if len(sized) > 1:
        layers = " or ".join(str(config.num_layers) for config in sized)
        raise CheckpointError(f"{name} in the sizes of these tensors has {layers} layers; give --set num_layers=N")
    return sized[0]


def _sized(model: GPTConfig, trace: Trace, depth: int, said: Mapping[str, Any]) -> GPTConfig:
    """A named system in the sizes of the tensors, with so many layers; what the user says wins."""
    everywhere = {"xsa_last_n": depth} if model.xsa_last_n == model.num_layers else {}
    return replace(model, **{"num_layers": depth, **everywhere, **trace.fields, **said})


def _depths(model: GPTConfig, trace: Trace) -> Sequence[int]:
    """How many layers a named system may have here: its own where the tensors allow it or do not say."""
    if model.sharing == "none":
        return (trace.blocks,)
    if model.sharing == "consecutive" or model.num_layers in trace.virtual or not trace.virtual:
        return (model.num_layers,)
    return trace.virtual


def _judge(reader: Reader, window: int, asked: Asked) -> Judge:
    return Judge(
        lambda config, first, last: reader.nats(config, window, first, last),
        lambda config, first, last: reader.gradients(config, window, first, last),
        reader.enough(_nearest(asked), window),
        lambda config: reader.against(config, window),
    )


def _with_window(reader: Reader, best: GPTConfig, said: Mapping[str, Any]) -> tuple[GPTConfig, int]:
    """The best guess and the length of its windows; the guess has the usual rotary base where that reads better in
    windows of another length: in longer windows than it knows, a model reads better with a larger base."""
    length = _window(reader, best)
    usual = replace(best, rope_base=BASES[0])
    if best == usual or "rope_base" in said:
        return best, length
    try:
        other = _window(reader, usual)
    except DataError:
        return best, length
    n_tokens = min(reader.n_tokens, reader.enough(best, 1)) // max(length, other) * max(length, other)
    losses = [reader.nats_through(_stretched(*each), each[1], n_tokens) for each in ((best, length), (usual, other))]
    return (usual, other) if other != length and losses[1].mean() < losses[0].mean() else (best, length)


def _window(reader: Reader, config: GPTConfig) -> int:
    """The length of the windows that such a model was trained on."""
    n_tokens = min(reader.n_tokens, reader.enough(config, 1))
    known: dict[int, Gradients] = {}
    steps: dict[int, float] = {}

    def read(length: int, n: int) -> Any:
        return reader.nats_through(_stretched(config, length), length, n)

    def weigh(one: int, other: int) -> float:
        for length in (one, other):
            if length not in known:
                known[length] = reader.gradients_through(_stretched(config, length), length)
        return rise(known[one], known[other]).evidence

    def knows(length: int) -> float:
        if length not in steps:
            steps[length] = reach.knows(*reader.nats_in_context(_stretched(config, 2 * length), length, n_tokens))
        return steps[length]

    @cache
    def further(first: int, last: int) -> tuple[Losses, Losses]:
        return reader.nats_further(_stretched(config, last), first, last, n_tokens)

    def holds(first: int, last: int) -> float:
        return reach.knows(*further(first, last))

    def changes(first: int, last: int) -> float:
        return reach.change(*further(first, last))

    return window_of(read, weigh, knows, holds, changes, n_tokens)


def _stretched(config: GPTConfig, length: int) -> GPTConfig:
    """The same model in windows of another length."""
    return replace(config, seq_len=length, rope_max_len=config.rope_max_len * length // config.seq_len)


def _nearest(asked: Asked) -> GPTConfig:
    """A config in the sizes of the tensors; of its order of layers nothing is known."""
    layers = asked.trace.fields.get("num_layers", asked.trace.blocks)
    lanes = 0 if asked.trace.has_lanes else -1
    sizes = {"num_layers": max(layers, 1), "skips": asked.trace.skips, "bigram_hash": "mul31", "lane_start": lanes}
    return replace(GPTConfig(), **{**sizes, **asked.trace.fields})


def _settings() -> list[dict[str, Any]]:
    """The published settings of fields that leave no trace, each once."""
    fields = [field for group in GROUPS for field in group.fields if field not in (*STRUCTURE, "rope_max_len")]
    found = [{field: getattr(system.model, field) for field in fields} for system in SYSTEMS.values()]
    return [each for i, each in enumerate(found) if each not in found[:i]]


def _require_sense(config: GPTConfig, nats: float, reader: Reader, spare: float = 0.0) -> None:
    """Raises: DataError where the best reads the text no better than anybody, `spare` nats aside."""
    chance = math.log(config.vocab_size)
    if not nats < min(chance, reader.bigram + BESIDE) + spare:
        raise DataError(
            f"no model with these tensors reads this text: the best guess loses {nats:.3f} nats per token, a "
            f"bigram of the text {reader.bigram:.3f}, chance {chance:.3f}; give the system as --model NAME, its "
            "fields as --set FIELD=VALUE, or the text that it was trained on"
        )


def _require_known(found: Found) -> None:
    """Raises: DataError where the best is not alone."""
    if not found.open:
        return
    group = max(found.open, key=lambda group: len(found.rivals[group]))
    standings, near = found.standings[group], found.rivals[group]
    alike = [each for each in standings if each.config == found.config or each in near]
    said = ", ".join(f"{_choice(each, alike, group)} {standings[0].nats + each.behind:.4f}" for each in alike[:SHOWN])
    more = f" and {len(alike) - SHOWN} more" if len(alike) > SHOWN else ""
    differing = [field for field in group.fields if len({getattr(each.config, field) for each in alike}) > 1]
    flags = " ".join(f"--set {field}=VALUE" for field in differing)
    raise DataError(
        f"nothing in the tensors says {group.name}, and several values lose alike on {standings[0].n_tokens:,} "
        f"tokens (nats per token: {said}{more}); give {flags}, or the system as --model NAME"
    )


def _choice(standing: Standing, alike: Sequence[Standing], group: Group) -> str:
    """A guess by the fields of its group in which the guesses differ."""
    fields = [field for field in group.fields if len({getattr(each.config, field) for each in alike}) > 1]
    return ",".join(f"{field}={_value(getattr(standing.config, field))}" for field in fields)


def _identified(found: Found, asked: Asked, reader: Reader, seq_len: int | None) -> Identified:
    best, evidence = found.config, []
    by_field = {field: group for group in found.standings for field in group.fields}
    for field in vars(best):
        value = getattr(best, field)
        if field in asked.said:
            evidence.append(Evidence(field, value, "user"))
        elif field in asked.trace.fields:
            evidence.append(Evidence(field, value, asked.trace.evidence[field]))
        elif field == "seq_len":
            evidence.append(Evidence(field, value, "usage" if seq_len is None else "user"))
        elif field in by_field:
            by_loss = _by_loss(field, best, found.standings[by_field[field]])
            usage = by_loss.by == "loss" and by_field[field] in found.usual
            evidence.append(replace(by_loss, by="usage") if usage else by_loss)
    evidence = [each for each in evidence if each.field not in UNSEEN]
    most = max(each.n_tokens for standings in found.standings.values() for each in standings)
    return Identified(best, tuple(evidence), found.nats, reader.bigram, most)


def _by_loss(field: str, best: GPTConfig, standings: Sequence[Standing]) -> Evidence:
    value = getattr(best, field)
    other = [each for each in standings if getattr(each.config, field) != value and not each.same]
    if not other:
        alone = all(getattr(each.config, field) == value for each in standings)
        return Evidence(field, value, "shapes" if alone else "nothing")
    near = min(other, key=lambda each: each.behind)
    own = next((each.behind for each in standings if each.config == best), 0.0)
    return Evidence(field, value, "loss", (_value(getattr(near.config, field)), near.behind - own))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _layers(trace: Trace) -> str:
    if not trace.virtual:
        return f"{trace.blocks} blocks"
    return f"{trace.blocks} blocks, tables for {' or '.join(map(str, trace.virtual))} layers of a pass"


def _no_model(trace: Trace) -> str:
    return f"no model of the challenge runs with these tensors ({_layers(trace)}); give --model FILE.py:build"


def _refuse_said(trace: Trace, said: Mapping[str, Any]) -> None:
    field = next(name for name, value in said.items() if name in trace.fields and trace.fields[name] != value)
    raise DataError(
        f"--set {field}={_value(said[field])}: the tensors say {field}={_value(trace.fields[field])}; leave it out"
    )
