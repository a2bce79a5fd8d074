"""pgpack/API.md from the docstrings: `python -m tests.house.api_page` writes it, a test holds it against them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pgpack
from pgpack.bench.artifact import ArtifactFile
from pgpack.bench.bench import Bench
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.study.study import Study
from pgpack.study.view import FrontierView

PAGE = Path(__file__).resolve().parents[2] / "pgpack" / "API.md"
NOUNS: dict[type[Any], tuple[str, ...]] = {
    Checkpoint: ("tensor", "items", "digest", "n_params"),
    Bench: ("plan", "calibrate", "pack", "fit", "measure", "sweep"),
    ArtifactFile: ("n_bytes", "tensors", "companions", "unpack", "model", "tokenizer", "verify", "inspect"),
    Study: ("trials", "frontier"),
    FrontierView: ("points", "best", "table", "plot", "to_csv"),
    pgpack.Recipe: ("parse", "canonical", "digest"),
}
HEAD = """# The Python door

`import pgpack` costs no torch and no numpy. Everything public is named here (`pgpack.__all__` and these nouns'
members); anything else may change. Long calls take `progress=` (`True` for bars, or a callable) and never print.
Every docstring has an example that the tests run: `help(pgpack.open_bench)`.

"""


def member(noun: type[Any], name: str) -> Any:
    """What a class has under that name, unbound; None for a field of a dataclass."""
    found = inspect.getattr_static(noun, name, None)
    if isinstance(found, (staticmethod, classmethod)):
        return found.__func__
    return getattr(found, "fget", None) or getattr(found, "func", found)


def first_line(thing: Any) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0]


def signature(thing: Any) -> str:
    """Names of the parameters, without `self` and annotations."""
    if not inspect.isfunction(thing):
        return ""
    parts = []
    for name, parameter in inspect.signature(thing).parameters.items():
        if name != "self":
            required = parameter.default is inspect.Parameter.empty
            parts.append(name if required else f"{name}=")
    return f"({', '.join(parts)})"


def field_line(noun: type[Any], name: str) -> str:
    """What the class's docstring says of a field: the words after `name`: or `name`, ... there."""
    found = re.search(rf"`{name}`(?:, `\w+`)*:? ([^.;`]+)", inspect.getdoc(noun) or "")
    return f"{found.group(1).strip()}." if found else ""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for name in pgpack.__all__:
        thing = getattr(pgpack, name)
        if inspect.isfunction(thing):
            lines.append(f"* **`pgpack.{name}{signature(thing)}`** {first_line(thing)}\n")
    for noun, names in NOUNS.items():
        lines.append(f"\n## {noun.__name__}\n\n{first_line(noun)}\n\n")
        for name in names:
            thing = member(noun, name)
            called = inspect.isfunction(inspect.getattr_static(noun, name, None)) or isinstance(
                inspect.getattr_static(noun, name, None), (staticmethod, classmethod)
            )
            text = first_line(thing) if callable(thing) else field_line(noun, name)
            lines.append(f"* `{name}{signature(thing) if called else ''}` {text}\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
