"""What a submission says about itself: submission.json and the numbers in README.md. Nothing here is believed.

Field names are those that the public submissions use; a value of the wrong type counts as absent and is listed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .numbers import claimed_same
from .script import Place

JSON_BYTES = 1 << 20
EXPECTED = ("author", "github_id", "name", "date", "val_bpb")
TOTALS = (
    "bytes_total", "total_bytes", "artifact_bytes", "artifact_bytes_max", "bytes_total_max", "total_submission_bytes",
    "submission_bytes", "artifact_bytes_total",
)  # fmt: skip
NAME = "submission.json"
_POINT = re.compile(r"(?<![\d.,])(\d{1,4})\.(\d{2,12})(?!\.?\d)")
_COMMA = re.compile(r"(?<![\d.,])(\d{1,4}),(\d{2,12})(?!\d|[.,]\d)")
_POINT_BEHIND_COMMAS = re.compile(r"\d,\d{3}(?:,\d{3}|\.\d)")
_COUNT = re.compile(
    r"(?<![\d.,])\d{1,3}(?:(?:[,_\u202f\u00a0\u2009'\u2019]\d{3})+|(?:\.\d{3}){2,})(?!\d|[,.]\d)|"
    r"(?<![\d.,])\d{1,3}(?: \d{3}){2,}(?=\s?\**(?:bytes?|octets?|B)\b)|(?<![\d.,])\d{6,12}(?!\d|,\d)"
)
_WRITTEN = re.compile(r"[-+]?(?:\d{1,3}(?:[,_ ]\d{3})+|\d{1,15})(?:\.\d{1,20})?(?:e[-+]?\d{1,3})?", re.I)
_UNIT = re.compile(r"[ _-]?(?:bytes?|octets?|B)(?![a-z0-9])", re.I)
_DATE = re.compile(r"20[0-4]\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True)
class SeedClaim:
    """One row of `seed_results`."""

    bpb: float | None = None
    loss: float | None = None
    n_bytes: int | None = None


@dataclass(frozen=True)
class Claims:
    """The parts of submission.json that rules ask about; None or empty where it does not say.

    Units: bytes; `bpb` bits per byte; `loss` nats per token. `fault` is '' when the file is a JSON object.
    """

    fault: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[int, SeedClaim] = field(default_factory=dict)
    text: str = field(default="", repr=False)

    def place(self, key: str, what: str) -> Place:
        """Where submission.json first says `key`."""
        at = self.text.find(f'"{key}"')
        return Place(NAME, 0 if at < 0 else self.text.count("\n", 0, at) + 1, what)

    def number(self, *names: str) -> float | None:
        """The first of these fields that holds a finite number."""
        return _first(self.values, *names)

    def whole(self, *names: str) -> int | None:
        """The first of these fields that holds a whole number."""
        found = self.number(*names)
        return None if found is None or found != int(found) else int(found)

    @property
    def bpb(self) -> float | None:
        return self.number("val_bpb", "mean_val_bpb")

    @property
    def std(self) -> float | None:
        return self.number("val_bpb_std", "std_val_bpb")

    @property
    def models(self) -> dict[str, int]:
        """The bytes of packed models that it names, diagnostic ones among them."""
        names = [name for name in self.values if re.match(r"(bytes_model|model_bytes)", str(name))]
        return {name: n for name in names if (n := self.whole(name)) is not None}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that it names, in its order."""
        found = self.values.get("seeds")
        listed = list(self.results) if isinstance(found, dict) else found if isinstance(found, list) else []
        return tuple(int(seed) for seed in listed if _number(seed) is not None)

    @property
    def counted_files(self) -> tuple[str, ...] | None:
        """The files that it says were counted."""
        found = self.values.get("counted_files")
        if isinstance(found, dict):
            found = list(found)
        return tuple(str(name) for name in found) if isinstance(found, list) else None

    @property
    def record_track(self) -> bool:
        """Whether the ten-minute limits apply."""
        return bool(re.search(r"10min|tenmin", re.sub(r"[-_ ]", "", self.track.lower())))

    @property
    def track(self) -> str:
        """The track that it names, '' when it names none."""
        return str(self.values.get("track") or "").strip()


