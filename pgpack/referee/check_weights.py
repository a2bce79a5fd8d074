"""Rules about the artifact: it decodes anywhere to the same bits, holds no code, and its numbers are sound."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch

from .evidence import Decoded, Evidence, TensorFacts, tensor_facts
from .findings import Finding, cited, fail, listed, ok, skip, warn
from .folder import DECODER
from .script import Place

NO_FLOATS = "no large matrices stored as floats"
LARGE = 65_536  # values: what the challenge's scripts leave in fp16 is smaller
# a word in a name or a log -> the mark of what it names
CODECS = {name: name for name in ("zstd", "zlib", "lzma", "bz2")} | {
    "xz": "lzma",
    "zst": "zstd",
    "brotli": "",
    "br": "",
}


def artifact_present(evidence: Evidence) -> Finding:
    if not evidence.decoded and evidence.beside:
        told = listed(f"{each.what} of together {each.n_bytes:,} bytes" for each in evidence.beside)
        return warn(f"no artifact in the folder, unless {told} are one")
    if not evidence.decoded and (pointers := [entry.name for entry in evidence.folder.pointers]):
        return warn(f"{listed(pointers)}: a pointer of git-lfs, the file itself was not fetched; run `git lfs pull`")
    if not evidence.decoded:
        return warn("no artifact in the folder: nothing could be decoded or weighed, only words were compared")
    here = listed(f"{decoded.entry.name} {decoded.entry.n_bytes:,} bytes" for decoded in evidence.decoded)
    return warn(f"{here}, which is not the model that a log speaks of") if evidence.is_model_absent else ok(here)


def content_as_named(evidence: Evidence) -> Finding:
    """A codec in the file's name or in the log's line is the one that wrote the file."""
    if not evidence.decoded or evidence.is_model_absent:
        return skip("no artifact in the folder")
    wrong = []
    are_beside = len(evidence.pieces) < len(evidence.decoded)
    for decoded in evidence.decoded:
        if decoded in evidence.pieces[not are_beside :]:
            continue  # not where the model starts
        mark = decoded.entry.mark
        named = re.split(r"[^a-z0-9]+", decoded.entry.name.lower())
        logged = [log for log in evidence.logs if log.seed == decoded.seed or len(evidence.logs) == 1]
        labels = [word for log in logged for word in re.split(r"[^a-z0-9]+", log.codec.lower())]
        for words, where in ((named, "its name"), (labels, "its log")):
            claimed = next((word for word in words if word in CODECS), None)
            if claimed is not None and CODECS[claimed] != mark and mark in CODECS.values():
                found = mark or "brotli or nothing known"
                wrong.append(f"{decoded.entry.name} is {found}, but {where} says {claimed}")
                break
    if wrong:
        return fail(f"{listed(wrong)}: a codec that was not installed was replaced without a word")
    return ok(listed(f"{d.entry.name}: {_kind(d) or d.entry.mark or 'brotli'}" for d in evidence.decoded))


def _kind(decoded: Decoded) -> str:
    return str(decoded.first.value["kind"]) if isinstance(decoded.first.value, dict) else ""


def no_code_inside(evidence: Evidence) -> Finding:
    if not evidence.decoded:
        return skip("no artifact in the folder")
    wrong = [f"{d.entry.name}: {d.first.error}" for d in evidence.decoded if "could run code" in d.first.error]
    return fail(listed(wrong)) if wrong else ok("no artifact names a function to call")


def decodes(evidence: Evidence) -> Finding:
    if not evidence.decoded or evidence.is_model_absent:
        return skip("no artifact in the folder")
    unknown = {d.entry.name for d in evidence.decoded if d.unknown or d.of_own_layout}
    broken = [Place(d.entry.name, 0, d.first.error) for d in evidence.decoded if not d.first.ok]
    if any(place.file not in unknown for place in broken):
        return cited("fail", "", (place for place in broken if place.file not in unknown))
    if broken:
        return cited("warn", "not decided, of a format that is not known here: ", broken)
    torch = [decoded.entry.name for decoded in evidence.decoded if decoded.first.torch]
    if torch:
        return fail(f"{listed(torch)} needed torch to decode; numpy must be enough")
    slow = max(decoded.first.seconds for decoded in evidence.decoded)
    peak = max(decoded.first.peak_bytes for decoded in evidence.decoded)
    return ok(f"in a clean process without torch and network, {slow:.2f} s, {peak / 2**20:.0f} MiB")


def bit_exact(evidence: Evidence) -> Finding:
    """Our decode, the digest that the packer wrote, and one more decode, the folder's own or ours: the same bits."""
    sound = [decoded for decoded in evidence.decoded if decoded.first.ok]
    if not sound:
        return skip("nothing was decoded")
    for decoded in sound:
        if decoded.second is not None and decoded.tensors != tensor_facts(decoded.second.value):
            return fail(f"{decoded.entry.name}: two decodes differ: {decoded.second.error or 'other bits'}")
        if decoded.own is not None and decoded.own.ok and (fault := _difference(decoded)):
            return fail(f"{decoded.entry.name}: {DECODER} {fault}")
    own = sum(decoded.own is not None and decoded.own.ok for decoded in sound)
    recorded = sum(bool(decoded.first.value["recorded_digest"]) for decoded in sound)
    parts = [f"{DECODER} gives the bits that pgpack gives"] * bool(own)
    parts += ["two decodes agree"] * (own < len(sound)) + ["the packer's digest agrees"] * bool(recorded)
    return ok(", ".join(parts))


