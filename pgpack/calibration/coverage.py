"""A recipe on a checkpoint of which calibration does not know everything: what is assumed in its place, and said.

    no Hessian, or all 0        H = I, so that no column corrects another
    no Fisher weights, or 0     F = c for every row, with c mean(diag H) mean(w^2) as of the tensors that are known
    a table of tokens           F times how often each token is to be expected, where that is known
    no product can be meant     integers, complex values, masks: stored bit for bit;  control tensors: 16 bits

The mean over what is known is what a second-order loss expects of a tensor of which nothing is; where nothing at all
is known, every tensor's relative error counts alike, at a rate (`STRENGTH`) that gives a step of `tcq` about the bits
per weight that it has with calibration.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.errors import CalibrationError
from pgpack.quantizers.cast import Cast
from pgpack.quantizers.tcq import Tcq
from pgpack.recipe.applied import Applied, AppliedTensor, apply
from pgpack.recipe.dials import SMALL
from pgpack.recipe.policy import Coding, Rule, TensorPolicy
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.recipe.selector import Selector
from pgpack.tables import counted_are
from pgpack.tensors.masks import few_values, is_kept

from .calibration import Calibration, from_arrays

STRENGTH = 2.0**-24  # nats per token that a weight costs when it is as wrong as it is large, twice over
LARGEST = 1e30  # of an assumed Fisher weight
SHOWN = 4  # names in a sentence
LARGEST_FP16 = 65504.0
TABLES = ("embedding", "head")
PADDED = 1.1  # rows of a table, of its vocabulary: at most
Shares = Callable[[], NDArray[np.float64] | None]

UNSEEN, ZERO = "no product with it was seen", "its inputs were all zero"
OTHER_SIZE, NO_GRADIENT = "its Hessian is of another size", "no gradient reached it"


@dataclass(frozen=True, eq=False)
class Covered:
    """A recipe that packs every tensor of a checkpoint, and the calibration to do it with.

    `assumed`: tensor that is packed without statistics of its own -> why there are none. `kept`: those of them, and
    others, that are stored as they are. `calibrated`: whether anything was calibrated.
    """

    applied: Applied
    calibration: Calibration | None
    assumed: Mapping[str, str]
    kept: tuple[str, ...]
    calibrated: bool

    @property
    def note(self) -> str:
        """For people: which tensors are packed without a Hessian and why; '' when there are none."""
        if not self.assumed:
            return ""
        if not self.calibrated:
            return (
                "nothing is calibrated: tensors are packed by the weights alone; with text to calibrate on (--text, "
                "--calib self: what the model writes, or --calib random: pieces of its tokenizer) the file would be "
                "better at every size"
            )
        reasons: dict[str, list[str]] = {}
        for name, why in self.assumed.items():
            reasons.setdefault(why, []).append(name)
        told = "; ".join(f"{_names(names)} ({why})" for why, names in reasons.items())
        return f"{counted_are(len(self.assumed), 'tensor')} packed without a Hessian: {told}; --strict refuses them"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def no_shares() -> None:
    """Nothing is known of tokens."""


def covered(
    checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None, shares: Shares = no_shares
) -> Covered:
    """`recipe` on `checkpoint` with something to go by for every tensor.

    `shares`, asked when there is a table without statistics: how often each token is to be expected.
    Raises: CoverageError; CalibrationError when `calibration` is of another model.
    """
    applied = apply(recipe, checkpoint.stored_shapes)
    if calibration is not None:
        _refuse_another(applied, calibration)
    why: dict[str, str] = {}
    kept: dict[str, TensorPolicy] = {}
    powers: dict[str, float] = {}
    for tensor in applied.tensors.values():
        if isinstance(tensor.policy.quantizer, Cast):
            continue
        array, lacks = checkpoint.tensor(tensor.name), _lacks(tensor, calibration)
        if is_kept(array) or (lacks and few_values(array)):
            kept[tensor.name] = _bit_for_bit(array, recipe)
        elif lacks and tensor.role == "control":
            kept[tensor.name] = _bit_for_bit(array.astype(np.float16) if _fits_fp16(array) else array, recipe)
        elif tensor.policy.needs_hessian:
            powers[tensor.name] = mean_square(array)
        if lacks:
            why[tensor.name] = lacks
    rules = tuple(Rule(_only(name), policy) for name, policy in kept.items())
    whole = dataclasses.replace(recipe, rules=(*rules, *_uncorrected(recipe, calibration)))
    applied = apply(whole.without_idle_rules(checkpoint.stored_shapes), checkpoint.stored_shapes)
    lacking = [applied.tensors[name] for name in why if name not in kept]
    statistics = _assumed(lacking, powers, calibration, recipe.container.is_field, shares)
    return Covered(applied, statistics, why, tuple(kept), calibrated=calibration is not None)


def _refuse_another(applied: Applied, calibration: Calibration) -> None:
    """Raises CalibrationError where the calibration knows other tensors only, or not one Hessian fits."""
    found = [(tensor, calibration.hessian_shape(name)) for name, tensor in applied.tensors.items()]
    if calibration.shapes and applied.needs_calibration and all(shape is None for _, shape in found):
        raise CalibrationError(
            f"the calibration knows no tensor of this checkpoint (its first: {min(calibration.shapes)}): it is of "
            "another model; give that of this one as --calibration FILE, or leave it out"
        )
    known = [(tensor, shape) for tensor, shape in found if shape is not None and tensor.policy.needs_hessian]
    if known and not any(_fits(tensor, shape) for tensor, shape in known):
        tensor, shape = known[0]
        n_inputs = tensor.matrix_shape(shape)[1]
        raise CalibrationError(
            f"{tensor.name} has {n_inputs} inputs and its Hessian is {shape}, and no other one fits; this "
            "calibration is of another model"
        )


def _fits(tensor: AppliedTensor, hessian: tuple[int, ...]) -> bool:
    n_inputs = tensor.matrix_shape(hessian)[1]
    return hessian in ((n_inputs, n_inputs), (n_inputs,))


def _lacks(tensor: AppliedTensor, calibration: Calibration | None) -> str:
    """Why a tensor whose policy needs statistics has none; '' when it has them or needs none."""
    if not tensor.policy.needs_hessian:
        return ""
    shape = None if calibration is None else calibration.hessian_shape(tensor.name)
    if calibration is None or shape is None:
        return UNSEEN
    if not _fits(tensor, shape):
        return OTHER_SIZE
    inputs, outputs = calibration.sensitivity(tensor.name)
    if inputs <= 0:
        return ZERO
    if not isinstance(tensor.policy.quantizer, Tcq):
        return ""
    rows = calibration.fisher_shape(tensor.name) == tensor.matrix_shape(shape)[:1]
    return "" if rows and outputs > 0 else NO_GRADIENT


def _bit_for_bit(array: NDArray[Any], recipe: Recipe) -> TensorPolicy:
    """How a tensor is stored that must come back as it is; a field's container fixes the coding."""
    half = array.dtype.kind != "f" or _is_fp16(array)
    policy = parse_recipe(f"*={SMALL}" if half else f"*={SMALL}".replace("fp16", "fp32")).rules[0].policy
    return dataclasses.replace(policy, coding=Coding()) if recipe.container.is_field else policy


