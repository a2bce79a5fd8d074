"""Jinja2 templates of the page: every text is escaped, and what a template made stands as it is.

Owns the way from a name in `assets` to markup. Refuses a template whose values are not all given. Jinja2 is loaded
when a page is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from pgpack.tables import BREAKS

if TYPE_CHECKING:
    from jinja2 import Environment

ENDS = re.compile(r"((?<!\d)[._/]|[._/](?!\d))")  # of the parts of a name, and never within a number


def filled(name: str, values: Mapping[str, Any]) -> Markup:
    """The template `name` with these values."""
    return Markup(_environment().get_template(name).render(values))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    environment.filters["breakable_label"] = breakable_label
    environment.filters["code"] = breakable_code
    environment.globals["asset"] = lambda name: Markup(_asset(name))
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def breakable(name: str) -> Markup:
    """A name of a tensor or a file that may go on in the next line after a dot, an underscore or a slash, and
    nowhere within a number."""
    return Markup(ENDS.sub(r"\1<wbr>", str(escape(name))))


def breakable_label(name: str) -> str:
    """The same for an attribute that a style sheet shows, where no tag can stand: a space of no width."""
    return ENDS.sub("\\1\u200b", name)


def breakable_code(text: str) -> Markup:
    """A recipe, or a line with one, that may go on in the next line where a stage or a setting ends, and nowhere
    within a word or a number; `node` in page.js does the same."""
    return Markup("<wbr>").join(BREAKS.split(text))


def _asset(name: str) -> str:
    """A file of `assets`; of scripts and styles without indents and lines of comment."""
    text = resources.files("pgpack.report").joinpath("assets", name).read_text(encoding="utf-8")
    return text if name.endswith(".html") else re.sub(r"^\s+|^\s*//.*\n", "", text, flags=re.MULTILINE)
