"""Layers that take from later positions without attention: shifts to the left, means over time, centred convolutions.

    x + g * torch.roll(x, -1, dims=1)      x[:, :-1] += x[:, 1:]      nn.Conv1d(d, d, 3, padding=1)

Read off the methods of modules. Only what is mixed with the states that it was taken from is found: targets that are
shifted for a loss, boundaries of documents and statistics of weights are none of it. Axis 1 (or -2) is time, unless
the states were transposed or are queries, keys and values.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from .script import Place, Script, keyword
from .units import Unit, bound, last_of, last_word, layers_of_functions, own_nodes, read

_TIME = (1, -2)
_NO_STATES = re.compile(r"^(?:self|q|k|v|w|weights?|att\w*|scores?|targets?|labels?|y|gates?|probs?|router\w*)$")
_MOVED = re.compile(  # what is no longer (batch, time, channels)
    r"transpose|permute|\.mT\b|\.T\b|rearrange|self\.\w*weight|(?:view|reshape)\(-1|flatten\(|topk|softmax|sigmoid|one_hot"
)
_CUT = re.compile(r"\[\.\.\.,\s*:|\[:,\s*:,\s*:|narrow\(|chomp", re.I)
_TRANSFORMS = {"fft", "ifft", "rfft", "irfft", "hfft", "dct", "hartley", "fft2"}
_DECAYS = re.compile(
    r"decay|log|gate|alpha|beta|^(?:[aAgG]|dt|dA)(?:_|$)|_(?:a|A|g|dt)(?:_|$)"
)  # what a chunk's end is put against
_LENGTHS = r"^(?:T|t|L|seq\w*|ctx\w*|length|n_ctx|block_size)$|\.(?:context\w*|seq_len\w*|block_size|n_ctx|length)$"
_COUNTED = ("one_hot", "float", "long", "int", "to", "abs", "eq", "ne")
_POOLS = {"mean", "sum", "std", "var", "amax", "amin", "logsumexp"}


def takes_from_ahead(scripts: Sequence[Script]) -> Iterator[Place]:
    """Where a layer mixes a position with later ones."""
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.ClassDef) and _is_module(script, node):
                yield from _of_class(script, node)
    for script, function in layers_of_functions(scripts):
        for call in own_nodes(function):
            if isinstance(call, ast.Call) and (why := _why(call, ast.unparse(function))):
                yield script.place(call, why)
        yield from _Layer(script, function).found()


def _is_module(script: Script, node: ast.ClassDef) -> bool:
    forward = any(getattr(item, "name", "").startswith("forward") for item in node.body)
    return forward and any(script.name_of(base).rpartition(".")[2].endswith("Module") for base in node.bases)


def _of_class(script: Script, node: ast.ClassDef) -> Iterator[Place]:
    text = ast.unparse(node)
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and (why := _why(call, text)):
            yield script.place(call, why)
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _Layer(script, item).found()


def _why(call: ast.Call, text: str) -> str:
    """What is wrong with a layer as it is made, '' for nothing."""
    last, both = last_word(call), keyword(call, "bidirectional")
    if last in ("InstanceNorm1d", "instance_norm") and not _is_set(call, "track_running_stats"):
        return f"{ast.unparse(call)[:60]} is over all of time"
    if last in ("layer_norm", "rms_norm", "LayerNorm", "RMSNorm") and any(map(_holds_time, call.args)):
        return f"{ast.unparse(call)[:60]} is over all of time"
    if last == "conv1d" and _is_padded(call) and not _CUT.search(text):
        return f"{ast.unparse(call)[:60]} is centred on its position"
    if last in ("LSTM", "GRU", "RNN") and isinstance(both, ast.Constant) and both.value is True:
        return f"{last}(bidirectional=True) reads from the end as well"
    if last == "Conv1d" and _is_centred(call) and not _CUT.search(text):
        return f"{ast.unparse(call)[:60]} is centred on its position"
    return ""


def _holds_time(size: ast.expr) -> bool:
    """x.shape[1:], (T, D): what is normed over, the sequence among it."""
    parts = size.elts if isinstance(size, (ast.Tuple, ast.List)) else []
    of_time = len(parts) > 1 and re.search(_LENGTHS, ast.unparse(parts[0]))
    return bool(of_time or re.search(r"\b\w+\.(?:shape|size\(\))\[(?:1|-2):\]$", ast.unparse(size)))


def _is_padded(call: ast.Call) -> bool:
    """conv1d(x, w, padding=2)"""
    padding = keyword(call, "padding") or (call.args[4] if len(call.args) > 4 else None)
    return padding is not None and not (isinstance(padding, ast.Constant) and padding.value in (0, "valid"))


def _is_set(call: ast.Call, name: str) -> bool:
    given = keyword(call, name)
    return isinstance(given, ast.Constant) and given.value is True


def _is_centred(call: ast.Call) -> bool:
    """Conv1d(d, d, 3, padding=1), padding="same", padding=k // 2"""
    size = keyword(call, "kernel_size") or (call.args[2] if len(call.args) > 2 else None)
    padding = keyword(call, "padding") or (call.args[4] if len(call.args) > 4 else None)
    if size is None or padding is None or (isinstance(size, ast.Constant) and size.value == 1):
        return False
    if isinstance(size, ast.Constant) and isinstance(padding, ast.Constant):
        n = size.value if isinstance(size.value, int) else 0
        return padding.value == "same" or (n > 1 and padding.value == (n - 1) // 2)
    said = ast.unparse(padding)
    return said == "'same'" or bool(re.match(rf"\(?{re.escape(ast.unparse(size))}(?: - 1\))? // 2$", said))


class _Layer:
    """One method of a module, with the names in it that hold something moved to the left."""

    def __init__(self, script: Script, unit: Unit) -> None:
        self.script, self.nodes = script, [*own_nodes(unit)]
        self.assigned = [pair for node in self.nodes for pair in bound(node)]
        anew = [(name, value) for name, value in self.assigned if not _goes_on(name, value)]
        self.no_states = {name for name, value in anew if _MOVED.search(ast.unparse(value))}
        self.moved: dict[str, set[str]] = {}  # name -> the states that it holds of later positions
        for name, value in self.assigned:
            if name not in read(value) and (taken := self._taken(value)):
                self.moved.setdefault(name, set()).update(taken)

    def found(self) -> Iterator[Place]:
        """Expressions that mix a position with later ones, each statement once."""
        statements = [node for node in self.nodes if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return))]
        for loop in self.nodes:
            if isinstance(loop, ast.For) and (put := _backwards(loop)) is not None:
                yield self.script.place(put, f"{ast.unparse(put)[:70]} goes from the end to the start")
        for node in statements:
            if node.value is not None and (self._mixes(node.value) or self._puts_earlier(node)):
                yield self.script.place(node, f"{ast.unparse(node)[:70]} takes from later positions")

    def _mixes(self, value: ast.expr) -> bool:
        """Whether states stand beside what was taken of their later positions."""
        mixing = [node for node in _states(value) if isinstance(node, (ast.BinOp, ast.Call, ast.List, ast.Tuple))]
        for node in mixing:
            if (isinstance(node, ast.Call) and self._moves(node)) or _is_share(node):
                continue
            parts = [*ast.iter_child_nodes(node)]
            for part in parts:
                others = {name for each in parts if each is not part for name in self._present(each)}
                if self._taken(part) & others:
                    return True
        return False

    def _present(self, node: ast.AST) -> set[str]:
        """The states in an expression as they stand at their own positions."""
        if isinstance(node, ast.expr) and (self._moves(node) or isinstance(node, ast.Compare)):
            return set()
        if isinstance(node, ast.Name):
            return {node.id} - self.moved.keys()
        return {name for child in ast.iter_child_nodes(node) for name in self._present(child)}

    def _taken(self, node: ast.AST) -> set[str]:
        """The states of which an expression holds later positions."""
        if isinstance(node, ast.Compare):
            return set()
        if isinstance(node, ast.Name):
            return self.moved.get(node.id, set())
        source = self._moves(node) if isinstance(node, ast.expr) else None
        if source is not None:
            return {source} if self._is_state(source) else set()
        return {name for child in ast.iter_child_nodes(node) for name in self._taken(child)}

    def _is_state(self, name: str) -> bool:
        return not _NO_STATES.match(name) and name not in self.no_states

    def _moves(self, node: ast.expr) -> str | None:
        """The name of what an expression moves to earlier positions, or spreads over all of them."""
        if isinstance(node, ast.Subscript):
            padded = isinstance(node.value, ast.Call) and last_word(node.value) == "pad"
            return _from_second(node) if padded else _of_the_end(node)
        if not isinstance(node, ast.Call):
            return None
        last, of_library = last_word(node), _is_of_library(node)
        owner = node.args[0] if of_library and node.args else getattr(node.func, "value", None)
        owner = _counted(owner) if last in _POOLS and isinstance(owner, ast.expr) else owner
        if last in ("roll", "flip", *_POOLS) and isinstance(owner, ast.Name):
            return owner.id if self._spreads(node, last, node.args[1:] if of_library else node.args) else None
        if last in _TRANSFORMS and node.args:
            return self._transformed(node)
        head = node.args[:1] if last == "pad" and of_library else []
        if last in ("cat", "concat") and node.args and isinstance(node.args[0], (ast.List, ast.Tuple)):
            axis = keyword(node, "dim") or (node.args[1] if len(node.args) > 1 else None)
            head = node.args[0].elts[:1] if _number(axis) in _TIME else []
        return _from_second(head[0]) if head else None

    def _spreads(self, node: ast.Call, last: str, given: Sequence[ast.expr]) -> bool:
        """x.roll(-1, 1), x.flip(1), x.mean(1, keepdim=True)"""
        if last == "roll":
            return self._rolls_left(node, given)
        if last == "flip":
            return _number(next(iter(given), None) or keyword(node, "dims")) in _TIME
        axis, kept = keyword(node, "dim") or next(iter(given), None), keyword(node, "keepdim")
        return isinstance(kept, ast.Constant) and kept.value is True and _is_time(axis)

    def _transformed(self, node: ast.Call) -> str | None:
        """`x` of fft(fft(x), dim=1): of what is not padded to another length."""
        axis = keyword(node, "dim") or (node.args[2] if len(node.args) > 2 else None)
        size = keyword(node, "n") or (node.args[1] if len(node.args) > 1 else None)
        is_padded = size is not None and not self._is_length(size)
        inner: ast.expr = node.args[0]
        while isinstance(inner, (ast.Call, ast.Attribute)):
            held = inner.func if isinstance(inner, ast.Call) else inner.value
            inner = inner.args[0] if isinstance(inner, ast.Call) and inner.args else held
        return inner.id if _is_time(axis) and not is_padded and isinstance(inner, ast.Name) else None

    def _is_length(self, node: ast.expr) -> bool:
        """x.size(1), or a name that it was given: as long as the sequence is."""
        given = [value for name, value in self.assigned if name == getattr(node, "id", "")] or [node]
        return all(re.fullmatch(r"\w+\.(?:shape(?:\[(?:1|-2)\])?|size\((?:1|-2)?\))", ast.unparse(v)) for v in given)

    def _rolls_left(self, node: ast.Call, given: Sequence[ast.expr]) -> bool:
        shifts, axis = keyword(node, "shifts") or next(iter(given), None), keyword(node, "dims")
        axis = axis or (given[1] if len(given) > 1 else None)
        shift = _number(shifts)
        return shift is not None and shift < 0 and (axis is None or _number(axis) in (*_TIME, -1))

    def _puts_earlier(self, node: ast.Assign | ast.AugAssign | ast.Return) -> bool:
        """x[:, :-1] += g * x[:, 1:]"""
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        )
        to = [each for each in targets if isinstance(each, ast.Subscript) and _part(each) == (None, -1)]
        if not to or node.value is None:
            return False
        taken = filter(None, map(_from_second, _subscripts(node.value)))
        return any(map(self._is_state, taken))


