"""One measured recipe as one JSON line.

Owns the trial row: its fields, its schema version, its key and its exact text form, which ends in a checksum.
Refuses rows of another schema, damaged rows, unknown or missing keys, and non-finite numbers: a loss that is NaN or
infinite is a failed trial with `null` in its place, so that a journal is always plain JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pgpack.errors import StudyError
from pgpack.files import checksum_fits, with_checksum

SCHEMA_VERSION = 5  # raised by 1 with every new field, which gets a default and a line in SINCE and in JOURNAL.md
SINCE: Mapping[str, int] = {
    "text_share": 2,
    "bpb_se": 2,
    "kl_se": 2,
    "block_excess": 2,
    "relative_error": 3,
    "expected_loss": 3,
    "crc32": 4,  # of the line as it is without this key: no field of a trial
    "peak_bytes": 5,
}  # field -> the version that added it; rows of older versions take its default
STATUSES = ("ok", "failed")

_METRICS = ("bpb", "nats", "kl", "ideal_bits", "relative_error", "expected_loss")


class NewerRow(StudyError):
    """A row of a schema version that is not known yet."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe, packed, decoded and evaluated; or the error that stopped it.

    Units: `n_bytes` whole artifact; `bpb` bits per byte; `nats` and `kl` per token (`kl` to the fp32 model);
    `ideal_bits` the entropy models' own cost of all symbols (an estimate, never a measurement);
    `*_s` wall seconds. `weights_digest` is the sha256 of the decoded weights: equal digests, equal losses.
    `label` is a short name for people, such as a preset's, or empty. `created` is an ISO time with its zone.
    `text_share` below 1 marks a row that a search measured on the first part of the study's text only: it counts for
    that search, never on a frontier. `bpb_se`, `kl_se`: standard errors of the bits per byte above the fp32 model and
    of `kl`; `block_excess`: nats above the fp32 model by block of the text (`pgpack.loss.intervals.pack_floats`).
    Where no text is known: `relative_error`, the squared error of the weights relative to their squares, and with
    Hessians `expected_loss`, the nats per token that it is estimated to cost (`pgpack.calibration.distortion`).
    `peak_bytes`: the most memory that the process held during the trial, None where the system does not tell.

    Raises: StudyError when a field has the wrong type, the status is unknown, or an 'ok' trial lacks
    `n_bytes` or both `bpb` and `relative_error`. A metric that is NaN or infinite becomes None and the
    trial a failed one.
    """

    key: str
    recipe: str
    recipe_digest: str
    status: str
    checkpoint_digest: str
    evaluator_digest: str
    created: str
    calibration_digest: str | None = None
    n_bytes: int | None = None
    bpb: float | None = None
    nats: float | None = None
    kl: float | None = None
    ideal_bits: float | None = None
    weights_digest: str | None = None
    label: str = ""
    quantize_s: float | None = None
    encode_s: float | None = None
    decode_s: float | None = None
    eval_s: float | None = None
    error: str | None = None
    text_share: float = 1.0
    bpb_se: float | None = None
    kl_se: float | None = None
    block_excess: str | None = None
    relative_error: float | None = None
    expected_loss: float | None = None
    peak_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in _TEXT + _OPTIONAL_TEXT:
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name in _OPTIONAL_TEXT):
                raise StudyError(f"trial field {name} is {value!r}; expected text")
        if self.status not in STATUSES:
            raise StudyError(f"trial status is {self.status!r}; expected 'ok' or 'failed'")
        if not isinstance(self.text_share, float | int) or not 0 < self.text_share <= 1:
            raise StudyError(f"trial field text_share is {self.text_share!r}; expected a share above 0 and up to 1")
        for name in ("n_bytes", "peak_bytes"):
            self._set(name, _whole(getattr(self, name), name))
        broken = [name for name in _NUMBERS if self._take_number(name)]
        lost = [name for name in _METRICS if name in broken]
        if lost:
            complaint = f"not a finite number: {', '.join(lost)}"
            self._set("status", "failed")
            self._set("error", f"{self.error}; {complaint}" if self.error else complaint)
        if self.status == "ok" and (self.n_bytes is None or (self.bpb is None and self.relative_error is None)):
            raise StudyError("a trial with status 'ok' must have n_bytes and bpb; use 'failed' with an error")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _take_number(self, name: str) -> bool:
        """Normalise a float field; True when it held a non-finite number, which is dropped."""
        value = getattr(self, name)
        if value is None:
            return False
        number = _number(value, name)
        self._set(name, number if math.isfinite(number) else None)
        return not math.isfinite(number)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def weight_error(self) -> float | None:
        """What trials without text are ranked by: the expected loss where it is known, else the relative error."""
        return self.relative_error if self.expected_loss is None else self.expected_loss

    @property
    def on_full_text(self) -> bool:
        """True when all of the study's text was to be evaluated: only such trials count on a frontier."""
        return self.text_share == 1

    def summary(self) -> dict[str, Any]:
        """Its figures and names, as commands print them."""
        names = ("n_bytes", "bpb", "nats", "kl", "label", "recipe", "recipe_digest")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> str:
        """The trial as one line of ASCII JSON without a newline; `Trial.from_json` is its exact inverse."""
        line = json.dumps({"v": SCHEMA_VERSION, **dataclasses.asdict(self)}, allow_nan=False)
        return with_checksum(line)

    @classmethod
    def from_json(cls, line: str) -> Trial:
        """The trial that `to_json` wrote as `line`.

        Raises: StudyError, one sentence, for anything that `to_json` does not write.
        """
        names = (*(field.name for field in dataclasses.fields(cls)), "crc32")
        row = dict(read_row(line, names, "trial row", SINCE, SCHEMA_VERSION))
        if row.pop("crc32", None) is not None and not checksum_fits(line):
            raise StudyError("trial row is damaged: its checksum is that of another text")
        return cls(**row)


