"""The card of a study: what is measured, on which checkpoints and text, as `study.json` keeps it.

    study.json = {v, checkpoint, checkpoint_digest, ..., others: [{checkpoint, checkpoint_digest, ...}]}

Owns the card's fields, its text form and the rule on how a later run may go on with it. A study may hold several
checkpoints, such as seeds of one training. Refuses a checkpoint that changed under its path, a study of other
checkpoints and another evaluator: losses of different models or texts must never share a frontier by accident.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pgpack.errors import StudyError
from pgpack.files import checksum_fits, with_checksum

from .frontier import METRIC_NAMES, Metric
from .trial import NewerRow, Trial, read_row

STUDY_FILE = "study.json"
CARD_VERSION = 7
CARD_SINCE: Mapping[str, int] = {  # as `trial.SINCE`, of the card
    "search": 2,
    "block_bytes": 2,
    "others": 2,
    "split_digest": 4,
    "model": 5,
    "metric": 6,
    "crc32": 7,
}
AGAIN = "the same sweep makes it again, all of its flags given"
SHOWN = 8  # hexadecimal digits of a digest
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "Metric | None": (str, type(None)),
    "int | None": (int, type(None)),
    "float | None": (float, int, type(None)),
    "tuple[int, ...]": (tuple,),
    "tuple[StudyCheckpoint, ...]": (tuple,),
}


@dataclass(frozen=True, kw_only=True)
class StudyCheckpoint:
    """One checkpoint of a study and its loss before packing; fields as in `StudyMeta`."""

    checkpoint: str
    checkpoint_digest: str
    fp32_bpb: float | None = None
    fp32_nats: float | None = None
    fp32_n_bytes: int | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class StudyMeta:
    """What a study measures, as `study.json` keeps it.

    `checkpoint` is the path as the user gave it and `data_flags` the flags (`--calib ...`, `--model ...`)
    that commands need beside it, so that a report can print lines to run. `space` is the search space as text, and
    `search` the flags of the search through it, '' for all of it. `others`: further checkpoints (seeds).
    Units: `budget` and `fp32_n_bytes` bytes; `fp32_bpb` bits per byte and `fp32_nats` nats per token of the
    unpacked model under the same evaluator; None where unknown. `block_bytes`: bytes of the evaluated text's blocks,
    over which errors are estimated; empty where unknown. `split_digest`: sha256 of how documents were parted into
    calibration and validation, and of those that validate; None where the text is not documents. `model`: how the
    model was found, as JSON (`pgpack.models.evidence`); None where it was named or is known. `metric`: the loss that
    trials are compared by; None where nobody chose (`pgpack.study.frontier.default_metric`).

    Raises: StudyError when a field has the wrong type.
    """

    checkpoint: str
    checkpoint_digest: str
    evaluator_digest: str
    pgpack_version: str
    created: str
    calibration_digest: str | None = None
    budget: int | None = None
    space: str = ""
    data_flags: str = ""
    fp32_bpb: float | None = None
    fp32_nats: float | None = None
    fp32_n_bytes: int | None = None
    search: str = ""
    block_bytes: tuple[int, ...] = ()
    others: tuple[StudyCheckpoint, ...] = ()
    split_digest: str | None = None
    model: str | None = None
    metric: Metric | None = None

    def __post_init__(self) -> None:
        _check(self)
        if self.metric is not None and self.metric not in METRIC_NAMES:
            raise StudyError(f"study card field metric is {self.metric!r}; expected {', '.join(METRIC_NAMES)}")

    @property
    def checkpoints(self) -> tuple[StudyCheckpoint, ...]:
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(StudyCheckpoint)}
        return (StudyCheckpoint(**own), *self.others)

    @property
    def title(self) -> str:
        """What is measured, in a few words: the name of the checkpoint's file, and how many more there are."""
        more = f" and {len(self.others)} more" if self.others else ""
        name = self.checkpoint.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or self.checkpoint
        return f"{name}{more}"

    @property
    def text(self) -> str:
        """The text that losses are of, in a few words: as flags name it, or whose it is."""
        try:
            words = shlex.split(self.data_flags)
        except ValueError:  # no flags that pgpack wrote
            words = []
        named = [value for flag, value in pairwise(words) if flag in ("--text", "--val")]
        return ", ".join(named) or ("its own text" if self.fp32_bpb is not None else "no text")

    @property
    def subject(self) -> str:
        """Checkpoint and text, each with the beginning of its digest."""
        judged = "" if self.text == "no text" else f" ({self.evaluator_digest[:SHOWN]})"
        return f"{self.title} ({self.checkpoint_digest[:SHOWN]}) on {self.text}{judged}"

    def with_checkpoints(self, checkpoints: tuple[StudyCheckpoint, ...]) -> StudyMeta:
        """The card with these checkpoints, of which the first one is its own."""
        first, *others = checkpoints
        return dataclasses.replace(self, **dataclasses.asdict(first), others=tuple(others))

    def to_json(self) -> str:
        """The card as indented JSON text; `from_json` is its exact inverse."""
        row = {"v": CARD_VERSION, **dataclasses.asdict(self)}
        return with_checksum(json.dumps(row, indent=2, allow_nan=False)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> StudyMeta:
        """The card that `to_json` wrote, of older programs too, which wrote no checksum. Raises: DamagedCard for
        anything else; NewerRow."""
        names = (*(field.name for field in dataclasses.fields(cls)), "crc32")
        fits = checksum_fits(text.removesuffix("\n"))
        try:
            row = dict(read_row(text, names, "study card", CARD_SINCE, CARD_VERSION))
            if row.pop("crc32", None) is not None and not fits:
                raise StudyError("study card is damaged: its checksum is that of another text")
            return cls._of_row(row)
        except NewerRow as error:
            if fits is False:  # its number was damaged
                raise DamagedCard(str(error)) from None
            raise
        except StudyError as error:
            raise DamagedCard(str(error)) from None

    @classmethod
    def _of_row(cls, row: dict[str, Any]) -> StudyMeta:
        if "others" in row:
            row["others"] = tuple(_checkpoint(other) for other in _list(row, "others"))
            row["block_bytes"] = tuple(_list(row, "block_bytes"))
            if not all(type(n_bytes) is int and n_bytes >= 0 for n_bytes in row["block_bytes"]):
                raise StudyError("study card field block_bytes holds what is no number of bytes")
        return cls(**row)


class DamagedCard(StudyError):
    """A card that is none, or not as it was written."""


def read_card(path: Path) -> StudyMeta | None:
    """The card at `path`; None without one.

    Raises: DamagedCard where it is none; StudyError when it cannot be read, or a newer pgpack wrote it.
    """
    try:
        return StudyMeta.from_json(path.read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (DamagedCard, UnicodeDecodeError) as error:
        raise DamagedCard(f"{path}: {error}; {AGAIN}") from None
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot read it: {error.strerror or error}") from error


def known_card(path: Path) -> tuple[StudyMeta | None, str]:
    """`read_card` for a run that makes a damaged one again: None then, and what is wrong with it, '' otherwise."""
    try:
        return read_card(path), ""
    except DamagedCard as error:
        return None, str(error)


def begun(directory: Path, trials: Sequence[Trial], now: StudyMeta) -> StudyMeta:
    """The card of a study that has none, or a damaged one: that of the run, if all `trials` on disk are of it.

    Raises: StudyError where one is of another checkpoint or evaluator.
    """
    own = {each.checkpoint_digest for each in now.checkpoints}
    for trial in trials:
        evaluator = trial.evaluator_digest if trial.on_full_text else now.evaluator_digest
        if trial.checkpoint_digest not in own or evaluator != now.evaluator_digest:
            what = "evaluator" if trial.checkpoint_digest in own else "checkpoint"
            raise StudyError(
                f"{directory} has lost its {STUDY_FILE}, and holds trials of another {what} than this run: give the "
                "checkpoints and flags that it began with, or another folder as -o"
            )
    return dataclasses.replace(now, created=min((trial.created for trial in trials), default=now.created))


def continued(directory: Path, before: StudyMeta, now: StudyMeta) -> StudyMeta:
    """The card of a run that goes on: what is asked `now`, with all that was known `before`.

    Checkpoints join those of the study when at least one is there already. Raises: StudyError as the module says.
    """
    checkpoints = _joined(directory, before, now)  # first: of another model the evaluator is another too
    old, new = before.evaluator_digest, now.evaluator_digest
    if old != new:
        raise StudyError(
            f"{directory} is a study of evaluator {old[:8]}, but this run has evaluator {new[:8]}: "
            f"{_other_evaluator(before, now)}"
        )
    merged = dataclasses.replace(
        now,
        created=before.created,
        block_bytes=now.block_bytes or before.block_bytes,
        metric=now.metric or before.metric,
    )
    return merged.with_checkpoints(checkpoints)


def _joined(directory: Path, before: StudyMeta, now: StudyMeta) -> tuple[StudyCheckpoint, ...]:
    """The study's checkpoints in their order, then new ones; a loss that is known stays."""
    refuse_others(directory, before, now.checkpoints)
    known = {each.checkpoint_digest: each for each in before.checkpoints}
    joined = dict(known)
    for each in now.checkpoints:
        earlier = known.get(each.checkpoint_digest)
        joined[each.checkpoint_digest] = each if earlier is None else _filled(each, earlier)
    return tuple(joined.values())


def refuse_others(directory: Path, before: StudyMeta, given: Sequence[StudyCheckpoint]) -> None:
    """Raises StudyError where no checkpoint is one of the study's, or one has changed since."""
    known = {each.checkpoint_digest for each in before.checkpoints}
    paths = {each.checkpoint: each.checkpoint_digest for each in before.checkpoints}
    for each in given:
        old = paths.get(each.checkpoint, each.checkpoint_digest)
        if old != each.checkpoint_digest and each.checkpoint_digest not in known:
            raise StudyError(
                f"{directory} is a study of checkpoint {old[:8]}, but this run has checkpoint "
                f"{each.checkpoint_digest[:8]}: "
                f"{each.checkpoint} has changed since {before.created}; give the new weights another folder as -o"
            )
    if not any(each.checkpoint_digest in known for each in given):
        raise StudyError(
            f"{directory} is a study of checkpoint {before.checkpoint_digest[:8]}, but this run has checkpoint "
            f"{given[0].checkpoint_digest[:8]}: it began with {before.checkpoint}, this run has "
            f"{given[0].checkpoint}; give that one or another folder as -o"
        )


def _filled(each: StudyCheckpoint, earlier: StudyCheckpoint) -> StudyCheckpoint:
    """`each` with what only the `earlier` card knows of the same checkpoint."""
    lacking = {name: value for name, value in earlier.__dict__.items() if getattr(each, name) is None}
    return dataclasses.replace(each, **lacking)


def _other_evaluator(before: StudyMeta, now: StudyMeta) -> str:
    """What differs, and what to do."""
    old, new = (_each_flag(card.data_flags) for card in (before, now))
    if old != new:
        began, has = (
            ", ".join(each for each in ours if each not in theirs) for ours, theirs in ((old, new), (new, old))
        )
        return (
            f"it began with {began or 'no such flag'}, this run has {has or 'none'}; repeat the flags that it began "
            "with or give another folder as -o"
        )
    pgpack = "" if before.pgpack_version == now.pgpack_version else f" (pgpack was {before.pgpack_version})"
    return (
        "the flags are the same, so the text, the tokenizer or the way of evaluating behind them has changed"
        f"{pgpack}; bring them back or give another folder as -o"
    )


def _each_flag(flags: str) -> list[str]:
    """Each flag of a line with its values."""
    found: list[list[str]] = []
    for word in shlex.split(flags):
        if word.startswith("--") or not found:
            found.append([])
        found[-1].append(word)
    return [shlex.join(words) for words in found]


def _check(card: StudyMeta | StudyCheckpoint) -> None:
    for field in dataclasses.fields(card):
        value, kinds = getattr(card, field.name), _KINDS[str(field.type)]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise StudyError(f"study card field {field.name} is {value!r}; expected {field.type}")


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(row[name], list):
        raise StudyError(f"study card field {name} is {row[name]!r}; expected a list")
    return list(row[name])


def _checkpoint(other: Any) -> StudyCheckpoint:
    names = {field.name for field in dataclasses.fields(StudyCheckpoint)}
    if not isinstance(other, dict) or other.keys() != names:
        raise StudyError(f"study card field others holds {other!r}; expected objects with {', '.join(sorted(names))}")
    return StudyCheckpoint(**other)
