"""Steps by what each kind of tensor is measured to cost, where the engine's follow the second-order estimate.

    probe:  recipe at a step, 8 states --each kind alone--> KL on calibration text / expected loss = r
    kind k: step / sqrt(r_k), so that by the measured losses a bit buys as much in every kind

The steps are scaled together so that their mean over all weights, in octaves, stays: the dial keeps its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pgpack.bench.explained import kinds_of, with_decoded
from pgpack.calibration.distortion import expected_losses
from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import Effort
from pgpack.loss.evaluator import Evaluator
from pgpack.quantizers.tcq import Tcq
from pgpack.recipe.policy import Rule
from pgpack.recipe.selector import Selector
from pgpack.text.tokenizer import TokenizedText

from .laboratory import Laboratory

TOKENS = 4096  # of calibration text behind that of the Hessians
FARTHEST = 8.0  # a measured loss counts as at most so many times the expected one, or as few
STATES = 8  # of the probe


def measured_recipe(laboratory: Laboratory, effort: Effort, step: float) -> str:
    """The recipe of an effort at a step, with a rule and a step of its own for each kind of matrix."""
    found = measured_shares(laboratory, str(engine_recipe(replace(effort, states=STATES), step, laboratory.shapes)))
    octaves = {kind: -0.5 * math.log2(share) for kind, (share, _) in found.items()}
    n_values = sum(n for _, n in found.values())
    mean = sum(octaves[kind] * n for kind, (_, n) in found.items()) / n_values
    recipe = engine_recipe(effort, step, laboratory.shapes)
    *before, coded = recipe.rules
    rules = [_stepped(coded, kind, step * 2 ** (octave - mean)) for kind, octave in octaves.items()]
    return str(replace(recipe, rules=(*before, *rules, coded)))


def _stepped(rule: Rule, kind: str, step: float) -> Rule:
    assert isinstance(rule.policy.quantizer, Tcq)  # the engine's last rule is for every matrix
    quantizer = replace(rule.policy.quantizer, step=float(f"{step:.7g}"))
    return replace(rule, selector=Selector(kind), policy=replace(rule.policy, quantizer=quantizer))


def measured_shares(laboratory: Laboratory, text: str) -> Mapping[str, tuple[float, int]]:
    """Kind -> (KL of the kind alone over its expected loss, its values), on fresh calibration text."""
    recipe = laboratory.recipe(text)
    artifact, calibration = laboratory.pack(recipe), laboratory.calibration("observed", recipe)
    expected = expected_losses(laboratory.checkpoint, artifact.records, calibration)
    evaluator, aliases = _evaluator(laboratory, recipe.calib.count), artifact.decoded.aliases
    found = {}
    for kind, records in kinds_of(artifact.records).items():
        told = sum(expected.get(record.name, 0.0) for record in records)
        if told > 0:
            kl = evaluator.evaluate(with_decoded(laboratory.tensors, records, aliases)).kl or 0.0
            share = min(FARTHEST, max(1 / FARTHEST, kl / told))
            found[kind] = share, sum(int(np.prod(record.shape)) for record in records)
    return found


def _evaluator(laboratory: Laboratory, used: int) -> Evaluator:
    """On calibration text that the first `used` tokens, which the Hessians come from, are not of."""
    text = laboratory.piece.text
    tokens = text.first_calib_tokens(used + TOKENS + 1)[-TOKENS - 1 :]
    fresh = TokenizedText(tokens, np.ones(len(tokens), np.int32))  # bytes count for nothing in a KL
    return replace(text, val=fresh).evaluator(laboratory.tensors)
