"""The search for the fields that leave no trace: one group after another, pairs that interact, then all once more.

    orders of layers x settings of published systems --contest--> start
    start --each group, each pair, on little text--> ... until nothing moves --each group, on all of the text--> Found

Owns the order of the search. What the values are is in `hidden_fields`, who wins in `contest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pgpack.errors import DataError
from pgtrain.model.dialects import fits
from pgtrain.model.model_config import GPTConfig

from .contest import Judge, Standing
from .hidden_fields import GROUPS, PAIRS, Choice, Group, structures
from .trace import Shapes, Trace

FIRST = 256  # tokens of a contest of published settings
COARSE = 4096  # tokens of a contest on the way
ROUNDS = 4
FAR = 0.05  # nats per token behind which a guess is worse, whatever else
USUAL = 4.0  # the log of how much likelier a value that public scripts have is than another, beforehand
ENOUGH = 3.0  # the log of how much likelier than any other the best must be
SURE = 6.0  # and above which the gradient is not asked
PAIRED = 4  # choices of each of two groups that are tried together
CHOSEN = 0.5  # the log of how much likelier a number looks that was fitted to losses: half of a chi-square's mean
TURNS = 2  # of the search for where a number loses least
NEXT = 1.07  # the ratio of numbers that are written next to each other: 14 and 15, 28 and 30
STARTS = 3  # settings of published systems that every order of layers is tried with


@dataclass(frozen=True)
class Asked:
    """What a state dict is, as far as is known: its shapes without banks, their trace, what the user said, and the
    length of windows."""

    shapes: Shapes
    trace: Trace
    said: Mapping[str, Any]
    seq_len: int

    def config(self, base: GPTConfig, choice: Choice) -> GPTConfig | None:
        """`base` with a choice; None where no model is so, the tensors are others, or the user said otherwise."""
        if any(field in choice and choice[field] != value for field, value in self.said.items()):
            return None
        values = {**choice, **self.trace.fields, **self.said, "seq_len": self.seq_len}
        if values.get("bigram_hash", base.bigram_hash) == "xor" != self.trace.fields.get("bigram_hash"):
            values["bigram_hash"] = "mul31"  # only xor has a scale, and there is none
        try:
            config = replace(base, **values)
        except DataError:
            return None
        return config if fits(config, self.shapes) else None

    def choices(self, base: GPTConfig, group: Group) -> list[GPTConfig]:
        """`base` under every choice of the group, those that are a model of these tensors; what `base` is as well."""
        found = (self.config(base, choice) for choice in group.choices(base, self.trace))
        return list(dict.fromkeys([base, *(config for config in found if config is not None)]))

    def between(self, base: GPTConfig, group: Group) -> list[GPTConfig]:
        """`base` under values of the group's number beside its own that are no choice, where it has choices."""
        if len(self.choices(base, group)) == 1:
            return []
        found = (self.config(base, choice) for choice in group.between(base))
        return list(dict.fromkeys(config for config in found if config is not None and config != base))


@dataclass(frozen=True)
class Found:
    """The best guess; for each group of fields how its choices stand beside it, and what nothing tells from it;
    `usual`: groups in which the best is told from another by nothing but what public scripts have."""

    config: GPTConfig
    standings: Mapping[Group, Sequence[Standing]]
    rivals: Mapping[Group, Sequence[Standing]]
    usual: frozenset[Group] = frozenset()

    @property
    def open(self) -> list[Group]:
        """Groups that are not decided."""
        return [group for group, rivals in self.rivals.items() if rivals]

    @property
    def nats(self) -> float:
        """Of the best guess on the most tokens that it was judged on."""
        own = [each for standings in self.standings.values() for each in standings if each.config == self.config]
        return max(own, key=lambda each: each.n_tokens).nats


def search(asked: Asked, judge: Judge, settings: Sequence[Mapping[str, Any]]) -> GPTConfig | None:
    """The best model of a state dict by its loss on little text; None where nothing runs. `settings`: of published
    systems."""
    best = _start(asked, judge, settings)
    return None if best is None else _settled(asked, judge, best)


def confirm(asked: Asked, judge: Judge, best: GPTConfig) -> Found:
    """The best model beside every other choice of each group, on all of the text; it moves to a better one."""
    seen: set[GPTConfig] = set()
    standings: dict[Group, list[Standing]] = {}
    rivals: dict[Group, list[Standing]] = {}
    usual: set[Group] = set()
    while best not in seen and len(seen) < ROUNDS:
        seen.add(best)
        standings, rivals, usual, start = {}, {}, set(), best
        for group in GROUPS:
            choices = asked.choices(best, group)
            ranked = judge.contest(choices)
            if not ranked:
                continue
            decided, near = _decided(judge, group, ranked, best)
            if between := asked.between(decided, group):
                refined = _refined(asked, judge, group, decided, between)
                between += refined
                ranked = judge.contest([*choices, *between])
                near = [each for each in ranked if each.config in {one.config for one in near}]
                near += _between(judge, group, decided, [each for each in ranked if each.config in between], refined)
            if any(
                (each.config in between or group.usual(decided) > group.usual(each.config))
                and not _told(judge, group, decided, each.config)
                for each in ranked
            ):
                usual.add(group)
            best, standings[group], rivals[group] = decided, ranked, near
        if best == start:
            break
    return Found(best, standings, rivals, frozenset(usual))


