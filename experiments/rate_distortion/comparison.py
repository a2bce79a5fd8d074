"""An experiment's table: other ways to quantize a checkpoint against the engine's, at equal KL on two texts.

    case: step -> Coded --encode--> real bytes --decode--> tensors --evaluators--> KL on kept-back and held-out text

Settings are to be chosen by the first KL, on calibration text that nothing else has seen; the second one, on the
evaluated text, is what is reported. All with 8 states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.calibration import from_arrays
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.errors import StudyError
from pgpack.loss.bpb import TextEvaluator
from pgpack.pack import Quantized, encode, quantize
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.selector import infos
from pgpack.recipe.text import parse_recipe
from pgpack.study.frontier import bd_rate
from pgpack.tensors.record import Record
from pgpack.unpack import unpack

from .curves import ENGINES, dials, text_of
from .laboratory import Laboratory, open_laboratory

Arrays = Mapping[str, NDArray[np.float32]]
N_TOKENS = 32_768  # of calibration: the recipe's default
KEPT_BACK = 8192  # tokens at the end of the calibration text
HEAD = "| case | bytes | KL | bytes at equal KL, kept-back text | held-out text | s |\n|---|---:|---:|---:|---:|---:|"


@dataclass(frozen=True, eq=False)
class Coded:
    """Records of all stored tensors. `added`: what the decoder would add to tensors, stored in `extra_bytes` more."""

    records: Iterable[Record]
    added: Arrays = field(default_factory=dict)
    extra_bytes: int = 0


@dataclass(frozen=True)
class Point:
    """Units: bytes, nats per token on either text, seconds from weights to records."""

    n_bytes: int
    kept_back: float
    kl: float
    quantize_s: float


Case = Callable[[float], Coded]


class Comparison:
    """One checkpoint, the engine's curve on it, and cases to compare."""

    def __init__(self, laboratory: Laboratory, steps: Sequence[float]) -> None:
        self.laboratory, self.steps = laboratory, steps
        self.tensors = {name: laboratory.checkpoint.tensor(name) for name in laboratory.checkpoint.stored_shapes}
        observed = laboratory.calibration("observed", self.recipe(steps[0]))
        self.arrays = {key: observed.load(key) for key in observed.shapes if not key.endswith(".output")}
        text = laboratory.bench.text
        self.kept_back = TextEvaluator(
            text.build,
            text.calib_tokens[-KEPT_BACK - 1 :],
            text.byte_tables,
            text.seq_len,
            reference=dict(laboratory.checkpoint.items()),
        )
        self.anchor = [self.measure(step, self.engine) for step in steps]

    def recipe(self, step: float) -> Recipe:
        return parse_recipe(text_of(ENGINES[0], step)).without_idle_rules(self.laboratory.tensors)

    def engine(self, step: float) -> Coded:
        return Coded(self.quantized(self.tensors, step, self.arrays))

    def quantized(self, tensors: Arrays, step: float, arrays: Arrays) -> tuple[Record, ...]:
        """Records of some tensors under the engine's recipe and any calibration."""
        checkpoint = from_tensors(tensors)
        recipe = self.recipe(step).without_idle_rules(infos(checkpoint.stored_shapes))
        return quantize(checkpoint, recipe, from_arrays(arrays, "", N_TOKENS)).records

    def measure(self, step: float, case: Case) -> Point:
        started = time.perf_counter()
        coded = case(step)
        by_name = {record.name: record for record in coded.records}
        elapsed = time.perf_counter() - started
        checkpoint = self.laboratory.checkpoint
        quantized = Quantized(tuple(by_name[name] for name in self.tensors), checkpoint.aliases, elapsed)
        artifact = encode(quantized, self.recipe(step))
        decoded: dict[str, Any] = dict(unpack(artifact.data).tensors())
        for name, array in coded.added.items():
            decoded[name] = decoded[name] + array
        kept_back, held_out = (e.evaluate(decoded) for e in (self.kept_back, self.laboratory.bench.evaluator))
        assert kept_back.kl is not None
        assert held_out.kl is not None
        return Point(artifact.n_bytes + coded.extra_bytes, kept_back.kl, held_out.kl, elapsed)

    def line(self, name: str, case: Case) -> str:
        """A row of the table: bytes and KL at the middle step, then over all steps."""
        points = [self.measure(step, case) for step in self.steps]
        rates = " | ".join(f"{self._rate(points, metric)}" for metric in ("kept_back", "kl"))
        return _row(name, points, rates)

    def _rate(self, points: Sequence[Point], metric: str) -> str:
        anchor, test = (
            np.array([(p.n_bytes, getattr(p, metric)) for p in each], np.float64) for each in (self.anchor, points)
        )
        try:
            return f"{bd_rate(anchor, test, 'kl').percent:+.1f} %"
        except StudyError:
            return "no KL in common"

    def publish(self, title: str, module: str, cases: Iterable[tuple[str, Case]]) -> None:
        """Print the page with its table, row by row as they are measured."""
        print(f"# {title}\n")
        print(
            f"Written by `python -m {module}`: {self.laboratory.name}, 8 states, {len(self.steps)} steps of the dial;"
        )
        print("bytes, KL and seconds (weights to symbols) at the middle one.\n")
        print(HEAD)
        print(_row("the engine", self.anchor, " | "), flush=True)
        for name, case in cases:
            print(self.line(name, case), flush=True)


def _row(name: str, points: Sequence[Point], rates: str) -> str:
    middle = points[len(points) // 2]
    return f"| {name} | {middle.n_bytes:,} | {middle.kl:.5f} | {rates} | {middle.quantize_s:.1f} |"


def open_comparison(path: Path) -> Comparison:
    """The comparison on a checkpoint of pgtrain, at three steps of the dial."""
    name = path.parent.name if path.stem == "model" else path.stem
    laboratory = open_laboratory(path, name, Path("runs/rd") / name, 16_384)
    return Comparison(laboratory, dials(laboratory)[2:5])
