"""Plain-text tables: a line of headings, numbers to the right, text to the left."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

Cell = str | int | float | None


def escaped(text: str) -> str:
    """`text` on one line, with what would steer a terminal or turn the reading order written as an escape.

    Control and format characters, lone surrogates and line separators (Unicode categories C* and Zl, Zp).
    """
    if text.isprintable():
        return text
    import unicodedata

    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029"
        else char
        for char in text
    )


def escaped_lines(text: str) -> str:
    """`escaped`, of text that may have lines and tabs."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(escaped, line.split("\t"))) for line in text.split("\n"))


def decimals(value: float, n: int) -> str:
    """`n` decimals, unless they would leave fewer than 3 digits of a small number: 0.02808, 4.93e-06."""
    return f"{value:.3g}" if 0 < abs(value) < 10.0 ** (2 - n) else f"{value:.{n}f}"


def shown(value: Cell) -> str:
    """A cell as people read it: whole numbers with separators, floats to 4 significant digits, None as '-'."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return escaped(value)


def counted(n: int, noun: str) -> str:
    """`1 token`, `2 tokens`, `12,000 tokens`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def counted_are(n: int, noun: str) -> str:
    """`1 token is`, `2 tokens are`."""
    return f"{counted(n, noun)} {'is' if n == 1 else 'are'}"


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """The rows as aligned text under their headings. A column is numeric when no cell of it is text."""
    cells = [[shown(value) for value in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headings, *cells, strict=True)]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(headings))]
    lines = []
    for line in (list(headings), *cells):
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def csv_text(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The rows as CSV text under their headings: numbers in full precision, None as an empty cell."""
    import csv

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


def shape_text(shape: Sequence[int]) -> str:
    """`512x2048`; a scalar is `()`."""
    return "x".join(str(length) for length in shape) or "()"


BREAKS = re.compile(r"(?<=[|;])|(?<=,)(?!\d{3}(?!\d))|(?=[(@])|(?<=[.=])(?=[a-z*])")
"""Where a recipe may be cut: where a stage or a setting ends, never within a word or a number."""
_ENDS = re.compile(rf"{BREAKS.pattern}|(?<= )")
_NEAR = 24  # characters that are given up for a cut at the end of a word


def clipped(text: str, width: int) -> str:
    """At most `width` characters, cut where a word or a part of a recipe ends, if one ends near; what was cut is
    marked by two dots."""
    if len(text) <= width:
        return text
    most = width - 2
    ends = [found.start() for found in _ENDS.finditer(text) if most - _NEAR < found.start() <= most]
    kept = text[: ends[-1] if ends else most]
    return f"{kept.rstrip()} .." if kept.endswith(" ") else f"{kept}.."  # a number before the gap is whole