def _counted(node: ast.expr) -> ast.expr:
    """`x` of (x != 1) and of one_hot(x, n), which are summed over time."""
    while isinstance(node, (ast.Compare, ast.Call)):
        if isinstance(node, ast.Call) and last_word(node) not in (
            "one_hot",
            "float",
            "long",
            "int",
            "to",
            "abs",
            "eq",
            "ne",
        ):
            break
        inner = node.left if isinstance(node, ast.Compare) else getattr(node.func, "value", None)
        of_library = isinstance(node, ast.Call) and _is_of_library(node) and bool(node.args)
        inner = node.args[0] if isinstance(node, ast.Call) and of_library else inner
        if not isinstance(inner, ast.expr):
            break
        node = inner
    return node


def _backwards(loop: ast.For) -> ast.Assign | None:
    """for i in range(t - 2, -1, -1): a[:, i] = ... a[:, i + 1] ..."""
    step = loop.iter.args[2] if last_of(loop.iter) == "range" and len(getattr(loop.iter, "args", [])) == 3 else None  # type: ignore[attr-defined]
    over_reversed = last_of(loop.iter) == "reversed"
    if not isinstance(loop.target, ast.Name) or not (over_reversed or (_number(step) or 0) < 0):
        return None
    at, behind = f":, {loop.target.id}]", f":, {loop.target.id} + 1]"
    puts = (node for node in ast.walk(loop) if isinstance(node, ast.Assign))
    return next(
        (n for n in puts if at in ast.unparse(n.targets[0]).replace("(", "") and behind in ast.unparse(n.value)), None
    )


