"""`make bench-identify`: small models trained briefly, saved bare, identified: how many are what they were, how many
are asked about, and how many are taken for something else.

    case --trained--> tensors alone --identify on calibration text--> equal | asked | WRONG

equal: the same nats per token of other text as under the true config, to 1e-6. asked: a refusal that names a flag;
the table says which. WRONG must be none. Each case twice: with the length of windows said and without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import pgtrain
from pgpack.bench.options import BenchOptions
from pgpack.bench.sources import open_sources
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.errors import PgpackError
from pgpack.models.probe import Probe
from pgpack.text.stream import DocumentTokens
from pgpack.text.tokenizer import Tokenizer
from pgtrain.challenge_models import builder
from pgtrain.identification.reader import Reader
from pgtrain.identification.stationary import Gradients
from pgtrain.identify import identify
from pgtrain.model.model_config import GPTConfig
from tests.bench.identify_cases import BATCH, CASES, STEPS, config_of, trained

CALIBRATION, EVALUATED = 65_537, 16_385  # tokens
ALIKE = 1e-6  # nats per token
FLAG = re.compile(r"--set (\w+)=VALUE|(--seq-len)|(--model NAME)")


@dataclass(frozen=True)
class Outcome:
    """What came of a case. `verdict`: equal, asked or WRONG; `about`: the flags that a refusal names, or the fields
    that are wrong. Units: nats per token of the evaluated text under the true config and under the one found."""

    case: str
    windows: str
    verdict: str
    about: str
    true_nats: float
    found_nats: float | None
    identify_s: float


@dataclass(frozen=True, eq=False)
class Texts:
    """Tokens to train on, to identify on and to compare on, apart from each other."""

    train: NDArray[np.int64]
    calibration: NDArray[np.uint16]
    evaluated: NDArray[np.int64]
    vocab_size: int

    @classmethod
    def of(cls, tokens: NDArray[np.uint16], vocab_size: int, calibration: int = CALIBRATION) -> Texts:
        first, second = calibration, calibration + EVALUATED
        return cls(
            tokens[second:].astype(np.int64), tokens[:first], tokens[first:second].astype(np.int64), vocab_size
        )


@dataclass(frozen=True)
class Remembering(Reader):
    """Reads nothing twice for the two identifications of a case. `spared`: seconds that it would have taken again."""

    known: dict[object, tuple[Any, float]] = field(default_factory=dict)
    spared: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, state: dict[str, torch.Tensor], texts: Texts) -> Remembering:
        weights = {name: each.numpy() for name, each in state.items()}
        return cls(Probe(lambda: weights, texts.calibration), builder)

    def nats(self, config: GPTConfig, window: int, first: int, last: int) -> NDArray[np.float64]:
        own: NDArray[np.float64] = self._once(super().nats, config, window, first, last)
        return own

    def gradients(self, config: GPTConfig, window: int, first: int, last: int) -> Gradients:
        own: Gradients = self._once(super().gradients, config, window, first, last)
        return own

    def _once(self, read: Callable[..., Any], *of: object) -> Any:
        if (key := (read.__name__, *of)) in self.known:
            self.spared.append(self.known[key][1])
        else:
            started = time.process_time()
            self.known[key] = (read(*of), time.process_time() - started)
        return self.known[key][0]


def outcome(case: str, reader: Remembering, texts: Texts, seq_len: int | None, said: Sequence[str] = ()) -> Outcome:
    """One identification against the truth; `said`: fields that are told as they are."""
    truth, state = config_of(case, texts.vocab_size), reader.probe.state
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    reader.spared.clear()
    true_nats, started = nats(truth, state, texts), time.process_time()
    windows = "said" if seq_len else "not said"
    try:
        found = identify(shapes, reader, {name: getattr(truth, name) for name in said}, seq_len).config
    except PgpackError as error:
        flags = sorted({next(filter(None, each)) for each in FLAG.findall(str(error))} - {"--model NAME"})
        about = ", ".join(flags) or "--model NAME"
        return Outcome(case, windows, "asked", about, true_nats, None, _spent(started, reader))
    spent, found_nats = _spent(started, reader), nats(found, state, texts)
    wrong = [name for name, value in vars(truth).items() if value != getattr(found, name)]
    alike = abs(found_nats - true_nats) < ALIKE
    return Outcome(
        case, windows, "equal" if alike else "WRONG", "" if alike else ", ".join(wrong), true_nats, found_nats, spent
    )


def _spent(started: float, reader: Remembering) -> float:
    return time.process_time() - started + sum(reader.spared)


@dataclass(frozen=True)
class Known:
    """Outcomes of earlier runs, a line each, under the models and the code that they are of; None: none are kept."""

    path: Path | None

    def outcome(self, case: str, reader: Remembering, texts: Texts, seq_len: int | None) -> Outcome:
        of = hashlib.sha256(f"{case} {seq_len} {texts.vocab_size}".encode())
        for tensor in reader.probe.state.values():
            of.update(tensor.numpy().tobytes())
        for source in (
            Path(identify.__code__.co_filename),
            *sorted(Path(pgtrain.__file__).parent.glob("identif*/*.py")),
        ):
            of.update(source.read_bytes())
        of.update(texts.calibration.tobytes())
        if self.path is None:
            return outcome(case, reader, texts, seq_len)
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        for line in map(json.loads, lines):
            if line["of"] == of.hexdigest():
                return Outcome(**line["outcome"])
        found = outcome(case, reader, texts, seq_len)
        with self.path.open("a") as file:
            file.write(json.dumps({"of": of.hexdigest(), "outcome": asdict(found)}) + "\n")
        return found


def model_of(case: str, texts: Texts, steps: int, keep: Path | None) -> dict[str, torch.Tensor]:
    """The trained tensors of a case; kept in a folder under what they were trained with, and read from there."""
    config = config_of(case, texts.vocab_size)
    if keep is None:
        return trained(config, texts.train, steps)
    trained_with = hashlib.sha256(f"{config.to_json()} {steps} {BATCH}".encode() + texts.train.tobytes())
    path = keep / f"{case}-{trained_with.hexdigest()[:12]}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(trained(config, texts.train, steps), part)
        part.rename(path)
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return state


def nats(config: GPTConfig, state: dict[str, torch.Tensor], texts: Texts) -> float:
    """Of the evaluated text in windows of the config's length."""
    length = config.seq_len
    count = (len(texts.evaluated) - 1) // length
    ids = torch.from_numpy(texts.evaluated[: count * length + 1])
    with torch.no_grad():
        logits = builder(config)(state).forward_logits(ids[:-1].view(count, length))  # type: ignore[operator]
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:]))


