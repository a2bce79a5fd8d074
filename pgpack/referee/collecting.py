"""The evidence of a folder is collected: read, unpacked, decoded behind the fence.

    scan -> claims, logs -> scripts with extracted layers -> counted files -> decodes (ours, the folder's own)

Collecting never fails for a bad folder: what went wrong is part of the evidence.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pgpack.files import workplace

from . import source
from .claims import read_claims
from .evidence import Decoded, Evidence, Options
from .folder import DECODER, STAGED_BYTES, TRAIN, Entry, Folder, is_artifact, mark_of, scan, seed_of
from .layers import Program, programs
from .logs import Log, read_logs
from .runs import TARGET_DISTRIBUTIONS, Run, declared_distributions, importable, run_probe, run_script
from .scoring import Scores
from .support import distinct

TOKENIZER_FILES = (".model", ".vocab")
DECODED = "decoded.npz"
README_CHARACTERS = 1 << 19  # of which rules read numbers
GUESSED = 4  # files of no known format that are given to our decoder


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
    logs = tuple(distinct(log for entry in folder.logs for log in read_logs(entry.name, folder.log_text(entry))))
    return Evidence(
        folder,
        options,
        read_claims(folder.text("submission.json")),
        (folder.text(folder.readme) or "")[:README_CHARACTERS],
        requirements,
        logs,
        tuple(program for program in found if program.name in counted),
        counted,
        data,
        tuple(replace(each, run=_run_of(each.entry, logs)) for each in decoded),
        scores,
    )


def _run_of(entry: Entry, logs: Sequence[Log]) -> int | None:
    """The seed whose log has a model of just these bytes, where the file's path has its number too."""
    numbers = {int(n) for n in re.findall(r"(?<!\d)\d{1,9}(?!\d)", entry.name)}
    found = {log.seed for log in logs if log.seed in numbers and entry.n_bytes in log.models}
    return found.pop() if len(found) == 1 else None


def _scratch(stage: Path, name: str) -> Path:
    """An empty folder for one fenced process."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=stage.parent))


def _decoded(folder: Folder, stage: Path, modules: frozenset[str], options: Options) -> Iterator[Decoded]:
    """Every artifact; of those whose name and first bytes say nothing, the first few are tried."""
    guessed = 0
    joined = [
        each for whole, parts in folder.splits.items() if (each := _joined(whole, parts, folder, stage, options))
    ]
    yield from joined
    in_one = {name for each in joined for name in each.parts}
    for entry in folder.artifacts:
        if entry.name in in_one:
            continue
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


def _joined(whole: str, parts: Sequence[str], folder: Folder, stage: Path, options: Options) -> Decoded | None:
    """The artifact that parts of it make when they are put together, None where they make none."""
    entries = [entry for entry in folder.artifacts if entry.name in parts]
    file = stage / whole.replace("*", "joined")
    n_bytes = sum(entry.n_bytes for entry in entries)
    if len(entries) < len(parts) or n_bytes > STAGED_BYTES or file.exists():
        return None
    file.write_bytes(b"".join((stage / name).read_bytes() for name in parts))
    first = _our_decode(file, stage, options)
    second = _our_decode(file, stage, options, number=1) if first.ok else None
    mark = mark_of(file.read_bytes()[:16])
    file.unlink()
    if not first.ok and "could run code" not in first.error:
        return None
    return Decoded(Entry(whole, n_bytes, mark), first, second, parts=tuple(parts))


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
    of_seeds = {name for name in reached if seed_of(PurePosixPath(name).name) is not None}
    reached -= {name for name in of_seeds if not name.endswith(".py")}
    data = {name: sizes[name] for name in reached if name.endswith(TOKENIZER_FILES)}
    return {name: sizes[name] for name in sorted(reached - data.keys())}, data
