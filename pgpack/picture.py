"""How pictures look and how they become files: one style, SVG and PNG whose bytes depend on the figure alone.

matplotlib is loaded when a picture is made, without its global pyplot state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from .errors import StudyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE_SUFFIXES = (".svg", ".png")
COLOURS = ("#0b5cad", "#b54708", "#6941c6", "#0e7569", "#9b1c5a", "#4d5a68")
INK, SOFT_INK, GRID = "#1f2933", "#52606d", "#e4e7eb"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "pgpack",  # else element ids are random
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so layout is the same everywhere
    "font.size": 11.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT_INK,
    "xtick.color": SOFT_INK,
    "ytick.color": SOFT_INK,
}


def figure_bytes(figure: Figure, suffix: str, dpi: int = 200, title: str = "", description: str = "") -> bytes:
    """The figure as SVG or PNG, the same bytes for the same figure: no date, no version, fixed ids.

    `title` and `description` are for who cannot see it: elements of the SVG, text chunks of the PNG.
    Raises: StudyError for another suffix.
    """
    from matplotlib import rc_context

    if suffix not in PICTURE_SUFFIXES:
        raise StudyError(f"a picture is written as .svg or .png, not {suffix or 'without suffix'!r}")
    with rc_context(STYLE):
        if suffix == ".png":
            data = io.BytesIO()
            about = {"Title": title, "Description": description} if title else {}
            figure.savefig(data, format="png", dpi=dpi, metadata={"Software": None, **about})
            return data.getvalue()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    # The text stays text; where DejaVu is missing, Verdana has nearly its widths.
    svg = text.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    if title:
        words = f"<title>{escape(title)}</title>\n <desc>{escape(description)}</desc>"
        start = svg.index(">", svg.index("<svg"))
        svg = f'{svg[:start]} role="img">\n {words}{svg[start + 1 :]}'
    return svg.encode()


def legend_above(axes: Axes) -> None:
    """The legend between a title padded by at least 26 points and the frame, where it crosses nothing drawn."""
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0, fontsize=11)


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places for labels: as near to `wanted`, which rises, as places at least `gap` apart can be (least squares).

    Source: Ayer et al. 1955, pooling of adjacent violators, of what is wanted less what those before take.
    """
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for index, place in enumerate(wanted):
        mean, n = place - index * gap, 1
        while pools and pools[-1][0] > mean:
            other, m = pools.pop()
            mean, n = (mean * n + other * m) / (n + m), n + m
        pools.append((mean, n))
    flat = [mean for mean, n in pools for _ in range(n)]
    return [place + index * gap for index, place in enumerate(flat)]
