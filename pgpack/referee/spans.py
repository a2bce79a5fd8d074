"""Tokens of the evaluated text by their positions: which ones a tensor of an evaluation is about, row by row.

val[a : b + 1] -> a row (a, b + 1);  x, y = row[:-1], row[1:];  nll[i, s:e] -> a part of row i
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Span = tuple[int, int]  # first position, the one behind the last


@dataclass
class Tensor:
    """`rows`: the positions of each row, None of one that holds nothing yet; `flat`: it has one
    dimension, in which its rows are behind each other."""

    rows: list[Span | None] = field(default_factory=list)
    flat: bool = False

    @property
    def spans(self) -> list[Span]:
        return [row for row in self.rows if row is not None]

    @property
    def size(self) -> int:
        return sum(b - a for a, b in self.spans)

    def part(self, index: slice) -> Tensor:
        """Every row from one place of it to another; of a flat tensor all rows behind each other."""
        if self.flat and len(self.spans) > 1:
            first, last, _ = slice(index.start, index.stop).indices(self.size)
            found, at = list[Span | None](), 0
            for a, b in self.spans:
                low, high = max(a, a + first - at), min(b, a + last - at)
                found += [(low, high)] if low < high else []
                at += b - a
            return Tensor(found, True)
        return Tensor([None if row is None else _cut(row, index) for row in self.rows], self.flat)

    def chosen(self, index: int) -> Tensor:
        """One row; of a flat tensor one token."""
        if self.flat:
            return self.part(slice(index, index + 1 or None))
        return Tensor([self.rows[index]], True) if -len(self.rows) <= index < len(self.rows) else Tensor([], True)

    def split(self, length: int) -> Tensor:
        """In rows of that length."""
        if length < 1 or not self.flat:
            return self
        cut = [(at, min(at + length, b)) for a, b in self.spans for at in range(a, b, length)]
        return Tensor([*cut])


def _cut(row: Span, index: slice) -> Span:
    first, last, _ = slice(index.start, index.stop).indices(row[1] - row[0])
    return row[0] + first, row[0] + max(first, last)


def union(spans: Iterable[Span]) -> list[Span]:
    """The same positions in spans that are apart, in order."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], last)
        elif last > first:
            found.append((first, last))
    return found


def length(spans: Iterable[Span]) -> int:
    return sum(last - first for first, last in union(spans))


def outside(spans: Iterable[Span], of: Sequence[Span]) -> int:
    """How many positions of `spans` are in none of `of`."""
    return length([*spans, *of]) - length(of)
