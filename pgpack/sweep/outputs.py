"""What a study leaves beside its journal: frontier.csv, frontier.svg, frontier.png, report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..frontier import frontier_csv, pareto
from ..plot import Curve, FrontierPicture, write_picture
from ..report import write_report
from .journal import Study

BEST_FILE = "best.pgpack"


def write_outputs(study: Study, breakdown: Sequence[tuple[str, int]] = ()) -> tuple[Path, ...]:
    """Write the table, both pictures and the page into the study's directory; their paths come back.

    `breakdown`: (name, n_bytes) of the best artifact's parts, for the page. Without one measured trial only the
    table and the page are written.
    """
    folder, meta = study.directory, study.meta
    table = folder / "frontier.csv"
    table.write_text(frontier_csv(pareto(study.trials)), encoding="utf-8")
    written = [table]
    if pareto(study.trials):
        title = f"Frontier of {Path(meta.checkpoint).name}"
        curve = Curve(folder.resolve().name, study.trials)
        picture = FrontierPicture((curve,), title, budget=meta.budget, fp32_bpb=meta.fp32_bpb)
        for suffix in (".svg", ".png"):
            written.append(folder / f"frontier{suffix}")
            write_picture(picture, written[-1])
    page = folder / "report.html"
    write_report(study, page, breakdown)
    return (*written, page)
