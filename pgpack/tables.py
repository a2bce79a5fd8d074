"""Plain-text tables: a line of headings, numbers to the right, text to the left."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

Cell = str | int | float | None


def shown(value: Cell) -> str:
    """A cell as people read it: whole numbers with separators, floats to 4 significant digits, None as '-'."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(value)


def printable(text: str) -> str:
    """On one line, with escapes for what is not seen or moves the cursor: names come from files of strangers."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


def shape_text(shape: Sequence[int]) -> str:
    """`512x2048`; a scalar is `()`."""
    return "x".join(str(length) for length in shape) or "()"


def clipped(text: str, width: int) -> str:
    """At most `width` characters; what was cut is marked by two dots."""
    return text if len(text) <= width else text[: width - 2] + ".."
