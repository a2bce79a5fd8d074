"""What an evaluation's arithmetic is made of: operators, functions of Python, and what nobody knows."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RANKS = {
    "grad_accum_steps": 8, "grad_accum": 8, "accum_steps": 8, "rank": 0, "local_rank": 0, "ddp_rank": 0,
    "world_size": 1, "ddp_world_size": 1, "world": 1,
}  # fmt: skip
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Div: operator.truediv, ast.Pow: operator.pow, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Is: operator.is_,
    ast.IsNot: operator.is_not, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min, "max": max, "len": len, "range": range, "int": int, "float": float, "abs": abs, "sum": sum,
    "list": list, "tuple": tuple, "enumerate": lambda it, start=0: list(enumerate(it, start)), "round": round,
    "zip": lambda *its: list(zip(*its, strict=False)), "reversed": lambda it: list(reversed(it)), "sorted": sorted,
    "set": set, "bool": bool, "str": str, "divmod": divmod, "ceil": math.ceil, "floor": math.floor, "any": any,
    "all": all, "islice": lambda it, *n: list(it)[slice(*n)],
}  # fmt: skip


class Unknown:
    """What nobody knows."""

    def __bool__(self) -> bool:
        raise TypeError("unknown")


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Cap:
    """A bound that does not grow with the text: what it bounds has `size` here, and more in the whole text."""

    node: ast.AST
    bound: int
    size: int


class Unsure(Exception):
    """The interpreter gives up."""


class Stop(Exception):
    """A loop or a function ends; `value`: what is returned."""

    def __init__(self, kind: str, value: Any = None) -> None:
        super().__init__(kind)
        self.kind, self.value = kind, value


DRAWN = ("randperm", "permutation", "sample", "choices", "choice")  # in any order: how many there are counts


def drawn(args: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """What `random.sample(range(n), k)` and its like draw, as many as they do, or UNKNOWN."""
    if not args or not isinstance(args[0], (int, range, list)) or isinstance(args[0], bool):
        return UNKNOWN
    whole = list(range(args[0])) if isinstance(args[0], int) else list(args[0])
    count = args[1] if len(args) > 1 else named.get("k", named.get("size"))
    return whole[:count] if isinstance(count, int) else whole