def _fits_fp16(array: NDArray[Any]) -> bool:
    return float(np.abs(array).max(initial=0.0)) <= LARGEST_FP16


def _is_fp16(array: NDArray[Any]) -> bool:
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16).astype(array.dtype) == array).all())


def _only(name: str) -> Selector:
    """Selects the tensor `name`; what a selector reads as something else stands for any one character."""
    return Selector(re.sub(r"[][*?&;=|<>{}@#\s]", "?", name))


def _uncorrected(recipe: Recipe, calibration: Calibration | None) -> Iterator[Rule]:
    """The rules; rows correct each other only where the calibration has what that takes."""
    known = calibration is not None and any(key.endswith(".output") for key in calibration.shapes)
    for rule in recipe.rules:
        quantizer = rule.policy.quantizer
        if not known and isinstance(quantizer, Tcq) and quantizer.group:
            policy = dataclasses.replace(rule.policy, quantizer=dataclasses.replace(quantizer, group=0))
            yield Rule(rule.selector, policy)
        else:
            yield rule


def _assumed(
    lacking: list[AppliedTensor],
    powers: Mapping[str, float],
    calibration: Calibration | None,
    is_field: bool,
    shares: Shares,
) -> Calibration | None:
    """`calibration` with statistics of the tensors that lack them; a field's container fixes how they are folded."""
    if not lacking:
        return calibration
    known = from_arrays({}, "", 0) if calibration is None else calibration
    missing = {tensor.name for tensor in lacking}
    strengths = [
        inputs * outputs * power
        for name, power in powers.items()
        if name not in missing
        for inputs, outputs in (known.sensitivity(name),)
    ]
    strength = float(np.mean(strengths)) if any(strengths) else STRENGTH
    expected = shares() if any(tensor.role in TABLES for tensor in lacking) else None
    shapes, values = dict(known.shapes), dict[str, float | NDArray[np.float64]]()
    for tensor in lacking:
        rows, columns = folded(tensor.shape) if not is_field else tensor.matrix_shape()
        own = known.hessian_shape(tensor.name)
        inputs = known.sensitivity(tensor.name)[0] if own is not None and _fits(tensor, own) else 0.0
        if not inputs:
            shapes[f"{tensor.name}.hessian"], values[f"{tensor.name}.hessian"] = (columns,), 1.0
        elif own is not None:
            rows = tensor.matrix_shape(own)[0]
        cost = max(inputs or 1.0, 1 / LARGEST) * max(powers[tensor.name], 1 / LARGEST)
        weights = min(strength / cost, LARGEST) * _of_tokens(tensor, rows, expected)
        shapes[f"{tensor.name}.fisher"], values[f"{tensor.name}.fisher"] = (rows,), weights

    def load(key: str) -> NDArray[np.float32]:
        if key not in values:
            return known.load(key)
        return np.full(shapes[key], values[key], np.float32)

    return dataclasses.replace(known, shapes=shapes, load=load)


