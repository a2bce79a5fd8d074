"""`pgtrain eval`: bits per byte of a checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions

from ..options.dry_run import dry_run_option, rates_here, show_foreseen
from ..options.numbers import FiniteNumber, WholeNumber
from ..options.text import key_option
from ..options.types import PATH, require_there
from ..screen.output import Screen, note, screen_options

if TYPE_CHECKING:
    from pgpack.loss.evaluator import Evaluator


@click.command(
    "eval",
    epilog="\b\nExamples:\n  pgtrain eval model.safetensors\n"
    "  pgtrain eval model.safetensors --stride 64 --documents\n"
    "  pgtrain eval model.safetensors --stride 64 --ttt sgd --ttt-lr 0.01 --freeze-blocks 2\n"
    "  pgtrain eval final_model.pt --model lanes --set lane_start=7\n"
    "  pgtrain eval final_model.pt --model adapter.py:build --val 'shards/*_val_*.bin' \\\n"
    "      --tokenizer fineweb_1024_bpe.model --seq-len 1024",
)
@click.argument("checkpoint", type=PATH)
@click.option("--text", multiple=True, metavar="PATH", help="Text to evaluate on: files, folders, or builtin.")
@click.option("--field", metavar="NAME", help="What holds the text in .jsonl and .parquet: text by default.")
@click.option("--val", metavar="GLOB", help="Token shards to evaluate on, or a text as --text takes it, all of it.")
@click.option("--tokenizer", type=PATH, help="SentencePiece .model, or a tokenizer.json.")
@click.option("--seq-len", type=WholeNumber(1), help="Tokens per window.")
@click.option("--max-tokens", type=WholeNumber(1), help="Score at most this many tokens.")
@click.option("--model", "model_spec", help="FILE.py:build, a function from state dict to module; or a preset.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="A field of a pgtrain model.")
@click.option("--stride", type=WholeNumber(1), help="Slide the window by this many tokens; 64 in the challenge.")
@click.option("--documents", is_flag=True, help="Let no context cross the start of a document.")
@click.option("--loops", type=WholeNumber(0), help="Repeat the model's loop this often instead of as trained.")
@click.option("--bf16", is_flag=True, help="Forward pass in bfloat16: faster on a GPU, a little noisier.")
@click.option("--ttt", type=click.Choice(("sgd", "lora")), help="Score-first test-time training.")
@click.option("--ttt-chunk", "chunk_tokens", type=WholeNumber(1), help="Tokens scored before they are trained on.")
@click.option("--ttt-lr", "lr", type=FiniteNumber(0), help="Its learning rate.")
@click.option("--ttt-epochs", "epochs", type=WholeNumber(0), help="Its passes over each scored chunk.")
@click.option("--ttt-rank", "rank", type=WholeNumber(1), help="Rank of its adapters (lora).")
@click.option("--freeze-blocks", type=WholeNumber(0), help="First blocks that it must not change.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@dry_run_option
@key_option
@screen_options
def command(
    *,
    checkpoint: Path,
    text: tuple[str, ...],
    field: str | None,
    val: str | None,
    tokenizer: Path | None,
    seq_len: int | None,
    max_tokens: int | None,
    model_spec: str | None,
    changes: tuple[str, ...],
    stride: int | None,
    documents: bool,
    loops: int | None,
    bf16: bool,
    ttt: str | None,
    device: str,
    dry_run: bool,
    key: str | None,
    screen: Screen,
    **ttt_settings: Any,
) -> None:
    """Bits per byte of CHECKPOINT (.safetensors or .pt), computed as the challenge computes it.

    A checkpoint of `pgtrain run` knows its validation text, tokenizer and model; options win over that. With --ttt
    the model learns from each chunk of the text after it has been scored, never before. Numbers with equal digests
    (over text, tokenizer, windows and way) compare exactly.
    """
    given = {name: value for name, value in ttt_settings.items() if value is not None}
    if given and ttt is None:
        raise click.UsageError("settings of test-time training are given without --ttt; add --ttt sgd or --ttt lora")
    named = str(tokenizer) if tokenizer else None
    options = BenchOptions(
        val, None, named, seq_len, max_tokens, device, model_spec, changes, text=text, field=field, key=key
    )
    if dry_run:
        _show_dry_run(checkpoint, options, stride, ttt, epochs=given.get("epochs"), screen=screen)
        return
    require_there(checkpoint)
    from pgpack.bench.text import open_text
    from pgpack.checkpoint.checkpoint import load_checkpoint
    from pgpack.loss.sliding import EvaluationWay

    loaded = load_checkpoint(checkpoint, key=key)
    opened, tensors = open_text(checkpoint, loaded, options), dict(loaded.items())
    for line in opened.notes:
        screen.note(line)
    screen.note(f"scoring {opened.n_tokens:,} tokens")
    fixed = opened.evaluator(way=EvaluationWay(stride or 0, documents, loops, bf16))
    evaluator: Evaluator = fixed
    if ttt is not None:
        from pgtrain.training.ttt import TTTEvaluator
        from pgtrain.training.ttt_config import TTTConfig

        evaluator = learner = TTTEvaluator(fixed, dataclasses.replace(TTTConfig.of_kind(ttt), **given))
    loss = evaluator.evaluate(tensors)
    report = {} if ttt is None or learner.report is None else dataclasses.asdict(learner.report)
    weights = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    way: dict[str, Any] = {"seq_len": opened.seq_len, "stride": fixed.stride, "documents": documents}
    way |= {"loops": loops, "bf16": bf16, "ttt": ttt}
    if report and not report["steps"] and not screen.as_json:
        note(f"nothing was trained on: one chunk holds all {opened.n_tokens:,} tokens; give a smaller --ttt-chunk")
    figures = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in report.items())
    subject = {"checkpoint": str(checkpoint), "checkpoint_sha256": weights}
    screen.show(
        {**subject, **loss.as_row(), "digest": evaluator.digest, **way, **report},
        f"bpb     {loss.bpb:.6f}",
        f"nats    {loss.nats:.6f} per token",
        f"text    {loss.n_tokens:,} tokens, {loss.n_text_bytes:,} bytes, {loss.eval_s:.1f} s",
        f"way     {_way_text(way)}",
        *([f"ttt     {figures}"] if report else []),
        f"digest  {evaluator.digest} of text and way",
        f"sha256  {weights} of {checkpoint.name}",
    )


def _way_text(way: dict[str, Any]) -> str:
    """One line for people: windows of 1,024, stride 64, documents apart."""
    parts = [f"windows of {way['seq_len']:,}", f"stride {way['stride']:,}"]
    parts += ["documents apart"] * way["documents"]
    if way["loops"] is not None:
        parts.append(f"{way['loops']} loops")
    parts += ["bf16"] * way["bf16"]
    if way["ttt"]:
        parts.append(f"score-first {way['ttt']}")
    return ", ".join(parts)


def _show_dry_run(
    checkpoint: Path, options: BenchOptions, stride: int | None, ttt: str | None, epochs: int | None, screen: Screen
) -> None:
    """A window that slides runs a token so often as it overlaps itself; what learns runs it backward as well."""
    from pgpack.bench.foreseen import foreseen_run
    from pgpack.bench.rates import passes_cost
    from pgtrain.training.ttt_config import TTTConfig

    subject = foreseen_run(checkpoint, options)
    overlap = 1.0 if stride is None or not subject.seq_len else max(1.0, subject.seq_len / stride)
    passes = {"evaluate": overlap * subject.n_evaluated}
    if ttt is not None:
        n_epochs = TTTConfig.of_kind(ttt).epochs if epochs is None else epochs
        passes["learn"] = 3.0 * n_epochs * subject.n_evaluated
    facts = {"checkpoint": str(checkpoint), "n_params": subject.n_values, "tokens": subject.n_evaluated}
    show_foreseen(screen, facts, passes_cost(subject.n_values, passes, rates_here()), options.device)
