"""The corpus that is built into CPython: reference topics and docstrings.

Refuses to import any module whose docstrings it reads: sources are parsed, never run.
"""

from __future__ import annotations

import ast
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from .documents import Document

SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
)
# Generated word lists and code tables: their docstrings are not sentences.
SKIPPED_PACKAGES = ("pydoc_data", "encodings", "turtledemo", "ensurepip")


def builtin_corpus() -> list[Document]:
    """Reference topics and standard-library docstrings of this CPython, about 2 MB of English, in fixed order.

    Each topic is a document; each module's docstrings (module, classes, functions) are one more. A paragraph
    that occurs again (topics quote each other, modules share docstrings) is kept only where it first appears,
    so that validation text is not also training text.
    """
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_paths()["stdlib"])
    texts = [(f"topics/{name}", topics[name]) for name in sorted(topics)]
    for path in _library_sources(root):
        name = f"library/{path.relative_to(root).as_posix()}"
        texts.append((name, "\n\n".join(_docstrings(path))))
    seen: set[str] = set()
    documents = []
    for name, text in texts:
        new = [paragraph for paragraph in text.split("\n\n") if _is_new(paragraph, seen)]
        if new:
            documents.append(Document(name, "\n\n".join(new)))
    return documents


def _is_new(paragraph: str, seen: set[str]) -> bool:
    """Whether the paragraph's words were not seen before; they are added to `seen`."""
    words = " ".join(paragraph.split())
    is_new = bool(words) and words not in seen
    seen.add(words)
    return is_new


def _library_sources(root: Path) -> list[Path]:
    """Every .py of the library, sorted by its path below the root."""
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        for name in files:
            path = Path(folder, name)
            if path.suffix == ".py" and path.relative_to(root).parts[0] not in SKIPPED_PACKAGES:
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a source file in source order; a file that does not parse gives none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring and docstring.strip():
                yield docstring.strip()
        # Statements only: definitions hide in no expression, and expressions are most of the tree.
        for block in ("finalbody", "orelse", "handlers", "body"):
            children = getattr(node, block, [])
            if isinstance(children, list):
                pending.extend(reversed(children))
