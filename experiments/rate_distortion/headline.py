"""The README's tables of a real model, from what `make bench-peers` and `pgpack pack` measured and nothing else.

python -m experiments.rate_distortion.headline results/peers-smollm.json [FILE.json ...]

Curves of other results of the bench are put beside the others; manifests (`FILE.pgpack.json`) of files that were
packed at `--effort 9`, or by its recipe without what trains, become curves of their own. All must be of the same
model and text.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.replication.pages import ROOT, fill
from pgpack.recipe.recipe import parse_recipe

from .peers import DATA_FREE, DRIFT, ENTQUANT, LEAST, OWN_TEXT, RANDOM_TEXT, bytes_at
from .peers import markdown as page
from .rows import Row, rate
from .tables import Document, number_table, saving

BLOCK = "real model"
KLS = (0.1, 0.3, 0.8)  # nats per token, at which packers are set side by side
EFFORT, UNTUNED = "engine, --effort 9", "engine, --effort 9, not tuned"


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
    for row in curves.get(EFFORT, []):
        lines += ["", _beside(row, {name: rows for name, rows in curves.items() if name not in (EFFORT, UNTUNED)})]
    for name in (DATA_FREE.name, LEAST, RANDOM_TEXT.name, OWN_TEXT.name):
        if name in curves and ENTQUANT in curves:
            lines += [
                "",
                f"Without any text: `{name}` against `{ENTQUANT}` {saving(curves[ENTQUANT], curves[name], 'kl')}.",
            ]
    return "\n".join(lines)


def _beside(row: Row, curves: Mapping[str, Sequence[Row]]) -> str:
    """A file beside every curve that reaches its KL."""
    sizes = [(size, name) for name, rows in curves.items() if (size := bytes_at(rows, row.kl)) is not None]
    versus = ", ".join(f"{100 * (row.n_bytes / size - 1):+.1f} % of `{name}`" for size, name in sorted(sizes))
    return (
        f"`{EFFORT}`, {row.n_bytes:,} B with config and tokenizer at KL {row.kl:.4f} and {row.bpb:.4f} bits per "
        f"byte: {versus}."
    )


def packed(manifest: Path) -> Row:
    """The point that the manifest of an artifact tells of: of the whole file, as in all rows of the engine."""
    told = json.loads(manifest.read_text(encoding="utf-8"))
    quantizer = parse_recipe(told["recipe"]).rules[-1].policy.quantizer
    trained = any(directive in told["recipe"] for directive in ("@tune", "@compensate"))
    return Row(
        curve=EFFORT if trained else UNTUNED, dial=getattr(quantizer, "step", 0.0),
        n_bytes=told["n_bytes"], mse=0.0, kl=told["kl"], bpb=told["bpb"],
        quantize_s=0.0, encode_s=0.0, decode_s=0.0, recipe=told["recipe"],
    )  # fmt: skip


def joined(document: dict[str, Any], other: Document) -> bool:
    """Takes up the curves of another run of the bench that `document` has not; whether both are of one thing."""
    same = all(document[key] == other[key] for key in ("name", "n_params", "n_tokens"))
    if not same or not math.isclose(document["fp32_bpb"], other["fp32_bpb"], rel_tol=1e-5):
        return False
    if new := {name: rows for name, rows in other["curves"].items() if name not in document["curves"]}:
        document["curves"] |= new
        document["command"] += "` and with `--curves " + " ".join(f'"{name}"' for name in new)
    return True


def _size(row: Row) -> int:
    return row.n_bytes


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 when called without the JSON of a bench."""
    if not arguments:
        sys.stderr.write("usage: python -m experiments.rate_distortion.headline RESULTS.json [FILE.json ...]\n")
        return 2
    results, *others = map(Path, arguments)
    document = json.loads(results.read_text(encoding="utf-8"))
    if others:
        manifests = [path for path in others if path.name.endswith(".pgpack.json")]
        for path in others:
            if path not in manifests and not joined(document, json.loads(path.read_text(encoding="utf-8"))):
                sys.stderr.write(f"{path} is of another model or text than {results}\n")
                return 1
        rows = sorted(map(packed, manifests), key=_size)
        for name in sorted({row.curve for row in rows}):
            document["curves"][name] = [dataclasses.asdict(row) for row in rows if row.curve == name]
        results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        results.with_suffix(".md").write_text(page(document), encoding="utf-8")
    fill(ROOT / "README.md", BLOCK, markdown(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
