"""Rules about seeds: their table, a mean that is claimed in words, and runs that are one run under several seeds."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from .averages import Average, Rows, averages, rows_of_seeds
from .evidence import Evidence
from .findings import Finding, cited, fail, listed, ok, skip, warn
from .logs import Log
from .losses import AFTER
from .numbers import JSON_DIGITS, digits_of, mean_same, tolerance
from .script import Place
from .settings import unlike
from .support import matching, of_a_mean

STD = 6e-5  # of one that is printed with four digits
ALIKE = 0.5  # share of the losses of two runs, of which some are the same by chance
ENOUGH = 8  # losses of which a share says something; of fewer, three at least, all must be the same
EXACT = 7  # digits of a result that two seeds do not share by chance
FAR = 2.0  # times the std of the seeds
NEAR = 2e-3  # of the losses in training of one run; those of two differ by more than that somewhere


def seed_table(evidence: Evidence) -> Finding:
    claims = evidence.claims
    losses = [row.bpb for row in claims.results.values() if row.bpb is not None]
    if same := [*one_run(evidence.logs), *misnamed(evidence.own_logs), *other_settings(evidence.own_logs)]:
        return cited("warn", "", same)
    if not losses:
        return mean_in_words(evidence)
    wrong = []
    if claims.seeds and set(claims.seeds) != set(claims.results):
        wrong.append(f"seeds {sorted(claims.seeds)} but results of {sorted(claims.results)}")
    models = {decoded.seed for decoded in evidence.decoded if decoded.seed is not None}
    if models - set(claims.results):
        wrong.append(f"models of seeds {sorted(models)} but results of {sorted(claims.results)}")
    mean = statistics.fmean(losses)
    rows = max(max(JSON_DIGITS - 1, digits_of(bpb)) for bpb in losses)  # a row of three digits is a rounded one
    if claims.bpb is not None and len(losses) > 1 and not mean_same(mean, rows, claims.bpb):
        best = " (that is the best seed)" if abs(min(losses) - claims.bpb) < 1e-6 else ""
        wrong.append(f"val_bpb is {claims.bpb:g}{best}, the mean of its seeds is {mean:.6f}")
    if claims.std is not None and len(losses) > 1:
        found = (statistics.stdev(losses), statistics.pstdev(losses))
        close = max(STD, tolerance(rows)) if rows < 4 else max(STD, 0.51 * 10.0 ** -max(3, digits_of(claims.std)))
        if all(abs(claims.std - value) > close for value in found):
            wrong.append(f"val_bpb_std is {claims.std:g}, that of its seeds is {found[0]:.6f}")
    if wrong:
        return fail(listed(wrong), (claims.place("val_bpb" if "val_bpb" in wrong[-1] else "seeds", wrong[-1]),))
    return ok(f"{len(losses)} seeds, mean {mean:.6f}")


def mean_in_words(evidence: Evidence) -> Finding:
    """A loss that is called a mean, without a table in submission.json: of the README's rows, and of the logs."""
    bpb = evidence.claims.bpb
    said = [*averages(evidence.claims, evidence.readme)]
    if bpb is None or not said:
        return skip("submission.json has no table of seeds")
    values = {row: [*rows] for row, rows in _sources(evidence, bpb, said)}
    wrong = [
        Place(said[0].place.file, said[0].place.line, f"{bpb:g} is called a mean; {where} give {_told(rows)}")
        for where, rows in values.items()
        if not mean_same(statistics.fmean(n for n, _ in rows), min(d for _, d in rows), bpb)
    ]
    if wrong:
        return cited("fail", "", wrong)
    spread = [each for each in said if each.std is not None]
    for where, rows in values.items():
        found = statistics.stdev(n for n, _ in rows)
        slack = max(STD, tolerance(*(d for _, d in rows)) if min(d for _, d in rows) < 4 else STD)
        for each in spread:
            if each.std is not None and not found / FAR - slack <= each.std <= found * FAR + slack:
                what = f"std {each.std:g}, that of {where} is {found:.6f}"
                return warn(f"{each.place.file}: {what}", (Place(each.place.file, each.place.line, what),))
    if not values:
        return skip("a mean is claimed, and neither README.md nor the logs show what it is of")
    return ok(f"{bpb:g} is the mean of {listed(values, ' and of ')}")


