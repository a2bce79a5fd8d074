"""The Markdown of `make bench-rd`, from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from .curves import ENGINE, TRAINED
from .rows import Row, rate

Document = Mapping[str, Any]


def rows_of(document: Document, name: str) -> list[Row]:
    """The rows of a curve; none when it was not measured."""
    return [Row(**row) for curve in document["curves"] if curve["name"] == name for row in curve["rows"]]


def saving(anchor: Sequence[Row], test: Sequence[Row], metric: str) -> str:
    """BD-rate as text, a dash where the curves do not overlap."""
    percent = rate(anchor, test, metric)
    return "-" if percent is None else f"{percent:+.1f} %"


def number_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table: names to the left, numbers to the right."""
    yield f"| {' | '.join(header)} |"
    yield "|---|" + "---:|" * (len(header) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def names(document: Document, *groups: str) -> list[str]:
    """The curves of these groups."""
    return [curve["name"] for group in groups for curve in document["curves"] if curve["group"] == group]


def _savings(document: Document, peers: Sequence[str], tests: Sequence[str], *metrics: str) -> Iterator[list[str]]:
    """A row per peer: BD-rates of every test against it in every metric."""
    curves = [rows_of(document, name) for name in tests]
    for peer in peers:
        anchor = rows_of(document, peer)
        yield [peer, *(saving(anchor, curve, metric) for curve in curves for metric in metrics)]


def _peers(document: Document) -> Iterator[str]:
    engines = [name for name in (ENGINE, "tcq-8") if rows_of(document, name)]
    header = ("against", *(cell for name in engines for cell in (f"{name}, equal KL", "equal BPB")))
    yield from number_table(header, _savings(document, names(document, "preset", "peer"), engines, "kl", "bpb"))


def _plain(document: Document) -> Iterator[str]:
    plain = names(document, "plain")
    if not plain:
        return
    yield from ("", "At equal squared error of all matrices, one step for all weights on both sides:", "")
    yield from number_table(("against", *plain), _savings(document, names(document, "peer"), plain, "mse"))


def _ablations(document: Document) -> Iterator[str]:
    full = rows_of(document, ENGINE)
    if not full:
        return
    base = median(row.quantize_s + row.encode_s for row in full)
    yield from ("", "### Ingredients", "", f"Against `{ENGINE}`, whose median pack took {base:.1f} s:", "")
    table = []
    for name in names(document, "engine", *TRAINED, "ablation"):
        rows = rows_of(document, name)
        seconds = median(row.quantize_s + row.encode_s for row in rows)
        if name != ENGINE:
            table.append((name, saving(full, rows, "kl"), f"{seconds / base:.2f}x"))
    yield from number_table(("changed", "bytes at equal KL", "quantize + encode"), table)


def _gap(document: Document) -> Iterator[str]:
    if not document["gap"]:
        return
    yield from ("", "### Above the Gaussian bound", "")
    yield from ("Bits per weight of each matrix at one point of the curve.", "")
    header = ("matrix", "weights", "measured", "under its tables", "bound", "gap")
    found = [*document["gap"], *({**gap, "name": f"all: {gap['name']}"} for gap in document["total_gap"])]
    rows = (
        (gap["name"], f"{gap['n']:,}", *(f"{gap[key]:.3f}" for key in ("measured", "entropy", "bound")),
         f"{gap['measured'] - gap['bound']:+.3f}")
        for gap in found
    )  # fmt: skip
    yield from number_table(header, rows)


def _points(document: Document) -> Iterator[str]:
    header = ("curve", "dial", "bytes", "KL", "bits per byte", "squared error", "quantize s", "encode s", "decode s")
    rows = (Row(**each) for curve in document["curves"] for each in curve["rows"])
    cells = (
        (row.curve, f"{row.dial:g}", f"{row.n_bytes:,}", f"{row.kl:.5f}", f"{row.bpb:.4f}", f"{row.mse:.4f}",
         f"{row.quantize_s:.1f}", f"{row.encode_s:.1f}", f"{row.decode_s:.2f}")
        for row in rows
    )  # fmt: skip
    yield from number_table(header, cells)


def _sections(document: Document) -> Iterator[str]:
    yield from (f"## {document['name']}: {document['n_params']:,} parameters", "")
    digest, fp32_bpb = document["checkpoint_digest"][:12], document["fp32_bpb"]
    yield f"Checkpoint {digest}; {document['n_tokens']:,} held-out tokens, fp32 {fp32_bpb:.4f} bits per byte."
    yield ""
    for part in (_peers, _plain, _ablations, _gap):
        yield from part(document)
    yield from ("", "<details><summary>All points</summary>", "", *_points(document), "", "</details>", "")


def markdown(documents: Sequence[Document]) -> str:
    """The page."""
    lines = [
        "# Rate-distortion: the engine and its peers",
        "",
        "Written by `make bench-rd`. Differences are BD-rates:",
        "mean difference of file size at equal loss, negative where the engine is smaller.",
        "",
    ]
    return "\n".join([*lines, *(line for document in documents for line in _sections(document))])
