"""Bits per byte by a number of bytes per token that is written down, where an evaluation must count its bytes.

    val_bpb = val_loss / math.log(2) / 4.35

Left alone are bytes as tokens, units, and what only training prints.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Sequence

from .altered import factors_of
from .script import Place, Script
from .units import Unit, own_nodes

RATIOS = (1.5, 8.0)  # bytes per token of any vocabulary of the field
_LN2 = re.compile(r"^(?:(?:math|np|numpy|torch)\.)?log\(2(?:\.0?)?\)$|^(?:\w+\.)?(?:LN_?2|LOG_?2)$|^0\.693\d*$", re.I)
_EVALUATED = re.compile(r"(?:^|[._])(?:val|valid|eval|test|final|quant\w*|ttt|sliding)(?:[._]|$)")
_SCORES = re.compile(r"eval|score|valid|test|ttt|sliding")
_COUNTED = re.compile(r"byte|octet|char|lut", re.I)


def ratios_written_down(scripts: Sequence[Script]) -> Iterator[Place]:
    """Each place once."""
    for script in scripts:
        for unit in script.nodes:
            if isinstance(unit, Unit):
                yield from _found(script, unit)


def _found(script: Script, unit: Unit) -> Iterator[Place]:
    named = bool(_SCORES.search(getattr(unit, "name", "").lower()))
    inner = set[int]()
    for node in own_nodes(unit):
        if not isinstance(node, ast.BinOp) or id(node) in inner or not isinstance(node.op, (ast.Mult, ast.Div)):
            continue
        inner |= {id(each) for each in ast.walk(node)}
        factors = [*factors_of(node)]
        texts = [ast.unparse(each) for each, _ in factors]
        in_bits = any(power < 0 and _LN2.match(text) for (_, power), text in zip(factors, texts, strict=True))
        fixed = [_is_ratio(script, each, power) for each, power in factors]
        counted = any(_COUNTED.search(text) for text, is_fixed in zip(texts, fixed, strict=True) if not is_fixed)
        of_text = in_bits and (named or any(map(_EVALUATED.search, texts)))
        if of_text and any(fixed) and not counted:
            yield script.place(node, f"{ast.unparse(node)[:60]} counts no bytes: their number is written down")


def _is_ratio(script: Script, node: ast.expr, power: int) -> bool:
    name = getattr(node, "attr", getattr(node, "id", None))
    given = [node] if name is None else script.values.get(name, [])
    numbers = [each.value for each in given if isinstance(each, ast.Constant)]
    if not given or len(numbers) < len(given):
        return False
    return all(
        isinstance(n, (int, float)) and n and not math.isclose(n, 2) and RATIOS[0] <= n**-power <= RATIOS[1]
        for n in numbers
    )
