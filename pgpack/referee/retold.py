"""Evaluated text that is not the challenge's, and bytes of it that are counted in another alphabet.

    sp.encode(sp.decode(val_tokens).lower())    val_files = "fineweb_train_000079.bin"    len(piece.encode("utf-16"))

What is scored is read off names and paths of a script; text that is written anew for training is left alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from .script import Place, Script
from .text_names import names_evaluated
from .units import Unit, bound, last_of, last_word, own_nodes, read

_ENCODES = ("encode", "encode_as_ids", "EncodeAsIds", "encode_ordinary", "tokenize", "encode_batch")
_REWRITES = re.compile(
    r"\.(?:lower|upper|casefold|title|translate|strip|replace|swapcase)\(|normalize\(|\bsub\(|unidecode|"
    r"ftfy|' '\.join\("
)
_DECODES = re.compile(r"\b(?:decode|decode_ids|DecodeIds|detokenize)\(")
_WIDE = re.compile(r"utf[-_]?(?:16|32)|ucs[-_]?[24]", re.I)
_BYTES = re.compile(r"(?:^|[._])(?:n_?|num_|val_|text_|total_|token_)?(?:bytes?|octets)(?:_(?:sum|count|total))?$")
_BITS = re.compile(r"log\(2|ln_?2|bits|0\.693", re.I)
MORE = 1.5  # times as many bytes: above, it is another unit
DEPTH = 4


def retold_text(scripts: Sequence[Script]) -> Iterator[Place]:
    """Where a script scores another text than the challenge's, or counts other bytes of it."""
    of_validation = any(b"fineweb_val" in script.text or b"_val_" in script.text for script in scripts)
    for script in scripts:
        if not of_validation:
            yield from _training_files(script)
        for unit in script.nodes:
            if isinstance(unit, Unit):
                yield from _rewritten(script, unit)
        for node in script.nodes:
            if isinstance(node, ast.Call) and last_word(node) == "len" and node.args and _is_wide(node.args[0]):
                yield script.place(node, f"{ast.unparse(node)[:60]} counts two or four bytes for one")
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _spaces_twice(node):
                yield script.place(node, f"{ast.unparse(node)[:60]} counts a space that is there already")
            elif isinstance(node, ast.BinOp) and _adds_bytes(node):
                yield script.place(node, f"{ast.unparse(node)[:60]} counts bytes that no piece has")
            elif isinstance(node, (ast.AugAssign, ast.Assign)) and _counts_more(script, node):
                yield script.place(node, f"{ast.unparse(node)[:60]} makes the bytes more than they are")
            elif isinstance(node, ast.Assign) and _keeps_its_space(script, node):
                yield script.place(
                    node, f"{ast.unparse(node)[:60]} counts the mark of a space, which is counted apart"
                )


def _training_files(script: Script) -> Iterator[Place]:
    """val_files = "fineweb_train_000079.bin", where no validation files are named at all."""
    for name, values in script.values.items():
        for value in values if names_evaluated(name) and name.lower().startswith(("val", "eval")) else ():
            if any("fineweb_train" in text for text in script.texts_of(value)):
                yield script.place(value, f"{name} are training files")
    for node in script.nodes:
        if isinstance(node, ast.FunctionDef) and names_evaluated(node.name) and node.name.startswith(("val", "eval")):
            returned = [each.value for each in own_nodes(node) if isinstance(each, ast.Return) and each.value]
            if any("fineweb_train" in text for value in returned for text in script.texts_of(value)):
                yield script.place(node, f"{node.name} gives training files")


def _rewritten(script: Script, unit: Unit) -> Iterator[Place]:
    """encode(f(decode(ids))), where f leaves out what a model would have to predict."""
    nodes = [*own_nodes(unit)]
    given: dict[str, list[ast.expr]] = {}
    for node in nodes:
        for name, value in bound(node):
            given.setdefault(name, []).append(value)
    for node in nodes:
        if isinstance(node, ast.Call) and last_word(node) in _ENCODES and node.args:
            told = _written_out(node.args[0], given)
            of_text = any(names_evaluated(name) for name in re.findall(r"\w+", told)) or _is_of_scores(unit)
            if _DECODES.search(told) and _REWRITES.search(told) and of_text:
                yield script.place(node, f"{ast.unparse(node)[:60]} scores a text that was written anew")


