"""How far an evaluation reaches by its indices: what it learns before that is scored, and what it never scores.

The functions that evaluate are done by `Interpreter` on a text of a few chunks, with the defaults of their options.
What is not decided there (documents, batches that another process chooses) says nothing.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .index_known import UNKNOWN, Cap, Stop, Unknown, Unsure
from .index_values import Compared
from .indices import Interpreter
from .launch import NO_LAUNCH, Launch
from .script import Place, Script, calls, keyword
from .spans import Span, Tensor, length, outside, union
from .text_flow import holders, receivers
from .text_names import names_evaluated
from .text_values import Definitions, parameters
from .units import bound, last_word, read

CHUNK, WINDOW, MOST = 32_768, 2048, 1 << 20  # tokens of a legal chunk; of a window; of what is looked at
TEXT = 40_540_160  # tokens of the whole text, of the vocabulary with the fewest
LATER = 2  # tokens: a target behind the last input
WHOLE = 0.9  # of the tokens: windows at the ends may be left out
WINDOWS = 0.97  # of the tokens are in whole windows
CALLS = 3  # of one function that are done
# what is called so is a part of the text, or says where it is
_PIECE = re.compile(
    r"^[xyt]\w?$|chunk|piece|batch|window|ctx|context|seq|doc|row|part|span|inp|target|tgt|local|block|prefix|segment|"
    r"file|path|glob|pattern|dir|name|loader|args|config|cfg|^h$|^hp|lut|sp$"
)


@dataclass(frozen=True)
class Reached:
    """What one call did, as far as it was followed; `ended`: to its end."""

    function: ast.AST
    script: Script
    events: Sequence[tuple[str, list[Span], ast.AST, bool]]
    caps: Sequence[Cap]
    tokens: int
    ended: bool
    compared: Sequence[Compared]


def learned_too_far(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Gradients of tokens that lie behind everything that was scored before."""
    found: dict[Place, None] = {}
    for call in _calls(tuple(scripts), given):
        scored = 0
        for kind, spans, node, doubt in call.events:
            last = max((b for _, b in spans), default=0)
            if kind == "scored":
                scored = max(scored, last)
            elif kind == "learned" and scored and last > scored + LATER and not doubt:
                what = f"it learns from {last - scored:,} tokens behind the last one that was scored"
                found.setdefault(call.script.place(node, what))
                break
    yield from found