def _goes_on(name: str, value: ast.expr) -> bool:
    """h = h * sigmoid(...): states as they were."""
    factors = [value.left, value.right] if isinstance(value, ast.BinOp) else []
    return any(isinstance(each, ast.Name) and each.id == name for each in factors)


def _is_of_library(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("torch", "F")


def _is_time(axis: ast.AST | None) -> bool:
    """dim=1, dim=(1, 2), dim=-2"""
    if isinstance(axis, (ast.Tuple, ast.List)) and len(axis.elts) > 1:
        numbers = {_number(each) for each in axis.elts}
        return 1 in numbers and numbers <= {1, 2, -1}
    return _number(axis) in _TIME


def _is_share(node: ast.AST) -> bool:
    """w / w.sum(dim=1, keepdim=True)"""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and last_of(node.right) == "sum"


def _states(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression that are states, and not losses or tests."""
    if isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and re.search("loss|entropy", last_word(node))):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _states(child)


def _subscripts(node: ast.AST) -> Iterator[ast.expr]:
    yield from (each for each in _states(node) if isinstance(each, ast.Subscript))


def _of_the_end(node: ast.Subscript) -> str | None:
    """`x` of x[:, -1:], which stands against every position; not of what decays up to a chunk's end."""
    held = node.value.id if isinstance(node.value, ast.Name) else ""
    axes = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
    of_channels = len(axes) == 2 and isinstance(axes[0], ast.Constant)  # x[..., -1:]
    is_last = _part(node) == (-1, None) and not of_channels
    return held if held and is_last and not _DECAYS.search(held) else None


def _from_second(node: ast.expr) -> str | None:
    """`x` of x[:, 1:], and of pad(x, (0, 1))[:, 1:]"""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call) and last_word(node.value) == "pad":
        first = node.value.args[0] if node.value.args else None
        return first.id if isinstance(first, ast.Name) and _part(node) == (1, None) else None
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and _part(node) == (1, None):
        return node.value.id
    return None


def _part(node: ast.Subscript) -> tuple[int | None, int | None] | None:
    """(1, None) of x[:, 1:], (None, -1) of x[:, :-1], on the axis of time."""
    axes = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
    if len(axes) < 2 or not isinstance(axes[1], ast.Slice):
        return None
    first, second = axes[0], axes[1]
    whole = isinstance(first, ast.Slice) and first.lower is None and first.upper is None
    is_first = whole or (isinstance(first, ast.Constant) and first.value is Ellipsis)
    return (_number(second.lower), _number(second.upper)) if is_first else None


def _number(node: ast.AST | None) -> int | None:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
        case ast.Tuple(elts=[only]) | ast.List(elts=[only]):
            return _number(only)
    return None
