"""What `pgpack sweep --resume` goes on with: the checkpoints, space, search, budget and text of the study."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions
from pgpack.sizes import Size

from .search import SearchFlags
from .space import remembered_space

if TYPE_CHECKING:
    from pgpack.bench.benches import Benches
    from pgpack.study.card import StudyMeta
    from pgpack.sweep.space import Space

FILES = ("val", "calib", "tokenizer", "calibration", "base")  # flags of a bench that name files


@dataclass(frozen=True)
class Asked:
    """What the words of a sweep say; no `checkpoints`: the study's own."""

    checkpoints: tuple[Path, ...]
    space: Space
    search: SearchFlags
    budget: Size | None
    text: BenchOptions


def study_of_words(words: Sequence[Path], out: Path | None, resume: bool) -> tuple[tuple[Path, ...], Path]:
    """(checkpoints, none where they are the study's own; folder of the study) of a sweep's words.

    `sweep --resume STUDY` names the study where it names no -o. Raises: click.UsageError where one is missing.
    """
    from pgpack.study.card import STUDY_FILE

    if resume and out is None and len(words) == 1 and (words[0] / STUDY_FILE).is_file():
        return (), words[0]
    if out is None:
        if resume and len(words) == 1 and words[0].is_dir():
            raise click.UsageError(
                f"{words[0]} is no study to go on with: it holds no {STUDY_FILE}; give the folder of a `pgpack sweep`"
            )
        also = f"; {words[0]} is no study to go on with" if resume and words else ""
        raise click.UsageError(f"give -o STUDY, the folder of the study{also}")
    if not words and not resume:
        raise click.UsageError("give CHECKPOINT, a file or a model folder (of --resume STUDY it is the study's own)")
    return tuple(words), out


def _remembered(out: Path, names: Sequence[str]) -> tuple[tuple[Path, ...], Path]:
    """The checkpoints that a study was begun with, and what its paths are seen from: the working directory, else the
    folder of the study, or one that it lies in.

    Raises: click.UsageError where they are not found.
    """
    for base in (Path(), out.resolve(), *out.resolve().parents):
        if all((base / name).exists() for name in names):
            return tuple(base / name for name in names), base
    raise click.UsageError(
        f"--resume: {out} was begun with {', '.join(names)}, which is not there any more; say where it is: "
        f"pgpack sweep CHECKPOINT --resume -o {out}"
    )


def refuse_other_checkpoints(out: Path | None, benches: Benches) -> None:
    """Raises: click.UsageError for a checkpoint that is not one of the study's in `out`; None: any may join."""
    if out is None:
        return
    card = _card(out)
    known = {each.checkpoint_digest for each in card.checkpoints}
    if other := [bench.path for bench in benches.all if bench.checkpoint.digest not in known]:
        raise click.UsageError(
            f"--resume: {out} is a study of {', '.join(each.checkpoint for each in card.checkpoints)}, and "
            f"{other[0]} holds other weights; leave it out to go on as before, or give another -o"
        )


def _seen_from(base: Path, text: BenchOptions) -> BenchOptions:
    """The files of flags that a study remembers, which were given as seen from `base`."""

    def found(name: str) -> str:
        return str(base / name) if not Path(name).exists() and glob(str(base / name)) else name

    named = {name: getattr(text, name) for name in FILES}
    rebased: dict[str, Any] = {name: found(value) for name, value in named.items() if value is not None}
    return dataclasses.replace(text, text=tuple(map(found, text.text)), **rebased)


def _card(out: Path) -> StudyMeta:
    from pgpack.study.card import STUDY_FILE, read_card

    card = read_card(out / STUDY_FILE)
    if card is None:
        raise click.UsageError(f"--resume: {out} holds no study; leave --resume out to begin one")
    return card


def resumed(out: Path, asked: Asked, extend: bool, note: Callable[[str], None]) -> Asked:
    """What was asked before, with what is asked now in place of what is said anew; `note` is told each change.

    Raises: click.UsageError for a change, unless the study is to be extended; StudyError for an unreadable card.
    """
    card = _card(out)
    changes: list[tuple[str, str]] = []

    def chosen(now: str, before: str, is_given: bool) -> bool:
        """Whether what is said now counts; a difference is a change."""
        if is_given and now != before:
            changes.append((before or "not given", now))
        return is_given

    space, search, budget = asked.space, asked.search, asked.budget
    if not chosen(space.text, card.space, not space.is_default):
        space = remembered_space(card.space)
    if not chosen(search.as_text(), card.search, search != SearchFlags()):
        search = SearchFlags.remembered(card.search)
    before = "" if card.budget is None else f"--budget {card.budget}"
    if not chosen(f"--budget {budget}", before, budget is not None):
        budget = card.budget
    text = _text(asked.text, card.data_flags, changes)
    lines = [f"{now} (before: {before})" for before, now in changes]
    if lines and not extend:
        raise click.UsageError(
            f"--resume: {out} was begun otherwise; changed: {'; '.join(lines)}. Leave that out to go on as before, "
            "add --extend to go on with both, or give another -o"
        )
    for line in lines:
        note(f"extended: {line}")
    checkpoints, base = asked.checkpoints, Path()
    if not checkpoints:
        checkpoints, base = _remembered(out, [each.checkpoint for each in card.checkpoints])
    return Asked(checkpoints, space, search, budget, _seen_from(base, text))


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
            changes.append((was or "not given", said or shlex.quote(str(value))))
    return dataclasses.replace(before, **given)