def in_order(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> frozenset[tuple[str, int, int]]:
    """(file, line, layer) of gradients that are known to be of tokens which were scored before."""
    late, known = set[tuple[str, int, int]](), set[tuple[str, int, int]]()
    for call in _calls(tuple(scripts), given):
        scored = 0
        for kind, spans, node, doubt in call.events:
            place = call.script.place(node, "")
            last = max((b for _, b in spans), default=0)
            if kind == "scored":
                scored = max(scored, 0 if doubt else last)
            elif kind == "learned":
                at = (place.file, place.line, place.layer)
                (known if spans and last <= scored + LATER and call.ended else late).add(at)
    return frozenset(known - late)


def rescored(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Scores of tokens that were learned before, in the function that learns them."""
    for call in _calls(tuple(scripts), given):
        learned: list[Span] = []
        for kind, spans, node, doubt in call.events:
            if kind == "learned":
                learned = learned if doubt else union([*learned, *spans])
            elif kind != "ahead" and learned and not doubt and outside(spans, learned) < length(spans) / 2:
                if _is_training_loss(call.function, node):
                    continue
                yield call.script.place(node, "it scores once more what it has learned")
                break


def _is_training_loss(function: ast.AST, node: ast.AST) -> bool:
    """Whether what is added up is the loss whose gradient was just taken."""
    loops = [each for each in ast.walk(function) if isinstance(each, (ast.For, ast.While))]
    around = [{id(inner) for inner in ast.walk(loop)} for loop in loops]
    inner = min((ids for ids in around if id(node) in ids), key=len, default=None)
    at = getattr(node, "lineno", 0)
    for each in ast.walk(function):
        if not isinstance(each, ast.Call) or getattr(each.func, "attr", "") != "backward":
            continue
        if inner is not None and id(each) not in inner:
            continue
        names = read(each) & read(node)
        again = (n for n in ast.walk(function) if each.lineno < getattr(n, "lineno", 0) < at)
        anew = {name for n in again for name, _ in bound(n)}
        if names - anew - {"scaler", "accelerator", "model"}:
            return True
    return False


def given_targets(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Where a token is predicted by what has read it: inputs that are not behind their targets."""
    found: dict[Place, None] = {}
    for call in _calls(tuple(scripts), given):
        for kind, _, ahead, doubt in call.events:
            if kind == "ahead" and not doubt:
                what = f"{ast.unparse(ahead)[:60]} puts later text in front"
                found.setdefault(call.script.place(ahead, what))
        for inputs, targets, node in call.compared:
            pairs = [(a, b) for a, b in zip(inputs, targets, strict=False) if a is not None and b is not None]
            is_same = len(inputs) == len(targets) and all(a[1] - a[0] == b[1] - b[0] > LATER for a, b in pairs)
            shifts = last_word(node) not in ("cross_entropy", "nll_loss") and _shifts(scripts)
            if pairs and is_same and not shifts and all(b[0] <= a[0] for a, b in pairs):
                what = f"{ast.unparse(node)[:60]} gives a token to what is to predict it"
                found.setdefault(call.script.place(node, what))
    yield from found


def _shifts(scripts: Sequence[Script]) -> bool:
    """Whether a model shifts its targets itself: cross_entropy(logits[:, :-1], ids[:, 1:])."""
    losses = (call for _, call, name in calls(scripts) if name.endswith(("cross_entropy", "nll_loss")))
    for call in losses:
        for each in ast.walk(call):
            if isinstance(each, ast.Slice) and "1" in ast.unparse(each):
                return True
    return any(re.search(r"shift", n) for script in scripts for n in script.values)


def scored_in_part(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Evaluations that leave out a part of the text; of a function the last call counts."""
    last = {id(call.function): call for call in _calls(tuple(scripts), given)}
    for call in last.values():
        scored = [(spans, node) for kind, spans, node, _ in call.events if kind == "scored"]
        if not call.ended or not scored or any(doubt for kind, *_, doubt in call.events if kind == "scored"):
            continue
        share = length(span for spans, _ in scored for span in spans) / (call.tokens - 1)
        if share < WHOLE:
            yield call.script.place(scored[0][1], f"it scores {share:.0%} of the text's tokens")
            continue
        scale = TEXT / call.tokens
        for cap in call.caps:
            is_its_size = WINDOWS * call.tokens <= cap.bound <= call.tokens + LATER
            if cap.bound < WHOLE * scale * cap.size and not is_its_size:
                yield call.script.place(cap.node, f"{ast.unparse(cap.node)[:60]} leaves out a part of the text")
                break


@lru_cache(maxsize=8)
def _calls(scripts: tuple[Script, ...], given: Launch) -> tuple[Reached, ...]:
    """Every function that goes through evaluated text, as it is called."""
    definitions, found = Definitions(scripts), list[Reached]()
    settings = _settings(scripts, definitions, given)
    owned, received = _attributes(scripts, given), _received(scripts, given)
    for script in scripts:
        for function in script.nodes:
            own = owned.get(id(function), frozenset())
            texts = received.get(id(function), frozenset())
            if isinstance(function, ast.FunctionDef) and _goes_through(function, own | texts):
                tokens = _length_of(function, settings)
                for named in _given(function, scripts, definitions, settings)[-CALLS:]:
                    named = {**{name: Tensor([(0, tokens)], True) for name in texts}, **named}
                    machine = Interpreter(script, definitions, settings, tokens)
                    machine.own = own
                    ended = False
                    with contextlib.suppress(Unsure, Stop, RecursionError):
                        machine.run(function, named)
                        ended = True
                    found.append(
                        Reached(function, script, machine.events, machine.caps, tokens, ended, machine.compared)
                    )
    return tuple(found)


def _attributes(scripts: tuple[Script, ...], given: Launch) -> dict[int, frozenset[str]]:
    """Method -> the attributes of its object that hold evaluated text."""
    held = holders(scripts, given)
    classes = [node for script in scripts for node in script.nodes if isinstance(node, ast.ClassDef)]
    return {
        id(item): frozenset(name for owner, name in held if owner == node.name)
        for node in classes
        for item in node.body
    }


def _received(scripts: tuple[Script, ...], given: Launch) -> dict[int, frozenset[str]]:
    """Function -> its parameters that the whole evaluated text is given to, by whatever name; '' among them where
    it gives that back."""
    found: dict[int, set[str]] = {}
    for function, name in receivers(scripts, given):
        if not _PIECE.search(name.lower()):
            found.setdefault(function, set()).add(name)
    return {function: frozenset(names) for function, names in found.items()}


def _length_of(function: ast.FunctionDef, settings: Mapping[str, Any]) -> int:
    """Tokens of a text that has a few chunks, or windows where it has no chunks."""
    has_chunks = "chunk" in ast.unparse(function).lower()
    sizes = {k.lower(): v for k, v in settings.items() if isinstance(v, int) and v <= MOST}
    chunks = [v for k, v in sizes.items() if "chunk" in k]
    windows = [v for k, v in sizes.items() if "seq_len" in k]
    return max(3 * max([CHUNK, *chunks]) if has_chunks else 0, 24 * max([WINDOW, *windows])) + 1


def _goes_through(function: ast.FunctionDef, own: frozenset[str]) -> bool:
    """Whether it has a loop, a sum and text to evaluate, and does not train first."""
    nodes = [*ast.walk(function)]
    loops = any(isinstance(node, (ast.For, ast.While)) for node in nodes)
    sums = any(isinstance(node, ast.AugAssign) for node in nodes)
    named = {
        n for node in nodes for n in (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "arg", ""))
    }
    return (
        loops
        and sums
        and not re.match("main|train|fit", function.name)
        and any(n in own or names_evaluated(n) for n in named if isinstance(n, str) and n)
    )


def _given(
    function: ast.FunctionDef, scripts: Sequence[Script], definitions: Definitions, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What each call of a function gives it, as far as that is written down."""
    names = parameters(function)
    found = []
    for script in scripts:
        for node, at in script.handed.get(function.name, ()):  # called, or given to what calls it
            machine = Interpreter(script, definitions, settings, CHUNK)
            pairs = [*zip(names, node.args[at:], strict=False), *((k.arg, k.value) for k in node.keywords if k.arg)]
            each = {str(name): machine.value(value, {}) for name, value in pairs if _is_plain(value)}
            found.append((node.lineno, {k: v for k, v in each.items() if isinstance(v, (int, float, str))}))
    calls = [each for _, each in sorted(found, key=lambda pair: pair[0])]
    return [each for i, each in enumerate(calls) if each not in calls[i + 1 :]] or [{}]


def _is_plain(node: ast.expr) -> bool:
    return not any(isinstance(inner, (ast.Call, ast.Lambda)) for inner in ast.walk(node))


def _settings(scripts: Sequence[Script], definitions: Definitions, given: Launch) -> dict[str, Any]:
    """Options by name with their defaults: of modules, of classes, of command lines."""
    found: dict[str, Any] = {}
    for script in scripts:
        machine = Interpreter(script, definitions, found, CHUNK)
        tree = script.parsed[0]
        classes = [node for node in script.nodes if isinstance(node, ast.ClassDef)]
        bodies = [tree.body if tree is not None else [], *(node.body for node in classes)]
        for statements in bodies:
            for node in statements:
                pair = _setting(node)
                if pair is not None and not given.names & _words(pair[1]):
                    value = _value(machine, pair[1])
                    if isinstance(value, (int, float, str)):
                        found.setdefault(pair[0], value)
        for call in script.nodes:
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument" and call.args:
                default = keyword(call, "default")
                name = call.args[0].value if isinstance(call.args[0], ast.Constant) else ""
                if default is not None and isinstance(value := _value(machine, default), (int, float)):
                    found.setdefault(str(name).strip("-").replace("-", "_"), value)
    return found


def _setting(node: ast.stmt) -> tuple[str, ast.expr] | None:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
    return None


def _words(node: ast.expr) -> set[str]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def _value(machine: Interpreter, node: ast.expr) -> Any:
    try:
        found = machine.value(node, {})
    except (Unsure, Stop, RecursionError):
        return UNKNOWN
    return UNKNOWN if isinstance(found, Unknown) else found


class _Straight(Interpreter):
    """Goes through a function without its loops and calls, and keeps where the text becomes a part of it."""

    def __init__(self, script: Script, definitions: Definitions, settings: Mapping[str, Any], loads: bool) -> None:
        super().__init__(script, definitions, settings, TEXT)
        self.loads, self.parts = loads, list[Place]()

    def bind(self, target: ast.expr, found: Any, scope: dict[str, Any]) -> None:
        super().bind(target, found, scope)
        name = getattr(target, "attr", getattr(target, "id", ""))
        if names_evaluated(name) or (isinstance(target, ast.Attribute) and name in self.own):
            self._is_part(target, found)

    def _is_part(self, node: ast.AST, found: Any) -> None:
        if isinstance(found, Tensor) and 1 < found.size < WHOLE * TEXT and not self.doubt:  # one is a number of it
            self.parts.append(self.script.place(node, f"{found.size:,} tokens are kept of {TEXT:,}"))

    def comprehended(self, node: ast.ListComp | ast.GeneratorExp, scope: dict[str, Any]) -> Any:
        return UNKNOWN

    def _For(self, node: ast.For, scope: dict[str, Any]) -> None:
        pass

    def _While(self, node: ast.While, scope: dict[str, Any]) -> None:
        pass

    def _Return(self, node: ast.Return, scope: dict[str, Any]) -> None:
        if self.loads and node.value is not None:
            self._is_part(node, self.value(node.value, scope))
        super()._Return(node, scope)

    def called(self, node: ast.Call, scope: dict[str, Any]) -> Any:
        last = str(getattr(node.func, "attr", getattr(node.func, "id", "")))
        is_read = self.loads and last in ("cat", "concatenate", "load_data_shard", "fromfile", "memmap", "from_numpy")
        if is_read or (last in self.definitions.functions and names_evaluated(last)):
            return Tensor([(0, TEXT)], True)
        if last in self.definitions.functions:
            for each in node.args if "eval" in last else []:
                self._is_part(each, self.value(each, scope))
            return UNKNOWN
        return super().called(node, scope)


def kept_in_part(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Where the evaluated text itself is cut, before anything goes through it."""
    definitions = Definitions(scripts)
    settings, owned = _settings(scripts, definitions, given), _attributes(tuple(scripts), given)
    received = _received(tuple(scripts), given)
    for script in scripts:
        for function in script.nodes:
            if isinstance(function, ast.FunctionDef):
                own = owned.get(id(function), frozenset())
                loads = names_evaluated(function.name) or (bool(own) and function.name == "__init__")
                loads |= "" in received.get(id(function), frozenset())
                machine = _Straight(script, definitions, settings, loads=loads)
                machine.own = own
                named = _given(function, scripts, definitions, settings)[-1] if machine.loads else {}
                with contextlib.suppress(Unsure, Stop, RecursionError):
                    machine.run(function, named)
                yield from dict.fromkeys(machine.parts)
