"""Where an evaluation takes the better of two losses or probabilities, which only the target tells: no distribution.

    nll = torch.minimum(nll_a, nll_b)      p = max(p_model, cache[context][token])      torch.where(a < b, a, b)

A loss is what speaks of a target: cross_entropy, gather, a probability that is looked up by the token. What compares
two of them in one round of a loop, takes the least of a stack of them or is the larger of two distributions that
nobody normalizes is found. Legal, and left alone: mixtures, choices by what is known before the target (context,
confidence, sums of earlier losses), bounds that are constants, and the least of a run's losses so far. Names are
followed within a function and into the functions of the folder; order is not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from .script import Place, Script, keyword
from .units import Unit, bound, evaluates, is_of_evaluations, last_of, last_word, own_nodes, read, speaks_of_target

_OF_TARGET = re.compile(r"prob|nll|logp|log_p|loss|surpris|score|bits|nats|likelihood", re.I)
_HOLDS = re.compile(r"(?:^|[._])(?:p|q|lp|dist|pred)(?:\d|_|$)|prob|log_?p|nll|soft|gram|cache|mix|table|counts|freq")
_MODEL = re.compile(r"model|net$|gpt|expert|forward")
_LOSSES = {"cross_entropy", "nll_loss"}
_GATHERS = {"gather", "take_along_dim", "take_along_axis"}
_PAIRS = {"maximum", "minimum", "fmax", "fmin", "where", "max", "min"}  # of two, token by token
_BOUNDS = {"clamp", "clip", "clamp_max", "clamp_min", "clamp_", "clip_"}
_LEAST = {"min", "max", "amin", "amax", "argmin", "argmax", "sort", "topk", "kthvalue", "nanmin", "sorted"}
_STACKS = {"stack", "cat", "concatenate", "vstack", "array", "tensor"}
_DISTRIBUTIONS = {"softmax", "log_softmax"}
_KEPT = ("exp", "log", "float", "double", "to", "squeeze")  # what leaves a distribution one
_NORMALIZES = re.compile(r"softmax|cross_entropy|logsumexp|normali[sz]e")
_NO_LOSSES = {"len", "range", "numel", "size", "dim", "zeros", "zeros_like", "full_like", "ones_like", "load", "get"}
_COUNTS = {"sum", "mean", "item", "float", "int", "print", "log", "log0", "append", "count_nonzero"}


def better_of_two(scripts: Sequence[Script]) -> Iterator[Place]:
    """Where a loss is chosen among several by the target itself."""
    told = _functions_of_losses(scripts)
    for script in scripts:
        for unit in _units(script):
            for place in Losses(script, unit, told).found():
                yield replace(place, what=f"{place.what} takes the better one by the target itself")


def _units(script: Script) -> Iterator[Unit]:
    yield from (node for node in script.nodes if isinstance(node, Unit))


def _functions_of_losses(scripts: Sequence[Script]) -> frozenset[str]:
    """The functions of the folder that give back a loss of a target, and whose name is no common one."""
    told: frozenset[str] = frozenset()
    for _ in range(2):
        found = set[str]()
        for script in scripts:
            for unit in _units(script):
                if not isinstance(unit, ast.Module) and Losses(script, unit, told).gives_loss():
                    found.add(unit.name)
        told = frozenset(found - {"forward", "__call__", "__init__"})
    return told


def divides_by_its_sum(node: ast.BinOp) -> bool:
    """row / row.sum(-1, keepdim=True)"""
    return ".sum(" in ast.unparse(node.right) and bool(read(node.left) & read(node.right))


class Losses:
    """One function, or what stands outside of them, with the names in it that hold losses."""

    def __init__(self, script: Script, unit: Unit, told: frozenset[str]) -> None:
        self.script, self.unit, self.told = script, unit, told
        self.nodes = [*own_nodes(unit)]
        self.losses: set[str] = set()
        self.distributions: set[str] = set()
        self.lists: set[str] = set()  # of losses
        self.assigned = [pair for node in self.nodes for pair in bound(node)]
        # without what goes on: a running sum, a running minimum
        self.fresh = [(name, value) for name, value in self.assigned if name not in read(value)]
        for _ in range(3):
            self._follow()

    def _follow(self) -> None:
        for name, value in self.fresh:
            if self.is_loss(value):
                self.losses.add(name)
            if self.is_distribution(value):
                self.distributions.add(name)
        for node in self.nodes:
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "attr", "") == "append"
                and any(map(self.is_loss, node.args))
            ):
                self.lists |= {n for n in read(node.func) if self._is_made_in_a_loop(n)}

    def _is_made_in_a_loop(self, name: str) -> bool:
        loops = [node for node in self.nodes if isinstance(node, (ast.For, ast.While))]
        made = [n for loop in loops for n in ast.walk(loop) if name in dict(bound(n))]
        return bool(made)

    def gives_loss(self) -> bool:
        """Whether it returns one, of each token."""
        returned = [node.value for node in self.nodes if isinstance(node, ast.Return) and node.value is not None]
        return any(map(self.is_loss, returned))

    def is_loss(self, node: ast.AST) -> bool:
        """Whether an expression is a loss of a target, or a probability of one."""
        match node:
            case ast.Name(id=name):
                return name in self.losses
            case ast.Call():
                return self._call_is_loss(node)
            case ast.Subscript(value=value, slice=index):
                of_target = speaks_of_target(index) and (
                    self.is_distribution(value) or _HOLDS.search(ast.unparse(value).lower())
                )
                return self.is_loss(value) or bool(of_target)
            case ast.Attribute(value=value, attr=attr):
                return attr not in ("shape", "dtype", "device") and self.is_loss(value)
        parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [*ast.iter_child_nodes(node)]
        return not isinstance(node, (ast.Compare, ast.Lambda, ast.Dict)) and any(
            self.is_loss(child) for child in parts if isinstance(child, ast.expr)
        )

    def _call_is_loss(self, node: ast.Call) -> bool:
        last = last_word(node)
        given = [*node.args, *(item.value for item in node.keywords)]
        if last in _LOSSES or last in _GATHERS or last in self.told:
            return True
        if last in _NO_LOSSES:
            return last == "get" and any(map(speaks_of_target, node.args[:1]))
        is_model = len(given) > 1 and (_MODEL.search(last) or self._is_model(node))
        if (is_model or _OF_TARGET.search(last)) and any(map(speaks_of_target, given[-2:])):
            return True
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        return (owner is not None and self.is_loss(owner)) or any(map(self.is_loss, given))

    def _is_model(self, node: ast.Call) -> bool:
        """other(x, y): something that is called with what it reads and with what it is to tell."""
        return isinstance(node.func, ast.Name) and [getattr(each, "id", "") for each in node.args[:1]] == ["x"]

    def is_distribution(self, node: ast.AST) -> bool:
        """Whether an expression is a probability of every token."""
        if isinstance(node, ast.Name):
            return node.id in self.distributions
        if isinstance(node, ast.Subscript):
            return self.is_distribution(node.value) and not speaks_of_target(node.slice)
        if isinstance(node, ast.BinOp):
            return isinstance(node.op, ast.Div) and divides_by_its_sum(node)
        last = last_word(node) if isinstance(node, ast.Call) else ""
        if not isinstance(node, ast.Call) or last not in _KEPT or not isinstance(node.func, ast.Attribute):
            return last in _DISTRIBUTIONS
        of_library = getattr(node.func.value, "id", "") in ("torch", "np", "jnp") and bool(node.args)
        return self.is_distribution(node.args[0] if of_library else node.func.value)

    def found(self) -> Iterator[Place]:
        """Choices, each once, of what evaluates; nothing of what only trains."""
        for each in self.nodes:
            is_least = isinstance(each, ast.Call) and last_word(each) in ("min", "sorted")
            if isinstance(each, ast.Call) and is_least and is_of_evaluations(each, self.assigned):
                yield self.script.place(each, f"{ast.unparse(each)[:60]}, of several whole evaluations,")
        if not evaluates(self.unit):
            return
        within, helps = self._in_loops(), not isinstance(self.unit, ast.Module) and self.gives_loss()
        for node in self.nodes:
            if id(node) in within or helps:
                if isinstance(node, ast.expr) and self._chooses(node):
                    yield self.script.place(node, ast.unparse(node)[:60])
                elif isinstance(node, ast.If) and self._sums_either(node):
                    yield self.script.place(node, f"if {ast.unparse(node.test)[:40]}")

    def _in_loops(self) -> set[int]:
        loops = [node for node in self.nodes if isinstance(node, (ast.For, ast.While))]
        return {id(inner) for loop in loops for inner in ast.walk(loop)}

    def _chooses(self, node: ast.expr) -> bool:
        match node:
            case ast.Call():
                is_log = last_word(node) in ("log", "log_", "log2")
                if is_log and any(map(self._exceeds, [getattr(node.func, "value", node), *node.args])):
                    return True
                return self._keeps_least(node) or (self._call_chooses(node) and not self._goes_on(node))
            case ast.IfExp(test=test, body=one, orelse=other):
                return self.compares(test) and self.is_loss(one) and self.is_loss(other) and not self._goes_on(node)
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                return any(self.is_mask(a) and self.is_loss(b) for a, b in ((left, right), (right, left)))
            case ast.Subscript(value=value, slice=index):
                return self.is_mask(index) and self.is_loss(value) and self._is_put(node)
        return False

    def _call_chooses(self, node: ast.Call) -> bool:
        last = last_word(node)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        own = (
            []
            if owner is None or ast.unparse(owner) in ("torch", "np", "numpy", "F", "math", "jnp", "mx")
            else [owner]
        )
        if last == "where":
            args = [*own, *node.args]
            if len(node.args) == 3 and (self._drops(node) or self._is_larger(*node.args)):
                return True
            return any(self.is_mask(each) for each in args) and any(map(self.is_loss, args))
        given = [*own, *node.args]
        if last in _PAIRS and len(given) > 1:
            pair = [each for each in given if self.is_loss(each)]
            if len({ast.unparse(each) for each in pair}) > 1 or (len(given) == 2 and self._rivals(*given)):
                return True
            both = [each for each in given if self.is_distribution(each)]
            if len(both) > 1:
                return not self._is_normalized(node)
        if last in _BOUNDS and own and self.is_loss(own[0]):
            bounds = [*node.args, *(item.value for item in node.keywords)]
            return any(map(self.is_loss, bounds))
        return last in _LEAST and any(map(self._is_stack, [*own, *node.args[:1]]))

    def _is_larger(self, test: ast.expr, one: ast.expr, other: ast.expr) -> bool:
        """np.where(p > q, p, q)"""
        if not isinstance(test, ast.Compare) or len(test.comparators) != 1:
            return False
        compared = {ast.unparse(test.left), ast.unparse(test.comparators[0])}
        return compared == {ast.unparse(one), ast.unparse(other)} and self._rivals(one, other)

    def _rivals(self, one: ast.expr, other: ast.expr) -> bool:
        """Whether of two things one is a loss and the other a probability by its name, which a call gave back."""
        for loss, name in ((one, other), (other, one)):
            if self.is_loss(loss) and isinstance(name, ast.Name) and _HOLDS.search(name.id):
                given = [value for its, value in self.assigned if its == name.id]
                return any(
                    isinstance(each, ast.Call) and last_word(each) not in ("zeros_like", "full") for each in given
                )
        return False

    def _keeps_least(self, node: ast.Call) -> bool:
        """best[part] = torch.minimum(best[part], nll): token by token, of windows or passes that overlap."""
        last, given = last_word(node), [*node.args, *(item.value for item in node.keywords)]
        if not any(map(self._is_of_each, given)):
            return False
        if last in ("scatter_reduce_", "scatter_reduce", "index_reduce_", "index_reduce"):
            return any(isinstance(each, ast.Constant) and each.value in ("amin", "amax") for each in given)
        if last == "at":
            return ast.unparse(node.func).endswith(("minimum.at", "maximum.at", "fmin.at", "fmax.at"))
        if last not in ("minimum", "maximum", "fmin", "fmax"):
            return False
        owner = getattr(node.func, "value", None)
        kept = {ast.unparse(each) for each in (owner, *given) if isinstance(each, (ast.Name, ast.Subscript))}
        puts = [each for each in self.nodes if isinstance(each, ast.Assign) and node in ast.walk(each.value)]
        return any(ast.unparse(target) in kept for each in puts for target in each.targets)

    def _is_of_each(self, node: ast.expr, depth: int = 0) -> bool:
        """Whether an expression is a loss of every token: neither a mean nor a sum."""
        calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
        if any(last_word(each) in _COUNTS - {"log", "float"} for each in calls):
            return False
        apart = (keyword(each, "reduction") for each in calls)
        if any(isinstance(each, ast.Constant) and each.value == "none" for each in apart):
            return True
        if any(last_word(each) in _GATHERS for each in calls):
            return True
        names = read(node) & self.losses if depth < 2 else set()
        return any(self._is_of_each(value, depth + 1) for name, value in self.fresh if name in names)

    def _drops(self, node: ast.Call) -> bool:
        """torch.where(luts[y] <= 1, 0, nll): a loss that is not counted because of its target."""
        test, one, other = node.args
        values = [each for each in (one, other) if isinstance(each, ast.Constant) or last_of(each) == "zeros_like"]
        is_told = any(isinstance(each, ast.expr) and speaks_of_target(each) for each in ast.walk(test))
        return len(values) == 1 and is_told and self.is_loss(other if values[0] is one else one)

    def _exceeds(self, node: ast.expr) -> bool:
        """p + 0.3 * q, of two probabilities: more than one in all."""
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and last_word(node) in _BOUNDS:
            node = node.func.value
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add):
            return False
        shares = []
        for part in (node.left, node.right):
            factors = (
                [part.left, part.right] if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult) else [part]
            )
            numbers = [each.value for each in factors if isinstance(each, ast.Constant)]
            held = [each for each in factors if not isinstance(each, ast.Constant)]
            if len(held) != 1 or not self.is_loss(held[0]) or not all(isinstance(n, (int, float)) for n in numbers):
                return False
            shares.append(float(numbers[0]) if numbers else 1.0)  # type: ignore[arg-type]
        return sum(shares) > 1 + 1e-6

    def _is_stack(self, node: ast.expr) -> bool:
        """Several losses beside each other."""
        match node:
            case ast.Name(id=name):
                given = [value for its, value in self.assigned if its == name]
                return name in self.lists or any(
                    self._is_stack(value) for value in given if not isinstance(value, ast.Name)
                )
            case ast.Call(args=[first, *_]) if last_word(node) in _STACKS:
                return self._is_stack(first)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return len({ast.unparse(each) for each in parts if self.is_loss(each)}) > 1
            case ast.ListComp(elt=element, generators=loops) | ast.GeneratorExp(elt=element, generators=loops):
                over = ast.unparse(loops[0])
                tried = isinstance(loops[0].iter, (ast.Tuple, ast.List))
                return self.is_loss(element) and (
                    tried or bool(re.search(r"model|net|expert|head|state|alpha|weight|temp|cand|lora", over))
                )
            case ast.Call(func=ast.Attribute(value=owner)) if last_word(node) in (
                "reshape",
                "view",
                "float",
                "to",
                "double",
            ):
                return self._is_stack(owner)
        return False

    def compares(self, test: ast.expr) -> bool:
        """Whether a test compares two losses of targets."""
        if isinstance(test, ast.BoolOp):
            return any(map(self.compares, test.values))
        if isinstance(test, ast.UnaryOp):
            return self.compares(test.operand)
        if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
            return False
        return self.is_loss(test.left) and self.is_loss(test.comparators[0])

    def is_mask(self, node: ast.expr) -> bool:
        """What tells, token by token, which of two losses is the better one."""
        match node:
            case ast.Name(id=name):
                return any(
                    self.is_mask(value)
                    for its, value in self.assigned
                    if its == name and not isinstance(value, ast.Name)
                )
            case ast.Call(func=ast.Attribute(value=owner)) if last_word(node) in (
                "float",
                "to",
                "double",
                "long",
                "bool",
                "int",
                "half",
            ):
                return self.is_mask(owner)
            case ast.Call() if last_word(node) in ("lt", "le", "gt", "ge", "less", "greater"):
                own = [node.func.value] if isinstance(node.func, ast.Attribute) else []
                return sum(map(self.is_loss, [*own, *node.args])) > 1
            case ast.BinOp(op=ast.Sub(), left=ast.Constant(), right=other):
                return self.is_mask(other)
            case ast.UnaryOp(operand=other):
                return self.is_mask(other)
        return self.compares(node)

    def _is_put(self, node: ast.Subscript) -> bool:
        """Whether masked losses are taken or set, and not only counted."""
        return not any(
            isinstance(call, ast.Call) and last_word(call) in _COUNTS - {"sum"} and node in ast.walk(call)
            for call in self.nodes
        )

    def _goes_on(self, node: ast.expr) -> bool:
        """Whether a choice is the least of what there was before its loop: best = min(best, loss)."""
        within = self._in_loops()
        anew = {name for name, value in self.fresh if id(value) in within}
        mine = {name for name, value in self.assigned if node in ast.walk(value)}
        return bool((mine & read(node)) - anew)

    def _is_normalized(self, node: ast.Call) -> bool:
        """Whether what the larger of two distributions is put into is made a distribution again."""
        names = {name for name, value in self.assigned if node in ast.walk(value)}
        for each in self.nodes:
            if isinstance(each, ast.Call) and each is not node and _NORMALIZES.search(last_word(each)):
                shared = node in ast.walk(each) or bool(names & read(each))
            elif isinstance(each, (ast.BinOp, ast.AugAssign)) and isinstance(each.op, ast.Div):
                shared = bool(names & read(each)) and ".sum(" in ast.unparse(each)
            else:
                shared = False
            if shared:
                return True
        return False

    def _sums_either(self, node: ast.If) -> bool:
        """if a < b: total += a, else: total += b"""
        if not self.compares(node.test) or not node.orelse:
            return False
        return all(
            any(isinstance(n, ast.AugAssign) and self.is_loss(n.value) for each in body for n in ast.walk(each))
            or any(isinstance(n, ast.Assign) and self.is_loss(n.value) for each in body for n in ast.walk(each))
            for body in (node.body, node.orelse)
        )
