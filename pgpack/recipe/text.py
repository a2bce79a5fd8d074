"""The grammar of a recipe's one-line form.

    recipe     = item (";" item)*
    item       = selector "=" stages | directive
    directive  = "@container=" container ("|" byte-codec)* | "@calib=" tokens | "@order=" mlp
                 | "@drift=" layers | "@tune=" steps | "@compensate=" weights
    selector   = term ("&" term)*        term = GLOB | role:NAME | numel<=N | numel>N | ndim<=N | ndim>N
    stages     = transform* quantizer symbol-transform* [coder] byte-codec*, joined by "|"
    stage      = NAME [ "(" KEY "=" VALUE ("," KEY "=" VALUE)* ")" ]

For example:

    tok_emb.*=gptq(bits=8,clip=20)|brotli; ndim<=1=cast|raw|shuffle|brotli; *=gptq(clip=12.85)|rans

A missing coder means `raw`. White space around items and stages is free. An error names the fault with a caret.
"""

from __future__ import annotations

import re
from typing import Any

from pgpack.codecs import BYTE_CODECS, CODERS
from pgpack.errors import RecipeError
from pgpack.formats.containers import CONTAINERS
from pgpack.stages import Fault, parse_stage

from .policy import DIRECTIVES, KINDS, STAGES, Coding, Rule, TensorPolicy
from .selector import Selector

_RANK = {name: rank for rank, (_, table) in enumerate(KINDS) for name in table.built_in}


def parsed(text: str) -> tuple[tuple[Rule, ...], dict[str, Any]]:
    """The rules and the directives, by field of `Recipe`. Raises: Fault (a RecipeError) pointing into `text`."""
    rules: list[Rule] = []
    directives: dict[str, Any] = {}
    for item, position in _split(text, ";", 0):
        if not item.strip():
            continue
        start = position + len(item) - len(item.lstrip())
        if item.lstrip().startswith("@"):
            _parse_directive(item, position, start, directives)
        else:
            rules.append(_parse_rule(item, position, start))
    if not rules:
        raise Fault("a recipe needs at least one rule, for example *=rtn(bits=8)|brotli", 0)
    return tuple(rules), directives


def _split(text: str, separator: str, position: int) -> list[tuple[str, int]]:
    """Pieces of `text` between separators, each with its position in the whole."""
    pieces = []
    for piece in text.split(separator):
        pieces.append((piece, position))
        position += len(piece) + 1
    return pieces


def _parse_directive(item: str, position: int, start: int, directives: dict[str, Any]) -> None:
    name, equals, value = item.strip().partition("=")
    if (name[1:] not in DIRECTIVES and name != "@container") or not equals:
        known = ", ".join(f"@{each}=" for each in ("container", *DIRECTIVES))
        raise Fault(f"unknown directive {name!r}; directives are {known}", start)
    if name[1:] in directives:
        raise Fault(f"{name} is given twice", start)
    value_at = position + item.index("=") + 1
    if name == "@container":
        first, *codecs = _split(value, "|", value_at)
        directives["container"] = parse_stage(first[0], CONTAINERS, first[1])
        directives["container_codecs"] = tuple(parse_stage(piece, BYTE_CODECS, at) for piece, at in codecs)
    else:
        directives[name[1:]] = parse_stage(value, DIRECTIVES[name[1:]], value_at)


def _selector_end(item: str) -> int:
    """Index of the '=' that ends the selector: the first one that is not part of '<='."""
    for index, character in enumerate(item):
        if character == "=" and item[index - 1 : index] != "<":
            return index
    return -1


def _parse_rule(item: str, position: int, start: int) -> Rule:
    end = _selector_end(item)
    head, chain = item[:end].strip(), item[end + 1 :].strip()
    if end < 0 or not head or not chain or chain[0] in "=>" or set("(|") & set(head):
        raise Fault(_no_rule(item.strip()), start)
    try:
        selector = Selector(head)
    except RecipeError as error:
        raise Fault(str(error), start) from None
    return Rule(selector, _parse_policy(item[end + 1 :], position + end + 1))


_LIKE_A_RULE = re.compile(r"(.*?)\s*(?:={2,}|:=|=>|->|(?<!<)=|:|\s|^)\s*((\w+)\s*(?:[(|].*)?)")


def _no_rule(item: str) -> str:
    """What is wrong with an item that is no selector, '=' and chain, and what may have been meant."""
    head = "a rule is SELECTOR=PIPELINE"
    found = _LIKE_A_RULE.fullmatch(item)
    if found and (found[3] in STAGES or set("(|") & set(item)):
        meant = f"{found[1] or '*'}={found[2]}"
        try:
            Selector(found[1] or "*")
            _parse_policy(found[2], 0)
        except RecipeError as error:
            return f"{head}; in {meant!r}: {str(error).partition(chr(10))[0]}"
        return f"{head}; did you mean {meant!r}?"
    selector = item.rstrip("=:->").strip() or "*"
    return f"{head}; write what is done to {selector!r}, such as {f'{selector}=gptq(bits=6)|rans'!r}"


def _parse_policy(text: str, position: int) -> TensorPolicy:
    slots: dict[int, list[Any]] = {rank: [] for rank in range(len(KINDS))}
    reached = 0
    for piece, at in _split(text, "|", position):
        stage = parse_stage(piece, STAGES, at)
        rank = _rank(STAGES.name_of(stage))
        here = at + len(piece) - len(piece.lstrip())
        if rank < reached:
            order = " -> ".join(kind for kind, _ in KINDS)
            raise Fault(f"a {KINDS[rank][0]} cannot follow a {KINDS[reached][0]}; the order is {order}", here)
        if rank in (1, 3) and slots[rank]:
            raise Fault(f"a chain has one {KINDS[rank][0]} only", here)
        reached = rank
        slots[rank].append(stage)
    if not slots[1]:
        raise Fault("the chain has no quantizer, for example cast(dtype=fp16) or rtn(bits=8)", position)
    coder = slots[3][0] if slots[3] else CODERS["raw"]()
    coding = Coding(tuple(slots[2]), coder, tuple(slots[4]))
    return TensorPolicy(tuple(slots[0]), slots[1][0], coding)


def _rank(name: str) -> int:
    """Which kind a stage is of; other packages are asked only about names that are not ours."""
    return _RANK[name] if name in _RANK else next(rank for rank, (_, table) in enumerate(KINDS) if name in table)
