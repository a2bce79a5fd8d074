"""Everything that the rules may look at, collected once: folder, claims, logs, scripts, decodes, scores.

    scan -> claims, logs -> scripts with extracted layers -> counted files -> decodes (ours, the folder's own)

Collecting never fails for a bad folder: what went wrong is part of the evidence.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from pgpack.files import workplace
from pgpack.tensors.roles import Shaped

from . import source
from .claims import Claims, read_claims
from .encoded import encoded_bytes
from .folder import (
    DECODER,
    LARGE_ENCODED,
    LARGE_READABLE,
    STAGED_BYTES,
    TOKENIZERS,
    TRAIN,
    Entry,
    Folder,
    is_artifact,
    read_file,
    scan,
    seed_of,
)
from .layers import Program, programs
from .logs import Log, read_logs
from .runs import TARGET_DISTRIBUTIONS, Limits, Run, declared_distributions, importable, run_probe, run_script
from .scored_text import turned_on
from .scoring import Scores
from .script import Script
from .support import Support, distinct, supported

CAP = 16_000_000
TOKENIZER_FILES = (".model", ".vocab")
DECODED = "decoded.npz"
README_CHARACTERS = 1 << 19  # of which rules read numbers
GUESSED = 4  # files of no known format that are given to our decoder
_PART = re.compile(r"(?<![a-z])(?:part|shard|chunk|split|piece)[-_.]?\d+|\d{5}-of-\d{5}|\.\d{3}$", re.I)


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

    @property
    def seed(self) -> int | None:
        return self.entry.seed

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
    def given(self) -> frozenset[str]:
        """Environment variables that the README or a shell script of the folder sets for a run."""
        scripts = (entry.name for entry in self.folder.entries if entry.name.endswith(".sh"))
        return turned_on([self.readme, *(self.folder.text(name) or "" for name in scripts)])

    @cached_property
    def models(self) -> dict[str, int]:
        """Packed model -> its bytes; the parts of one that was split count together, and what no format explains."""
        found: dict[str, int] = {}
        for decoded in self.decoded:
            if decoded not in self._pieces:
                name = _PART.sub("*", decoded.entry.name)
                found[name] = found.get(name, 0) + decoded.entry.n_bytes
        pieces = [decoded.entry for decoded in self._pieces]
        if pieces and not found:
            more = f" and {len(pieces) - 1} more" if pieces[1:] else ""
            found[f"{pieces[0].name}{more}"] = sum(entry.n_bytes for entry in pieces)
        return found

    @property
    def _pieces(self) -> tuple[Decoded, ...]:
        """Weights of no known format and no seed: not another model each, but a part of one."""
        return tuple(decoded for decoded in self.decoded if decoded.unknown and decoded.seed is None)

    @cached_property
    def beside(self) -> tuple[Beside, ...]:
        """What lies beside the models and may hold weights too: pieces of no known format, heaps of small files."""
        pieces = self._pieces if len(self._pieces) < len(self.decoded) else ()
        found = [Beside(p.entry.name, p.entry.n_bytes, self._opens([p.entry])) for p in pieces]
        for heap in self.folder.heaps:
            sure = not heap.could_be_read or self._opens(heap.entries)
            found.append(Beside(f"{len(heap.entries)} {heap.sort}", heap.n_bytes, sure))
        for log in self.folder.logs:
            if log.n_bytes > LARGE_READABLE:
                found.append(Beside(log.name, log.n_bytes, self._opens([log])))
        if (n_bytes := sum(self.encoded.values())) > LARGE_ENCODED:
            found.append(Beside(f"packed text in {listed_names(self.encoded)}", n_bytes, sure=True))
        return tuple(found)

    @cached_property
    def encoded(self) -> dict[str, int]:
        """Text that nobody counts -> its bytes that are packed ones: logs, notes, code that nothing imports."""
        heaped = {entry.name for heap in self.folder.heaps for entry in heap.entries}
        left_out = {*self.counted, *heaped, *(e.name for e in (*self.folder.artifacts, *self.folder.small))}
        found = {}
        for entry in self.folder.entries:
            name = entry.name.lower()
            if entry.mark == "text" and entry.name not in left_out and not name.endswith(TOKENIZERS):
                text = read_file(self.folder.path / entry.name, STAGED_BYTES)
                if n_bytes := encoded_bytes(text, is_code=name.endswith(".py")):
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
        running = {program.name: program.running for program in self.programs}
        raw = wrapped = 0
        for name, n_bytes in self.counted.items():
            text = running.get(name)
            raw += n_bytes if text is None else len(text)
            wrapped += n_bytes if text is None else min(len(text), source.wrapped_size([text]))
        return {"raw": raw, "as shipped": self.code_bytes, "wrapped": wrapped}

    @property
    def spread(self) -> int:
        """Largest difference of size between seeds, from what was measured and what is claimed. Units: bytes."""
        sizes = [decoded.entry.n_bytes for decoded in self.decoded]
        claimed = [row.n_bytes for row in self.claims.results.values() if row.n_bytes]
        logged = [log.total_bytes for log in self.own_logs if log.total_bytes]
        return max((max(group) - min(group) for group in (sizes, claimed, logged) if group), default=0)

    @property
    def is_submission(self) -> bool:
        """Whether there is anything to judge: a script, a submission.json, an artifact that is no model's folder."""
        scripts = any(entry.name.endswith((".py", ".sh")) for entry in self.folder.entries)
        told = self.folder.text("submission.json") is not None
        is_model = self.folder.text("config.json") is not None
        return scripts or told or bool(self.programs) or bool(self.folder.artifacts and not is_model)

    @property
    def declared(self) -> frozenset[str]:
        """Distributions that may be imported on the target."""
        return declared_distributions(self.requirements) | frozenset(TARGET_DISTRIBUTIONS)