def _of_tokens(tensor: AppliedTensor, rows: int, expected: NDArray[np.float64] | None) -> float | NDArray[np.float64]:
    """What each row of a table counts, 1 on average: how often its token is to be expected; 1 for what is no table of
    these tokens. Rows beyond the vocabulary, there for their number alone, count as its rarest token."""
    if expected is None or tensor.role not in TABLES or not len(expected) <= rows < PADDED * len(expected):
        return 1.0
    counts = np.full(rows, expected.min())
    counts[: len(expected)] = expected
    counts /= counts.mean()
    return counts


def folded(shape: tuple[int, ...]) -> tuple[int, int]:
    """The matrix that a tensor without a Hessian is quantized as: (first dimension, the others), or with the last
    one alone as columns where that gives longer columns, which a trellis is better on."""
    n = int(np.prod(shape, dtype=np.int64))
    if len(shape) < 2:
        return 1, n
    columns = n // shape[0] if shape[0] else int(np.prod(shape[1:], dtype=np.int64))
    if len(shape) > 2 and columns > shape[0]:
        columns = shape[-1]
    return (n // columns if columns else int(np.prod(shape[:-1], dtype=np.int64))), columns


def mean_square(array: NDArray[Any], at_once: int = 1 << 20) -> float:
    """Mean of the squares, the same to the last bit on every machine."""
    flat = array.reshape(-1)
    parts = (np.square(flat[at : at + at_once], dtype=np.float64).sum() for at in range(0, flat.size, at_once))
    return float(sum(parts)) / max(1, flat.size)
