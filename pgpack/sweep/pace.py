"""How long a sweep will take: medians of what its trials cost, stage by stage.

The first trial of a quantization pays for quantizing and evaluating, those that follow for their coding: both kinds
are counted apart, or a median would be that of the followers alone. Wall seconds of a worker, so that time is
divided among workers as long as there is work for all of them.
Where prices are known (what each trial was expected to cost), the left are priced and scaled by what those that were
seen cost in truth, stage by stage: trials that begin a sweep are no fair sample of it.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeAlias

from pgpack.study.trial import Trial
from pgpack.sweep.executors.dispatch import shared_work
from pgpack.sweep.executors.jobs import Job

Price: TypeAlias = Callable[[Job, bool], Mapping[str, float]]
STAGES = ("quantize_s", "encode_s", "decode_s", "eval_s")


class Pace:
    """What is left of `jobs` and how long it will take `n_workers`, from what was seen of the others.

    `n_unknown`: further trials that a search will ask for; it tells which by `expect`. `price`: seconds by stage
    that a job is expected to take, the first of its quantization or a later one.
    """

    def __init__(
        self, jobs: Iterable[Job], n_workers: int = 1, n_unknown: int = 0, price: Price | None = None
    ) -> None:
        self.n_workers = max(1, n_workers)
        self._price = price
        self._waiting: dict[str, deque[Job]] = defaultdict(deque)
        self._paid: dict[str, float] = defaultdict(float)
        self._priced: dict[str, float] = defaultdict(float)
        self._n_unknown = n_unknown
        self._work: dict[str, deque[Hashable]] = defaultdict(deque)
        self._left: Counter[Hashable] = Counter()
        self._add(jobs)
        self._begun: set[Hashable] = set()
        self._seen: dict[tuple[bool, str], list[float]] = defaultdict(list)

    @property
    def n_left(self) -> int:
        return self._left.total() + self._n_unknown

    def expect(self, jobs: Sequence[Job], n_spared: int) -> None:
        """A search asks for `jobs`, and for `n_spared` more that were measured before."""
        self._n_unknown = max(0, self._n_unknown - len(jobs) - n_spared)
        self._add(jobs)

    def end(self) -> None:
        """A search asks for no more."""
        self._n_unknown = 0

    def _add(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            work = shared_work(job)
            self._work[job.candidate.recipe.digest].append(work)
            self._waiting[job.candidate.recipe.digest].append(job)
            self._left[work] += 1

    def saw(self, trial: Trial) -> None:
        """Take in a finished trial. Failed ones and those of other recipes tell nothing of the costs."""
        waiting = self._work.get(trial.recipe_digest)
        if not waiting:
            return
        work, job = waiting.popleft(), self._waiting[trial.recipe_digest].popleft()
        self._left[work] -= 1
        if trial.ok and self._price is not None:
            for stage, seconds in self._price(job, work in self._begun).items():
                self._priced[stage] += seconds
                self._paid[stage] += getattr(trial, stage) or 0.0
        if trial.ok:
            for stage in STAGES:
                seconds = getattr(trial, stage)
                if seconds is not None:
                    self._seen[work in self._begun, stage].append(seconds)
            self._begun.add(work)

    def left_s(self) -> float | None:
        """Seconds until the last trial; None before the first."""
        if not self._seen:
            return None
        if self._price is not None and sum(self._priced.values()) > 0 and not self._n_unknown:
            return self._priced_left(self._price) / max(1, min(self.n_workers, self.n_left))
        n_first = sum(n > 0 and work not in self._begun for work, n in self._left.items())
        n_first += self._n_unknown
        total = n_first * self._cost(False) + (self.n_left - n_first) * self._cost(True)
        return total / max(1, min(self.n_workers, self.n_left))

    def _priced_left(self, price: Price) -> float:
        """Seconds of all that waits, by their prices and what those that were seen cost for theirs."""
        whole = sum(self._paid.values()) / sum(self._priced.values())
        scale = {stage: self._paid[stage] / self._priced[stage] for stage in STAGES if self._priced[stage] > 0}
        begun, total = set(self._begun), 0.0
        for job in chain.from_iterable(self._waiting.values()):
            work = shared_work(job)
            total += sum(scale.get(stage, whole) * seconds for stage, seconds in price(job, work in begun).items())
            begun.add(work)
        return total

    def _cost(self, follows: bool) -> float:
        """Seconds of one trial: the sum of its stages' medians; of the other kind where none was seen."""
        kinds = [self._seen[follows, stage] or self._seen[not follows, stage] for stage in STAGES]
        return sum(statistics.median(kind) for kind in kinds if kind)
