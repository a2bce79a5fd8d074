"""Pictures inside the page: SVG whose colours follow the page's light or dark theme.

Owns which colour of `pgpack.picture` is which variable of `assets/page.css`, and the two widths of a picture: one for
a screen and one for a phone, for text in a picture shrinks with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from pgpack.inspect import Anatomy
from pgpack.picture import COLOURS, GRID, INK, SOFT_INK, figure_bytes

from .anatomy_plot import (
    DEPTH_TITLE,
    depth_figure,
    depth_words,
    depths_of,
    kinds_figure,
    kinds_title,
    kinds_words,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE, NARROW = 8.4, 4.4  # inches of 72 units of the SVG: text keeps above 11 pixels from 700 and from 350 wide
VARIABLES = {INK: "ink", SOFT_INK: "soft", GRID: "grid", "#ffffff": "ground"} | {
    colour: f"c{number}" for number, colour in enumerate(COLOURS, start=1)
}
DEPTH_NOTE = "Where the packer spends its bits: a line for each kind of tensor, from the first layer to the last."
LOSS_NOTE = (
    "What each kind takes of the file beside what it costs in loss. More bits help most where the loss is by far the "
    "longer bar."
)


@dataclass(frozen=True)
class InlinePicture:
    """A section of the page that is one picture. `name` is a word that no other picture has."""

    name: str
    title: str
    note: str
    wide: Markup
    narrow: Markup


@lru_cache(maxsize=2)
def anatomy_pictures(anatomy: Anatomy) -> tuple[InlinePicture, ...]:
    """Bits over depth, where there are layers, and bytes and loss by kind."""
    title = kinds_title(anatomy)
    note = LOSS_NOTE if title.startswith("Loss") else "What each kind takes of the file."
    kinds = _picture("kinds", title, note, kinds_words(anatomy), lambda width: kinds_figure(anatomy, "", width))
    if not depths_of(anatomy):
        return (kinds,)
    depth = _picture(
        "depth", DEPTH_TITLE, DEPTH_NOTE, depth_words(anatomy), lambda width: depth_figure(anatomy, "", width)
    )
    return depth, kinds


def _picture(name: str, title: str, note: str, words: str, drawn: Callable[[float], Figure]) -> InlinePicture:
    wide, narrow = (inline_svg(drawn(width), title, words) for width in (WIDE, NARROW))
    return InlinePicture(name, title, note, wide, narrow)


def inline_svg(figure: Figure, title: str, words: str) -> Markup:
    """The figure as an element of a page, with a title and a description."""
    svg = figure_bytes(figure, ".svg", title=title, description=words).decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", re.sub(r"(\.\d\d)\d+", r"\1", svg))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"font-family: [^;]*; ", "", re.sub(r"\s*\n\s*", "\n", svg))  # the page has the font and no indents
    while (shorter := re.sub(r"<g>\n((?:<use[^>]*/>\n)*)</g>\n", r"\1", svg)) != svg:  # groups of nothing else
        svg = shorter
    place = hashlib.sha256(svg.encode()).hexdigest()[:6]  # parts of a page's pictures have names of their own
    short = {name: f"p{place}{number}" for number, name in enumerate(sorted(used))}
    svg = re.sub(r'(id="|xlink:href="#|url\(#)([^")]+)', lambda found: found[1] + short[found[2]], svg)
    svg = svg.replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var(--{variable})")
    return Markup(svg)
