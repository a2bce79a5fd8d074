"""How far a scorer was looked at: the whole future changed on ever longer texts, and sums at many warm places.

    look_ahead   tokens from t on replaced by others: no loss before t may move, whatever distance it looks (C1, C3)
    look_close   the same from right behind a target, at many places: those first where most was known of a rare token
    sums         exp(-loss) over everything that a target could be, at many places of a text that caches know (C2)

Chunks, warm-ups and caches show only on texts as long as they are: lengths grow until the text, `LONGEST` or the time
ends, and the answer says where that was. Legal chunked methods have 32,768 tokens, so `LONGEST` holds two of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .scoring import SUM, UNMOVED, Answer, Score

SHORTEST, LONGEST, GROWTH = 96, 65_536, 4
CUTS = 6  # places from which the future is changed, of each length
PLACES = 12  # at which probabilities are summed
WARM = (2048, 1024, 512, 256)  # lengths of the text for sums, the longest that the time allows
CLOSE = (8192, *WARM)  # of the text that is looked at closely
CLOSE_PLACES = 64  # at least, of a text that is longer than the shortest
Clock = Callable[[], float]
WAITING = 1 / 16  # of the time that passes while nothing is worked counts


def working() -> Clock:
    """A clock of the seconds in which this process works, so that a busy machine looks as far as an idle one.

    It is never ahead of the time that passes, nor further behind than `WAITING` of it.
    """
    began, worked = time.monotonic(), time.process_time()

    def seconds() -> float:
        passed = time.monotonic() - began
        return max(min(time.process_time() - worked, passed), WAITING * passed)

    return seconds


def look_ahead(
    score: Score, ids: NDArray[np.int64], vocab_size: int, seconds: float, clock: Clock | None = None
) -> Answer:
    """Whether no loss moves when everything after it changes. Units: `seconds` of the clock, about."""
    clock = clock or working()
    rng = np.random.default_rng(0)
    whole = min(len(ids) - 1, LONGEST)
    started, n, looked = clock(), min(SHORTEST, whole), 0
    while True:
        began = clock()
        text = ids[: n + 1]
        before = np.asarray(score(text), dtype=np.float64)
        if before.shape != (n,) or not np.isfinite(before).all():
            return Answer(False, f"the scorer gave {before.shape} losses for {n} targets, or not finite ones")
        for t in _cuts(n, rng):
            changed = text.copy()
            changed[t:] = (text[t:] + rng.integers(1, vocab_size, n + 1 - t)) % vocab_size
            moved = np.abs(np.asarray(score(changed), dtype=np.float64)[: t - 1] - before[: t - 1])
            if moved.size and not moved.max() <= UNMOVED:
                p = int(moved.argmax()) + 1
                return Answer(
                    False,
                    f"changing the tokens from {t:,} on changes the loss of the earlier token {p:,} by "
                    f"{moved.max():.3g} nats (in a text of {n:,})",
                )
            looked = max(looked, n - t + 1)
        spent = clock() - began
        if n == whole or clock() - started + GROWTH * spent > seconds:
            break
        n = min(GROWTH * n, whole)
    why = "" if n == whole else f"; longer texts of the {whole:,} would take more than {seconds:g} s"
    return Answer(True, f"no loss moved when the future changed, up to {looked:,} tokens of it{why}")


def look_close(
    score: Score, ids: NDArray[np.int64], vocab_size: int, seconds: float, clock: Clock | None = None
) -> Answer:
    """Whether no loss moves when the very next tokens change, at as many places as the time allows."""
    clock = clock or working()
    rng = np.random.default_rng(1)
    text, started = _affordable(score, ids, CLOSE, CLOSE_PLACES, seconds, clock), clock()
    before, done = np.asarray(score(text), dtype=np.float64), 0
    places = _telling_places(text, before)
    for target in places:
        changed = text.copy()
        changed[target + 1 :] = (
            text[target + 1 :] + rng.integers(1, vocab_size, len(text) - target - 1)
        ) % vocab_size
        moved = np.abs(np.asarray(score(changed), dtype=np.float64)[:target] - before[:target])
        if not moved.max() <= UNMOVED:
            return Answer(
                False,
                f"changing the tokens behind {target:,} changes the loss of token {int(moved.argmax()) + 1:,} by "
                f"{moved.max():.3g} nats (in a text of {len(before):,})",
            )
        done += 1
        if (clock() - started) * (done + 1) / done > seconds:
            break
    of_all = "all" if done == len(places) else f"{done:,} of {len(places):,}"
    return Answer(True, f"nor when the next tokens did, at {of_all} places of {len(before):,} tokens")


def _telling_places(ids: NDArray[np.int64], nats: NDArray[np.float64]) -> list[int]:
    """Targets with something behind them, each once: in turns those of which the scorer knew most beyond how often
    their token is in the text, and those spread over it."""
    counts = np.bincount(ids)
    known = np.log(len(ids) / counts[ids[1:-1]]) - nats[:-1]
    most = 1 + np.argsort(-known, kind="stable")
    spread = 1 + (np.arange(len(known)) * _coprime(len(known))) % len(known)
    return list(dict.fromkeys(int(t) for pair in zip(most, spread, strict=True) for t in pair))


def _coprime(n: int) -> int:
    """A step near the golden section of n, which visits every number below n."""
    step = max(1, round(0.618 * n))
    while math.gcd(step, n) > 1:
        step += 1
    return step


def _cuts(n: int, rng: np.random.Generator) -> list[int]:
    """Places spread over the text, near its start and its end among them; none on a round number by design."""
    found = {max(2, n // 50), n, *(int(t) for t in rng.integers(2, n + 1, CUTS - 2))} if n > 2 else {n}
    return sorted(found)


def sums(
    score: Score,
    ids: NDArray[np.int64],
    vocab_size: int,
    candidates: int,
    seconds: float,
    clock: Clock | None = None,
) -> Answer:
    """Whether the probabilities of everything that a target could be sum to 1, at as many places as the time allows.

    With more than `candidates` tokens a part of them is tried, whose sum may not pass 1.
    """
    clock = clock or working()
    tried = np.arange(vocab_size)
    if vocab_size > candidates:
        tried = np.unique(np.linspace(0, vocab_size - 1, candidates).astype(np.int64))
    text = _affordable(score, ids, WARM, 3 * len(tried), seconds, clock)
    started, worst, done = clock(), 1.0, 0
    for target in _warm_places(text):
        changed, total = text.copy(), 0.0
        for token in tried:
            changed[target] = token
            total += float(np.exp(-np.float64(np.asarray(score(changed))[target - 1])))
        done += 1
        worst = total if abs(total - 1) > abs(worst - 1) else worst
        if total > 1 + SUM or (len(tried) == vocab_size and total < 1 - SUM):
            return Answer(
                False,
                f"the probabilities of {len(tried):,} candidates for token {target:,} sum to {total:.6f}; "
                "a score that is fixed before its token is used sums to 1",
            )
        if (clock() - started) * (done + 1) / done > seconds:
            break
    return Answer(
        True,
        f"the probabilities of {len(tried):,} candidates sum to {worst:.6f} or nearer to 1 at {done} places of "
        f"{len(text) - 1:,} tokens",
    )


def _affordable(
    score: Score, ids: NDArray[np.int64], lengths: Sequence[int], calls: int, seconds: float, clock: Clock
) -> NDArray[np.int64]:
    """The longest start of the text, of one of these lengths, which can be scored that often."""
    for length in lengths:
        if len(ids) <= length // 2:
            continue
        text, began = ids[: length + 1], clock()
        score(text)
        if (clock() - began) * calls <= seconds:
            return text
    return ids[: SHORTEST + 1]


def _warm_places(ids: NDArray[np.int64]) -> list[int]:
    """Targets whose context was seen most often before, then others spread over the text."""
    seen: dict[int, int] = {}
    counts = np.zeros(len(ids), dtype=np.int64)
    for target in range(1, len(ids)):
        context = int(ids[target - 1])
        counts[target] = seen.get(context, 0)
        seen[context] = seen.get(context, 0) + 1
    warm = [int(t) for t in np.argsort(-counts, kind="stable")[: PLACES // 2] if t > 0]
    spread = [int(t) for t in np.linspace(len(ids) // 3, len(ids) - 1, PLACES // 2)]
    return list(dict.fromkeys(t for pair in zip(warm, spread, strict=False) for t in pair if t > 0))
