"""Which job a free worker gets next: jobs that share work follow each other on one worker, so that its cache pays.

    jobs --> batches (one checkpoint, one quantization) --> a worker keeps its batch; whoever is done takes the next
                                                            unbegun batch, then helps with the longest begun one

A worker helps only once the first job of a batch is finished: then what its jobs share is in the cache on disk, and
no two workers quantize the same thing at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .jobs import Job

Worker = Hashable


def shared_work(job: Job) -> Hashable:
    """Equal for jobs that quantize alike: the same checkpoint, transforms, quantizers and order."""
    recipe = job.candidate.recipe
    quantization = tuple((rule.selector, rule.policy.transforms, rule.policy.quantizer) for rule in recipe.rules)
    return job.setting.checkpoint, quantization, recipe.order


def n_batches(jobs: Iterable[Job]) -> int:
    """How many workers could begin at once without doing work twice."""
    return len({shared_work(job) for job in jobs})


@dataclass
class _Batch:
    waiting: deque[Job] = field(default_factory=deque)
    is_warm: bool = False  # one of its jobs is finished, or nobody knows of a reason to wait
    owner: Worker | None = None


class Dispatcher:
    """Hands jobs to workers. A sequence of jobs is sorted into batches; an iterator is drawn from when a worker asks,
    never ahead, because what it gives may depend on what came out before."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._batches: dict[Hashable, _Batch] = {}
        self._source: Iterator[Job] = iter(())
        if isinstance(jobs, Sequence):
            for job in jobs:
                self._batches.setdefault(shared_work(job), _Batch()).waiting.append(job)
        else:
            self._source = iter(jobs)

    def take(self, worker: Worker) -> Job | None:
        """The next job of a free worker; None when there is none for it now."""
        batch = self._batch_for(worker)
        if batch is not None:
            batch.owner = worker if batch.owner is None else batch.owner
            return batch.waiting.popleft()
        return next(self._source, None)

    def finished(self, job: Job) -> None:
        """What the jobs of this one's batch share is there from now on."""
        batch = self._batches.get(shared_work(job))
        if batch is not None:
            batch.is_warm = True

    def lost(self, job: Job) -> None:
        """The worker that had `job` is gone: the job goes first in its batch, which anybody may take over."""
        batch = self._batches.setdefault(shared_work(job), _Batch())
        batch.waiting.appendleft(job)
        batch.owner = None

    def gone(self, worker: Worker) -> None:
        """`worker` asks for nothing any more: anybody may take over its batches."""
        for batch in self._batches.values():
            if batch.owner == worker:
                batch.owner = None

    def _batch_for(self, worker: Worker) -> _Batch | None:
        waiting = [batch for batch in self._batches.values() if batch.waiting]
        own = [batch for batch in waiting if batch.owner == worker]
        unbegun = [batch for batch in waiting if batch.owner is None]
        warm = sorted((batch for batch in waiting if batch.is_warm), key=lambda batch: -len(batch.waiting))
        return next(iter([*own, *unbegun, *warm]), None)
