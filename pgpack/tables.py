"""Plain-text tables: a line of headings, numbers to the right, text to the left."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

Cell = str | int | float | None
LEGIBLE, AMPLE = 24, 60  # characters that are enough to know a name by, a recipe
STIFF = 18  # characters up to which no text is shortened, such as `+0.00167 +-0.00074` or `45 minutes ago`
INDENT = "    "  # before text on a line of its own under the row that it belongs to


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


class Table(str):
    """Aligned text, which can be made as narrow as a terminal: see `within`."""

    __slots__ = ("cells", "headings", "numeric")
    headings: list[str]
    cells: list[list[str]]
    numeric: list[bool]

    def within(self, width: int) -> str:
        """The table in lines of at most `width` characters, if that can be.

        Long names are shortened. Where too little of them would be left, the widest texts go on lines of their own:
        names above their row, anything else below it. Columns that have no room even so follow below, in the rows
        that have a name above them, else in a table under the first columns again.
        """
        if max(map(len, self.split("\n"))) <= width:
            return self
        alone = self._alone(width)
        columns = [i for i in range(len(self.headings)) if i not in alone]
        below = sorted(i for i in alone if i)
        inset = INDENT if 0 in alone else ""
        most = max(self._most(columns, width - len(inset)), STIFF)
        rows = [self.headings, *self.cells]
        lines = [[row[i] if self._is_stiff(i) else shortened(row[i], most) for i in columns] for row in rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lead = 0 if inset else 1 if widths[0] > 1 else 2  # a column of marks alone tells no rows apart
        parts = [
            _side_by_side(part, lines, widths, [self.numeric[i] for i in columns], inset, width)
            for part in _parts(widths, width - len(inset), lead)
        ]
        under = [
            [INDENT + clipped(row[i], width - len(INDENT)) for i in below if row[i] not in ("", "-")] for row in rows
        ]
        if inset:
            names = [clipped(row[0], width) for row in rows]
            return "\n".join(
                line
                for name, *pieces, texts in zip(names, *parts, under, strict=True)
                for line in (name, *pieces, *texts)
            )
        first = [line for piece, texts in zip(parts[0], under, strict=True) for line in (piece, *texts)]
        return "\n".join([*first, *(line for part in parts[1:] for line in part)])

    def _alone(self, width: int) -> list[int]:
        """The columns whose texts go on lines of their own, the widest first."""
        alone: list[int] = []
        columns = list(range(len(self.headings)))
        while True:
            most = self._most(columns, width)
            soft = (i for i in columns if i and not self._is_stiff(i))
            widest = max(soft, key=self._width, default=None)
            enough = LEGIBLE if alone else AMPLE
            if widest is None or most >= enough or self._width(widest) <= most:
                break
            alone.append(widest)
            columns.remove(widest)
        if not self._is_stiff(0) and most < LEGIBLE and self._is_cut(0, max(most, STIFF)):
            alone.append(0)
        return alone

    def _is_stiff(self, column: int) -> bool:
        return self.numeric[column] or self._width(column) <= STIFF

    def _is_cut(self, column: int, width: int) -> bool:
        """Whether a text of a column loses more than initials can stand for."""
        return any(".." in shortened(row[column], width) for row in self.cells)

    def _width(self, column: int) -> int:
        return max(len(row[column]) for row in (self.headings, *self.cells))

    def _most(self, columns: Sequence[int], width: int) -> int:
        """The most characters that no text may exceed so that `columns` fit into `width`; 0 where they cannot."""
        fixed = 2 * (len(columns) - 1) + sum(self._width(i) for i in columns if self._is_stiff(i))
        wanted = [self._width(i) for i in columns if not self._is_stiff(i)]
        most = max(wanted, default=0)
        while most and fixed + sum(min(each, most) for each in wanted) > width:
            most -= 1
        return most


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """The rows as aligned text under their headings. A column is numeric when no cell of it is text."""
    cells = [[shown(value) for value in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headings, *cells, strict=True)]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(headings))]
    found = Table("\n".join(_aligned(line, widths, numeric) for line in (list(headings), *cells)))
    found.headings, found.cells, found.numeric = list(headings), cells, numeric
    return found


def _parts(widths: Sequence[int], width: int, lead: int) -> list[list[int]]:
    """Columns side by side in at most `width` characters, the first `lead` ones in every part."""
    first = list(range(lead))
    parts = [list(first)]
    for i in range(lead, len(widths)):
        if sum(widths[j] + 2 for j in parts[-1]) + widths[i] > width and len(parts[-1]) > lead:
            parts.append(list(first))
        parts[-1].append(i)
    return parts


def _side_by_side(
    part: Sequence[int],
    lines: Sequence[Sequence[str]],
    widths: Sequence[int],
    numeric: Sequence[bool],
    inset: str,
    width: int,
) -> list[str]:
    """A part of the columns of every line, aligned."""
    aligned = (
        _aligned([line[i] for i in part], [widths[i] for i in part], [numeric[i] for i in part]) for line in lines
    )
    return [clipped(inset + text, width) for text in aligned]


def _aligned(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(line, widths, numeric, strict=True)
    )
    return "  ".join(padded).rstrip()


def shortened(text: str, width: int) -> str:
    """At most `width` characters of a cell: of a tensor's name the first parts become initials and then its middle
    goes, of anything with words or stages in it the end."""
    if len(text) <= width:
        return text
    if re.search(r"[ =|;(]", text):
        return clipped(text, width)
    parts = text.split(".")
    for i, part in enumerate(parts[:-2]):
        if len(".".join(parts)) > width and not part.isdigit():
            parts[i] = part[:1]
    name = ".".join(parts)
    kept = width - 2
    return name if len(name) <= width else f"{name[: kept // 2]}..{name[len(name) - (kept - kept // 2) :]}"


def wrapped(text: str, width: int) -> str:
    """A sentence in lines of at most `width` characters, broken between words; what stands between backticks, a word
    that is longer, and a recipe are left whole. Further lines begin where the text does behind a label."""
    if len(text) <= width or "\n" in text:
        return text
    label = re.match(r"\s*\S+(?: {2,}\S+)? {2,}", text)
    indent = " " * (len(label[0]) if label and len(label[0]) <= width // 2 else 2)
    lines = [""]
    for word in re.findall(r" *(?:`[^`]*`\S*|[^\s`]+|`)", text):
        if lines[-1].strip() and len(lines[-1]) + len(word) > width:
            lines.append(indent + word.lstrip())
        else:
            lines[-1] += word
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