_TEXT, _OPTIONAL_TEXT, _NUMBERS = (
    tuple(field.name for field in dataclasses.fields(Trial) if field.type in kinds)
    for kinds in (("str",), ("str | None",), ("float", "float | None"))
)


def by_size(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials by their bytes, then by recipe, those that failed last: an order that knows nothing of time."""
    return tuple(sorted(trials, key=lambda trial: (not trial.ok, trial.n_bytes or 0, trial.recipe, trial.key)))


def trial_key(
    checkpoint_digest: str,
    recipe_digest: str,
    calibration_digest: str | None,
    evaluator_digest: str,
    version: str,
) -> str:
    """sha256 hex that names a trial: the same key means the same measurement, so it need not be repeated."""
    parts = ["pgpack-trial", checkpoint_digest, recipe_digest, calibration_digest, evaluator_digest, version]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def timestamp() -> str:
    """The present time in UTC as ISO text with seconds, the form of `Trial.created`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_row(
    text: str, names: tuple[str, ...], what: str, since: Mapping[str, int], newest: int
) -> Mapping[str, Any]:
    """The fields of one JSON object that holds exactly `names` and its version `"v"`, which is taken off.

    `since` names the version that added a field: an object of an older version lacks it, and its default counts.
    `newest`: the last version that is known.
    Raises: StudyError naming the first thing that is not as it should be; NewerRow.
    """
    try:
        row = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{what} is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise StudyError(f"{what} is a JSON {type(row).__name__}; expected an object")
    version = row.pop("v", None)
    if type(version) is not int or not 1 <= version <= newest:
        said = f"{what} has schema version {version!r}; this pgpack reads 1 to {newest}"
        if type(version) is int and version > newest:
            raise NewerRow(f"{said}; read it with a newer pgpack")
        raise StudyError(said)
    known = {name for name in names if since.get(name, 1) <= version}
    unknown, missing = sorted(row.keys() - known), sorted(known - row.keys())
    if unknown:
        raise StudyError(f"{what} has unknown keys: {', '.join(unknown)}")
    if missing:
        raise StudyError(f"{what} lacks keys: {', '.join(missing)}")
    return row


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _whole(value: Any, name: str) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise StudyError(f"trial field {name} is {value!r}; expected a whole number of bytes")
    return number


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, bool | str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise StudyError(f"trial field {name} is {value!r}; expected a number") from None
