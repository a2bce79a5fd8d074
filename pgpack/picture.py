"""How pictures look and how they become files: one style, SVG and PNG whose bytes depend on the figure alone.

matplotlib is loaded when a picture is made, without its global pyplot state.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from .errors import StudyError

if TYPE_CHECKING:
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


def figure_bytes(figure: Figure, suffix: str, dpi: int = 200) -> bytes:
    """The figure as SVG or PNG, the same bytes for the same figure: no date, no version, fixed ids.

    Raises: StudyError for another suffix.
    """
    from matplotlib import rc_context

    if suffix not in PICTURE_SUFFIXES:
        raise StudyError(f"a picture is written as .svg or .png, not {suffix or 'without suffix'!r}")
    with rc_context(STYLE):
        if suffix == ".png":
            data = io.BytesIO()
            figure.savefig(data, format="png", dpi=dpi, metadata={"Software": None})
            return data.getvalue()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    # The text stays text; where DejaVu is missing, Verdana has nearly its widths.
    return text.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif").encode()
