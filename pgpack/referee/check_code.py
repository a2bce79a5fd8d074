"""Rules about the code: what it opens, imports, starts and fetches, and what it would run out of a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from pgpack.tables import counted

from . import source
from .evidence import Evidence
from .fetching import fetched_by_commands, fetches, undecided_fetches
from .findings import Finding, cited, fail, listed, ok, skip, warn
from .folder import DECODER, REQUIRED, TRAIN, read_file
from .layers import PYTHON_BYTES, Program
from .outside import uncounted
from .packed_code import archived_modules
from .runs import TARGET_MODULES, importable
from .script import Place
from .starting import is_stub, makes_modules

_STARTS_TRAINING = re.compile(r"\b(?:torchrun|python[\d.]*|accelerate|deepspeed|srun)\b.*\btrain\w*\.py\b")
_OF_THE_FIELD = re.compile(
    r"torch|triton|flash|xformers|mamba|causal_conv|apex|transformer|fla$|fla_|liger|cut_cross|bitsandbytes|numpy|jax|"
    r"sentencepiece|tokenizers|vllm|deepspeed|zstand|brotli|lrzip|einops|nvidia|cutlass|muon|heavyball|tinygrad|mlx|pgpack"
)
CONNECTS = ("network: socket.connect", "network: socket.getaddrinfo", "network: urllib", "network: http")
FETCHED_BY_NAME = {"brotli": "brotli", "zstandard": "zstandard", "zstd": "zstandard", "lz4": "lz4"}


def regular_files(evidence: Evidence) -> Finding:
    faults = evidence.folder.faults
    if faults:
        return cited("fail", "", (Place(name or "the folder", 0, fault) for name, fault in faults))
    return ok(counted(len(evidence.folder.entries), "plain file"))


def required_files(evidence: Evidence) -> Finding:
    names = (evidence.folder.readme, *REQUIRED[1:])
    missing = [name for name in names if evidence.folder.entry(name) is None]
    if missing:
        return fail(f"missing: {', '.join(missing)}", tuple(Place(name, 0, "it is missing") for name in missing))
    if not evidence.logs:
        return fail("no training log (train.log or train_seed<N>.log)")
    return ok(f"{', '.join(REQUIRED)} and {len(evidence.logs)} logs")


def compiles(evidence: Evidence) -> Finding:
    scripts = [script for script in evidence.scripts if script.error]
    entries = (TRAIN, DECODER)
    empty = [script for script in evidence.scripts if not script.text.strip() and script.name in entries]
    if empty:
        return fail(
            f"{listed(script.title for script in empty)} is empty",
            tuple(Place(s.name, 0, "it is empty", s.layer) for s in empty),
        )
    newer = [s for s in scripts if s.parsed[0] is not None or s.error.startswith("f-string")]
    broken = [script.fault for script in scripts if script not in newer]
    if broken:
        return cited("fail", "", broken)
    unread = [script for script in newer if script.parsed[0] is None]
    if unread:
        why = "; Python 3.12 may accept it; not decided, nothing of it was read"
        return cited("warn", "", (script.fault for script in unread), why)
    note = f", {listed(script.title for script in newer)} by Python 3.12 and later" if newer else ""
    return ok(f"{len(evidence.scripts)} scripts and layers parse{note}") if evidence.scripts else skip("no scripts")


def extracts(evidence: Evidence) -> Finding:
    """What starts other code starts code of the folder, and that code could be read."""
    started = [program for program in evidence.programs if program.run is not None]
    packed = [program.name for program in evidence.programs if program.run is None and program.scripts[0].layer]
    outside = [place for program in started for place in program.outside]
    if outside:
        return cited("fail", "it runs a file outside the folder: ", outside)
    broken = [program for program in started if _is_broken(program)]
    if broken:
        told = ((p.name, p.run.error or "it executes nothing") for p in broken if p.run is not None)
        return cited("fail", "the self-extracting file does not extract: ", (Place(n, 0, error) for n, error in told))
    undecided = [place for program in started for place in program.undecided]
    undecided += [*source.unknown_imports(evidence.scripts)]
    if undecided:
        return cited("warn", "not decided, code was started that nobody could read: ", undecided)
    if not started and not packed:
        return ok(f"{TRAIN} is the code itself, nothing is extracted")
    sizes = [f"{program.name} to {len(program.running):,} bytes" for program in started if len(program.scripts) > 1]
    notes = [f"extracted behind the fence, not run: {listed(sizes)}"] if sizes else []
    notes += [f"{listed(packed)}: packed code, judged as code"] if packed else []
    return ok("; ".join(notes) or "nothing is extracted")


def _is_broken(program: Program) -> bool:
    """A file that is only there to start other code and shows none."""
    run = program.run
    if run is None or run.opened[1:] or len(program.scripts) > 1 or not is_stub(program.scripts[0]):
        return False
    return (bool(run.error) or not run.reached) and not run.stopped


def counted_files(evidence: Evidence) -> Finding:
    claimed = evidence.claims.counted_files
    measured = evidence.counted
    text = ", ".join(f"{name} {n:,}" for name, n in measured.items()) or "none"
    artifacts = {entry.name for entry in evidence.folder.artifacts}
    if claimed is not None:
        left_out = sorted(measured.keys() - set(claimed))
        if left_out:
            total = sum(measured[name] for name in left_out)
            return fail(
                f"opened or executed but not in counted_files: {listed(left_out)} ({total:,} bytes)",
                tuple(Place(name, 0, "opened or executed but not in counted_files") for name in left_out),
            )
        absent = [name for name in claimed if name not in measured and name not in artifacts]
        if absent:
            return warn(f"in counted_files but neither opened nor executed: {listed(absent)}")
    present = [entry.name for entry in evidence.folder.entries]
    outside = [*uncounted(evidence.scripts, present, evidence.given), *_own_packages(evidence)]
    if outside:
        return cited("warn", "what nobody counts: ", outside)
    if evidence.uncounted_data:
        total = sum(evidence.uncounted_data.values())
        return warn(
            f"counted: {text}; a tokenizer of the folder is opened and not counted: "
            f"{listed(evidence.uncounted_data)} ({total:,} bytes)"
        )
    return ok(f"counted: {text}")


def _own_packages(evidence: Evidence) -> Iterator[Place]:
    """Lines of requirements.txt that install from an address what is imported and none of the field's packages."""
    imported = {module.lower() for module, *_ in source.imports(evidence.scripts)}
    for number, line in enumerate((evidence.requirements or "").splitlines(), 1):
        text = line.partition(" #")[0].strip()
        if (
            text.startswith("#")
            or not re.search(r"(?:git\+|https?://|file:|ssh://)\S+", text)
            or text.startswith("--")
        ):
            continue
        named = re.match(r"(?:-e\s+)?([\w.-]+)(?:\[[\w,]*\])?\s*@", text) or re.search(
            r"([\w.-]+?)(?:\.git)?(?:@[\w.-]+)?(?:#egg=[\w-]+)?$", text
        )
        name = (named[1] if named else text).lower().replace("-", "_")
        if not _OF_THE_FIELD.match(name) and any(name.startswith(m) or m.startswith(name) for m in imported):
            yield Place("requirements.txt", number, f"{text[:80]}: code from an address, which nobody counts")


