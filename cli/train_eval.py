"""`pgtrain eval`: bits per byte of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from .output import emit_json, note, shared_options


@click.command(
    "eval",
    epilog="\b\nExamples:\n  pgtrain eval model.safetensors\n"
    "  pgtrain eval final_model.pt --model adapter.py:build --val 'shards/*_val_*.bin' \\\n"
    "      --tokenizer fineweb_1024_bpe.model --seq-len 1024",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--val", help="Glob of the validation shards.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="SentencePiece .model of the shards.")
@click.option("--seq-len", type=click.IntRange(1), help="Tokens per window.")
@click.option("--max-tokens", type=click.IntRange(1), help="Score at most this many tokens.")
@click.option("--model", "model_spec", help="FILE.py:build, a function from state dict to module; or a preset.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@shared_options
def command(
    *,
    checkpoint: Path,
    val: str | None,
    tokenizer: Path | None,
    seq_len: int | None,
    max_tokens: int | None,
    model_spec: str | None,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Bits per byte of CHECKPOINT (.safetensors or .pt), computed as the challenge computes it.

    A checkpoint of `pgtrain run` knows its validation text, tokenizer and model; options win over that.
    """
    from pgtrain.checkpoint import read_checkpoint
    from pgtrain.workbench import open_text

    tensors, metadata = read_checkpoint(checkpoint)
    text = open_text(
        checkpoint,
        metadata,
        tensors,
        val=val,
        tokenizer=tokenizer,
        seq_len=seq_len,
        max_tokens=max_tokens,
        model_spec=model_spec,
        device=device,
    )
    note(f"scoring {text.n_tokens:,} tokens", quiet)
    evaluator = text.evaluator()
    loss = evaluator.evaluate(tensors)
    if as_json:
        emit_json({"checkpoint": str(checkpoint), **loss.as_row(), "digest": evaluator.digest})
        return
    click.echo(f"bpb     {loss.bpb:.6f}")
    click.echo(f"nats    {loss.nats:.6f} per token")
    click.echo(f"text    {loss.n_tokens:,} tokens, {loss.n_text_bytes:,} bytes, {loss.eval_s:.1f} s")
    click.echo(f"digest  {evaluator.digest}")
