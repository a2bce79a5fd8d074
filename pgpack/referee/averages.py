"""Losses that words call a mean of seeds, and the rows of seeds in a README's tables.

    val_bpb: 1.1194 (3-seed mean, std 0.0006)          | **Mean** | 1.1218 | **1.1194 (std 0.0006)** |

Nothing here is judged: `check_seeds` compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .claims import NAME, Claims, decimals
from .numbers import claimed_same
from .script import Place

Rows = list[tuple[float, int]]  # (loss, its digits)
_MEAN = re.compile(r"\b(?:mean|average|averaged|avg|mittel(?:wert)?|durchschnitt|moyenne|media|promedio)\b", re.I)
_COUNT = re.compile(r"\b(?:(?P<n>\d{1,2})|(?P<word>two|three|four|five))[- ](?:random )?(?:seeds?|runs?)\b", re.I)
_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5}
_STD = re.compile(
    r"\b(?:std|stdev|sd|standard deviation|stddev)\b\W{0,8}(?P<std>0?\.\d{3,8})(?!\d)|"
    r"[σs]\s?=\s?(?P<sigma>0\.\d{3,8})",
    re.I,
)
_LOSS = re.compile(r"(?<![\d.,])(?:0[.,][3-9]|[1-3][.,]\d)\d{2,11}(?![\d]|[.,]\d)")
_ROW = re.compile(r"\W*(?:seed\W*)?(?P<seed>\d{1,9})\W*\|", re.I)
BEHIND, BEFORE = 36, 40  # characters between a mean's name and its number


@dataclass(frozen=True)
class Average:
    """A place that calls the claimed loss a mean; `n_seeds`, `std`: as it says, None where it does not."""

    place: Place
    n_seeds: int | None = None
    std: float | None = None


def averages(claims: Claims, readme: str) -> Iterator[Average]:
    """Every place of submission.json and README.md that calls the claimed loss a mean."""
    bpb = claims.bpb
    if bpb is None:
        return
    if claims.number("val_bpb") is None or claims.std is not None:
        yield Average(claims.place("val_bpb", "a mean"), len(claims.seeds) or None, claims.std)
    for key, value in claims.values.items():
        if isinstance(value, str) and _is_called(value, bpb):
            yield _said(value, claims.place(str(key), NAME))
    for i, line in enumerate(readme.splitlines(), 1):
        if _is_called(line, bpb):
            yield _said(line, Place("README.md", i, "a mean"))


def _said(text: str, place: Place) -> Average:
    count, std = _COUNT.search(text), _STD.search(text)
    n = None if count is None else int(count["n"] or _WORDS[count["word"].lower()])
    return Average(place, n, None if std is None else float(std["std"] or std["sigma"]))


def _is_called(text: str, bpb: float) -> bool:
    """Whether the number that a word for a mean is about is the claimed loss; in a row, any of its cells."""
    for word in _MEAN.finditer(text):
        if text.lstrip().startswith("|") and "|" not in text[: word.start()].lstrip()[1:]:
            return any(claimed_same(n, digits, bpb) for n, digits in decimals(text))
        behind = _LOSS.search(text, word.end(), word.end() + BEHIND)
        before = [*_LOSS.finditer(text, max(0, word.start() - BEFORE), word.start())][-1:]
        near = behind
        if before and (behind is None or re.search(r"[,;()|]", text[word.end() : behind.start()])):
            near = None if re.search(r";|\.\s", text[before[0].end() : word.start()]) else before[0]
        if near is not None and any(claimed_same(n, digits, bpb) for n, digits in decimals(near[0])):
            return True
    return False


def rows_of_seeds(readme: str, bpb: float) -> Rows:
    """The losses of the seeds in the table of a README whose row of the mean says `bpb`, in that column."""
    table: list[list[str]] = []
    for line in [*readme.splitlines(), ""]:
        if line.lstrip().startswith("|"):
            table.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        if found := _column(table, bpb):
            return found
        table = []
    return []


def _column(table: list[list[str]], bpb: float) -> Rows:
    means = [row for row in table if row and _MEAN.search(row[0])]
    seeds = [row for row in table if row and _ROW.match(f"{row[0]}|")]
    for row in means:
        for column, cell in enumerate(row[1:], 1):
            if not any(claimed_same(n, digits, bpb) for n, digits in decimals(cell)[:1]):
                continue
            cells = [decimals(each[column]) for each in seeds if len(each) > column]
            if len(cells) == len(seeds) and all(cells):
                return [numbers[0] for numbers in cells]
    return []
