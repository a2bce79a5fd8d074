"""Mixtures of predictions whose probabilities add up to more than one, or whose shares the target itself has chosen.

    torch.logaddexp(lp_model, lp_cache)       torch.where(guess == y, bonus, nll)      logsumexp(cat([lp_y, top]), -1)
    full.masked_fill(group != group[y], -inf)      w = softmax(-nll_of_each); p = w[0] * p + w[1] * q
    min(evaluate(t) for t in grid)      minimize_scalar(lambda t: evaluate(t))

Legal, and left alone: shares that sum to one, a bonus that every miss pays for, two factors of one probability,
shares that follow the losses of earlier rounds. Names are followed within a function.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from .better import Losses, divides_by_its_sum
from .launch import NO_LAUNCH, Launch
from .script import Place, Script
from .text_flow import holders
from .text_names import names_evaluated
from .units import Unit, evaluates, last_of, last_word, own_nodes, read

_TARGET = re.compile(r"^(?:y\w?|tgts?|targets?|labels?|golds?|truth|actual|nxt|next\w*|(?:y|tgt|targets?)_\w+)$")
_SAME = ("squeeze", "float", "double", "view", "reshape", "to", "exp", "log", "unsqueeze", "flatten", "contiguous")
_SUMS = ("logsumexp", "softmax", "log_softmax", "cross_entropy")
_GRIDS = ("linspace", "arange", "logspace", "product")
_ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_CHOSEN = "has a share that its target has chosen"
_MINIMIZERS = (
    "minimize", "minimize_scalar", "brute", "differential_evolution", "dual_annealing", "basinhopping", "fmin",
    "brent", "golden", "optimize", "fminbound", "shgo", "direct", "gp_minimize", "forest_minimize",
)  # fmt: skip


def shares_beyond_one(scripts: Sequence[Script], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """Each place once."""
    evaluators = _evaluators(scripts, given)
    for script in scripts:
        for unit in script.nodes:
            if isinstance(unit, Unit) and not isinstance(unit, ast.Module) and evaluates(unit):
                mixture = _Mixture(script, unit)
                for node in mixture.nodes:
                    if why := mixture.why(node):
                        yield script.place(node, f"{ast.unparse(getattr(node, 'test', node))[:60]} {why}")
        for node in script.nodes:
            if isinstance(node, ast.Call) and _minimizes(script, node, evaluators):
                yield script.place(node, f"{ast.unparse(node)[:60]}: the best of several whole evaluations")
            elif isinstance(node, ast.For) and _tries(node, evaluators):
                over = f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)[:40]}"
                yield script.place(node, f"{over}: the best of several whole evaluations")


class _Mixture:
    """One function that evaluates."""

    def __init__(self, script: Script, unit: Unit) -> None:
        self.losses = Losses(script, unit, frozenset())
        self.nodes = self.losses.nodes
        self.lowered = {
            id(node.left) for node in self.nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)
        }
        self.adds_two = any(
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Add)
            and self.losses.is_loss(node.left)
            and self.losses.is_loss(node.right)
            for node in self.nodes
        )
        self.chosen = {*self._chosen_now(), *self._gated()}

    def why(self, node: ast.AST) -> str:
        """What is wrong with a node, '' for nothing."""
        match node:
            case ast.Call():
                return self._of_call(node)
            case ast.BinOp(op=ast.Add(), left=left, right=right) if self._is_larger(left, right):
                return "is the larger of two probabilities of the target"
            case ast.Assign(targets=[ast.Subscript(value=held, slice=index)]) if self._is_hit(index):
                return self._rewards([held])
            case ast.If(test=test, orelse=[_, *_]) if self._is_hit(test):
                added = [each.value for each in ast.walk(node) if isinstance(each, ast.AugAssign)]
                return self._rewards(added)
        return _CHOSEN if id(node) in self.chosen else ""

    def _of_call(self, call: ast.Call) -> str:
        last = last_word(call)
        if self._adds_up(call) and not self._is_lowered(call):
            return "adds two whole distributions up"
        if last == "where" and call.args and self._is_hit(call.args[0]):
            return self._rewards(call.args[1:])
        if last in _SUMS and any(map(self._has_target, self._whole(call))):
            return "sums over the target and some others alone"
        if last in _SUMS and any(map(self._follows_hit, self._whole(call))):
            return "is of logits that a hit has changed"
        if self._narrows(call) and not self.adds_two:
            return "leaves only what the target tells"
        return _CHOSEN if id(call) in self.chosen else ""

    def _is_larger(self, one: ast.expr, more: ast.expr) -> bool:
        """p + relu(q - p)"""
        if last_of(more) not in ("relu", "clamp", "clamp_min", "relu_") or not self.losses.is_loss(more):
            return False
        held = ast.unparse(one)
        return any(
            isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub) and ast.unparse(each.right) == held
            for each in ast.walk(more)
        )

    def _rewards(self, given: Sequence[ast.expr]) -> str:
        plain = [each for each in given if self.losses.is_loss(each) and self._is_plain(each)]
        return "rewards a hit and no miss pays for it" if plain else ""

    def _adds_up(self, call: ast.Call) -> bool:
        """logaddexp(a, b), logsumexp(stack([a, b]), 0): of what has no weights."""
        parts: Sequence[ast.expr] = []
        if last_word(call) == "logaddexp":
            of_library = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
            owner = [call.func.value] if isinstance(call.func, ast.Attribute) and len(call.args) == 1 else []
            parts = [*owner, *call.args] if owner or of_library else []
        elif last_word(call) == "logsumexp" and call.args and last_of(call.args[0]) == "stack":
            inner = call.args[0]
            listed = inner.args[0] if isinstance(inner, ast.Call) and inner.args else None
            parts = listed.elts if isinstance(listed, (ast.List, ast.Tuple)) else []
        return len(parts) > 1 and all(self._is_told(each) and self._is_plain(each) for each in parts)

    def _is_told(self, node: ast.expr) -> bool:
        return self.losses.is_distribution(node) or self.losses.is_loss(node)

    def _is_lowered(self, call: ast.Call) -> bool:
        """logaddexp(a, b) - log(2), there or where it is used, or made a distribution again."""
        names = {name for name, value in self.losses.assigned if call in ast.walk(value)}
        used = [
            node
            for node in self.nodes
            if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Sub, ast.Div)) and names & read(node.left)
        ]
        return id(call) in self.lowered or bool(used) or self.losses._is_normalized(call)

    def _is_plain(self, node: ast.expr, depth: int = 0) -> bool:
        """Whether a prediction is one as it came, and nothing was added to it or taken off."""
        match node:
            case ast.Name(id=name):
                given = [value for its, value in self.losses.assigned if its == name]
                given = [value for value in given if name not in read(value)]
                return bool(given) and depth < 4 and all(self._is_plain(each, depth + 1) for each in given)
            case ast.UnaryOp(operand=inner) | ast.Subscript(value=inner):
                return self._is_plain(inner, depth)
            case ast.BinOp(op=ast.Div()):
                return divides_by_its_sum(node)
            case ast.Call(func=ast.Attribute(value=owner)) if last_word(node) in (*_SAME, "gather"):
                of_library = isinstance(owner, ast.Name) and owner.id in ("torch", "np", "F", "jnp")
                return self._is_plain(node.args[0] if of_library and node.args else owner, depth)
            case ast.Call():
                return last_word(node) in ("cross_entropy", "nll_loss", "log_softmax", "softmax")
        return False

    def _is_hit(self, test: ast.expr) -> bool:
        """guess == y: whether something that was predicted is the target, token by token."""
        if isinstance(test, ast.Name):
            given = [value for name, value in self.losses.assigned if name == test.id]
            return any(self._is_hit(each) for each in given if not isinstance(each, ast.Name))
        if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq):
            return False
        sides = [test.left, *test.comparators]
        return any(map(_names_target, sides)) and not any(
            isinstance(side, (ast.Constant, ast.Attribute)) or re.search(r"pad|bos|eos|_id\b", ast.unparse(side))
            for side in sides
        )

    def _whole(self, call: ast.Call) -> Iterator[ast.expr]:
        """What is summed over, and what its name was given."""
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        of_library = isinstance(owner, ast.Name) and owner.id in ("torch", "F", "np", "jnp")
        held = call.args[0] if call.args and (of_library or owner is None) else owner
        if held is not None:
            yield held
        if isinstance(held, ast.Name):
            yield from (value for name, value in self.losses.assigned if name == held.id)

    def _has_target(self, node: ast.expr) -> bool:
        """cat([logit_of_target, others])"""
        first = (
            node.args[0]
            if isinstance(node, ast.Call) and last_word(node) in ("cat", "concat") and node.args
            else None
        )
        parts = first.elts if isinstance(first, (ast.List, ast.Tuple)) else []
        told = [self.losses.is_loss(each) and not self.losses.is_distribution(each) for each in parts]
        return any(told) and not all(told)

    def _follows_hit(self, node: ast.expr) -> bool:
        """z * where(guess == y, 1.4, 0.9): logits times or plus what only the target tells."""
        for each in ast.walk(node):
            parts = [each.left, each.right] if isinstance(each, ast.BinOp) else []
            for part in parts:
                calls = [inner for inner in ast.walk(part) if isinstance(inner, ast.Call) and inner.args]
                if any(last_word(inner) == "where" and self._is_hit(inner.args[0]) for inner in calls):
                    return True
        return False

    def _narrows(self, call: ast.Call) -> bool:
        """full.masked_fill(group != group[y], -inf)"""
        if last_word(call) not in ("masked_fill", "masked_fill_", "where") or "inf" not in ast.unparse(call):
            return False
        test = call.args[0] if call.args else None
        return test is not None and any(_names_target(each) for each in ast.walk(test) if isinstance(each, ast.expr))

    def _chosen_now(self) -> Iterator[int]:
        """Ids of mixtures in a loop whose share was computed, in the same round, of losses of these targets."""
        for loop in self.nodes:
            inside = [*ast.walk(loop)] if isinstance(loop, (ast.For, ast.While)) else []
            shares = {
                target.id: node.lineno
                for node in inside
                if isinstance(node, ast.Assign) and self._is_share(node.value)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            mixtures = [n.value for n in inside if isinstance(n, ast.Assign) and self._mixes(n.value)]
            for value in mixtures if shares else []:
                if any(name in read(value) and line < value.lineno for name, line in shares.items()):
                    yield id(value)

    def _gated(self) -> Iterator[int]:
        """Ids of products of a probability and a share that hangs on how likely its own target is."""
        gates = {name for name, value in self.losses.assigned if self._is_gate(value)}
        for _ in range(2):
            held = ((name, read(value)) for name, value in self.losses.assigned)
            gates |= {name for name, names in held if names & gates and names <= gates | {"torch", "np"}}
        for node in self.nodes if gates else []:
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                pairs = ((node.left, node.right), (node.right, node.left))
                if any(read(share) & gates and self.losses.is_loss(held) for share, held in pairs):
                    yield id(node)

    def _is_gate(self, node: ast.expr) -> bool:
        """torch.where(p_of_target > 0.9, 0.2, 0.95), (p_of_target > 0.9).float(): one of two shares."""
        if not isinstance(node, ast.Call):
            return False
        last = last_word(node)
        if last == "where":
            numbers = all(isinstance(each, ast.Constant) for each in node.args[1:])
            return len(node.args) == 3 and numbers and self._asks_target(node.args[0])
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        return owner is not None and last in ("float", "double", "to", "half") and self._asks_target(owner)

    def _asks_target(self, test: ast.expr) -> bool:
        """Whether a test compares a loss of the target with a bound."""
        if isinstance(test, ast.Name):
            given = [value for name, value in self.losses.assigned if name == test.id]
            return any(self._asks_target(each) for each in given if not isinstance(each, ast.Name))
        if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], _ORDERS):
            return False
        sides = [test.left, *test.comparators]
        return any(map(self.losses.is_loss, sides)) and any(isinstance(side, ast.Constant) for side in sides)

    def _is_share(self, node: ast.expr) -> bool:
        """softmax(-losses), sigmoid(a - b): of losses in the same function."""
        if not isinstance(node, ast.Call) or last_word(node) not in ("softmax", "sigmoid"):
            return False
        given = node.args[0] if node.args else None
        return given is not None and self.losses.is_loss(given)

    def _mixes(self, node: ast.expr) -> bool:
        return isinstance(node, (ast.BinOp, ast.Call)) and any(
            self.losses.is_distribution(each) for each in ast.walk(node) if isinstance(each, ast.expr)
        )


def _names_target(node: ast.expr) -> bool:
    """y, nxt.flatten(), targets[:, None]"""
    while isinstance(node, (ast.Subscript, ast.Call)):
        node = node.value if isinstance(node, ast.Subscript) else getattr(node.func, "value", ast.Constant(0))
    return isinstance(node, ast.Name) and bool(_TARGET.match(node.id))


def _evaluators(scripts: Sequence[Script], given: Launch) -> frozenset[str]:
    """The functions and methods that go through evaluated text and give back what they found."""
    held = {name for _, name in holders(tuple(scripts), given)}
    found = set[str]()
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.FunctionDef) and evaluates(node):
                inner = [*own_nodes(node)]
                loops = any(isinstance(each, (ast.For, ast.While)) for each in inner)
                returns = any(isinstance(each, ast.Return) and each.value is not None for each in inner)
                names = {getattr(each, "attr", getattr(each, "id", "")) for each in ast.walk(node)}
                of_text = any(isinstance(n, str) and (n in held or names_evaluated(n)) for n in names if n)
                found |= {node.name} if loops and returns and of_text and "backward" not in names else set()
    return frozenset(found - {"forward", "__call__", "main"})


def _minimizes(script: Script, call: ast.Call, evaluators: frozenset[str]) -> bool:
    """Whether a call gives back the best of several evaluations of the text."""
    last = last_word(call)
    if last in ("min", "sorted", "argmin"):
        over = [each for each in call.args[:1] if isinstance(each, (ast.GeneratorExp, ast.ListComp))]
        return any(
            last_of(each) in evaluators for part in over for each in ast.walk(part.elt) if isinstance(each, ast.Call)
        )
    if last not in _MINIMIZERS:
        return False
    tried: list[ast.AST] = [each for each in call.args[:1] if isinstance(each, ast.Lambda)]
    tried += [script.functions[each.id] for each in call.args[:1] if getattr(each, "id", "") in script.functions]  # type: ignore[attr-defined]
    return any(_calls(part, evaluators) for part in tried)


def _tries(loop: ast.For, evaluators: frozenset[str]) -> bool:
    """for t in (0.9, 1.0): now = evaluate(t); if now < best: best = now"""
    is_grid = isinstance(loop.iter, (ast.Tuple, ast.List)) or last_of(loop.iter) in _GRIDS
    if not is_grid or not _calls(loop, evaluators):
        return False
    tests = (node for node in ast.walk(loop) if isinstance(node, ast.If))
    kept = (each for test in tests if _compares(test.test) for each in test.body)
    return any(isinstance(each, ast.Assign) for each in kept)


def _compares(test: ast.expr) -> bool:
    return any(isinstance(each, ast.Compare) and isinstance(each.ops[0], _ORDERS) for each in ast.walk(test))


def _calls(node: ast.AST, evaluators: frozenset[str]) -> bool:
    return any(isinstance(each, ast.Call) and last_word(each) in evaluators for each in ast.walk(node))
