"""Where a script or a log learns from the text that it is scored on: calibration, and training before packing.

Legal test-time training updates after scoring, on packed weights. What is looked for here comes before: updates on
validation text, and only then a quantizer or `torch.save`, in the order in which the script runs (`text_flow`). What
flows where is guessed in part, so a script is only warned of; a log or a switch that says so is a confession.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from .apart import apart
from .launch import NO_LAUNCH, Launch
from .script import Place, Script, calls
from .text_events import (
    CALIBRATED,
    COUNTED,
    LEARNED,
    LOOKED_UP,
    PACKED,
    REPEATS,
    RESET,
    SAVED,
    SCORED,
    SEARCHED,
    STEP,
    STORED,
    TUNED,
    WARM_UP,
    Event,
)
from .text_flow import sequences
from .text_names import is_evaluated_path, takes_evaluated_in

_PRE_QUANT = re.compile(
    r"(?:pre[-_ ]?(?:quant\w*|gptq|export|pack\w*)[-_ ]{0,3}(?:\w{0,12}[-_ ]){0,2}ttt|"
    r"ttt[-_ ]{0,3}(?:\w{0,12}[-_ ])?(?:pre|before)[-_ ]{0,3}(?:quant|gptq|export|pack))", re.I,
)  # fmt: skip
_OFF = re.compile(
    r"(?:enabled?|active|use)?['\"]?\s*[:=]\s*(?:false|0|off|no|none|disabled)\b|\bdisabled\b|\boff\b", re.I
)
_DENIED = re.compile(
    r"\b(?:no|not|never|without|instead of|unlike|illegal|removed?|isn't|don't|skip\w*|"
    r"replac\w*|drop(?:s|ped)|avoid\w*|ban(?:s|ned)?|vs|versus|minus|w/o)\b", re.I,
)  # fmt: skip
_FINETUNED = re.compile(
    r"(?:fine-?tun\w*|adapt(?:ed|ing|ation)?|train(?:ed|ing)?|updat(?:ed|es|ing))\b[^.\n]{0,60}\b(?:on|to)\b[^.\n]{0,40}"
    r"(?:fineweb_val|val_tokens|validation tokens|"
    r"\bval(?:idation)?[ _](?:text|data|set|shards?|split|stream|docs)\b)", re.I,
)  # fmt: skip
_TRAIN_ON_VAL = re.compile(
    r"train(?:ing)?[_ ]?(?:files|data|loader|shards|pattern|tokens|text|set|paths?|glob|on)\w*['\"]?[\s:=(\[]{1,4}"
    r"(?:\w{1,12}[=:])?[\[('\"]{0,2}[^\s,;'\"()]*fineweb_val", re.I,
)  # fmt: skip
_TRAINS_ON = re.compile(  # train: fineweb_*.bin
    r"(?<![a-z])train(?:ing)?"
    r"(?:[_ -]?(?:files?|data|loader|shards?|pattern|tokens|text|set|split|paths?|glob|bin|dir))*"
    r"['\"]?\s{0,3}[:=]\s{0,3}[\[('\"]{0,3}(?P<path>[^\s,;'\"()\]]+)", re.I,
)  # fmt: skip
_BEFORE = re.compile(r"before|prior to|pre[-_ ]?(?:quant|pack|gptq|export)", re.I)


def calibrations_on_evaluated(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Calls whose name speaks of calibration or Hessians and which are given the evaluated text."""
    events = (event for found in sequences(tuple(scripts), given) for event in found)
    yield from dict.fromkeys(event.place for event in events if event.kind == CALIBRATED)


def confession(line: str) -> bool:
    """Whether a line of a log says that weights were trained on the evaluated text before they were packed."""
    if said := _PRE_QUANT.search(line):
        return not _is_denied(line, said)
    if _TRAIN_ON_VAL.search(line) and not _DENIED.search(line):
        return True
    return bool(_FINETUNED.search(line) and _BEFORE.search(line) and not _DENIED.search(line))


