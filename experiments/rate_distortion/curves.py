"""What is measured: the engine, the field's packers on their own dials, NNCodec, and the engine without its parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pgpack.recipe.preset_candidates import SMALL_PASSTHROUGH, preset_recipe
from pgpack.recipe.presets import PRESETS

from .laboratory import Laboratory
from .nncodec_peer import QP_PER_OCTAVE
from .rows import Row

ENGINE = "tcq-64"
TARGETS = (0.0008, 0.0015, 0.003, 0.006, 0.012, 0.025, 0.05)  # KL in nats per token, roughly
COMPENSATION, TUNING = "@compensate=weights(count=120)", "@tune=steps(count=100)"
SMALL = "ndim<=1=cast|shuffle|brotli; role:control=cast|shuffle|brotli"
NNCODEC = {"nncodec": 0.0, "nncodec, lambda 1": 1.0}
RELATIVE_STEPS = tuple(0.09 * 2 ** (i / 2) for i in range(8))  # of the weights' root mean square


@dataclass(frozen=True)
class Variant:
    """The engine with something changed. `chain`: quantizer and coder, {step} the dial."""

    name: str
    chain: str
    calibration: str = "observed"
    suffix: str = ""


def _tcq(states: int, more: str = "", coder: str = "") -> str:
    return f"tcq(step={{step}},states={states}{more})|{coder or f'rans_scaled(states={states})'}"


ENGINES = (Variant("tcq-8", _tcq(8)), Variant(ENGINE, _tcq(64)))
TRAINED = {
    "compensated": Variant("tcq-64, compensated", _tcq(64), suffix=COMPENSATION),
    "tuned": Variant("tcq-64, tuned steps", _tcq(64), suffix=TUNING),
}
SCALAR = Variant("scalar: 1 state", _tcq(1))
FULL_ROWS = Variant("row steps all the way", _tcq(64, ",rows=1"))
ABLATIONS = (
    SCALAR,
    *(Variant(f"{states} states", _tcq(states)) for states in (4, 16, 32, 128, 256)),
    Variant("column steps alike", _tcq(64, ",columns=0")),
    Variant("row steps alike", _tcq(64, ",rows=0")),
    FULL_ROWS,
    Variant("Fisher weights alike", _tcq(64), "no-fisher"),
    Variant("no error feedback: diagonal Hessians", _tcq(64), "diagonal"),
    Variant("coder: one table per tensor (rans)", _tcq(64, coder="rans")),
    Variant("coder: brotli 11", _tcq(64, coder="brotli(quality=11)")),
    Variant("damp 0.001", _tcq(64, ",damp=0.001")),
    Variant("damp 0.05", _tcq(64, ",damp=0.05")),
    Variant("calibrated on 8,192 tokens", _tcq(64), suffix="@calib=tokens(count=8192)"),
    Variant("calibrated on 131,072 tokens", _tcq(64), suffix="@calib=tokens(count=131072)"),
)
PLAIN = tuple(Variant(f"tcq-{states}, squared error", _tcq(states, ",rows=0"), "plain") for states in (8, 64))


def dials(laboratory: Laboratory, targets: Iterable[float] | None = None) -> list[float]:
    """Steps for the KL of `targets`, TARGETS by default, were the second-order estimate exact: n step^2 / 8 nats."""
    n = laboratory.checkpoint.n_params
    return [float(f"{math.sqrt(8 * target / n):.3g}") for target in (TARGETS if targets is None else targets)]


def text_of(variant: Variant, step: float) -> str:
    """The recipe of a variant at a step."""
    recipe = f"{SMALL}; *={variant.chain.format(step=f'{step:.5g}')}"
    return f"{recipe}; {variant.suffix}" if variant.suffix else recipe


def plain_dials(laboratory: Laboratory) -> list[float]:
    """Steps relative to the weights: one step for all of them, as NNCodec has, for squared error alone."""
    unit = laboratory.rms()
    return [float(f"{relative * unit:.4g}") for relative in RELATIVE_STEPS]


def variant_rows(laboratory: Laboratory, variant: Variant, steps: Iterable[float]) -> Iterator[Row]:
    for step in steps:
        yield laboratory.recipe_row(variant.name, step, text_of(variant, step), variant.calibration)


def preset_rows(laboratory: Laboratory, name: str, dials: Iterable[float] | None = None) -> Iterator[Row]:
    """A field preset over its own dial. In small models only tensors of up to 4,096 values stay fp16."""
    for dial in PRESETS[name].dial_values if dials is None else dials:
        recipe = preset_recipe(name, dial, SMALL_PASSTHROUGH, laboratory.shapes)
        yield laboratory.recipe_row(name, dial, str(recipe))


def nncodec_rows(
    laboratory: Laboratory, name: str, python: str, relative_steps: Iterable[float] = RELATIVE_STEPS
) -> Iterator[Row]:
    """At the settings whose steps are nearest, in octaves, to these; units: root mean squares of the weights."""
    for relative in relative_steps:
        qp = round(QP_PER_OCTAVE * float(np.log2(relative * laboratory.rms())))
        yield laboratory.nncodec_row(name, qp, NNCODEC[name], python)
