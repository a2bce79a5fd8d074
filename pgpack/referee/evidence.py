"""Everything that the rules may look at: folder, claims, logs, scripts, decodes, scores; and what follows of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from pgpack.formats.sniff import NO_TORCH, OTHER_KEYS
from pgpack.tensors.roles import Shaped

from . import source
from .claims import Claims
from .encoded import TABLE, encoded_bytes, number_bytes
from .folder import (
    LARGE_ENCODED,
    LARGE_READABLE,
    TOKENIZERS,
    Entry,
    Folder,
)
from .launch import SHELLS, SWITCH, Launch, launch_of
from .layers import Program
from .logs import AFTER, TTT, Log
from .runs import TARGET_DISTRIBUTIONS, Limits, Run, declared_distributions
from .scoring import Scores
from .script import Script
from .split import whole_name
from .support import Support, supported

CAP = 16_000_000
OTHER, FAR = (
    1.1,
    2.0,
)  # times as large as files that are not known: another one, if the code opens them, and in any case
SHORTER = 0.7  # of our wrapped code's bytes: what a minifier and a better codec leave at the least


@dataclass(frozen=True)
class TensorFacts(Shaped):
    """One decoded tensor. Counts are of values, `floor_rows` of rows; `value` is that of a constant tensor."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    not_finite: int = 0
    fp16_overflow: int = 0
    floor_rows: int = 0
    unquantized: bool = False
    constant: bool = False
    value: float = 0.0
    alias_of: str = ""


def tensor_facts(document: Any) -> dict[str, TensorFacts]:
    """The tensors of a probe's answer; {} when there is none."""
    if not isinstance(document, dict):
        return {}
    return {name: TensorFacts(**{**row, "shape": tuple(row["shape"])}) for name, row in document["tensors"].items()}


@dataclass(frozen=True)
class Decoded:
    """An artifact and its decodes: `first` by our decoder, `own` by the folder's; without one `second` by ours."""

    entry: Entry
    first: Run
    second: Run | None = None
    own: Run | None = None
    parts: tuple[str, ...] = ()  # the files that were joined to it, in order
    run: int | None = None  # the seed of the log that has this file's bytes, where the name has its number

    @property
    def seed(self) -> int | None:
        return self.run if self.entry.seed is None else self.entry.seed

    @cached_property
    def tensors(self) -> Mapping[str, TensorFacts]:
        return tensor_facts(self.first.value)

    @property
    def unknown(self) -> bool:
        """Whether it is large enough to be weights and claims no format that is known here."""
        named = re.search(r"\.(pgpack|ptz|pgrp)$", self.entry.name.lower())
        known = self.entry.mark in ("pgpack", "pergroup", "bshf")
        return not self.first.ok and not named and not known and "could run code" not in self.first.error

    @property
    def of_own_layout(self) -> bool:
        """Whether a known codec opened all of it, and what was in there has names of its own."""
        return any(said in self.first.error for said in (OTHER_KEYS, NO_TORCH))

    @property
    def libraries(self) -> tuple[str, ...]:
        """Codec libraries without which it cannot be decoded."""
        return tuple(self.first.value["libraries"]) if isinstance(self.first.value, dict) else ()

    @cached_property
    def own_tensors(self) -> Mapping[str, TensorFacts]:
        return tensor_facts(self.own.value) if self.own else {}


def listed_names(names: Iterable[str]) -> str:
    """The first of some files, and how many more there are."""
    first, *more = names
    return f"{first} and {len(more)} more" if more else first


@dataclass(frozen=True)
class Beside:
    """Bytes beside the models. `sure`: only a program reads them, or the folder's own code does."""

    what: str
    n_bytes: int
    sure: bool