def names_training_on_evaluated(line: str) -> bool:
    """Whether a line gives the training's files as those of the validation split, or a pattern that takes them in."""
    paths = (found["path"] for found in _TRAINS_ON.finditer(line))
    return bool(_TRAIN_ON_VAL.search(line)) or any(is_evaluated_path(path) for path in paths)


def learning(line: str) -> bool:
    """Whether a line of a log says that weights learn from the evaluated text; one of a script says nothing."""
    counts = re.search(r"epoch|step|loss|\d/\d|\bdone\b", line, re.I) and re.search(r"\d", line)
    return bool(counts and _FINETUNED.search(line) and not _DENIED.search(line) and not line.lstrip().startswith("#"))


def claims_training(text: str) -> bool:
    """Whether a description says that weights were trained on the evaluated text before they were packed."""
    return any(confession(clause) for clause in re.split(r"[.;\n]|(?<=\s)[-\u2013\u2014](?=\s)", text))


def denial(line: str) -> bool:
    """Whether a line of a log says that there was none of it."""
    said = _PRE_QUANT.search(line)
    return bool(said and _is_denied(line, said))


def _is_denied(line: str, said: re.Match[str]) -> bool:
    """Whether what is said is denied in the same clause; what else a line denies is another matter."""
    start = max((line.rfind(mark, 0, said.start()) for mark in ",;"), default=-1) + 1
    stop = min((at for mark in ",;" if (at := line.find(mark, said.end())) >= 0), default=len(line))
    clause = line[start:stop]
    return bool(_OFF.search(clause) or _DENIED.search(clause))


def switches(scripts: Sequence[Script]) -> Iterator[Place]:
    """Switches of that name which are on as written, and calls of functions that are called so."""
    for script in scripts:
        for name, values in script.values.items():
            for value in values if _PRE_QUANT.search(name) else ():
                if not _is_off(script, value):
                    yield script.place(value, f"{name} = {ast.unparse(value)[:40]}")
    for script, call, name in calls(scripts):
        if _PRE_QUANT.search(name) and not any(_PRE_QUANT.search(n) for n in script.values):
            yield script.place(call, f"{name}(...)")
    for script in scripts:
        for name, values in script.values.items():
            if re.match(r"train_?(files|data|pattern|shards|paths|glob)", name.lower()):
                for value in values:
                    if any("fineweb_val" in text or takes_evaluated_in(text) for text in script.texts_of(value)):
                        yield script.place(value, f"{name} is the validation text, or has it in")


def _is_off(script: Script, value: ast.expr) -> bool:
    """A constant that is false, also as the default of an environment variable."""
    constants = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    shown = [c for c in constants if not (isinstance(c, str) and _PRE_QUANT.search(c))]
    return bool(shown) and str(shown[0]).lower() in ("0", "false", "off", "no", "none", "")


