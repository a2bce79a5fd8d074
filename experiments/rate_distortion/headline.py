"""The README's table of a real model, from what `make bench-peers` measured and nothing else.

python -m experiments.rate_distortion.headline results/peers-smollm.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.replication.pages import ROOT, fill

from .peers import ENTQUANT, OWN_TEXT, RECORD, WATERSIC
from .rows import Row
from .tables import Document, number_table, saving

BLOCK = "real model"
SHOWN = 4.0  # nats per token: what is beyond says nothing any more


def markdown(document: Document) -> str:
    """A sentence and a table, from small files to large ones."""
    curves = {name: [Row(**row) for row in rows] for name, rows in document["curves"].items()}
    engines = [name for name in curves if name.startswith(document["engine"])]
    peers = [name for name in curves if name in (*RECORD, WATERSIC, ENTQUANT)]
    pairs = [(own, peer) for peer in peers for own in engines]
    if OWN_TEXT.name in curves and ENTQUANT in curves:
        engines.append(OWN_TEXT.name)
        pairs.append((OWN_TEXT.name, ENTQUANT))  # neither is given any text
    rates = [f"`{own}` against `{peer}` {saving(curves[peer], curves[own], 'kl')}" for own, peer in pairs]
    sentence = (
        f"{document['name']}, {document['n_params']:,} values trained by others, on {document['n_tokens']:,} tokens "
        f"of web text that calibration has not seen (fp32 {document['fp32_bpb']:.4f} bits per byte). Bytes at equal "
        f"KL: {'; '.join(rates)}."
    )
    rows = sorted((row for name in (*engines, *peers) for row in curves[name] if row.kl < SHOWN), key=_size)
    table = [
        (
            row.curve,
            f"{row.n_bytes:,}",
            f"{8 * row.n_bytes / document['n_params']:.2f}",
            f"{row.bpb:.4f}",
            f"{row.kl:.2g}",
        )
        for row in rows
    ]
    header = ("packer", "bytes", "bits per weight", "bits per byte", "KL, nats per token")
    return "\n".join([sentence, "", *number_table(header, table)])


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