def _difference(decoded: Decoded) -> str:
    """How the folder's decoder differs from ours, '' when it does not."""
    ours, theirs = decoded.tensors, decoded.own_tensors
    if ours.keys() != theirs.keys():
        names = sorted(ours.keys() ^ theirs.keys())
        return f"writes other tensors: {listed(names)}"
    for name, facts in ours.items():
        if theirs[name].shape != facts.shape or theirs[name].sha256 != facts.sha256:
            return f"gives other bits for {name}"
    return ""


def own_decoder(evidence: Evidence) -> Finding:
    """The folder's decoder, run alone behind the fence with only what is declared."""
    runs = [(decoded.entry.name, decoded.own) for decoded in evidence.decoded if decoded.own is not None]
    if not runs:
        return skip(f"no {DECODER} was run")
    for name, run in runs:
        if not run.ok:
            return fail(f"{DECODER} fails on {name}: {run.error}")
        if run.torch:
            return fail(f"{DECODER} loads torch; numpy must be enough")
        if run.refused:
            return fail(f"{DECODER} tried what it may not: {listed(run.refused)}")
    seconds = max(run.seconds for _, run in runs)
    return ok(f"{DECODER} runs with what is declared, without network, {seconds:.2f} s")


def strict_keys(evidence: Evidence) -> Finding:
    """No tensor missing, none unknown, every shape right: against the checkpoint, and among seeds."""
    sound = [decoded for decoded in evidence.decoded if decoded.first.ok]
    if not sound:
        return skip("nothing was decoded")
    wanted = evidence.options.shapes
    what = "the checkpoint's"
    if wanted is None:
        wanted = {name: facts.shape for name, facts in sound[0].tensors.items()}
        what = f"those of {sound[0].entry.name}"
    for decoded in sound:
        found = {name: facts.shape for name, facts in decoded.tensors.items()}
        if found != dict(wanted):
            odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            told = (f"{name} {found.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}" for name in odd)
            return fail(f"{decoded.entry.name}: names and shapes are not {what}: {listed(told)}")
    if evidence.options.shapes is None and len(sound) == 1:
        return skip(f"{len(sound[0].tensors)} tensors; give the checkpoint to compare names with")
    return ok(f"all {len(wanted)} names and shapes are {what}")


def _tensors(evidence: Evidence) -> Iterator[tuple[str, TensorFacts]]:
    for decoded in evidence.decoded:
        for name, facts in decoded.tensors.items():
            if not facts.alias_of:
                yield (name if len(evidence.decoded) == 1 else f"{decoded.entry.name} {name}"), facts


def none_has(
    what: str, answer: Callable[[str], Finding], fault: Callable[[TensorFacts], object]
) -> Callable[[Evidence], Finding]:
    """The rule that no tensor has a `fault`; `answer` is given the list when some have."""

    def judge(evidence: Evidence) -> Finding:
        if not any(decoded.tensors for decoded in evidence.decoded):
            return skip("nothing was decoded")
        found = [f"{name} {said}" for name, facts in _tensors(evidence) if (said := fault(facts))]
        return answer(f"{what}: {listed(found)}") if found else ok(f"no {what.partition(':')[0]}")

    return judge


finite = none_has("NaN or infinite values", fail, lambda facts: facts.not_finite and f"has {facts.not_finite:,}")
fp16_range = none_has(
    "fp16 values or scales at or beyond 65,504, where fp16 ends",
    fail,
    lambda facts: facts.fp16_overflow and f"has {facts.fp16_overflow:,}",
)
_floor_rows = none_has(
    "rows held at a smallest scale too coarse for them",
    warn,
    lambda facts: facts.floor_rows and f"{facts.floor_rows:,}",
)


def scale_floor(evidence: Evidence) -> Finding:
    """Rows at a floor of their scale, unless the folder's own recipe sets that floor."""
    found = _floor_rows(evidence)
    if found.status == "warn" and re.search(r"scale_floor=|\brtn_percentile\b", _recipe(evidence)):
        return ok(f"by the recipe, whose quantizer has that floor, {found.detail}")
    return found


def _recipe(evidence: Evidence) -> str:
    """Where a folder says how it was packed."""
    return f"{evidence.readme}\n{evidence.claims.values.get('technique_summary', '')}"


def unquantized(evidence: Evidence) -> Finding:
    """Large float matrices, unless the folder's own recipe says that they are kept so (`tok_emb*=cast(...)`)."""
    meant = re.findall(r"(?:^|[\s;`\"])([\w.*?\[\]]+)=cast\b", _recipe(evidence))
    large = [(name, f) for name, f in _tensors(evidence) if f.unquantized and len(f.shape) > 1 and f.numel > LARGE]
    silent = [f"{name} {f.shape}" for name, f in large if not any(fnmatch(name.split()[-1], each) for each in meant)]
    if not any(decoded.tensors for decoded in evidence.decoded):
        return skip("nothing was decoded")
    if silent:
        return warn(f"large matrices stored as floats: {listed(silent)}")
    return ok("kept as floats by the recipe: " + listed(name for name, _ in large) if large else NO_FLOATS)


never_trained = none_has(
    "tensors as they were initialized: not in the optimizer, or not needed",
    warn,
    lambda facts: facts.constant and f"is {facts.value:g} throughout",
)