def updates_before_packing(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """What learns from validation text, by a gradient or without, before the weights are saved or first packed."""
    found: dict[Place, Place] = {}
    kept_apart = apart(scripts)
    for events in sequences(tuple(scripts), given):
        packed = [i for i, event in enumerate(events) if event.kind == PACKED]
        for i, event in enumerate(events):
            later = [e for e in events[i:] if e.kind == SAVED or (e.kind == PACKED and i < packed[0])]
            if event.kind == STEP and (event.place.file, event.place.line, event.place.layer) in kept_apart:
                continue
            if event.kind in (STEP, TUNED, LEARNED) and later:
                does = "learns without a gradient from" if event.kind == LEARNED else "steps on"
                what = f"{event.what} {does} validation text before weights are {later[0].kind}, {later[0].place}"
                found.setdefault(event.place, replace(event.place, what=what))
    yield from found.values()


def learned_before_scored(
    scripts: Sequence[Script], given: Launch = NO_LAUNCH, known: frozenset[tuple[str, int, int]] = frozenset()
) -> Iterator[Place]:
    """What learns from validation text that nothing in its loop has scored yet: gradients, counts that are looked up.

    Scored first is what comes before it in the outermost loop around both, unless that loop only repeats itself.
    `known`: (file, line, layer) of gradients whose tokens are known to be scored before, in the order of one call.
    """
    found: dict[Place, Place] = {}
    within = _loops_within(scripts)
    for events in sequences(tuple(scripts), given)[: len(scripts)]:  # not of functions that nothing calls
        looked_up = any(event.kind == LOOKED_UP for event in events)
        searched = any(event.kind == SEARCHED for event in events)
        for i, event in enumerate(events):
            learns = event.kind in (STEP, LEARNED) or (event.kind == COUNTED and looked_up)
            learns |= event.kind == STORED and searched
            again = event.kind == STEP and any(_is_pass_after(each, event, within) for each in events[i + 1 :])
            at = event.place.file, event.place.line, event.place.layer
            if at in known and not again and not any(kind == REPEATS for _, kind, _ in event.loops[:1]):
                continue
            if learns and (again or not _scored_first(event, events[:i], events[i + 1 :])):
                found.setdefault(event.place, replace(event.place, what=f"{event.what} learns from validation text"))
    yield from found.values()


def scored_after_learning(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Evaluations by weights that have learned the text in an earlier one, and that nothing has put back since."""
    found: dict[Place, Place] = {}
    for events in sequences(tuple(scripts), given)[: len(scripts)]:
        evaluated, back = -1, -1  # where the last evaluation was, and the last weights that were put back
        last: dict[object, int] = {}
        for i, event in enumerate(events):
            if event.kind == RESET:
                back = i
            elif event.kind == SCORED and event.loops:
                last[event.loops[0]] = i
            elif event.kind == STEP and event.loops and not {WARM_UP, REPEATS} & {event.loops[0][1]}:
                evaluated = max((at for loop, at in last.items() if loop != event.loops[0]), default=-1)
                if back > evaluated:
                    continue
                again = _next_evaluation(events[i + 1 :], event)
                if again is not None:
                    what = f"it scores by weights that have learned the text, {event.place}"
                    found.setdefault(again.place, replace(again.place, what=what))
    yield from found.values()


def _next_evaluation(after: Sequence[Event], step: Event) -> Event | None:
    """The first evaluation behind a step's own, None where weights are put back before it."""
    for event in after:
        if event.kind == RESET:
            return None
        if event.kind == SCORED and event.loops and event.loops[0] != step.loops[0]:
            return event
    return None


def _loops_within(scripts: Sequence[Script]) -> dict[int, int]:
    """Loop -> the innermost function around it."""
    functions = [
        n for script in scripts for n in script.nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    loops = (ast.For, ast.While, ast.AsyncFor)
    return {id(inner): id(node) for node in functions for inner in ast.walk(node) if isinstance(inner, loops)}


def _is_pass_after(event: Event, step: Event, within: Mapping[int, int]) -> bool:
    """Whether a function scores in a second loop what a first one has learned."""
    if event.kind != SCORED or not event.loops or not step.loops:
        return False
    (first, _, led), (second, _, led_too) = step.loops[0], event.loops[0]
    return first != second and led == led_too and first in within and within[first] == within.get(second)


def _scored_first(event: Event, before: Sequence[Event], after: Sequence[Event]) -> bool:
    kinds = [kind for _, kind, _ in event.loops]
    if WARM_UP in kinds:
        return True  # what is thrown away
    if kinds[:1] == [REPEATS]:
        return False
    if not event.loops and any(each.kind == SCORED and each.loops for each in after):
        return False  # a whole evaluation follows, whatever was evaluated before
    return any(each.kind == SCORED and each.loops[:1] == event.loops[:1] for each in before)
