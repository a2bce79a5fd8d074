"""What a training log says: losses with the way they were measured, bytes, times. Read as text, line by line.

Knows the lines that the public scripts write, and in other lines a `val_bpb` beside its number; a line that it does
not know says nothing. One file may hold the logs of several seeds.
Source of the line formats: openai/parameter-golf train_gpt.py and the logs of its record folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .folder import seed_of
from .losses import (
    AFTER,
    BEFORE,
    PLAIN,
    SLIDING,
    TRAINING,
    TTT,
    Figure,
    figures,
    is_nothing,
    is_of_another,
    mode_of,
    stage_of,
)
from .scored_text import confession, denial, learning
from .script import Place
from .settings import settings
from .times import SPAN, evaluation_took, part_of, seconds_of, sum_of_parts

__all__ = [
    "AFTER", "BEFORE", "PLAIN", "SLIDING", "TRAINING", "TTT", "Figure", "Log", "mode_of", "read_log", "read_logs",
    "stage_of",
]  # fmt: skip
_NUMBER = r"(?P<n>\d[\d,_]*)"
_MODEL = re.compile(rf"Serialized model (?P<label>\S+?):\s*{_NUMBER} bytes")
_TOTAL = re.compile(rf"Total submission(?: size)?(?: (?P<label>\S+?))?:\s*{_NUMBER} bytes")
_CODE = re.compile(rf"Code size(?P<label>[^:]{{0,40}}):\s*{_NUMBER} bytes")
# totals in other words, read where no line has those of the public scripts
_SAID_TOTAL = re.compile(
    r"\btotal[ _](?=[\w /+()]{0,40}(?:bytes|size|submission|artifact))(?:submission|artifact|compressed|package|size|"
    r"bytes)[\w /+()]{0,40}['\"]?\s?[:=]\s{0,3}(?:(?P<n>\d[\d,_]{6,12})(?!\.?\d)|"
    r"(?P<m>\d{1,3}\.\d{1,4}|\d{2},?\d{3}(?:\.\d{1,4})?(?=\s?k))\s?(?P<unit>[MK]i?B)\b)", re.I,
)  # fmt: skip
_TIME = rf"['\"]?\s{{0,3}}[:=]\s{{0,3}}{SPAN}"
_SAID_ARTIFACT = re.compile(  # artifact: 15,981,204 bytes, final artifact is 16.2 MB, budget:15981204/16000000
    r"(?:(?:\b(?:artifact|submission|package)(?:[ _](?:size|bytes|file|total|weighs|comes to|is|has|of)){0,3}|"
    r"\bmodel ?\+ ?code|\bbytes_total)(?:\s?\([\w +./-]{0,30}\))?['\"]?\s?(?:[:=]\s{0,3}|\s)"
    r"(?:(?P<n>\d[\d,_]{6,12})(?!\.?\d)|(?P<m>\d{1,3}\.\d{1,4})\s?(?P<unit>Mi?B)\b)|"
    r"(?P<k>\d[\d,_]{6,12}) ?(?:(?:bytes )?/ ?16[,_]?000[,_]?000\b|bytes (?:in all|in total|altogether))|"
    r"\.(?:ptz|pgpack|br|xz|zst|lzma)\b\D{0,20}(?P<f>\d[\d,_]{6,12}) bytes)", re.I,
)  # fmt: skip
_NO_RESULT = re.compile(
    r"\braw\b|uncompressed|unpacked|before|unquanti|fp32|bf16|fp16|\bpre[-_ ]|limit|\bcap\b|"
    r"budget\b(?!:)|\bmax|allow|target|\bmust\b|\bunder\b|param|without|\btr(?:y|ied|ial)\b|candidate|would|baseline|previous|sota|attempt|instead",
    re.I,
)
_STOP = re.compile(rf"train(?:ing)?[_ ]time{_TIME}", re.I)
_HESSIANS = re.compile(
    r"(?:ollected (?:\d+ )?hessians?[^\n]{0,40}? in |"
    r"(?:hessians?|calibrat\w*)\b[^\n(){}]{0,40}?(?:\bin|\btook|\btime)\s?[:=]?\s?)"
    r"(?P<s>\d+(?:\.\d+)?)\s?s(?:ec\w*)?\b", re.I,
)  # fmt: skip
# a run that goes on where an earlier one has ended; no line of a script, whose words stand in quotes or brackets
_GOES_ON = re.compile(
    r"^\W{0,3}(?:\[[\w :.-]{1,30}\]\s|[\d:.,\-T ]{8,30}\s)?\W{0,3}(?:(?:INFO|rank\d)\W{1,3})?"
    r"(?:resum(?:ed|ing)\b[^\n(){}\"'=]{0,30}\bfrom\b[^\n{}\"'=]{0,80}\bstep|"
    r"(?:resum(?:ed|ing)|continu(?:ed|ing)|warm[- ]?start(?:ed|ing)?|initiali[sz](?:ed|ing))\b"
    r"[^\n(){}\"'=]{0,30}\bfrom\b[^\n{}\"'=]{0,80}(?:checkpoint|ckpt|pretrained|\.pt\b|\.safetensors))", re.I,
)  # fmt: skip
_EVAL = re.compile(rf"total[_ ]eval(?:uation)?[_ ]time{_TIME}", re.I)
_BATCH = re.compile(r"\btrain(?:ing)?[_ ]loss['\"]?\s{0,3}[:= ]\s{0,3}(?P<n>\d{1,2}\.\d{2,12})", re.I)
_TOKENS = re.compile(
    r"(?:val(?:idation)?[_ ]tokens['\"]?\s{0,9}[:= ]|val_loader:.{0,200}tokens:|tokens in (?:the )?val\w*\s*[:= ])"
    r"\s*(?P<n>\d[\d,_]{3,16})", re.I,
)  # fmt: skip
_TEXT = re.compile(r"^pgpack_text val_tokens:\d+ text_bytes:(?P<n>\d+)")
_CALIBRATION = re.compile(r"calibrat\w*|hessians?", re.I)
_EVALUATED = re.compile(r"fineweb_val|val_tokens|val_data|validation (?:text|tokens|data|set|shard)", re.I)
_DENIED = re.compile(r"\b(?:no|not|never|without)\b", re.I)
_SEED = re.compile(
    r"^[^\w{]{0,20}(?:[\d.:\-T ]{1,30}\s)?[^\w{]{0,12}"
    r"(?:(?:running|start\w*|run|using|training|random|with|args|config|hyperparameters)"
    r"[\s:=.]{1,4}){0,3}[{'\"]*(?:random_)?seed['\"]?\s{0,9}[:= ]\s{0,9}(?P<n>\d{1,9})\b(?!\.\d)", re.I,
)  # fmt: skip
_DECIMAL = re.compile(r"(?<![\d.])([0-9]\.\d{3,12})(?!\.?\d)")
_GPUS = re.compile(r"\bworld[_ ]?size['\"]?\s?[:= ]\s{0,3}(?P<n>\d{1,5})\b", re.I)
_SHARDS = re.compile(r"\btrain[_ ]?shards?['\"]?\s?[:= ]\s{0,3}(?P<n>\d{1,6})\b", re.I)
# what is read from the last line of its kind: a word of that line, and its pattern
_LINES = {
    "seed": ("seed", _SEED), "model": ("serialized model", _MODEL), "total": ("total submission", _TOTAL),
    "train": ("time", _STOP), "hessian": ("", _HESSIANS), "eval": ("eval", _EVAL),
    "tokens": ("token", _TOKENS), "text": ("pgpack_text", _TEXT), "gpus": ("world", _GPUS),
    "shards": ("shard", _SHARDS),
}  # fmt: skip
LINE = 400  # characters of a line that are looked at


@dataclass(frozen=True)
class Log:
    """One log. Units: bytes, seconds; None where it does not say. `text_bytes`: those that pgpack's own line
    counts. `codec`: label of the packed model's line;
    `nothing`: its last loss that is no number;
    `totals`: every one that it prints, `total_bytes` the last; `numbers`: decimals in lines that no grammar reads;
    `evaluations`: (seconds, line) where a line without a loss says it; `curve`: losses of training up to packing;
    `in_parts`: (evaluation, seconds of all its parts together, whether those are all, line); `gpus`: processes;
    `printed`: the seeds that it prints itself; `goes_on`: where it says that it continues an earlier run;
    `train_shards`: how many files it found; `settings`: (name, value)."""

    name: str
    seed: int | None
    figures: tuple[Figure, ...] = ()
    model_bytes: int | None = None
    code_bytes: int | None = None
    total_bytes: int | None = None
    codec: str = ""
    train_s: float | None = None
    hessian_s: float | None = None
    eval_s: float | None = None
    val_tokens: int | None = None
    calibrated_on_evaluated: str = ""
    totals: tuple[int, ...] = ()
    models: tuple[int, ...] = ()
    trained_on_evaluated: Place | None = None
    denies_training: bool = False
    numbers: tuple[tuple[float, int, int], ...] = ()
    lines: tuple[tuple[str, int], ...] = ()
    text_bytes: int | None = None
    nothing: Place | None = None
    evaluations: tuple[tuple[float, int], ...] = ()
    curve: tuple[float, ...] = ()
    in_parts: tuple[tuple[str, float, bool, int], ...] = ()
    gpus: int | None = None
    printed: frozenset[int] = frozenset()
    goes_on: Place | None = None
    train_shards: int | None = None
    settings: tuple[tuple[str, str], ...] = ()

    def at(self, stage: str) -> tuple[Figure, ...]:
        return tuple(figure for figure in self.figures if figure.stage == stage)

    @property
    def final(self) -> Figure | None:
        """The last figure that was measured on packed weights: what a script reports as its result."""
        return next(iter(reversed(self.at(AFTER))), None)

    def place(self, what: str, key: str = "") -> Place:
        """Where it says `key`: calibration, train, hessian, eval, total, model, tokens."""
        return Place(self.name, dict(self.lines).get(key, 0), what)


def read_logs(name: str, text: str) -> tuple[Log, ...]:
    """The logs in `text`: one, or one for each seed where several runs follow each other."""
    lines = text.splitlines()
    spoken = ((at, line[:LINE]) for at, line in enumerate(lines) if "seed" in line[:LINE].lower())
    seeds = [(at, int(found["n"])) for at, line in spoken if (found := _SEED.match(line))]
    cuts = [at for i, (at, seed) in enumerate(seeds) if i and seed != seeds[i - 1][1]]
    if not cuts:
        return (read_log(name, text),)
    bounds = [0, *cuts, len(lines)]
    parts = [(lines[a:b], a) for a, b in pairwise(bounds)]
    runs = tuple(_read(name, part, start, None) for part, start in parts)
    if not all(log.at(AFTER) for log in runs):
        return (read_log(name, text),)  # other seeds than those of runs
    return runs


def read_log(name: str, text: str) -> Log:
    """The one log in `text`."""
    return _read(name, text.splitlines(), 0, seed_of(name))


def _read(name: str, whole: Sequence[str], start: int, seed: int | None) -> Log:
    lines = [line[:LINE] for line in whole]
    calibrated = next((i for i, line in enumerate(lines) if _is_calibrated(line)), None)
    packed = max((i for i, line in enumerate(lines) if _MODEL.search(line)), default=-1)
    trained = next((i for i, line in enumerate(lines) if confession(line) or (i < packed and learning(line))), None)
    found = {key: _last(pattern, lines, word) for key, (word, pattern) in _LINES.items()}
    read = tuple(figure for i, line in enumerate(lines) for figure in figures(line, start + i + 1))
    places = {key: start + at + 1 for key, (at, _) in found.items() if at >= 0}
    if calibrated is not None:
        places["calibration"] = start + calibrated + 1
    match = {key: matched for key, (_, matched) in found.items()}
    said, n_bytes = (places.get("total", 0), _whole(match["total"])) if match["total"] else _said_total(lines)
    if n_bytes is not None:
        places["total"] = said if match["total"] else start + said + 1
    nothing = next((i for i in range(len(lines) - 1, -1, -1) if is_nothing(lines[i])), None)
    return Log(
        name,
        seed if seed is not None else _whole(match["seed"]),
        read,
        _whole(match["model"]),
        _code(lines),
        n_bytes,
        matched["label"] if (matched := match["model"]) else "",
        _time(match["train"]),
        _seconds(match["hessian"]),
        _time(match["eval"]),
        _whole(match["tokens"]),
        "" if calibrated is None else lines[calibrated].strip(),
        tuple(n for line in lines if (total := _TOTAL.search(line)) and (n := _whole(total)) is not None),
        tuple(n for line in lines if (model := _MODEL.search(line)) and (n := _whole(model)) is not None),
        None if trained is None else Place(name, start + trained + 1, repr(lines[trained].strip()[:120])),
        any(denial(line) for line in lines),
        tuple(_numbers(lines, start, {figure.line for figure in read})),
        tuple(places.items()),
        _whole(match["text"]),
        None
        if nothing is None
        else Place(name, start + nothing + 1, f"its loss is no number: {lines[nothing].strip()[:120]!r}"),
        tuple(_evaluations(lines, start, {figure.line for figure in read})),
        tuple(_curve(lines, start, read)),
        tuple(_in_parts(lines, start)),
        _whole(match["gpus"]),
        frozenset(int(told["n"]) for line in lines if "seed" in line.lower() and (told := _SEED.match(line))),
        next((_goes_on(name, start, i, line) for i, line in enumerate(lines) if _GOES_ON.match(line)), None),
        _whole(match["shards"]),
        tuple(settings(lines).items()),
    )


def _goes_on(name: str, start: int, at: int, line: str) -> Place:
    return Place(name, start + at + 1, f"it goes on where an earlier run has ended: {line.strip()[:100]!r}")


def _said_total(lines: Sequence[str]) -> tuple[int, int | None]:
    """(line, total) of the last one in other words; of one in megabytes the least that it may be."""
    for i in range(len(lines) - 1, -1, -1):
        if (n_bytes := _total_in(lines[i])) is not None:
            return i, n_bytes
    return 0, None


def _total_in(line: str) -> int | None:
    words = line.lower()
    said = _SAID_TOTAL.search(line) if "total" in words else None
    if said is None and any(word in words for word in ("bytes", "mb", "mib", "artifact", "/")):
        said = _SAID_ARTIFACT.search(line)
        said = None if said is None or _NO_RESULT.search(line[: said.end()]) else said
    if said is None:
        return None
    groups = said.groupdict()
    if whole := groups["n"] or groups.get("k") or groups.get("f"):
        return int(re.sub(r"\D", "", whole))
    unit = {"mib": 1 << 20, "mb": 10**6, "kib": 1 << 10, "kb": 1000}[groups["unit"].lower()]
    written = groups["m"].replace(",", "")
    least = float(written) - 0.5 * 10.0 ** -len(written.partition(".")[2])
    return int(least * unit) + 1


def _is_calibrated(line: str) -> bool:
    return bool(_CALIBRATION.search(line) and _EVALUATED.search(line) and not _DENIED.search(line))


def _numbers(lines: Sequence[str], start: int, read: set[int]) -> Iterator[tuple[float, int, int]]:
    """(number, its digits, line) of what could be a loss in lines that no grammar reads."""
    for i, line in enumerate(lines, start + 1):
        found = [] if i in read else _DECIMAL.findall(line)
        if found and not is_of_another(line):
            yield from ((float(number), len(number) - 2, i) for number in found)


def _evaluations(lines: Sequence[str], start: int, read: set[int]) -> Iterator[tuple[float, int]]:
    """(seconds, line) of evaluations in lines that print no loss and are no total."""
    for i, line in enumerate(lines, start + 1):
        if i not in read and not _EVAL.search(line) and (seconds := evaluation_took(line)) is not None:
            yield seconds, i


def _in_parts(lines: Sequence[str], start: int) -> Iterator[tuple[str, float, bool, int]]:
    """Evaluations whose parts have a line each."""
    found: dict[str, dict[str, float]] = {}
    last = {}
    for i, line in enumerate(lines, start + 1):
        if (part := part_of(line)) is not None:
            found.setdefault(part[0], {})[part[1]] = evaluation_took(line) or 0.0
            last[part[0]] = i
    for name, parts in found.items():
        seconds, is_all = sum_of_parts(parts, name)
        if seconds:
            yield name, seconds, is_all, last[name]


def _curve(lines: Sequence[str], start: int, read: Sequence[Figure]) -> Iterator[float]:
    """Every loss that training prints: of its batches, and of validation up to the first of other weights."""
    end = next((f.line for f in read if f.stage in (BEFORE, AFTER)), start + len(lines) + 1)
    own = {figure.line: figure.loss or figure.bpb for figure in read}
    for i, line in enumerate(lines[: end - start - 1], start + 1):
        if "loss" in line.lower() and (found := _BATCH.search(line)) is not None:
            yield float(found["n"])
        elif i in own:
            yield own[i]


def _code(lines: list[str]) -> int | None:
    """The code bytes that the script counted: the compressed ones where it prints both."""
    found = [matched for line in lines if (matched := _CODE.search(line))]
    compressed = [matched for matched in found if re.search(r"(?<!un)compressed", matched["label"])]
    kept = compressed or found
    return _whole(kept[-1]) if kept else None


def _last(pattern: re.Pattern[str], lines: list[str], word: str) -> tuple[int, re.Match[str] | None]:
    """The last line of a pattern; only those are searched in which its word stands, for a log has thousands."""
    spoken = (i for i in range(len(lines) - 1, -1, -1) if word in lines[i].lower())
    return next(((i, found) for i in spoken if (found := pattern.search(lines[i]))), (-1, None))


def _whole(found: re.Match[str] | None) -> int | None:
    digits = "" if found is None else re.sub(r"\D", "", found["n"])
    return int(digits) if digits and len(digits) < 13 else None


def _time(found: re.Match[str] | None) -> float | None:
    """Seconds of a time that is written in any of the ways of `SPAN`."""
    return None if found is None else seconds_of(found)


def _seconds(found: re.Match[str] | None) -> float | None:
    return None if found is None else float(found["s"])
