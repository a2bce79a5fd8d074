"""A submission as a value: its runs, what is said of it, its sums."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from pgpack.errors import BudgetExceeded, SubmissionError
from pgpack.loss.evaluator import BitsPerByte

from .decoder import Decoder
from .self_extracting import CodeFile, smallest

DECODE = "decode.py"
NAMED = ("name", "author", "github_id")


@dataclass(frozen=True)
class RunResult:
    """One trained and packed model. `seed` None: the only one, and nobody named its seed. `before`: loss of the
    checkpoint itself, `loss` of what decodes from the artifact; None where it was not measured."""

    seed: int | None
    artifact: bytes
    recipe: str
    n_params: int
    log: str | None = None
    loss: BitsPerByte | None = None
    before: BitsPerByte | None = None

    @property
    def model_name(self) -> str:
        return "model.pgpack" if self.seed is None else f"model_seed{self.seed}.pgpack"

    @property
    def log_name(self) -> str:
        return "train.log" if self.seed is None else f"train_seed{self.seed}.log"


@dataclass(frozen=True)
class About:
    """What only the participant knows; empty fields are left for filling in."""

    name: str = ""
    author: str = ""
    github_id: str = ""
    date: str = ""
    track: str = ""
    blurb: str = ""
    hardware: str = ""

    def require_names(self) -> None:
        """Raises SubmissionError while nobody is named: these are what a record is filed under."""
        blank = [name for name in NAMED if not getattr(self, name).strip()]
        if blank:
            raise SubmissionError(
                f"{', '.join(blank)} of this submission {'are' if len(blank) > 1 else 'is'} blank; "
                'give --about FILE.json with {"name": ..., "author": ..., "github_id": ...}'
            )


@dataclass(frozen=True)
class Submission:
    """A whole submission. Units: `budget` bytes. `figure`: SVG text, '' for none; `requirements`: those of the
    training script, line by line."""

    runs: Sequence[RunResult]
    train: CodeFile
    decoder: Decoder
    budget: int
    about: About = field(default_factory=About)
    figure: str = ""
    requirements: Sequence[str] = ()

    def __post_init__(self) -> None:
        seeds = [run.seed for run in self.runs]
        if not seeds or len(set(seeds)) < len(seeds) or (len(seeds) > 1 and None in seeds):
            raise SubmissionError("every checkpoint of a submission needs a seed of its own; name them with --seed")

    @cached_property
    def code(self) -> tuple[CodeFile, ...]:
        return (self.train, decoder_file(self.decoder))

    @property
    def n_code(self) -> int:
        return sum(len(each.shipped) for each in self.code)

    @property
    def n_model(self) -> int:
        """Of the largest artifact."""
        return max(len(run.artifact) for run in self.runs)

    @property
    def n_total(self) -> int:
        return self.n_model + self.n_code

    @property
    def spare(self) -> int:
        return self.budget - self.n_total

    @property
    def spread(self) -> int:
        """Bytes that the artifacts of different seeds differ by."""
        return self.n_model - min(len(run.artifact) for run in self.runs)

    @property
    def conventions(self) -> dict[str, int]:
        """Bytes of all code under each convention."""
        each = [code.conventions for code in self.code]
        return {name: sum(found[name] for found in each) for name in each[0]}

    @property
    def losses(self) -> tuple[BitsPerByte, ...]:
        """The measured losses, if every run has one."""
        found = tuple(run.loss for run in self.runs if run.loss is not None)
        return found if len(found) == len(self.runs) else ()

    def require_budget(self) -> None:
        """Raises BudgetExceeded when code and the largest artifact are more than the budget."""
        if self.n_total > self.budget:
            raise BudgetExceeded(
                f"code {self.n_code:,} + largest artifact {self.n_model:,} = {self.n_total:,} bytes, "
                f"{self.n_total - self.budget:,} over the budget of {self.budget:,}"
            )

    def document(self) -> dict[str, Any]:
        """submission.json, in the field's names; null where nothing was measured."""
        losses = self.losses
        bpb, nats = [loss.bpb for loss in losses], [loss.nats for loss in losses]
        before = [run.before.bpb for run in self.runs if run.before is not None]
        rows = {
            str(run.seed): {
                "val_loss": run.loss and run.loss.nats,
                "val_bpb": run.loss and run.loss.bpb,
                "artifact_bytes": len(run.artifact),
            }
            for run in self.runs
            if run.seed is not None
        }
        return {
            **asdict(self.about),
            "val_loss": statistics.fmean(nats) if nats else None,
            "val_bpb": statistics.fmean(bpb) if bpb else None,
            **({"val_bpb_std": statistics.stdev(bpb)} if len(bpb) > 1 else {}),
            **({"pre_quant_val_bpb": statistics.fmean(before)} if len(before) == len(self.runs) else {}),
            **({"seeds": [int(seed) for seed in rows], "seed_results": rows} if rows else {}),
            "bytes_model": self.n_model,
            "bytes_code": self.n_code,
            "bytes_total": self.n_total,
            "bytes_code_conventions": self.conventions,
            "counted_files": [*(each.name for each in self.code), *(run.model_name for run in self.runs)],
            "technique_summary": " / ".join(dict.fromkeys(run.recipe for run in self.runs)),
        }


def decoder_file(decoder: Decoder) -> CodeFile:
    """decode.py as it is shipped."""
    return smallest(DECODE, decoder.readable.encode(), decoder.code.encode())
