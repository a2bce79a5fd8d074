"""What a job will need, in seconds by stage and bytes of memory, by rates that this machine was measured at.

    values to run, tokens --Rates--> Cost           rates.json: {"trellis": ..., "model": ..., "text": ...}

Owns the rates, the file that they are kept in, and what running a model costs; `costs` prices recipes. Refuses numpy,
so that a plan prints at once. A file that is not as it was written counts as not measured.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgpack.files import checked_json, replace_file, with_checksum
from pgpack.progress import duration
from pgpack.sizes import spoken_size
from pgpack.sweep.executors.machine import COPIES

RATES_FILE = "rates.json"
FLOP = 2.0  # operations of a parameter for a token, forward
BACKWARD = 4.0  # passes that calibrating a token takes: forward, backward, and its outer products
ALONE_BYTES, WITH_MODEL_BYTES = 150_000_000, 450_000_000  # of a process before its checkpoint, without and with torch
MADE = 120  # parameters' worth of a value that a model makes for a token, forward and backward: it moves memory
START = 1.2e11  # parameters times tokens that loading torch, and a first step, which fills caches, are worth
BATCH_BYTES, BATCH_COPIES = 950_000_000, 120  # what a batch of calibration takes at most; of the weights: the demo's
TRAINING_COPIES = 6  # of the weights: themselves, gradients, two moments, their average, one in passing
TEXT_COPIES = 8  # of the text, as strings, sentences of the tokenizer and tokens
BUILTIN_WORK = 4  # times that of a text of its length, for it is parsed out of sources
BUILTIN_BYTES = 1_900_000  # of the documentation inside CPython
PACKING_COPIES = 3  # of the fp32 checkpoint, where no model runs


@dataclass(frozen=True)
class Rates:
    """Units: `trellis` values a second through tcq(states=64) and rans_scaled; `model` parameters times tokens a
    second in one forward pass; `text` bytes a second through the training of a tokenizer and that tokenizer.
    `measured`: here, not elsewhere."""

    trellis: float = 1.28e6
    model: float = 2.0e10
    text: float = 2.5e6
    measured: bool = False


@dataclass(frozen=True)
class Cost:
    """Units: `seconds` by stage; `n_bytes` of memory at the peak."""

    seconds: Mapping[str, float]
    n_bytes: int
    rates: Rates = field(default_factory=Rates)

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def as_document(self) -> dict[str, float | bool]:
        return {"seconds": self.total_s, "n_bytes": self.n_bytes, "measured_here": self.rates.measured}

    def times(self, n: float) -> Cost:
        """So many times the work, one after the other."""
        return dataclasses.replace(self, seconds={name: n * seconds for name, seconds in self.seconds.items()})

    def then(self, other: Cost) -> Cost:
        """This work and the other behind it."""
        stages = dict.fromkeys((*self.seconds, *other.seconds))
        seconds = {name: self.seconds.get(name, 0.0) + other.seconds.get(name, 0.0) for name in stages}
        return Cost(seconds, max(self.n_bytes, other.n_bytes), self.rates)

    def lines(self) -> list[str]:
        """The cost in a sentence."""
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in self.seconds.items() if seconds >= 0.5)
        by = (
            "rates measured here"
            if self.rates.measured
            else "rates of another machine; pgpack doctor measures this one"
        )
        stages = f": {parts}" if parts else ""
        return [f"about {duration(self.total_s)}{stages}; {spoken_size(self.n_bytes)} of memory ({by})"]


def read_rates(folder: Path | None) -> Rates:
    """The rates kept in `folder`, else those of another machine."""
    try:
        kept = checked_json((folder / RATES_FILE).read_text(encoding="utf-8")) if folder else {}
        text = float(kept.get("text", Rates.text))
        rates = Rates(float(kept["trellis"]), float(kept["model"]), text, measured=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Rates()
    speeds = (rates.trellis, rates.model, rates.text)
    return rates if min(speeds) > 0 and math.isfinite(sum(speeds)) else Rates()


def keep_rates(folder: Path, rates: Rates) -> None:
    """Raises: OSError where the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"trellis": rates.trellis, "model": rates.model, "text": rates.text}
    replace_file(folder / RATES_FILE, f"{with_checksum(json.dumps(kept, indent=2))}\n".encode())


def memory_bytes(values: int, *, runs_model: bool, calibrates: bool = False) -> int:
    """The peak of a process that packs a model of so many values."""
    alone, copies = (WITH_MODEL_BYTES, COPIES) if runs_model else (ALONE_BYTES, PACKING_COPIES)
    batch = min(BATCH_BYTES, BATCH_COPIES * 4 * values) if calibrates else 0
    return alone + max(copies * 4 * values, batch)


def passes_cost(values: int, passes: Mapping[str, float], rates: Rates) -> Cost:
    """Running a model of so many values: stage -> tokens times forward passes."""
    seconds = {"start": START / rates.model, **{stage: values * n / rates.model for stage, n in passes.items()}}
    return Cost(seconds, memory_bytes(values, runs_model=True, calibrates="calibrate" in passes), rates)


def training_cost(
    values: int,
    flop: float,
    n_trained: int,
    n_evaluated: int,
    rates: Rates,
    per_token: int = 0,
    n_activations: int = 0,
) -> Cost:
    """Training a model of so many values with so many operations, and evaluating it on so many tokens in all.

    `per_token`: values that the model makes of a token; `n_activations`: those that a step keeps for its backward
    pass. Measured against runs of 0.1 to 6 M parameters, whose estimates were a fifth to a half of what they took
    while products alone were counted.
    """
    seconds = {
        "start": START / rates.model,
        "train": (flop / FLOP + MADE * per_token * n_trained) / rates.model,
        "evaluate": (values + MADE / 2 * per_token) * n_evaluated / rates.model,
    }
    return Cost(seconds, WITH_MODEL_BYTES + 4 * (TRAINING_COPIES * values + n_activations), rates)


def reading_cost(n_bytes: int, rates: Rates) -> Cost:
    """Text read, a tokenizer trained on it, and the text tokenized. It is held as text and as tokens."""
    return Cost({"read": n_bytes / rates.text}, ALONE_BYTES + TEXT_COPIES * n_bytes, rates)


def builtin_cost(rates: Rates) -> Cost:
    """`reading_cost` of the documentation inside CPython."""
    return reading_cost(BUILTIN_WORK * BUILTIN_BYTES, rates)
