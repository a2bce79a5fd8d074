"""The README's tables of a real model, from what `make bench-peers` measured and nothing else.

python -m experiments.rate_distortion.headline results/peers-smollm.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.replication.pages import ROOT, fill

from .peers import DATA_FREE, DRIFT, ENTQUANT, OWN_TEXT, RANDOM_TEXT, bytes_at
from .rows import Row, rate
from .tables import Document, number_table, saving

BLOCK = "real model"
KLS = (0.1, 0.3, 0.8)  # nats per token, at which packers are set side by side


def markdown(document: Document) -> str:
    """The engine's points; then every packer's size at equal loss, the smallest first."""
    curves = {name: [Row(**row) for row in rows] for name, rows in document["curves"].items()}
    ours = curves[document["engine"]]
    sentence = (
        f"{document['name']}, {document['n_params']:,} values trained by others, on {document['n_tokens']:,} tokens "
        f"of web text that calibration has not seen (fp32 {document['fp32_bpb']:.4f} bits per byte):"
    )
    points = [
        (f"{row.n_bytes:,}", f"{8 * row.n_bytes / document['n_params']:.2f}", f"{row.bpb:.4f}", f"{row.kl:.2g}")
        for row in sorted(ours, key=_size)
    ]
    header: tuple[str, ...] = (
        f"bytes by `{document['engine']}`",
        "bits per weight",
        "bits per byte",
        "KL, nats per token",
    )
    lines = [sentence, "", *number_table(header, points), "", "Packers side by side, bytes at equal KL:", ""]
    tests = [name for name in (document["engine"], DRIFT.name) if name in curves]
    table = [
        (
            name,
            *("-" if (size := bytes_at(curves[name], kl)) is None else f"{size:,}" for kl in KLS),
            *("" if name == test else saving(curves[name], curves[test], "kl") for test in tests),
        )
        for name in sorted(curves, key=lambda name: -(rate(curves[name], ours, "kl") or 0.0))
    ]
    header = ("packer", *(f"at KL {kl:g}" for kl in KLS), *(f"`{test}` against it" for test in tests))
    lines += number_table(header, table)
    for name in (DATA_FREE.name, RANDOM_TEXT.name, OWN_TEXT.name):
        if name in curves and ENTQUANT in curves:
            lines += [
                "",
                f"Without any text: `{name}` against `{ENTQUANT}` {saving(curves[ENTQUANT], curves[name], 'kl')}.",
            ]
    return "\n".join(lines)


def _size(row: Row) -> int:
    return row.n_bytes


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 when called without the JSON of a bench."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m experiments.rate_distortion.headline RESULTS.json\n")
        return 2
    document = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    fill(ROOT / "README.md", BLOCK, markdown(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
