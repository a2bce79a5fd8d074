"""How long a sweep will take: medians of what its trials cost, stage by stage.

The first trial of a quantization pays for quantizing and evaluating, those that follow for their coding: both kinds
are counted apart, or a median would be that of the followers alone. Wall seconds of a worker, so that time is
divided among workers as long as there is work for all of them.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable

from .dispatch import shared_work
from .executors import Job
from .trial import Trial

STAGES = ("quantize_s", "encode_s", "decode_s", "eval_s")


class Pace:
    """What is left of `jobs` and how long it will take `n_workers`, from what was seen of the others."""

    def __init__(self, jobs: Iterable[Job], n_workers: int = 1) -> None:
        self.n_workers = max(1, n_workers)
        self._work = {job.candidate.recipe.digest: shared_work(job) for job in jobs}
        self._left: Counter[Hashable] = Counter(self._work.values())
        self._begun: set[Hashable] = set()
        self._seen: dict[tuple[bool, str], list[float]] = defaultdict(list)

    @property
    def n_left(self) -> int:
        """Trials that were not seen yet."""
        return self._left.total()

    def saw(self, trial: Trial) -> None:
        """Take in a finished trial. Failed ones and those of other recipes tell nothing of the costs."""
        work = self._work.pop(trial.recipe_digest, None)
        if work is None:
            return
        self._left[work] -= 1
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
        n_first = sum(n > 0 and work not in self._begun for work, n in self._left.items())
        total = n_first * self._cost(False) + (self.n_left - n_first) * self._cost(True)
        return total / max(1, min(self.n_workers, self.n_left))

    def _cost(self, follows: bool) -> float:
        """Seconds of one trial: the sum of its stages' medians; of the other kind where none was seen."""
        kinds = [self._seen[follows, stage] or self._seen[not follows, stage] for stage in STAGES]
        return sum(statistics.median(kind) for kind in kinds if kind)
