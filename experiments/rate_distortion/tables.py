"""The Markdown of `make bench-rd`, from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def _names(document: Document, group: str) -> list[str]:
    return [curve["name"] for curve in document["curves"] if curve["group"] == group]


def _peers(document: Document) -> Iterator[str]:
    engines = [name for name in (ENGINE, "tcq-8") if rows_of(document, name)]
    yield "| against | " + " | ".join(f"{name}, equal KL | equal BPB" for name in engines) + " |"
    yield "|---|" + "---:|---:|" * len(engines)
    for peer in [*_names(document, "preset"), *_names(document, "peer")]:
        anchor = rows_of(document, peer)
        cells = [saving(anchor, rows_of(document, name), metric) for name in engines for metric in ("kl", "bpb")]
        yield f"| {peer} | " + " | ".join(cells) + " |"


def _plain(document: Document) -> Iterator[str]:
    names = _names(document, "plain")
    if not names:
        return
    yield from ("", "At equal squared error of all matrices, one step for all weights on both sides:", "")
    yield "| against | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * len(names)
    for peer in _names(document, "peer"):
        cells = [saving(rows_of(document, peer), rows_of(document, name), "mse") for name in names]
        yield f"| {peer} | " + " | ".join(cells) + " |"


def _ablations(document: Document) -> Iterator[str]:
    full = rows_of(document, ENGINE)
    if not full:
        return
    base = median(row.quantize_s + row.encode_s for row in full)
    yield from ("", "### Ingredients", "")
    yield f"Against `{ENGINE}`, whose median pack took {base:.1f} s:"
    yield ""
    yield "| changed | bytes at equal KL | quantize + encode |"
    yield "|---|---:|---:|"
    for name in [
        *(n for n in _names(document, "engine") if n != ENGINE),
        *(name for group in TRAINED for name in _names(document, group)),
        *_names(document, "ablation"),
    ]:
        rows = rows_of(document, name)
        seconds = median(row.quantize_s + row.encode_s for row in rows)
        yield f"| {name} | {saving(full, rows, 'kl')} | {seconds / base:.2f}x |"


def _gap(document: Document) -> Iterator[str]:
    if not document["gap"]:
        return
    yield from (
        "",
        "### Above the Gaussian bound",
        "",
        "Bits per weight of each matrix at one point of the curve.",
        "",
    )
    yield "| matrix | weights | measured | under its tables | bound | gap |"
    yield "|---|---:|---:|---:|---:|---:|"
    for gap in [*document["gap"], *({**gap, "name": f"all: {gap['name']}"} for gap in document["total_gap"])]:
        yield (
            f"| {gap['name']} | {gap['n']:,} | {gap['measured']:.3f} | {gap['entropy']:.3f} | {gap['bound']:.3f} "
            f"| {gap['measured'] - gap['bound']:+.3f} |"
        )


def _points(document: Document) -> Iterator[str]:
    yield "| curve | dial | bytes | KL | bits per byte | squared error | quantize s | encode s | decode s |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for curve in document["curves"]:
        for row in (Row(**each) for each in curve["rows"]):
            yield (
                f"| {row.curve} | {row.dial:g} | {row.n_bytes:,} | {row.kl:.5f} | {row.bpb:.4f} | {row.mse:.4f} "
                f"| {row.quantize_s:.1f} | {row.encode_s:.1f} | {row.decode_s:.2f} |"
            )


def markdown(documents: Sequence[Document]) -> str:
    """The page."""
    lines = [
        "# Rate-distortion: the engine and its peers",
        "",
        "Written by `make bench-rd`. Differences are BD-rates:",
    ]
    lines += ["mean difference of file size at equal loss, negative where the engine is smaller.", ""]
    for document in documents:
        lines += [
            f"## {document['name']}: {document['n_params']:,} parameters",
            "",
            f"Checkpoint {document['checkpoint_digest'][:12]}; {document['n_tokens']:,} held-out tokens, "
            f"fp32 {document['fp32_bpb']:.4f} bits per byte.",
            "",
            *_peers(document),
            *_plain(document),
            *_ablations(document),
            *_gap(document),
            "",
            "<details><summary>All points</summary>",
            "",
            *_points(document),
            "",
            "</details>",
            "",
        ]
    return "\n".join(lines)
