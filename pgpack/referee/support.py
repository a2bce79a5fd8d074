"""Which logs support which claimed losses: a copy counts once, a log beside them of another run not at all."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from .claims import Claims
from .logs import Log
from .losses import AFTER, Figure
from .numbers import claimed_same, mean_same

MOST = 10  # logs of which subsets are tried as the runs of a mean


@dataclass(frozen=True)
class Support:
    """`logs`: those that measured a claimed loss; `figures`: seed (None: val_bpb) -> the figure that was claimed;
    `means`: claims that are the mean of several logs; `meant`: the figures that they are the means of."""

    logs: tuple[Log, ...] = ()
    figures: Mapping[int | None, Figure] = field(default_factory=dict)
    means: frozenset[int | None] = frozenset()
    meant: tuple[Figure, ...] = ()


def distinct(logs: Iterable[Log]) -> Iterator[Log]:
    """Without those that say what an earlier one says: the seed, the losses and the bytes are the same."""
    seen = set()
    ordered = sorted(logs, key=lambda log: (log.seed is None, log.name))
    for log in ordered:
        losses = tuple((figure.bpb, figure.loss) for figure in log.figures)
        key = (log.seed, losses, log.totals)
        unnamed = (None, losses, log.totals)
        if not losses or (key not in seen and not (log.seed is None and unnamed in seen)):
            yield log
        seen |= {key, unnamed}


def claimed(claims: Claims) -> Iterator[tuple[int | None, float]]:
    """(seed, claimed loss); (None, val_bpb) when there is no table of seeds."""
    rows = [(seed, row.bpb) for seed, row in claims.results.items() if row.bpb is not None]
    if rows:
        yield from rows
    elif claims.bpb is not None:
        yield None, claims.bpb


def logs_of(logs: Sequence[Log], seed: int | None) -> list[Log]:
    """The logs that may hold a seed's result: its own; without one, those that name no seed."""
    if seed is None:
        return [log for log in logs if log.figures or log.numbers]
    return [log for log in logs if log.seed == seed] or [log for log in logs if log.seed is None]


def matching(logs: Iterable[Log], bpb: float) -> tuple[Log, Figure] | None:
    """The figure that was printed as `bpb` and its log, one after quantization before any other."""
    found = [(log, f) for log in logs for f in log.figures if claimed_same(f.bpb, f.digits, bpb)]
    return next((pair for pair in found if pair[1].stage == AFTER), found[0] if found else None)


def supported(claims: Claims, logs: Sequence[Log]) -> Support:
    """What the logs say for the claimed losses."""
    figures: dict[int | None, Figure] = {}
    own: list[Log] = []
    means: set[int | None] = set()
    meant: list[Figure] = []
    for seed, bpb in claimed(claims):
        candidates = logs_of(logs, seed)
        if (pair := matching(candidates, bpb)) is not None:
            own.append(pair[0])
            figures[seed] = pair[1]
        if seed is None and (pair is None or pair[1].stage != AFTER) and (of_mean := of_a_mean(candidates, bpb)):
            own += [log for log, _ in of_mean]
            meant += [figure for _, figure in of_mean]
            means.add(seed)
    names = {(log.name, log.seed) for log in own}
    return Support(
        tuple(log for log in logs if (log.name, log.seed) in names), figures, frozenset(means), tuple(meant)
    )


def of_a_mean(logs: Sequence[Log], bpb: float) -> tuple[tuple[Log, Figure], ...]:
    """The logs and figures, the last ones of a kind, that have this mean: all of them, or the most that do."""
    labels = {figure.label for log in logs for figure in log.at(AFTER)}
    for label in sorted(labels):
        last = {
            i: figures[-1]
            for i, log in enumerate(logs)
            if (figures := [figure for figure in log.at(AFTER) if figure.label == label])
        }
        digits = min((figure.digits for figure in last.values()), default=0)
        for size in range(len(last), 1, -1):
            if size < len(last) and len(last) > MOST:
                break
            for chosen in combinations(last, size):
                if mean_same(statistics.fmean(last[i].bpb for i in chosen), digits, bpb):
                    return tuple((logs[i], last[i]) for i in chosen)
    return ()