def no_unpickling(evidence: Evidence) -> Finding:
    found = [*source.unsafe_loads(evidence.scripts)]
    ran = [refused for decoded in evidence.decoded if decoded.own for refused in decoded.own.refused]
    found += [Place(DECODER, 0, refused) for refused in ran if refused.startswith("unpickling")]
    if found:
        return cited("fail", "code out of a file could run: ", found)
    bare = [*source.bare_torch_loads(evidence.scripts)]
    if bare:
        return cited("warn", "", bare, ": safe from torch 2.6 on only; write weights_only=True")
    return ok("nothing is unpickled")


def strict_loading(evidence: Evidence) -> Finding:
    found = [*source.lenient_loads(evidence.scripts)]
    return cited("fail", "", found) if found else ok("no load_state_dict(strict=False)")


def declared_dependencies(evidence: Evidence) -> Finding:
    allowed = importable(evidence.declared) | TARGET_MODULES
    paths = [entry.name.removesuffix(".py").split("/") for entry in evidence.folder.entries]
    on_path = any(b"sys.path" in script.text for script in evidence.scripts)  # whichever folders it puts there
    local = {part for parts in paths for part in (parts if on_path else parts[:1])}
    local = local.union(*(program.made for program in evidence.programs), _of_archives(evidence))
    missing: dict[str, Place] = {}
    for module, place, guarded in source.imports(evidence.scripts):
        if (
            module in allowed
            or module in local
            or module in sys.stdlib_module_names
            or (guarded and module not in FETCHED_BY_NAME)
        ):
            continue
        missing.setdefault(module, place)
    for decoded in evidence.decoded:
        if decoded.own is not None and decoded.own.ok:
            continue  # what it could not import it did not need
        for module in decoded.own.missing if decoded.own is not None else ():
            missing.setdefault(module, Place(DECODER, 0, f"import {module}"))
        for module in decoded.libraries:
            if module not in allowed:
                missing.setdefault(module, Place(decoded.entry.name, 0, f"compressed with {module}"))
    comments = " ".join(line.partition("#")[2] for line in (evidence.requirements or "").splitlines())
    stopped = {program.name for program in evidence.programs if _may_make_more(program)}
    unsure = {module: place for module, place in missing.items() if place.file in stopped}
    unsure = {module: place for module, place in unsure.items() if module not in FETCHED_BY_NAME}
    for module in unsure:
        del missing[module]
    mentioned = [module for module in missing if module not in FETCHED_BY_NAME and _is_mentioned(module, comments)]
    for module in mentioned:
        del missing[module]
    if missing:
        told = [
            f"{place} but {FETCHED_BY_NAME.get(module, module)} is neither in requirements.txt nor on the target"
            for module, place in missing.items()
        ]
        return fail(listed(told), tuple(missing.values()))
    if unsure:
        why = ": it had no time to end while it was unwrapped, so that it may make the module itself"
        return cited("warn", "not decided, ", unsure.values(), why)
    if mentioned:
        return warn(
            f"requirements.txt only mentions {listed(mentioned)} in a comment; installing it takes more than pip"
        )
    return ok("every import is the standard library, the target's, the folder's or in requirements.txt")