def _between(
    judge: Judge, group: Group, best: GPTConfig, others: Sequence[Standing], refined: Sequence[GPTConfig]
) -> list[Standing]:
    """Of values that are no choice, those that the best is not far likelier than; none is ever taken, for its next
    would do as well. A number that public scripts have is likelier beforehand than what is beside it; of one that
    none has, being round says nothing. What was `refined` was chosen by the losses that it is judged by."""
    beforehand = USUAL if group.usual(best) or not group.is_number(best) else 0.0

    def favour(other: GPTConfig) -> float:
        return beforehand + CHOSEN * (other in refined) + judge.evidence_of_loss(best, other, group.lean)

    found = []
    for each in others:
        if favour(each.config) < SURE:
            for config in (best, each.config):
                judge.losses(config, judge.n_tokens)
            if judge.equal(best, each.config):
                continue
            if favour(each.config) + judge.evidence_of_gradient(best, each.config) < ENOUGH:
                found.append(each)
    return found


def _refined(
    asked: Asked, judge: Judge, group: Group, best: GPTConfig, beside: Sequence[GPTConfig]
) -> list[GPTConfig]:
    """`best` with its number where all of the text loses least between those half way to the next, found by parabolas
    over its logarithm; where that is nearer than numbers are written, with the next of those on both sides."""
    if not group.is_number(best) or len(beside) < 2:
        return []
    field = group.fields[0]
    own, known = getattr(best, field), {getattr(each, field): each for each in (best, *beside)}
    for _ in range(TURNS):
        if any(judge.losses(each, judge.n_tokens) is None for each in known.values()):
            return []
        value = _least({number: judge.nats(each) for number, each in known.items()})
        config = asked.config(best, {field: value})
        if config is None or value in known:
            break
        known[value] = config
    wanted = [value] if max(value / own, own / value) > NEXT else [_rounded(own / NEXT), _rounded(own * NEXT)]
    found = (asked.config(best, {field: each}) for each in wanted if each not in known or each == value)
    return [config for config in found if config is not None and config not in beside]


def _least(nats: Mapping[float, float]) -> float:
    """Where a number loses least: a parabola over its logarithm, through the least known and those on both sides."""
    values = sorted(nats)
    at = min(max(values.index(min(values, key=nats.__getitem__)), 1), len(values) - 2)
    near = np.log(values[at - 1 : at + 2])
    bend, slope, _ = np.polyfit(near - near[1], [nats[value] for value in values[at - 1 : at + 2]], 2)
    if bend <= 0:
        return min(values, key=nats.__getitem__)
    return _rounded(float(np.exp(np.clip(near[1] - slope / (2 * bend), near[0], near[2]))))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _told(judge: Judge, group: Group, best: GPTConfig, other: GPTConfig) -> bool:
    """Whether the loss alone tells the best from another, however usual, or there is nothing to tell."""
    return judge.equal(best, other) or judge.evidence_of_loss(best, other, group.lean) >= ENOUGH


def _decided(
    judge: Judge, group: Group, ranked: Sequence[Standing], best: GPTConfig
) -> tuple[GPTConfig, list[Standing]]:
    """(the choice that is likelier than all others or alike, those that are alike).

    Far behind is worse, whatever else. The loss of the others decides first; what it leaves is read to the end of the
    text, and the gradient is asked as well, and values that training never touched.
    """
    running = _different(judge, ranked, best)
    winner = _likeliest(running, lambda one, other: _by_loss(judge, group, one.config, other.config))
    close = [winner]

    def favour(one: Standing, other: Standing) -> float:
        by_values = judge.evidence_of_values(one.config, other.config)
        by_loss = _by_loss(judge, group, one.config, other.config)
        return by_loss + by_values + judge.evidence_of_gradient(one.config, other.config)

    def near(each: Standing) -> bool:
        return _by_loss(judge, group, winner.config, each.config) < SURE

    while more := [each for each in running if each not in close and near(each)]:
        close += more
        for each in close:
            judge.losses(each.config, judge.n_tokens)
        winner = _likeliest(close, favour)
    return winner.config, [each for each in close if each is not winner and favour(winner, each) < ENOUGH]