def read_claims(text: str | None) -> Claims:
    """submission.json as claims; a file that cannot be read is a fault, never an exception."""
    if text is None:
        return Claims("submission.json is missing")
    if len(text) > JSON_BYTES:
        return Claims(f"submission.json has {len(text):,} characters; a few thousand are enough")
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return Claims(f"submission.json is not JSON: {error}")
    if not isinstance(values, dict):
        return Claims("submission.json is not a JSON object")
    table = values.get("seed_results")
    return Claims("", values, _results(values.get("seeds") if table is None else table), text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a key that is there twice with different values: one reader takes the
    first, another the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"{key[:40]!r} is there twice, as {found[key]!r:.40} and as {value!r:.40}")
        found[key] = value
    return found


def _results(found: Any) -> dict[int, SeedClaim]:
    rows = {}
    if isinstance(found, list):  # also a plain list of seeds, which has no rows
        found = {str(row.get("seed")): row for row in found if isinstance(row, dict)}
    for key, row in found.items() if isinstance(found, dict) else ():
        digits = re.search(r"\d+", str(key))
        if digits and isinstance(row, dict):
            n_bytes = _first(row, "artifact_bytes", "bytes_total", "total_bytes")
            rows[int(digits[0])] = SeedClaim(
                _first(row, "val_bpb", "bpb"), _first(row, "val_loss"), None if n_bytes is None else int(n_bytes)
            )
    return rows


def _first(row: Mapping[str, Any], *names: str) -> float | None:
    return next((found for name in names if (found := _number(row.get(name))) is not None), None)


def _number(value: Any) -> float | None:
    """A finite number, also one that is written as a string: "1.0812", "15,900,000"."""
    if isinstance(value, str) and _WRITTEN.fullmatch(value.strip()):
        value = float(re.sub(r"[,_ ]", "", value.strip()))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value) if abs(value) < 1e15 else None


def decimals(text: str) -> tuple[tuple[float, int], ...]:
    """Every decimal number of a text with the digits behind its point: ((1.0611, 4), ...). A comma is a point before
    two digits, or four and more, and before three in a text that has such a number and none with both."""
    commas = [*_COMMA.finditer(text)]
    are_decimal = any(len(number[2]) > 3 for number in commas) and not _POINT_BEHIND_COMMAS.search(text)
    found = [*_POINT.finditer(text), *(n for n in commas if len(n[2]) != 3 or are_decimal)]
    found.sort(key=lambda number: number.start())
    return tuple((float(f"{number[1]}.{number[2]}"), len(number[2])) for number in found)


def byte_counts(text: str) -> frozenset[int]:
    """Every whole number in a text that has separators, or six digits and more without; no dates, no names."""
    numbers = (number for number in _COUNT.finditer(text) if not _is_name(text, number))
    return frozenset(int(re.sub(r"\D", "", number[0])) for number in numbers)


def _is_name(text: str, number: re.Match[str]) -> bool:
    """Whether digits without separators are of a name (seq_20260319a, run-0a12345678) or a date."""
    if not number[0].isdigit():
        return False
    if re.match(r"[^\W\d]", text[number.end() : number.end() + 1]) and not _UNIT.match(text, number.end()):
        return True
    if re.match(r"[^\W\d]", text[max(0, number.start() - 1) : number.start()]):
        return True
    return bool(_DATE.fullmatch(number[0])) and not _UNIT.match(text, number.end())


def states(value: float, numbers: tuple[tuple[float, int], ...]) -> bool:
    """Whether one of these numbers is `value`, with more or fewer digits, of which there are three or more."""
    return any(claimed_same(number, digits, value) for number, digits in numbers)


def nearly_states(value: float, numbers: tuple[tuple[float, int], ...]) -> str:
    """The number of two digits that `value` rounds or is cut to, '' when there is none."""
    return next((f"{number:.{d}f}" for number, d in numbers if d == 2 and abs(number - value) < 0.0100001), "")
