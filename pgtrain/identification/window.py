"""How long the windows were that a model was trained on: its loss falls with the context up to there, then rises.

    the same tokens in windows of 16, 32, ... --loss--> one is clearly the best, and none between powers of two
                                                    --> several: the longest, where twice as long loses far more or
                                                        the gradient tells it, and nothing leans to a shorter one
                                                    --> or the one that gradient and reach together make far likelier

A model that makes little of its context loses the same in shorter windows; in longer ones than it knows, it sees
positions that it never learned, and loss, gradient and reach say so: what a little more context changes of a token's
loss leaps where the windows ended. Public scripts have powers of two: one is not found beside a length between that
loses less, by however little, and that the gradient leans to as well, nor where the leap is at another length. Where
nothing leans nothing tells them apart, and whoever asks is told that the length is as usual. Owns the comparison of
lengths; refuses to call one the best that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import DataError

from .contest import SIGMAS
from .search import ENOUGH, USUAL

Read = Callable[[int, int], NDArray[np.float64]]  # (length, n) -> nats of the first n tokens in windows of it
Weigh = Callable[[int, int], float]  # the log of how much likelier the first length is, by the gradient
Knows = Callable[[int], float]  # the log of how much likelier windows of at least twice that are (see `reach`)
Holds = Callable[[int, int], float]  # (first, last) -> the log of how much likelier they hold last than end at first
Changes = Callable[[int, int], float]  # (first, last) -> the log variance of what context from first to last changes
LENGTHS = tuple(2**k for k in range(4, 13))  # 16 .. 4,096
FEWEST = 4  # windows of a length that are enough to judge it
BEYOND = 2  # lengths clearly behind the best, one after another, after which no longer one is tried
FIRST = 8192  # tokens that tell lengths which lose far more
FAR = 0.02  # nats per token that is far
STEEP = 4  # times more than up to a length the loss rises beyond it, where positions begin that were never learned
TELLS, LEANS = 1.0, 0.3  # of the gradient, for a length and against it
LEAP, EARLIER = 0.8, 0.7  # of the log variance where windows end, and by which it may leap more a quarter before
BLOCK = 512  # tokens whose mean counts as one: neighbours see the same context


def window_of(read: Read, weigh: Weigh, knows: Knows, holds: Holds, changes: Changes, n_tokens: int) -> int:
    """The length of window that the model was trained on.

    Raises: DataError, naming --seq-len and the losses, where several could be.
    """
    lengths = _within_reach(read, n_tokens)
    if not lengths:
        raise DataError(
            f"nothing in the tensors says how long the model's windows were, and {n_tokens:,} tokens are too few to "
            "find out; give --seq-len N"
        )
    found = {length: read(length, n_tokens) for length in lengths}
    best = min(found, key=lambda length: _behind(found, length, lengths[0])[0])
    alike = [length for length in lengths if not _clear(found, length, best)]
    longest = alike[-1]
    between = [length for length in _beside(longest) if FEWEST * length <= n_tokens]
    found |= {length: read(length, n_tokens) for length in between}
    better = [length for length in between if _behind(found, longest, length)[0] > 0]
    enough = 2 * longest * FEWEST <= n_tokens
    if enough and not better and len(alike) == 1:
        better = _instead(changes, holds, longest)
        if not better:
            return longest
    elif enough:
        found[2 * longest] = read(2 * longest, n_tokens)
        odds = _Odds(weigh, knows, holds)
        far = [length for length in better if _behind(found, longest, length)[0] > FAR]
        beyond = len(alike) == 1 or _steep(found, longest, alike[:-1]) or weigh(longest, 2 * longest) > TELLS
        stands = all(weigh(longest, each) > TELLS for each in far) and all(
            odds.stands(longest, each) for each in (*alike[:-1], *better)
        )
        likeliest = longest if beyond and stands else None if far else odds.likeliest((*alike, 2 * longest))
        if likeliest is not None:
            beside = [length for length in _beside(likeliest) if FEWEST * length <= n_tokens]
            found |= {length: read(length, n_tokens) for length in beside if length not in found}
            less = [length for length in beside if _behind(found, likeliest, length)[0] > 0]
            instead = _instead(changes, holds, likeliest)
            if not instead and all(odds.stands(likeliest, each) for each in less):
                return likeliest
            better = sorted({*better, *less, *instead, likeliest})
    near = sorted({*alike, *better})
    found |= {length: read(length, n_tokens) for length in near if length not in found}
    said = ", ".join(f"{length} {found[length].mean():.4f}" for length in near)
    few = "" if len(near) > 1 else f", and {n_tokens:,} tokens are too few to try longer ones"
    raise DataError(
        f"nothing in the tensors says how long the model's windows were, and they lose alike (nats per token of "
        f"windows of {said}){few}; give --seq-len N"
    )


def _beside(length: int) -> tuple[int, int]:
    """Lengths between it and its neighbours, which no public script has."""
    return length * 3 // 4, length * 3 // 2


@dataclass(frozen=True)
class _Odds:
    """What speaks for one length against another beside the loss in windows of them."""

    weigh: Weigh
    knows: Knows
    holds: Holds

    def stands(self, one: int, other: int) -> bool:
        """Whether a length that is far better than twice as long holds against another: no more than a little speaks
        for the other. What the model knows of the context between is asked where the gradient alone does not say so:
        of a usual length, and of one between powers of two that is longer, which must then be less likely."""
        if self.weigh(one, other) > -LEANS:
            return True
        if _is_usual(other):
            return self.of(one, other) > -LEANS
        return other > one and self.weigh(one, other) - self.holds(one, other) > LEANS

    def of(self, one: int, other: int) -> float:
        """The log of how much likelier the first is, a usual one: by the gradient, and by how usual the other is or
        what the model knows of the steps between the two."""
        if not _is_usual(other):
            return self.weigh(one, other) + USUAL
        steps = [length for length in LENGTHS if min(one, other) <= length < max(one, other)]
        return self.weigh(one, other) + (1 if one > other else -1) * sum(map(self.knows, steps))

    def likeliest(self, lengths: Sequence[int]) -> int | None:
        """The one that is far likelier than all others and than what lies beside it."""
        best = max(lengths, key=lambda one: min(self.of(one, each) for each in lengths if each != one))
        others = (*(each for each in lengths if each != best), *_beside(best))
        return best if all(self.of(best, each) > ENOUGH for each in others) else None


def _instead(changes: Changes, holds: Holds, length: int) -> list[int]:
    """The length beside it that windows may have had instead: a quarter less, where what context changes leaps there
    more than at the length itself, or half more, where it leaps at neither and is no mere noise to the model.
    Measured on models of `make bench-identify`: it leaps by a factor of 2.7 and more where windows end, and earlier
    by less than twice that; of windows of 48 it leaps by 10 at 48 and by 2 at 64."""
    shorter, longer = _beside(length)
    before, within, beyond = (
        changes(*each) for each in ((length // 2, shorter), (shorter, length), (length, longer))
    )
    if within - before > beyond - within + EARLIER:
        return [shorter]
    return [longer] if beyond - within < LEAP and holds(length, longer) > -TELLS else []


def _is_usual(length: int) -> bool:
    return length & (length - 1) == 0


def _steep(found: dict[int, NDArray[np.float64]], length: int, shorter: Sequence[int]) -> bool:
    """Whether twice the length is far behind, and far more so than the length is behind any that is shorter."""
    beyond, _ = _behind(found, 2 * length, length)
    rises = [behind + 2 * error for behind, error in (_behind(found, length, each) for each in shorter)]
    return beyond > max(FAR, *(STEEP * rise for rise in rises), 0.0) and _clear(found, 2 * length, length)


def _within_reach(read: Read, n_tokens: int) -> Sequence[int]:
    """The lengths that are not far behind on the first tokens."""
    n_first = min(FIRST, n_tokens)
    found: dict[int, NDArray[np.float64]] = {}
    beyond = 0
    for length in LENGTHS:
        if FEWEST * length > n_tokens or beyond == BEYOND:
            break
        found[length] = read(length, max(n_first, FEWEST * length))
        best = min(found, key=lambda each: _behind(found, each, LENGTHS[0])[0])
        far = _clear(found, length, best) and _behind(found, length, best)[0] > FAR
        beyond = beyond + 1 if length > best and far else 0
    return [length for length in found if not (_clear(found, length, best) and _behind(found, length, best)[0] > FAR)]


def _behind(found: dict[int, NDArray[np.float64]], length: int, other: int) -> tuple[float, float]:
    """By how much a length loses more than another on tokens of both, and the standard error of it."""
    common = min(len(found[length]), len(found[other]))
    blocks = max(common // BLOCK, 1)
    kept = common // blocks * blocks
    differences = (found[length][:kept] - found[other][:kept]).reshape(blocks, -1).mean(1)
    return float(differences.mean()), float(differences.std() / max(blocks - 1, 1) ** 0.5)


def _clear(found: dict[int, NDArray[np.float64]], length: int, other: int) -> bool:
    behind, error = _behind(found, length, other)
    return behind > SIGMAS * error
