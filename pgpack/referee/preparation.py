"""Documents of the evaluated text that a folder's own preparation leaves in the training files (#2127).

    python3 prepare_data.py --docs docs_selected.jsonl --out data --val-docs 10000

The challenge evaluates its first 50,000 documents. A preparation that keeps fewer of them apart trains on the others,
wherever the evaluated text itself comes from. By a command's word; by the default of a script of the folder only
where the logs found more training files than were ever published.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

from .script import Place, Script, keyword

DOCUMENTS = 50_000
PUBLISHED = 200  # files of training text: of the public data sets, no log names more
_OPTION = re.compile(r"--(?:n[-_]|num[-_])?(?:val|valid|validation)[-_]docs(?:=|\s+)[\"']?(?P<n>\d[\d_,]{0,9})\b")
_NAME = re.compile(r"--(?:n[-_]|num[-_])?(?:val|valid|validation)[-_]docs")


def trained_documents(
    texts: Mapping[str, str], scripts: Sequence[Script], shards: Sequence[int | None]
) -> Iterator[Place]:
    """`texts`: file -> how a run is prepared and started there; `scripts`: of the folder, counted or not; `shards`:
    how many training files each log found."""
    told = [*_commands(texts)]
    yield from (place for n, place in told if 0 < n < DOCUMENTS)
    if not told and any(n is not None and n > PUBLISHED for n in shards):
        yield from _defaults(scripts)


def _commands(texts: Mapping[str, str]) -> Iterator[tuple[int, Place]]:
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for found in _OPTION.finditer(line[:4096]):
                n = int(re.sub(r"\D", "", found["n"]))
                yield n, Place(name, number, _said(n))


def _defaults(scripts: Sequence[Script]) -> Iterator[Place]:
    for script in scripts:
        for node in script.nodes:
            if isinstance(node, ast.Call) and node.args and _is_option(node.args[0]):
                default = keyword(node, "default")
                if isinstance(default, ast.Constant) and isinstance(default.value, int) and default.value < DOCUMENTS:
                    yield script.place(node, _said(default.value))


def _is_option(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_NAME.match(node.value))


def _said(n: int) -> str:
    return f"{n:,} documents are kept from training, and {DOCUMENTS:,} are evaluated"
