"""Whether a run of a study has the text that the study began with, told by the files alone.

    flags of the study, flags of the run --> files each --other sizes or bytes--> refused before anything is loaded

Owns the early refusal. What files cannot tell (text that is gone, packed, or built in) is left to the digest of the
evaluator, which takes the model and the tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pgpack.checkpoint.adapter import open_merged
from pgpack.checkpoint.files import opens_without_torch
from pgpack.errors import DataError, StudyError
from pgpack.study.card import STUDY_FILE, known_card
from pgpack.text.compressed import PACKED

from .options import BenchOptions
from .sources import files_of

BLOCK = 1 << 20  # bytes read at a time


def refuse_other_text(out: Path, checkpoint: Path, options: BenchOptions) -> None:
    """Raises: StudyError where the text that is evaluated is known to be another than that of the study in `out`;
    DataError, CheckpointError for files that are not there."""
    card, _ = known_card(out / STUDY_FILE)
    if card is None or not opens_without_torch(checkpoint):
        return
    try:
        before = BenchOptions.of_flags(card.data_flags)
    except ValueError:  # of an older pgpack
        return
    if before.text == options.text and before.val == options.val:
        return
    metadata = open_merged(checkpoint, options.base, options.key).metadata
    now = _validating(files_of(checkpoint, metadata, options))
    try:
        then = _validating(files_of(checkpoint, metadata, before))
    except DataError:  # not there any more
        return
    if _differ(then, now):
        raise StudyError(
            f"{out} is a study on {card.text}, and this run has {', '.join(options.text) or options.val or 'none'}, "
            f"which is another text: it began with {card.data_flags or 'the text that the checkpoint names'}; "
            "repeat that or give another folder as -o"
        )


def _validating(files: dict[str, list[Path]]) -> Sequence[Path]:
    return files.get("text", files.get("val", []))


def _differ(then: Sequence[Path], now: Sequence[Path]) -> bool:
    """Whether what is evaluated is surely not the same. Names of files are no part of a text; it may have grown."""
    kinds = {file.suffix.lower() for file in (*then, *now)}
    if not then or not now or len(kinds) != 1 or kinds & {*PACKED}:
        return False
    if len(then) == len(now) == 1:
        return not _begins_with(now[0], then[0])
    sizes = [Counter(file.stat().st_size for file in files) for files in (then, now)]
    return not sizes[0] <= sizes[1]


def _begins_with(whole: Path, part: Path) -> bool:
    """Text that has grown may evaluate the same documents."""
    with whole.open("rb") as longer, part.open("rb") as shorter:
        while block := shorter.read(BLOCK):
            if longer.read(len(block)) != block:
                return False
    return True
