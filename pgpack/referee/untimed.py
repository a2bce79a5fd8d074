"""Training that no clock sees: steps before it starts whose weights are kept, and clocks that go slow.

    for _ in range(2000): loss(train_batch()).backward(); opt.step()  # "compiles the kernels"; then the clock starts

A warm-up says so itself: in the name of its function, in what it says it is for, or in its loop's bound. Left alone
are a few steps, those whose weights are put back, warm-ups of copies, and schedules of a learning rate.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from .script import Place, Script
from .units import Unit, last_word, own_nodes

MOST = 24  # steps that a compiler may want
_WARMS = re.compile(
    r"warm_?up|warm_?kernels|(?:^|_)(?:warm|prime|compile|precompile|burn_?in|jit|trace|autotune|dry_?run)(?:_|s?$)"
)
_SAYS = re.compile(r"torch\.compile|kernels?\b|warm|autotun|\bjit\b|burn", re.I)
_PUTS_BACK = re.compile(r"load_state_dict|copy_\(|deepcopy|restore|reset|\.clone\(|snapshot|state_dict\(\)")
_CLOCK = {"perf_counter", "time", "monotonic", "perf_counter_ns", "time_ns", "monotonic_ns", "process_time"}
_FACTORS = ((0.5, 1.0), (500.0, 1000.0))  # of seconds and of milliseconds that are made fewer
_CLOCKS = re.compile(r"perf_counter|time\.time|monotonic|elapsed|Event\(")


def trained_untimed(scripts: Sequence[Script]) -> Iterator[Place]:
    """Loops of a warm-up that take many steps, outside of any clock, and put nothing back."""
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.JoinedStr) and _bounds_time(node):
                yield script.place(node, f"{ast.unparse(node)[:60]} prints no more time than a bound")
            elif isinstance(node, (ast.Assign, ast.Call)) and _replaces_clock(script, node):
                yield script.place(node, f"{ast.unparse(node)[:60]} is a clock of the script's own")
            elif isinstance(node, ast.BinOp) and _shortens(node):
                yield script.place(node, f"{ast.unparse(node)[:60]} is less than the time that has passed")
        for unit in script.nodes:
            if isinstance(unit, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _of_function(script, unit)
            if isinstance(unit, Unit):
                yield from _before_the_clock(script, unit)


def _bounds_time(node: ast.JoinedStr) -> bool:
    """f"train_time: {min(elapsed, 599)}"""
    for said, told in pairwise(node.values):
        is_time = isinstance(said, ast.Constant) and re.search(r"train(?:ing)?[_ ]time\W*$", str(said.value))
        inner = [last_word(each) for each in ast.walk(told) if isinstance(each, ast.Call)] if is_time else []
        if {"min", "clip", "clamp"} & {*inner}:
            return True
    return False


def _replaces_clock(script: Script, node: ast.Assign | ast.Call) -> bool:
    """time.perf_counter = lambda: ..., setattr(time, "time", ...)"""
    if isinstance(node, ast.Assign):
        targets = [each for each in node.targets if isinstance(each, ast.Attribute)]
        return any(script.name_of(each.value) == "time" and each.attr in _CLOCK for each in targets)
    if last_word(node) != "setattr" or len(node.args) < 3 or script.name_of(node.args[0]) != "time":
        return False
    return any(text in _CLOCK for text in script.texts_of(node.args[1]))


def _shortens(node: ast.BinOp) -> bool:
    """0.9 * (time.perf_counter() - t0), also in milliseconds; a thousand, a sixtieth and shares of an average are no
    such factors."""
    if not isinstance(node.op, ast.Mult):
        return False
    for number, span in ((node.left, node.right), (node.right, node.left)):
        factor = number.value if isinstance(number, ast.Constant) else None
        if isinstance(factor, (int, float)) and any(low <= factor < high for low, high in _FACTORS):
            is_span = isinstance(span, ast.BinOp) and isinstance(span.op, ast.Sub)
            return is_span and any(last_word(n) in _CLOCK for n in ast.walk(span) if isinstance(n, ast.Call))
    return False