@dataclass(frozen=True)
class Options:
    """What the caller knows. `shapes`: those of the checkpoint that was packed. Units: bytes."""

    cap: int = CAP
    shapes: Mapping[str, tuple[int, ...]] | None = None
    decode_bytes: int = 1 << 30
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Evidence:
    """What the rules judge. `programs`: the counted files of code with their layers.

    `counted`: file -> bytes of all code that is executed or opened; `uncounted_data`: tokenizers that a script opens.
    """

    folder: Folder
    options: Options
    claims: Claims = field(default_factory=Claims)
    readme: str = ""
    requirements: str | None = None
    logs: tuple[Log, ...] = ()
    programs: tuple[Program, ...] = ()
    counted: Mapping[str, int] = field(default_factory=dict)
    uncounted_data: Mapping[str, int] = field(default_factory=dict)
    decoded: tuple[Decoded, ...] = ()
    scores: Scores | None = None

    @cached_property
    def support(self) -> Support:
        """Which logs measured what is claimed."""
        return supported(self.claims, self.logs)

    @property
    def own_logs(self) -> tuple[Log, ...]:
        """The logs of the runs that are claimed; all of them when no log has a claimed loss."""
        return self.support.logs or self.logs

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """Every layer of every counted file of code."""
        return tuple(script for program in self.programs for script in program.scripts)

    @cached_property
    def given(self) -> Launch:
        """How the README and the shell scripts of the folder start a run, and what its logs' results tell of it."""
        found = launch_of([self.readme, *self.shells.values()])
        has_adapted = any(figure.mode == TTT for log in self.own_logs for figure in log.at(AFTER))
        names = {text for text, _ in source.texts(self.scripts) if SWITCH.fullmatch(text)} if has_adapted else set()
        return found.with_on(names - found.names)

    @cached_property
    def shells(self) -> dict[str, str]:
        """Shell script of the folder -> its text."""
        return {e.name: self.folder.text(e.name) or "" for e in self.folder.entries if e.name.endswith(SHELLS)}

    @cached_property
    def models(self) -> dict[str, int]:
        """Packed model -> its bytes; the parts of one that was split count together, and what no format explains.

        Where the weights that lie here are not the logs' models, those of the logs.
        """
        if self.is_model_absent:
            return {f"{log.name}'s model": log.model_bytes for log in self.own_logs if log.model_bytes is not None}
        found: dict[str, int] = {}
        for decoded in self.decoded:
            if decoded not in self.pieces:
                name = whole_name(decoded.entry.name)
                found[name] = found.get(name, 0) + decoded.entry.n_bytes
        pieces = [decoded.entry for decoded in self.pieces]
        if pieces and not found:
            more = f" and {len(pieces) - 1} more" if pieces[1:] else ""
            found[f"{pieces[0].name}{more}"] = sum(entry.n_bytes for entry in pieces)
        return found

    @cached_property
    def seeds(self) -> dict[str, int | None]:
        """Packed model -> its seed."""
        if self.is_model_absent:
            return {f"{log.name}'s model": log.seed for log in self.own_logs}
        return {whole_name(decoded.entry.name): decoded.seed for decoded in self.decoded}

    @cached_property
    def is_model_absent(self) -> bool:
        """Whether all that may be weights here is of no known format and no seed, and is not the model that a log
        speaks of: half as large, or less large and read by the code by name or as numbers."""
        entries = [decoded.entry for decoded in self.pieces]
        if not entries or len(entries) < len(self.decoded):
            return False
        logged = max((log.model_bytes or 0 for log in self.own_logs), default=0)
        n_bytes = sum(entry.n_bytes for entry in entries)
        return logged > FAR * n_bytes or (logged > OTHER * n_bytes and any(map(self._reads, entries)))

    def _reads(self, entry: Entry) -> bool:
        """Whether the code opens a file by name or pattern, or reads files of its kind as numbers."""
        return self._opens([entry]) or source.reads_tables(self.scripts, PurePosixPath(entry.name.lower()).suffix)

    @property
    def pieces(self) -> tuple[Decoded, ...]:
        """Weights of no known format and no seed: not another model each, but a part of one."""
        return tuple(decoded for decoded in self.decoded if decoded.unknown and decoded.seed is None)

    @cached_property
    def beside(self) -> tuple[Beside, ...]:
        """What lies beside the models and may hold weights too: pieces of no known format, heaps of small files."""
        pieces = self.pieces if self.is_model_absent or len(self.pieces) < len(self.decoded) else ()
        found = [Beside(p.entry.name, p.entry.n_bytes, self._reads(p.entry)) for p in pieces]
        for heap in self.folder.heaps:
            sure = not heap.could_be_read or self._opens(heap.entries)
            found.append(Beside(f"{len(heap.entries)} {heap.sort}", heap.n_bytes, sure))
        for log in self.folder.logs:
            if log.n_bytes > LARGE_READABLE:
                found.append(Beside(log.name, log.n_bytes, self._opens([log])))
        if (n_bytes := sum(self.encoded.values())) > LARGE_ENCODED:
            found.append(Beside(f"packed text in {listed_names(self.encoded)}", n_bytes, sure=True))
        found += [Beside(f"the numbers in {name}", n_bytes, sure=True) for name, n_bytes in self.tables.items()]
        return tuple(found)

    @property
    def sure_beside(self) -> int:
        """Bytes beside the models that count with each of them."""
        return sum(each.n_bytes for each in self.beside if each.sure)

    @property
    def totals(self) -> set[int]:
        """What each model comes to with all that counts beside it and the code as shipped."""
        return {n + self.sure_beside + self.code_bytes for n in self.models.values()}

    @cached_property
    def tables(self) -> dict[str, int]:
        """Text that nobody counts -> its bytes that are numbers which the code reads."""
        found = {}
        for entry in self._uncounted_texts():
            ending = PurePosixPath(entry.name.lower()).suffix
            may_be = entry.name not in self.encoded and ending != ".py" and entry.n_bytes >= TABLE
            if may_be and (self._opens([entry]) or source.reads_tables(self.scripts, ending)):
                found[entry.name] = number_bytes(self.folder.contents(entry))
        return {name: n_bytes for name, n_bytes in found.items() if n_bytes}

    def _uncounted_texts(self) -> Iterator[Entry]:
        heaped = {entry.name for heap in self.folder.heaps for entry in heap.entries}
        left_out = {*self.counted, *heaped, *(e.name for e in (*self.folder.artifacts, *self.folder.small))}
        for entry in self.folder.entries:
            if (
                entry.mark in ("text", "log")
                and entry.name not in left_out
                and not entry.name.lower().endswith(TOKENIZERS)
            ):
                yield entry

    @cached_property
    def encoded(self) -> dict[str, int]:
        """Text that nobody counts -> its bytes that are packed ones: logs, notes, code that nothing imports."""
        found = {}
        for entry in self._uncounted_texts():
            text = self.folder.contents(entry)
            if n_bytes := encoded_bytes(text, is_code=entry.name.lower().endswith(".py")):
                found[entry.name] = n_bytes
        return found

    def _opens(self, entries: Sequence[Entry]) -> bool:
        """Whether the code speaks of one of these files, by name or by a pattern."""
        names = [entry.name for entry in entries]
        patterns = {text.rpartition("/")[2] for text, _ in source.texts(self.scripts) if "*" in text}
        return bool(source.opened_names(self.scripts, names)) or any(
            fnmatch(name.rpartition("/")[2], pattern) for name in names for pattern in patterns if pattern.strip("*.")
        )

    @property
    def code_bytes(self) -> int:
        return sum(self.counted.values())

    @cached_property
    def code_conventions(self) -> dict[str, int]:
        """Bytes of the code under each convention of pgpack/submission/FOLDER.md.

        raw: what runs; as shipped: the files as they lie here; wrapped: what runs, as it is or in a self-extracting
        file of ours, whichever is less.
        """
        raw = wrapped = 0
        for name, n_bytes in self.counted.items():
            text = self._running.get(name)
            raw += n_bytes if text is None else len(text)
            wrapped += self._wrapped[name]
        return {"raw": raw, "as shipped": self.code_bytes, "wrapped": wrapped}

    @property
    def least_code(self) -> int:
        """The fewest bytes that the counted code can be packed into, `SHORTER` than our own wrapping.

        What is packed already, what is no Python, and numbers in place of code stay as they lie here.
        """
        least = 0
        for name, n_bytes in self.counted.items():
            text = self._running.get(name)
            can_shrink = text is not None and n_bytes >= SHORTER * len(text) and not number_bytes(text)
            least += min(n_bytes, int(SHORTER * self._wrapped[name])) if can_shrink else n_bytes
        return least

    @cached_property
    def _running(self) -> dict[str, bytes]:
        return {program.name: program.running for program in self.programs}

    @cached_property
    def _wrapped(self) -> dict[str, int]:
        """Counted file -> its bytes in a self-extracting file of ours, where that is less."""
        found = {}
        for name, n_bytes in self.counted.items():
            text = self._running.get(name)
            found[name] = n_bytes if text is None else min(len(text), source.wrapped_size([text]))
        return found

    @property
    def spread(self) -> int:
        """Largest difference of size between seeds, from what was measured and what is claimed. Units: bytes."""
        sizes = self.models.values()
        claimed = [row.n_bytes for row in self.claims.results.values() if row.n_bytes]
        logged = [log.total_bytes for log in self.own_logs if log.total_bytes]
        return max((max(group) - min(group) for group in (sizes, claimed, logged) if group), default=0)

    @property
    def is_submission(self) -> bool:
        """Whether there is what is judged: a script, a submission.json, an artifact in no model's folder or study."""
        scripts = any(entry.name.endswith((".py", ".sh")) for entry in self.folder.entries)
        told = self.folder.text("submission.json") is not None
        other = any(self.folder.entry(name) is not None for name in ("config.json", "study.json"))
        return scripts or told or bool(self.programs) or bool(self.folder.artifacts and not other)

    @property
    def declared(self) -> frozenset[str]:
        """Distributions that may be imported on the target."""
        return declared_distributions(self.requirements) | frozenset(TARGET_DISTRIBUTIONS)