def page(outcomes: Sequence[Outcome]) -> str:
    """The confusion table as Markdown."""
    lines = ["| windows | equal | asked | WRONG | asked about |", "|---|---:|---:|---:|---|"]
    for windows in dict.fromkeys(each.windows for each in outcomes):
        own = [each for each in outcomes if each.windows == windows]
        count = Counter(each.verdict for each in own)
        about = Counter(each.about for each in own if each.verdict == "asked").most_common()
        said = ", ".join(f"{flag} {n}" for flag, n in about)
        lines.append(f"| {windows} | {count['equal']} | {count['asked']} | {count['WRONG']} | {said} |")
    lines += ["", "| case | windows | verdict | about | nats, true | nats, found |", "|---|---|---|---|---:|---:|"]
    for each in outcomes:
        found = "" if each.found_nats is None else f"{each.found_nats:.4f}"
        lines.append(
            f"| {each.case} | {each.windows} | {each.verdict} | {each.about} | {each.true_nats:.4f} | {found} |"
        )
    return "\n".join(lines) + "\n"


def _nobody(tokenizer: Tokenizer, role: str) -> DocumentTokens:
    raise AssertionError(f"no text of a model is asked for as {role}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", default="builtin")
    parser.add_argument("--tokenizer", help="of the text")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="of training a model (default: a minute of one core)"
    )
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--keep", type=Path, help="folder of trained models, to go on from")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options = BenchOptions(text=(given.text,), tokenizer=given.tokenizer)
    sources = open_sources(Path("bare"), from_tensors({}), options, _nobody)
    assert sources.calib is not None
    texts = Texts.of(sources.calib.tokens(None), sources.tokenizer.vocab_size)
    outcomes, known = [], Known(None if given.keep is None else given.keep / "outcomes.jsonl")
    for case in given.cases:
        config, state = config_of(case, texts.vocab_size), model_of(case, texts, given.steps, given.keep)
        reader = Remembering.of(state, texts)
        for seq_len in (config.seq_len, None):
            outcomes.append(known.outcome(case, reader, texts, seq_len))
            print(outcomes[-1], flush=True)
    document = {"steps": given.steps, "chance": math.log(texts.vocab_size), "outcomes": [asdict(o) for o in outcomes]}
    for path, contents in ((given.json, json.dumps(document, indent=1) + "\n"), (given.markdown, page(outcomes))):
        if path is not None:
            path.write_text(contents)


if __name__ == "__main__":
    main()
