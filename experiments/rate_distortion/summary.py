"""Puts the summary of results/rd.json into README.md: `python -m experiments.rate_distortion.summary`.

Nothing between the markers is typed by hand; a test checks that it agrees with results/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.replication.pages import ROOT, fill

from .curves import ENGINE, TRAINED
from .tables import names, number_table, rows_of, saving


def summary(documents: Sequence[Mapping[str, Any]]) -> str:
    """The engine against every peer on every checkpoint."""
    lines = [
        f"Mean difference of file size at equal loss (BD-rate) of the engine, `{ENGINE}`, against each packer "
        "over its own dial (`make bench-rd`, [results/rd.md](results/rd.md)):",
        "",
    ]
    header = ["against"]
    for document in documents:
        header += [f"{document['name']} ({document['n_params'] / 1e6:.1f} M), equal KL", "equal bits per byte"]
    rows = (
        [name, *(saving(rows_of(d, name), rows_of(d, ENGINE), metric) for d in documents for metric in ("kl", "bpb"))]
        for name in names(documents[0], "preset", "peer")
    )
    lines += number_table(header, rows)
    for directive, (group, each) in zip(("--compensate 120", "--tune 100"), TRAINED.items(), strict=True):
        gains = [
            f"{saving(rows_of(document, ENGINE), rows_of(document, each.name), 'kl')} on {document['name']}"
            for document in documents
            if rows_of(document, each.name)
        ]
        if gains:
            lines += ["", f"With `{directive}` ({group} on calibration text) at equal KL: {', '.join(gains)}."]
    return "\n".join(lines)


def main() -> None:
    """Rewrite the section."""
    documents = json.loads((ROOT / "results" / "rd.json").read_text(encoding="utf-8"))
    fill(ROOT / "README.md", "rd", summary(documents))


if __name__ == "__main__":
    main()