def _likeliest(running: Sequence[Standing], favour: Callable[[Standing, Standing], float]) -> Standing:
    """The one whose nearest rival is furthest away."""
    return max(running, key=lambda one: min((favour(one, each) for each in running if each is not one), default=0.0))


def _different(judge: Judge, ranked: Sequence[Standing], best: GPTConfig) -> list[Standing]:
    """The front and what is not far behind, each function once; `best` for its own."""
    running: list[Standing] = []
    for each in sorted(ranked, key=lambda each: (not each.same, each.config != best)):
        near = each.behind < FAR or not each.clear
        if near and not any(judge.equal(each.config, one.config) for one in running):
            running.append(each)
    return sorted(running, key=lambda each: each.behind)


def _by_loss(judge: Judge, group: Group, one: GPTConfig, other: GPTConfig) -> float:
    """The log of how much likelier one choice is than another, by how usual both are and what they lose."""
    beforehand = USUAL * (group.usual(one) - group.usual(other))
    return beforehand + judge.evidence_of_loss(one, other, group.lean)


def _start(asked: Asked, judge: Judge, settings: Sequence[Mapping[str, Any]]) -> GPTConfig | None:
    """The best order of layers with the best of the published settings, on little text."""
    orders = structures(asked.trace)
    few = [orders[i] for i in sorted({0, len(orders) // 2, len(orders) - 1})] if orders else []
    ranked = judge.contest(_guesses(asked, few, settings), FIRST)
    if not ranked:
        ranked = judge.contest(_guesses(asked, orders, settings), FIRST)
    tried: list[Mapping[str, Any]] = []
    for standing in ranked:
        setting = {name: getattr(standing.config, name) for name in settings[0]}
        if setting not in tried:
            tried.append(setting)
    ranked = judge.contest(_guesses(asked, orders, tried[:STARTS]), COARSE // 4)
    return ranked[0].config if ranked else None


def _guesses(asked: Asked, orders: Sequence[Choice], settings: Sequence[Mapping[str, Any]]) -> Iterator[GPTConfig]:
    for order in orders:
        for setting in settings:
            layers = order.get("num_layers", asked.trace.fields.get("num_layers", 1))
            fitted = _fitted(setting, layers, asked.trace)
            fitted = {name: value for name, value in fitted.items() if name not in asked.said}
            if (config := asked.config(GPTConfig(), {**fitted, **order})) is not None:
                yield config


def _fitted(setting: Mapping[str, Any], layers: int, trace: Trace) -> dict[str, Any]:
    """A published setting in the sizes of the tensors: all layers stay all, a part of a head at most half of it."""
    head = trace.fields["model_dim"] // trace.fields["num_heads"]
    values = dict(setting)
    values["xsa_last_n"] = layers if setting["xsa_last_n"] >= 9 else min(setting["xsa_last_n"], layers)
    values["rope_dims"] = setting["rope_dims"] if setting["rope_dims"] < head else head // 4 * 2
    values["lane_start"] = min(setting["lane_start"], layers - 1) if trace.has_lanes else -1
    return values


def _settled(asked: Asked, judge: Judge, best: GPTConfig) -> GPTConfig:
    """`best` moved along groups and pairs on little text, until nothing moves."""
    for turn in range(ROUNDS):
        before = best
        for group in GROUPS:
            best = _moved(judge, best, asked.choices(best, group))
        for first, second in PAIRS if turn == 0 else ():
            best = _moved(judge, best, _together(asked, judge, best, first, second))
        if best == before:
            break
    return best


def _together(asked: Asked, judge: Judge, best: GPTConfig, first: Group, second: Group) -> list[GPTConfig]:
    """The best few choices of two groups, each with each."""
    fronts = [
        {
            tuple(getattr(each.config, field) for field in group.fields)
            for each in judge.contest(asked.choices(best, group), COARSE)[:PAIRED]
        }
        for group in (first, second)
    ]
    if min(map(len, fronts)) < 2:
        return []
    choices = [
        dict(zip((*first.fields, *second.fields), (*one, *other), strict=True))
        for one in fronts[0]
        for other in fronts[1]
    ]
    found = (asked.config(best, choice) for choice in choices)
    return list(dict.fromkeys([best, *(config for config in found if config is not None)]))


def _moved(judge: Judge, best: GPTConfig, guesses: Sequence[GPTConfig]) -> GPTConfig:
    """The best of the guesses where `best` is clearly behind it."""
    if len(guesses) < 2:
        return best
    ranked = judge.contest(guesses, COARSE)
    stays = next((each for each in ranked if each.config == best), None)
    return best if not ranked or (stays is not None and not stays.clear) else ranked[0].config