def _told(rows: Sequence[tuple[float, int]]) -> str:
    shown = ", ".join(f"{n:.{d}f}" for n, d in rows[:6])
    return f"{shown}{', ...' if rows[6:] else ''}, whose mean is {statistics.fmean(n for n, _ in rows):.6f}"


def _sources(evidence: Evidence, bpb: float, said: Sequence[Average]) -> Iterator[tuple[str, Rows]]:
    """(name, (loss, digits) of every seed) of what a mean may be of."""
    rows = rows_of_seeds(evidence.readme, bpb)
    if len(rows) > 1:
        yield "README.md's rows", rows
    counts = {each.n_seeds for each in said if each.n_seeds is not None}
    logs = [log for log in evidence.logs if log.seed is not None and log.at(AFTER)]
    if of := of_a_mean(logs, bpb):
        yield "the logs", [(figure.bpb, figure.digits) for _, figure in of]
        return
    one = matching(logs, bpb)
    if one is None or one[1].stage != AFTER:
        return  # rule `log-loss` speaks of it
    last = {log.seed: f for log in logs for f in log.at(AFTER) if f.label == one[1].label}
    if len(last) > 1 and (not counts or len(last) in counts):
        yield "the logs", [(figure.bpb, figure.digits) for figure in last.values()]


def one_run(logs: Sequence[Log]) -> list[Place]:
    """Logs of different seeds that print the same losses in training: they are of one run."""
    found: dict[str, Place] = {}
    for other, log in combinations(logs, 2):
        named = None not in (log.seed, other.seed) and log.seed != other.seed
        if not named or log.name == other.name:
            continue
        which = "losses in training" if _are_alike(log.curve, other.curve) else _same_results(log, other)
        if which:
            line = log.figures[0].line if log.figures else 0
            what = f"its {which} are those of {other.name}, of another seed: one run, not two"
            found.setdefault(log.name, Place(log.name, line, what))
    return [*found.values()]


def misnamed(logs: Sequence[Log]) -> Iterator[Place]:
    """Logs that are named of one seed and print others."""
    for log in logs:
        if log.seed is not None and log.printed and log.seed not in log.printed:
            yield log.place(f"it is named of seed {log.seed} and prints seed {min(log.printed)}", "seed")


def other_settings(logs: Sequence[Log]) -> Iterator[Place]:
    """Logs of seeds that are of another model or another training than the others."""
    runs = [(log.seed, dict(log.settings)) for log in logs if log.seed is not None]
    if differ := unlike(runs):
        told = listed(f"{key} {', '.join(values)}" for key, values in sorted(differ.items()))
        which = Counter(run.get(min(differ)) for _, run in runs)
        odd = min(
            (log for log in logs if log.seed is not None), key=lambda log: which[dict(log.settings).get(min(differ))]
        )
        yield Place(odd.name, 0, f"not all seeds are of one configuration: {told}")


def _same_results(one: Log, other: Log) -> str:
    """What two logs print with so many digits that two runs do not share it, '' when there is nothing."""
    exact = [{f.bpb for f in log.at(AFTER) if f.digits >= EXACT} for log in (one, other)]
    return "results" if exact[0] and exact[0] == exact[1] else ""


def _are_alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two curves are of one run: the same losses at the same places, or all of them in another order."""
    if len({*one}) >= 3 and Counter(one) == Counter(other):
        return True
    shorter = min(len(one), len(other))
    if shorter >= ENOUGH and len(one) == len(other) and _is_near(one, other):
        return True
    same = [a for a, b in zip(one, other, strict=False) if a == b]
    if len({*same}) < 3:
        return False
    return len(same) == shorter or (shorter >= ENOUGH and len(same) > ALIKE * shorter)


def _is_near(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether losses were only moved a little, in any order: of a real second run some lie apart."""
    if max(one) - min(one) < 100 * NEAR:
        return False  # flat ones are near each other anyhow
    return any(
        all(abs(a - b) <= NEAR for a, b in zip(*pair, strict=True))
        for pair in ((one, other), (sorted(one), sorted(other)))
    )
