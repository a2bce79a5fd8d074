"""What `pgpack sweep --resume` goes on with: the space, the search, the budget and the text of the study."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions
from pgpack.sizes import Size

from .search import SearchFlags
from .space import remembered_space

if TYPE_CHECKING:
    from pgpack.sweep.space import Space


@dataclass(frozen=True)
class Asked:
    """What the flags of a sweep say."""

    space: Space
    search: SearchFlags
    budget: Size | None
    text: BenchOptions


def resumed(out: Path, asked: Asked, extend: bool) -> tuple[Asked, list[str]]:
    """What was asked before, with what is asked now in place of what is said anew; (that, a line for each change).

    Raises: click.UsageError for a change, unless the study is to be extended; StudyError for an unreadable card.
    """
    from pgpack.study.card import STUDY_FILE, read_card

    card = read_card(out / STUDY_FILE)
    if card is None:
        raise click.UsageError(f"--resume: {out} holds no study; leave --resume out to begin one")
    changes: list[tuple[str, str]] = []

    def chosen(now: str, before: str, is_given: bool) -> bool:
        """Whether what is said now counts; a difference is a change."""
        if is_given and now != before:
            changes.append((before or "nothing of it", now))
        return is_given

    space, search, budget = asked.space, asked.search, asked.budget
    if not chosen(space.text, card.space, not space.is_default):
        space = remembered_space(card.space)
    if not chosen(search.as_text(), card.search, search != SearchFlags()):
        search = SearchFlags.remembered(card.search)
    if not chosen(f"--budget {budget}", f"--budget {card.budget}", budget is not None):
        budget = card.budget
    text = _text(asked.text, card.data_flags, changes)
    lines = [f"{now} (before: {before})" for before, now in changes]
    if lines and not extend:
        raise click.UsageError(
            f"--resume: {out} was begun otherwise; changed: {'; '.join(lines)}. Leave that out to go on as before, "
            "add --extend to go on with both, or give another -o"
        )
    return Asked(space, search, budget, text), lines


def _text(now: BenchOptions, flags: str, changes: list[tuple[str, str]]) -> BenchOptions:
    """The flags of model and text of the study, with those that are given now."""
    try:
        before = BenchOptions.of_flags(flags)
    except ValueError:  # of an older pgpack: nothing is remembered, and the study refuses another text by itself
        return now
    given = {}
    for field in dataclasses.fields(BenchOptions):
        value, old = getattr(now, field.name), getattr(before, field.name)
        if value == field.default:
            continue
        given[field.name] = value
        if value != old:
            said, was = (
                dataclasses.replace(BenchOptions(), **{field.name: each}).as_flags() for each in (value, old)
            )
            changes.append((was or "nothing of it", said or shlex.quote(str(value))))
    return dataclasses.replace(before, **given)
