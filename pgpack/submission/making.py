"""From checkpoints, a training script and logs to a submission within its budget.

    script -> bytes of its code ------------------+
    budget - code - decoder -> artifacts -> decoder +-> Submission, together at most the budget

Owns what is known before any packing, and how often a search is repeated. How a checkpoint is packed is the caller's
(`Packer`). Refuses two checkpoints of one seed, and a script that leaves no bytes for weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pgpack.errors import BudgetExceeded, SubmissionError
from pgpack.referee.evidence import CAP
from pgpack.referee.folder import seed_of
from pgpack.referee.source import libraries
from pgpack.study.study import Study

from .decoder import make_decoder
from .folder import require_new
from .self_extracting import MINIFIED, CodeFile, code_file, reads_itself
from .submission import About, RunResult, Submission

DECODER_BYTES = 4200  # of the default engine's decoder as shipped, with some room; its real size is known afterwards
ATTEMPTS = 3
Note = Callable[[str], None]
Packer = Callable[[int], RunResult]
"""Packs one checkpoint, seed and log left open; where a recipe is searched, into at most so many bytes."""


@dataclass(frozen=True)
class Order:
    """What is asked for. `logs` and `named_seeds`: one per checkpoint in their order, or none at all; `raw`: ship the
    script as it is; `requirements`: None for what the script imports; `study`: a sweep of the checkpoint, for the
    figure. Units: `budget` bytes. Raises SubmissionError when the parts do not belong together."""

    target: Path
    checkpoints: Sequence[Path]
    script: Path
    source: str
    logs: Sequence[Path] = ()
    named_seeds: Sequence[int] = ()
    raw: bool = False
    about: About = field(default_factory=About)
    requirements: Path | None = None
    study: Path | None = None
    budget: int = CAP

    def __post_init__(self) -> None:
        for name, given in (("--log", self.logs), ("--seed", self.named_seeds)):
            if given and len(given) != len(self.checkpoints):
                raise SubmissionError(
                    f"{len(given)} {name} for {len(self.checkpoints)} checkpoints; give one each, in order"
                )
        if len(set(self.seeds)) < len(self.seeds):
            raise SubmissionError(
                "two checkpoints have the same seed, or none that could be read off; give --seed N each"
            )

    @cached_property
    def seeds(self) -> tuple[int | None, ...]:
        """As named, else out of the names of logs or checkpoints; None for a single checkpoint without one."""
        if self.named_seeds:
            return tuple(self.named_seeds)
        pairs = zip(self.logs or self.checkpoints, self.checkpoints, strict=True)
        return tuple(
            seed_of(checkpoint.name) if (found := seed_of(log.name)) is None else found for log, checkpoint in pairs
        )


@dataclass(frozen=True)
class Plan:
    """What is known before packing: the script as it will be shipped, and what it leaves for weights."""

    order: Order
    train: CodeFile

    @property
    def weights_budget(self) -> int:
        """Units: bytes."""
        return self.order.budget - len(self.train.shipped) - DECODER_BYTES


def plan_submission(order: Order, note: Note) -> Plan:
    """The plan. Raises SubmissionError for a target that exists or a script that is no Python, BudgetExceeded."""
    require_new(order.target)
    train = code_file("train_gpt.py", order.source, raw=order.raw)
    if train.form == MINIFIED and (reasons := list(reads_itself(order.source))):
        note(f"{order.script} is minified, not packed: its functions need a source file ({reasons[0]})")
    plan = Plan(order, train)
    if plan.weights_budget <= 0:
        raise BudgetExceeded(
            f"the code alone takes {len(train.shipped):,} bytes and a decoder about {DECODER_BYTES:,}; "
            f"nothing is left of {order.budget:,} for weights"
        )
    return plan


def make_submission(plan: Plan, packers: Sequence[Packer], searched: bool, note: Note) -> Submission:
    """The submission within the budget; `searched` recipes are searched again when the decoder turned out larger.

    Raises BudgetExceeded when code and weights do not fit.
    """
    order, for_weights = plan.order, plan.weights_budget
    for _ in range(ATTEMPTS):
        runs = [_named(order, i, packer(for_weights)) for i, packer in enumerate(packers)]
        note("joining, minifying and proving the decoder")
        submission = Submission(
            runs,
            plan.train,
            make_decoder([run.artifact for run in runs]),
            order.budget,
            order.about,
            _figure(order),
            _requirements(order),
        )
        if submission.spare >= 0 or not searched:
            break
        note(f"code and weights are {-submission.spare:,} bytes over the budget; searching again")
        for_weights += submission.spare
    submission.require_budget()
    return submission


def _named(order: Order, index: int, run: RunResult) -> RunResult:
    log = order.logs[index].read_text(encoding="utf-8", errors="replace") if order.logs else None
    return replace(run, seed=order.seeds[index], log=log)


def _figure(order: Order) -> str:
    """The frontier of the study as SVG; '' without one."""
    if order.study is None:
        return ""
    return replace(Study.load(order.study).frontier(budget=order.budget), title="Size against loss").plot()


def _requirements(order: Order) -> tuple[str, ...]:
    """The given lines; without them, what the script imports beyond the standard library."""
    if order.requirements is not None:
        return tuple(order.requirements.read_text(encoding="utf-8").splitlines())
    return tuple(sorted(libraries(order.source)))
