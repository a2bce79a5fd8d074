"""`pgtrain data`: documents -> tokenizer, training and validation shards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..options.output import output_option
from ..options.types import FOLDER, PATH
from ..screen.output import Screen, refuse_overwrite, screen_options


@click.command(
    "data",
    epilog="\b\nExamples:\n  pgtrain data -o text\n  pgtrain data books/ notes.jsonl.xz -o text --vocab-size 4096",
)
@click.argument("sources", nargs=-1, type=PATH)
@output_option(required=True, type=FOLDER, help="Folder to write.")
@click.option("--vocab-size", default=1024, show_default=True, help="Pieces of the tokenizer to train.")
@click.option("--tokenizer", type=PATH, help="Use this SentencePiece .model instead.")
@click.option(
    "--val-fraction",
    default=0.08,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of documents that validate, chosen by a hash of their names.",
)
@click.option("--force", is_flag=True, help="Replace the shards already in the folder.")
@screen_options
def command(
    *,
    sources: tuple[Path, ...],
    out: Path,
    vocab_size: int,
    tokenizer: Path | None,
    val_fraction: float,
    force: bool,
    screen: Screen,
) -> None:
    """Write token shards and a tokenizer.

    SOURCES are .txt, .md, .jsonl or .parquet files (also .gz, .xz, .zst) or folders of them. A .txt holds one
    document, or several separated by lines of one NUL; a .jsonl line is an object with a "text". Without SOURCES the
    corpus is the documentation that ships inside CPython.
    """
    refuse_overwrite(out / "corpus.json", force)
    from pgpack.text.builtin import builtin_corpus
    from pgpack.text.corpus import write_text_folder
    from pgpack.text.documents import read_documents
    from pgpack.text.sentence_piece import SentencePiece

    given = SentencePiece.load(tokenizer) if tokenizer else None
    screen.note("reading " + (", ".join(map(str, sources)) if sources else "the built-in corpus"))
    documents = read_documents(sources) if sources else builtin_corpus()
    record = write_text_folder(documents, out, given, vocab_size, val_fraction)
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
