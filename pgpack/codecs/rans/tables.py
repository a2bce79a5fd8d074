"""Integer frequency tables of the rANS coder: from counts to levels to frequencies, and levels as bits.

    counts --levels_of--> levels --frequencies--> integers that sum to 2^precision
                            |
                            +--residuals, Rice code--> bits

Only the levels are stored: both sides compute the frequencies from them with integers alone. A level is
sqrt(count / 3), rounded, and at least 1 where the symbol occurs. In the square root every symbol's error costs the
same, and the step sqrt(3 / n) in sqrt(probability) balances the bits of the table against the bits that a coarse
table loses (two-part code: n d^2 / (6 ln 2) + log2(1 / d) bits per symbol is least at d = sqrt(3 / n)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact

Ints = NDArray[np.int64]

MAX_LEVEL = 1 << 16
MAX_RICE = 24
SEARCH_BYTES = 1 << 16
COST_UNIT = 1 << 16  # costs are integers in 2^-16 bit, so that choices do not depend on the log2 of a machine


def levels_of(counts: Ints) -> Ints:
    """round(sqrt(counts / 3)), at least 1 for every count above 0. Shape: (alphabet,), also of the result."""
    limited = counts >> max(0, int(counts.max()).bit_length() - 33)  # levels below 2^16
    # division and root are correctly rounded by IEEE 754, hence the same everywhere
    rounded = np.floor(np.sqrt(limited / 3.0) + 0.5).astype(np.int64)
    levels: Ints = np.maximum(rounded, counts > 0)
    return levels


def frequencies(levels: Ints, precision: int) -> Ints:
    """Positive integers proportional to levels^2 that sum to 2^precision; 0 where the level is 0.

    Symbols whose share is below 1 get 1; the others share what is left by largest remainder (Hamilton's method,
    ties to the lower symbol), which is within one unit of proportional for every symbol.
    Raises CorruptArtifact when fewer than 2 or more than 2^precision symbols have a level.
    """
    total = 1 << precision
    used = np.flatnonzero(levels)
    if not 2 <= used.size <= total:
        raise CorruptArtifact(f"a frequency table has {used.size} symbols, expected 2 to {total}")
    weights = levels[used] ** 2
    rising = np.sort(weights)
    left = np.cumsum(rising[::-1])[::-1]  # weight of all symbols from here upwards
    n_small = int(np.argmax(rising * (total - np.arange(used.size)) >= left))  # true at the last symbol
    budget, weight = total - n_small, int(left[n_small])
    small = weights < rising[n_small]
    parts, remainders = np.divmod(weights * budget, weight)
    parts[small], remainders[small] = 1, -1
    parts[np.argsort(-remainders, kind="stable")[: total - int(parts.sum())]] += 1
    result = np.zeros(levels.size, np.int64)
    result[used] = parts
    return result


def coded_cost(counts: Ints, freqs: Ints, precision: int) -> int:
    """Cross-entropy of `counts` under `freqs`. Units: 1/COST_UNIT bit."""
    used = counts > 0
    logs = np.rint(COST_UNIT * np.log2(freqs[used])).astype(np.int64)
    return int((counts[used] * (COST_UNIT * precision - logs)).sum())


def residuals(levels: Ints) -> Ints:
    """Second differences of the levels (0 before the first), zigzag: 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..."""
    second = np.diff(levels, n=2, prepend=np.zeros(2, np.int64))
    return np.where(second < 0, -2 * second - 1, 2 * second)


def levels_from(zigzag: Ints) -> Ints:
    """The inverse of `residuals`. Raises CorruptArtifact when a level is outside 0 to MAX_LEVEL."""
    if zigzag.size and int(zigzag.max()) > 8 * MAX_LEVEL:
        raise CorruptArtifact("a frequency table has a level out of range")
    second = np.where(zigzag & 1, -((zigzag + 1) >> 1), zigzag >> 1)
    levels: Ints = np.cumsum(np.cumsum(second))
    if levels.size and not (int(levels.min()) >= 0 and int(levels.max()) <= MAX_LEVEL):
        raise CorruptArtifact("a frequency table has a level out of range")
    return levels


def rice_parameter(zigzag: Ints) -> int:
    """The number of low bits that makes the Rice code of `zigzag` shortest."""
    costs = [int((zigzag >> k).sum()) + zigzag.size * (1 + k) for k in range(MAX_RICE)]
    return costs.index(min(costs))


def rice_bits(zigzag: Ints, k: int) -> int:
    """Length of the Rice code in bits."""
    return int((zigzag >> k).sum()) + zigzag.size * (1 + k)


def rice_encode(tables: list[tuple[Ints, int]]) -> bytes:
    """Quotients of all tables in unary (zeros, then a one), padded to bytes; then k low bits each, padded."""
    quotients = np.concatenate([zigzag >> k for zigzag, k in tables]) if tables else np.zeros(0, np.int64)
    ends = np.cumsum(quotients + 1)
    unary = np.zeros(int(ends[-1]) if ends.size else 0, np.uint8)
    unary[ends - 1] = 1
    low = [(zigzag[:, None] >> np.arange(k)[::-1] & 1).astype(np.uint8).reshape(-1) for zigzag, k in tables]
    return np.packbits(unary).tobytes() + np.packbits(np.concatenate([*low, np.zeros(0, np.uint8)])).tobytes()


def rice_decode(data: bytes, shapes: list[tuple[int, int]]) -> list[Ints]:
    """Zigzag residuals of tables given their (alphabet, k). Raises CorruptArtifact unless `data` ends there."""
    n = sum(size for size, _ in shapes)
    ones, at = first_ones(data, n), 0
    quotients = np.diff(ones, prepend=-1) - 1
    position = -(-(int(ones[-1]) + 1) // 8) * 8 if n else 0
    n_low = sum(size * k for size, k in shapes)
    if len(data) != position // 8 + (n_low + 7) // 8:
        raise CorruptArtifact("frequency tables do not fill their section")
    result = []
    for size, k in shapes:
        end = position + size * k
        packed = np.frombuffer(data[position // 8 : (end + 7) // 8], np.uint8)
        low = np.unpackbits(packed)[position % 8 :][: size * k].reshape(size, k).astype(np.int64)
        result.append((quotients[at : at + size] << k) + low @ (1 << np.arange(k, dtype=np.int64)[::-1]))
        position, at = end, at + size
    return result


def first_ones(data: bytes, n: int) -> Ints:
    """Bit positions of the first `n` ones. Raises CorruptArtifact when there are fewer."""
    parts, found = [np.zeros(0, np.int64)], 0
    for start in range(0, len(data), SEARCH_BYTES):
        if found >= n:
            break
        bits = np.unpackbits(np.frombuffer(data[start : start + SEARCH_BYTES], np.uint8))
        parts.append(np.flatnonzero(bits)[: n - found] + 8 * start)
        found += parts[-1].size
    if found < n:
        raise CorruptArtifact(f"frequency tables of {n} symbols end after {found}")
    return np.concatenate(parts)