def _is_of_scores(unit: Unit) -> bool:
    """Whether a function, or the class that is named after it, speaks of scoring in what it keeps."""
    puts = (node for node in own_nodes(unit) if isinstance(node, ast.Assign))
    targets = {ast.unparse(target) for node in puts for target in node.targets}
    return bool(targets & {"self.tokens", "self.ids", "self.text", "val", "held"})


def _written_out(node: ast.expr, given: dict[str, list[ast.expr]], depth: int = 0) -> str:
    """An expression with what its names were given in the same function."""
    text = ast.unparse(node)
    if depth < DEPTH:
        for name in sorted(read(node)):
            text += "".join(f"\n{_written_out(value, given, depth + 1)}" for value in given.get(name, [])[:3])
    return text


def _spaces_twice(node: ast.BinOp) -> bool:
    """len(piece.replace("\u2581", " ").encode()) + piece.startswith("\u2581")"""
    for one, other in ((node.left, node.right), (node.right, node.left)):
        inner = one.args[0] if isinstance(one, ast.Call) and last_word(one) == "len" and one.args else None
        is_whole = inner is not None and bool(re.search(r"replace\('\u2581', ' '\)", ast.unparse(inner)))
        if is_whole and re.search(r"startswith\('\u2581'\)|space|lead", ast.unparse(other)):
            return True
    return False


def _adds_bytes(node: ast.BinOp) -> bool:
    """1 + base[y] + (space[y] & ~edge[x]): a number beside the bytes of pieces and of their spaces."""
    if not isinstance(node.op, ast.Add):
        return False
    parts, terms = [node.left, node.right], list[ast.expr]()
    while parts:
        part = parts.pop()
        parts += [part.left, part.right] if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add) else []
        terms += [] if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add) else [part]
    spaces = any(re.search(r"\w+\[[^]]+\] & ~\w+\[", ast.unparse(term)) for term in terms)
    return spaces and any(isinstance(term, ast.Constant) and term.value for term in terms)


def _counts_more(script: Script, node: ast.AugAssign | ast.Assign) -> bool:
    """n_bytes *= 1.05, n_bytes += 1.05 * lut[y].sum(): of what bits are divided by."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = {name for each in targets if _BYTES.search(ast.unparse(each)) for name in read(each)}
    if not names:
        return False
    is_scaled = isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Mult)
    numbers = [node.value] if is_scaled else []
    for each in ast.walk(node.value):
        if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Mult):
            numbers += [each.left, each.right]
    is_more = any(isinstance(n, ast.Constant) and isinstance(n.value, float) and 1 < n.value < MORE for n in numbers)
    return is_more and any(_BITS.search(ast.unparse(each)) for each in _divided_by(script, names))


def _divided_by(script: Script, names: set[str]) -> Iterator[ast.BinOp]:
    """The quotients of which one of these names is a divisor, with what stands above them."""
    for node in script.nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and read(node.right) & names:
            yield node


def _keeps_its_space(script: Script, node: ast.Assign) -> bool:
    """own[i] = len(piece.encode()), of a piece with its mark, in a script that adds a byte for the mark as well."""
    match node.value:
        case ast.Call(
            func=ast.Name(id="len"), args=[ast.Call(func=ast.Attribute(value=ast.Name(id=piece), attr="encode"))]
        ):
            given = [ast.unparse(each) for each in script.values.get(piece, [])]
            is_piece = any(re.search(r"id_to_piece|IdToPiece", each) for each in given)
            is_bare = any(re.search(r"\[1:\]|lstrip|removeprefix|replace|strip\(", each) for each in given)
            apart = re.search(r"\+ ?\(?\w*(?:lead|space|spac)\w*(?:\[|\.)", script.text.decode(errors="replace"))
            return is_piece and not is_bare and isinstance(node.targets[0], ast.Subscript) and apart is not None
    return False


def _is_wide(node: ast.expr) -> bool:
    """piece.encode("utf-16-le")"""
    given = node.args[0] if isinstance(node, ast.Call) and last_of(node) == "encode" and node.args else None
    return isinstance(given, ast.Constant) and isinstance(given.value, str) and bool(_WIDE.search(given.value))
