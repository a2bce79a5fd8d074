"""`pgtrain data`: documents -> tokenizer, training and validation shards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..options.dry_run import dry_run_option, rates_here, show_foreseen
from ..options.numbers import FiniteNumber, WholeNumber
from ..options.output import output_option
from ..options.types import FOLDER, PATH
from ..screen.output import Screen, claim_output, screen_options


@click.command(
    "data",
    epilog="\b\nExamples:\n  pgtrain data -o text\n  pgtrain data books/ notes.jsonl.xz -o text --vocab-size 4096",
)
@click.argument("sources", nargs=-1, type=PATH)
@output_option(required=True, type=FOLDER, help="Folder to write.")
@click.option(
    "--vocab-size", type=WholeNumber(), default=1024, show_default=True, help="Pieces of the tokenizer to train."
)
@click.option("--tokenizer", type=PATH, help="Use this one instead: a .model, a tokenizer.json or a folder.")
@click.option("--field", metavar="NAME", help="What holds the text in .jsonl and .parquet: text by default.")
@click.option(
    "--val-fraction",
    default=0.08,
    show_default=True,
    type=FiniteNumber(0, 1, min_open=True, max_open=True),
    help="Share of documents that validate, chosen by a hash of their names.",
)
@dry_run_option
@click.option("--force", is_flag=True, help="Replace the shards already in the folder.")
@screen_options
def command(
    *,
    sources: tuple[Path, ...],
    out: Path,
    vocab_size: int,
    tokenizer: Path | None,
    field: str | None,
    val_fraction: float,
    dry_run: bool,
    force: bool,
    screen: Screen,
) -> None:
    """Write token shards and a tokenizer.

    SOURCES are .txt, .md, .jsonl or .parquet files (also .gz, .xz, .zst) or folders of them. A .txt holds one
    document, or several separated by lines of one NUL; a .jsonl line is an object with a "text". A document that
    is alone is cut into parts. Without SOURCES the corpus is the documentation that ships inside CPython.
    """
    claim_output(out / "corpus.json", force, dry_run=dry_run)
    if field is not None and not sources:
        raise click.UsageError("--field is of .jsonl and .parquet files, and none is named")
    if dry_run:
        _show_dry_run(sources, out, screen)
        return
    from pgpack.text.agreement import what_is_lost
    from pgpack.text.builtin import builtin_corpus
    from pgpack.text.corpus import write_text_folder
    from pgpack.text.documents import FIELD, read_documents
    from pgpack.text.find_tokenizer import load_tokenizer
    from pgpack.text.stream import SAMPLE

    given = load_tokenizer(tokenizer) if tokenizer else None
    screen.note("reading " + (", ".join(map(str, sources)) if sources else "the built-in corpus"))
    documents = read_documents(sources, field or FIELD) if sources else builtin_corpus()
    if len(documents) == 1:
        screen.note(
            f"{documents[0].name} is the only document: its parts train and validate as documents of their own"
        )
    record = write_text_folder(documents, out, given, vocab_size, val_fraction)
    if given is not None and (lost := what_is_lost(" ".join(each.text for each in documents)[:SAMPLE], given)):
        screen.note(lost)
    rows = (
        ("train", record.train_documents, record.train_tokens, record.train_bytes),
        ("validation", record.val_documents, record.val_tokens, record.val_bytes),
    )
    screen.show(
        {"folder": str(out), **asdict(record)},
        f"{'':10}  {'documents':>10}  {'tokens':>12}  {'text bytes':>12}",
        *(
            f"{part:10}  {n_documents:>10,}  {n_tokens:>12,}  {n_bytes:>12,}"
            for part, n_documents, n_tokens, n_bytes in rows
        ),
        f"tokenizer of {record.vocab_size:,} pieces, {record.val_bytes_per_token:.3f} bytes per token",
        f"written to {out}",
    )


def _show_dry_run(sources: tuple[Path, ...], out: Path, screen: Screen) -> None:
    """By the sizes of the files, which are not read."""
    from pgpack.bench.foreseen import text_bytes
    from pgpack.bench.rates import builtin_cost, reading_cost

    n_bytes = text_bytes(map(str, sources))
    facts = {"folder": str(out), "sources": len(sources) or None, "text_bytes": n_bytes}
    rates = rates_here()
    show_foreseen(screen, facts, reading_cost(n_bytes, rates) if sources else builtin_cost(rates))