def collect(path: Path, options: Options, scores: Scores | None = None) -> Evidence:
    """The evidence of the folder at `path`. Raises DataError when it is no folder."""
    folder = scan(path)
    with workplace("referee") as place:
        stage = Path(place, "folder")
        stage.mkdir()
        folder.stage(stage)
        requirements = folder.text("requirements.txt")
        modules = importable(declared_distributions(requirements) | frozenset(TARGET_DISTRIBUTIONS))
        decoded = tuple(_decoded(folder, stage, modules, options))
        found = programs(folder, stage, modules, options.limits)
    counted, data = _counted(folder, found, {name for d in decoded if d.own for name in d.own.opened})
    return Evidence(
        folder,
        options,
        read_claims(folder.text("submission.json")),
        (folder.text("README.md") or "")[:README_CHARACTERS],
        requirements,
        tuple(distinct(log for entry in folder.logs for log in read_logs(entry.name, folder.log_text(entry)))),
        tuple(program for program in found if program.name in counted),
        counted,
        data,
        decoded,
        scores,
    )


def _scratch(stage: Path, name: str) -> Path:
    """An empty folder for one fenced process."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=stage.parent))


def _decoded(folder: Folder, stage: Path, modules: frozenset[str], options: Options) -> Iterator[Decoded]:
    """Every artifact; of those whose name and first bytes say nothing, the first few are tried."""
    guessed = 0
    for entry in folder.artifacts:
        guessed += not is_artifact(entry)
        if guessed > GUESSED and not is_artifact(entry):
            yield Decoded(entry, Run(error=f"one of more than {GUESSED} files of no known format; left alone"))
        else:
            yield _decode(entry, folder, stage, modules, options)


def _decode(entry: Entry, folder: Folder, stage: Path, modules: frozenset[str], options: Options) -> Decoded:
    """Our decode, then the folder's own; without a decoder that works, ours a second time."""
    artifact = stage / entry.name
    if not artifact.is_file():
        return Decoded(entry, Run(error=f"{entry.n_bytes:,} bytes are more than a submission may have; left alone"))
    first = _our_decode(artifact, stage, options)
    if not first.ok:
        return Decoded(entry, first)
    own = None if folder.entry(DECODER) is None else _own_decode(artifact, stage, modules, options)
    second = None if own is not None and own.ok else _our_decode(artifact, stage, options, number=1)
    return Decoded(entry, first, second, own)


def _our_decode(artifact: Path, stage: Path, options: Options, *, number: int = 0) -> Run:
    arguments = [str(artifact), str(options.decode_bytes)]
    return run_probe("decode", arguments, stage, _scratch(stage, "ours"), options.limits, number=number)


def _own_decode(artifact: Path, stage: Path, modules: frozenset[str], options: Options) -> Run:
    """`python decode.py ARTIFACT decoded.npz` behind the fence, and the digests of what it wrote."""
    scratch = _scratch(stage, "own")
    own = run_script(stage / DECODER, [str(artifact), DECODED], scratch, modules, options.limits)
    if not own.ok:
        return own
    if not (scratch / DECODED).is_file():
        return replace(own, error=f"{DECODER} ended well but wrote no {DECODED}")
    answer = run_probe("hash", [str(scratch / DECODED)], scratch, scratch, options.limits)
    return replace(own, value=answer.value, error=answer.error)


def _counted(
    folder: Folder, found: Sequence[Program], touched: Iterable[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """(counted files, tokenizers): the two entry scripts, what they import or name, what was opened when they ran."""
    passive = {entry.name for entry in (*folder.artifacts, *folder.logs)}
    passive |= {"README.md", "submission.json", "requirements.txt", "LICENSE"}
    sizes = {entry.name: entry.n_bytes for entry in folder.entries if entry.name not in passive}
    reached = {name for name in (TRAIN, DECODER, *touched) if name in sizes}
    while True:
        current = [program for program in found if program.name in reached]
        more = source.opened_names([script for program in current for script in program.scripts], sizes)
        more |= {name for program in current if program.run for name in program.run.opened if name in sizes}
        more -= reached
        if not more:
            break
        reached |= more
    reached -= {name for name in reached if seed_of(name) is not None and not name.endswith(".py")}
    data = {name: sizes[name] for name in reached if name.endswith(TOKENIZER_FILES)}
    return {name: sizes[name] for name in sorted(reached - data.keys())}, data
