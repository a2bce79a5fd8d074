"""Which shards of a folder a loop or a comprehension goes through: by what tests their names.

    [f for f in os.listdir(d) if f.startswith(f"fineweb_{split}_")]      for f in d.glob("*.bin")

A test may ask a variable; what it stands for is told by whoever walks the script. Where that is not known, nothing
is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from .text_names import SPLITS, names_training

UNKNOWN = "\0"  # a text that nobody knows
_LISTED = {"iterdir", "listdir", "scandir", "walk"}  # what goes through the files of a folder
_GLOBS = ("glob", "iglob", "rglob")
_ASKS = {"startswith", "endswith", "fnmatch", "match", "search", "count", "find"}
Told = Callable[[ast.expr], str | None]


def selects(test: ast.expr, told: Told) -> bool:
    """Whether a condition keeps the files of the validation split."""
    return not _denies(test) and any(map(_is_of_split, _texts(test, told)))


def leaves_out(test: ast.expr, told: Told) -> bool:
    """Whether a condition keeps the files of the validation split out: by their name, or by that of training."""
    return any(map(_is_of_split if _denies(test) else names_training, _texts(test, told)))


def lists_every_shard(listed: Sequence[ast.expr], tests: Sequence[ast.AST], told: Told) -> bool:
    """Whether all shards of a folder are gone through, those of the validation split among them."""
    nodes = [node for each in listed for node in ast.walk(each)]
    if not any(getattr(node, "attr", "") in _LISTED or _globs_shards(node, told) for node in nodes):
        return False
    texts = [text for test in tests for text in _texts(test, told)]
    is_of_shards = ".bin" in texts or any(_globs_shards(node, told) for node in nodes)
    return is_of_shards and not any(UNKNOWN in text or "train" in text or "val" in text for text in texts)


def _globs_shards(node: ast.AST, told: Told) -> bool:
    """glob("data/*.bin"), whose pattern takes every split."""
    if not isinstance(node, ast.Call) or getattr(node.func, "attr", getattr(node.func, "id", "")) not in _GLOBS:
        return False
    return any(text.rpartition("/")[2] == "*.bin" for text in _texts(node, told))


def _denies(test: ast.expr) -> bool:
    is_not = isinstance(test, ast.Compare) and isinstance(test.ops[0], (ast.NotIn, ast.NotEq))
    return is_not or isinstance(test, ast.UnaryOp)


def _is_of_split(text: str) -> bool:
    return text.strip("_") in SPLITS or "fineweb_val" in text


def _texts(node: ast.AST, told: Told) -> Iterator[str]:
    """Texts that stand in an expression, those of f-strings and of variables that files' names are compared with."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(_part(part, told) for part in parts)
        case ast.BinOp(op=ast.Add(), left=ast.Constant(value=str(text)), right=right):
            yield text + _part(right, told)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()]):
            yield from _asked([left], told)
            yield from (text for each in node.comparators for text in _texts(each, told))
        case ast.Call(func=ast.Attribute(attr=asks), args=args) if asks in _ASKS:
            yield from _asked(args[-1:], told)
            yield from (text for each in (node.func, *args[:-1]) for text in _texts(each, told))
        case _:
            yield from (text for child in ast.iter_child_nodes(node) for text in _texts(child, told))


def _asked(nodes: Sequence[ast.expr], told: Told) -> Iterator[str]:
    """What files' names are compared with."""
    for node in nodes:
        if isinstance(node, (ast.Name, ast.Attribute)):
            yield UNKNOWN if (text := told(node)) is None else text
        else:
            yield from _texts(node, told)


def _part(node: ast.expr, told: Told) -> str:
    if isinstance(node, ast.FormattedValue):
        node = node.value
    if isinstance(node, ast.Constant):
        return str(node.value)
    return UNKNOWN if (text := told(node)) is None else text