def _of_archives(evidence: Evidence) -> Iterator[str]:
    """Modules in the counted zip files of the folder: each may stand on `sys.path`, also by a folder inside of it."""
    for name in evidence.counted:
        if not name.endswith(".py"):
            inner = [
                spoken for text, _ in source.texts(evidence.scripts) if (spoken := text.partition(f"{name}/")[2])
            ]
            yield from archived_modules(read_file(evidence.folder.path / name, PYTHON_BYTES), inner)


def _may_make_more(program: Program) -> bool:
    """Whether it had no time to make modules of its own that it seems to make."""
    return program.run is not None and program.run.stopped and any(map(makes_modules, program.scripts))


def _is_mentioned(module: str, comments: str) -> bool:
    """Whether comments speak of a module by the start of its name: flash-attn-3 is flash_attn_interface."""
    words = {
        re.sub(r"_?\d+$", "", word.replace("-", "_").lower()) for word in re.findall(r"[A-Za-z][\w-]*", comments)
    }
    return any(len(word) > 3 and module.startswith(word) for word in words)


def outside_programs(evidence: Evidence) -> Finding:
    found = source.outside_programs(evidence.scripts)
    kinds = {decoded.entry.mark for decoded in evidence.decoded}
    if "pergroup" in kinds and "lrzip" not in found:
        found["lrzip"] = Place("the artifact", 0, "PGRP streams are lrzip's")
    if not found:
        return ok("no program outside Python is needed")
    told = listed(f"{name} ({place})" for name, place in found.items())
    words = {*re.findall(r"[\w+-]+", f"{evidence.readme} {evidence.requirements or ''}".lower())}
    if found.keys() <= words:
        return ok(f"the folder names what the target must have installed: {told}")
    return warn(
        f"the target must have it installed beforehand, nothing may be installed at run time: {told}",
        tuple(found.values()),
    )


def no_network(evidence: Evidence) -> Finding:
    found = [*fetches(evidence.scripts), *_fetched_by_shell(evidence)]
    found += [
        Place(DECODER, 0, r) for d in evidence.decoded if d.own for r in d.own.refused if r.startswith("network")
    ]
    for program in evidence.programs:
        if program.run is not None:
            reached = [r for r in program.run.refused if r.startswith(CONNECTS)]
            found += [Place(program.name, 0, what) for what in (*reached, *fetched_by_commands(program.run.started))]
    if found:
        return cited("fail", "the network or an installer is used: ", found)
    undecided = [*undecided_fetches(evidence.scripts), *_fetched_by_runs(evidence)]
    if undecided:
        return cited("warn", "not decided, the network or an installer may be used: ", undecided)
    ways = {
        run.network for decoded in evidence.decoded for run in (decoded.first, decoded.own) if run and run.network
    }
    how = f"; decoded without network ({', '.join(sorted(ways))})" if ways else ""
    return ok(f"no download, no installer{how}")


def _fetched_by_shell(evidence: Evidence) -> Iterator[Place]:
    """Lines of the folder's own shell scripts that download or install, where the code starts them."""
    for name in sorted(evidence.counted):
        if not name.endswith(".py"):
            for number, line in enumerate((evidence.folder.text(name) or "").splitlines(), 1):
                for command in fetched_by_commands([line.partition("#")[0]]):
                    yield Place(name, number, command.strip())


def _fetched_by_runs(evidence: Evidence) -> Iterator[Place]:
    """Lines of shell scripts that start a script of Python, which download or install more than requirements.txt."""
    for entry in evidence.folder.entries:
        text = (evidence.folder.text(entry.name) or "") if entry.name.endswith((".sh", ".bash", ".slurm")) else ""
        lines = [line.partition("#")[0] for line in text.splitlines()]
        if any(_STARTS_TRAINING.search(line) for line in lines):
            for number, line in enumerate(lines, 1):
                if not re.search(r"-r\s*\S*requirements", line):
                    yield from (Place(entry.name, number, what.strip()) for what in fetched_by_commands([line]))


def own_code_size(evidence: Evidence) -> Finding:
    found = [*source.minifier_counts(evidence.scripts)]
    if found:
        return fail(
            f"the script counts its own bytes through a minifier ({listed(found)}): where that is missing it counts "
            "other bytes; ship the minified file and count what lies there",
            tuple(found),
        )
    return ok("the code is counted as it lies in the folder")