def _of_function(script: Script, unit: Unit) -> Iterator[Place]:
    name = getattr(unit, "name", "")
    text = ast.unparse(unit)
    says = ast.get_docstring(unit, clean=False) or ""
    is_warm_up = bool(_WARMS.search(name.lower()) or _SAYS.search(says))
    for node in own_nodes(unit):
        if not isinstance(node, ast.For) or not _steps(node):
            continue
        told = f"{ast.unparse(node.target)} {ast.unparse(node.iter)}".lower()
        count = _count(script, unit, node.iter)
        if not (is_warm_up or _WARMS.search(told)) or count is None or count <= MOST:
            continue
        body = ast.unparse(node)
        is_timed = bool(_CLOCKS.search(text if is_warm_up else body))
        if not is_timed and not _PUTS_BACK.search(text):
            yield script.place(node, f"{count:,} steps of a warm-up whose weights are kept, before the clock starts")


def _before_the_clock(script: Script, unit: Unit) -> Iterator[Place]:
    """Loops that train, behind which the clock starts for another one, whatever they are called."""
    told = f"{getattr(unit, 'name', '')} {ast.get_docstring(unit, clean=False) or ''}".lower()
    loops = [each for each in unit.body if isinstance(each, (ast.For, ast.While)) and _steps(each)]
    for first, second in pairwise(loops):
        between = unit.body[unit.body.index(first) + 1 : unit.body.index(second)]
        starts = any(isinstance(each, ast.Assign) and _CLOCKS.search(ast.unparse(each)) for each in between)
        again = any(_PUTS_BACK.search(ast.unparse(each)) for each in (first, *between))
        count = _broken(first) or (_count(script, unit, first.iter) if isinstance(first, ast.For) else None)
        is_told = isinstance(first, ast.For) and (
            _WARMS.search(told) or _WARMS.search(ast.unparse(first.iter).lower())
        )
        if (
            starts
            and not again
            and not is_told
            and not _CLOCKS.search(ast.unparse(first))
            and (count or MOST + 1) > MOST
        ):
            steps = f"{count:,} steps" if count else "steps"
            yield script.place(first, f"{steps} of training before the clock starts")


def _broken(loop: ast.For | ast.While) -> int | None:
    """`n` of if step == n: break"""
    for node in loop.body:
        match node:
            case ast.If(test=ast.Compare(comparators=[ast.Constant(value=int(count))]), body=[ast.Break()]):
                return count
    return None


def _steps(loop: ast.For | ast.While) -> bool:
    called = {last_word(node) for node in ast.walk(loop) if isinstance(node, ast.Call)}
    return {"backward", "step"} <= called


def _count(script: Script, unit: Unit, over: ast.expr) -> int | None:
    """How many rounds range(n) has, where n is written down: here, as a default, or as a setting's default."""
    if not isinstance(over, ast.Call) or last_word(over) not in ("range", "trange") or not over.args:
        return None
    bound = over.args[-1] if len(over.args) < 3 else over.args[1]
    if isinstance(bound, ast.Constant) and isinstance(bound.value, int):
        return bound.value
    name = getattr(bound, "attr", getattr(bound, "id", ""))
    given = [*script.values.get(name, [])]
    numbers = [int(text) for value in given for text in _numbers(script, value)]
    return max(numbers, default=None)


def _numbers(script: Script, value: ast.expr) -> Iterator[str]:
    """20, int(os.environ.get("WARMUP_STEPS", 20))"""
    while isinstance(value, ast.Call) and last_word(value) in ("int", "get", "getenv") and value.args:
        value = value.args[-1]
    yield from (text for text in script.texts_of(value) if text.isdecimal() and len(text) < 9)
