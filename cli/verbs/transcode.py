"""`pgpack transcode`: an artifact of the field coded anew, bit for bit the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions
from pgpack.files import replace_file
from pgpack.progress import progress_bar
from pgpack.tables import counted, decimals, table

from ..options.dry_run import dry_run_option, rates_here, show_foreseen
from ..options.output import output_option
from ..options.text import bench_of, evaluator_of, text_options
from ..options.types import PATH
from ..screen.output import ARTIFACT, Screen, claim_output, format_bytes, picked, refuse_other_format, screen_options

if TYPE_CHECKING:
    from pgpack.fit.equal_loss import Matched
    from pgpack.loss.evaluator import BitsPerByte
    from pgpack.transcode import Transcoded

NO_ARTIFACT = "{} is no artifact of a known format; pack a checkpoint with `pgpack pack`"
EPILOG = """\b
Examples:
  pgpack transcode final_model.int8.ptz -o final_model.pgpack
  pgpack transcode final_model.int6.ptz -o final_model.pgpack --val 'fineweb_val_*.bin' \\
      --tokenizer fineweb_8192_bpe.model --seq-len 2048
  pgpack transcode final_model.int8.ptz -o same.pgpack --checkpoint model.safetensors --equal-loss small.pgpack
"""


@click.command("transcode", epilog=EPILOG)
@click.argument("artifact", type=PATH)
@output_option(required=True, type=PATH, help="pgpack artifact to write.")
@click.option("--checkpoint", type=PATH, help="Its fp32 checkpoint: model, text, and KL to it.")
@click.option(
    "--equal-loss",
    type=PATH,
    help="Also pack CHECKPOINT into this file, as small as no more KL than ARTIFACT's allows.",
)
@dry_run_option
@click.option("--force", is_flag=True, help="Replace files that exist.")
@text_options
@screen_options
def command(
    *,
    artifact: Path,
    out: Path,
    checkpoint: Path | None,
    equal_loss: Path | None,
    dry_run: bool,
    force: bool,
    text: BenchOptions,
    screen: Screen,
) -> None:
    """Code ARTIFACT (any format that `inspect` knows) anew without changing a weight, and say what that saves.

    Symbols, scales and raw values are carried over; every kind of them is coded by the smallest of a few chains.
    Both files are decoded and compared bit for bit. With text, the loss of the decoded weights is measured; with
    the checkpoint and --equal-loss, what the engine makes of it at the same loss.
    """
    for path in filter(None, (out, equal_loss)):
        refuse_other_format(path, *ARTIFACT)
    claim_output(out, force, artifact, checkpoint, dry_run=dry_run)
    if equal_loss is not None:
        if checkpoint is None or equal_loss.resolve() == out.resolve():
            raise click.UsageError("--equal-loss packs the fp32 model into a file of its own; give --checkpoint FILE")
        claim_output(equal_loss, force, artifact, checkpoint, dry_run=dry_run)
    if dry_run:
        _show_dry_run(artifact, out, checkpoint, equal_loss, text, screen)
        return
    from pgpack.bench.artifact import naming, read_artifact_file
    from pgpack.transcode import transcode

    given = read_artifact_file(artifact)
    if given is None:
        raise click.UsageError(NO_ARTIFACT.format(artifact))
    with naming(artifact), progress_bar(None, "kind", "choosing codecs", screen.quiet) as bar:
        found = transcode(given.data, lambda kind: bar.update())
    loss = _loss(found, artifact, checkpoint, text, screen)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, found.data)
    document, lines = _document(found, artifact, out, loss), [_text(found, loss), f"written to {out}"]
    if equal_loss is not None and checkpoint is not None and loss is not None:
        matched = _match(loss, checkpoint, equal_loss, text, screen)
        ours, n_bytes = matched.loss, matched.artifact.n_bytes
        document["equal_loss"] = {"out": str(equal_loss), "n_bytes": n_bytes} | ours.as_row()
        lines.append(
            f"at the same loss: yours {format_bytes(found.n_before)}, ours {format_bytes(n_bytes)} "
            f"({n_bytes / found.n_before - 1:+.1%}); {loss.bpb:.6f} and {ours.bpb:.6f} bits per byte, "
            f"KL {decimals(loss.kl or 0, 6)} and {decimals(ours.kl or 0, 6)} nats per token"
        )
        lines.append(f"written to {equal_loss}")
    screen.show(document, *lines)


def _match(loss: BitsPerByte, checkpoint: Path, out: Path, text: BenchOptions, screen: Screen) -> Matched:
    """The engine's file at no more KL, written with its manifest."""
    from pgpack.bench.packed import Packed, evidence_of, write_packed
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.fit.equal_loss import match_kl

    bench = bench_of(checkpoint, open_merged(checkpoint, text.base, text.key), text, screen)
    measurer = bench.measurer()
    matched = match_kl(measurer, loss.kl or 0.0, screen.note)
    calibration = bench.calibration(matched.recipe)
    model = evidence_of(bench)
    packed = Packed(matched.recipe, matched.artifact, calibration, matched.loss, bench.evaluator, model)
    write_packed(out, packed, bench)
    return matched


def _loss(
    found: Transcoded, artifact: Path, checkpoint: Path | None, text: BenchOptions, screen: Screen
) -> BitsPerByte | None:
    """The loss of the decoded weights, where model and text are known."""
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.checkpoint.checkpoint import from_tensors

    if checkpoint is None and not text.names_text:
        screen.note("no loss is measured: give --text PATH --tokenizer PATH, or --checkpoint FILE")
        return None
    subject = from_tensors(found.unpacked.tensors(), source=str(artifact))
    reference = open_merged(checkpoint, text.base, text.key) if checkpoint else None
    evaluator = evaluator_of(artifact, subject, text, screen, checkpoint, reference)
    return evaluator.evaluate(dict(subject.items()))


def _text(found: Transcoded, loss: BitsPerByte | None) -> str:
    from pgpack.transcode import kinds_of

    members = kinds_of(found.unpacked.records)
    stored = {kind: sum(found.report.tensors[each.name] for each in records) for kind, records in members.items()}
    rows: list[tuple[Any, ...]] = [
        (choice.kind, choice.n_tensors, choice.n_symbols, stored[choice.kind], choice.chain)
        for choice in found.choices
    ]
    rows.append(("header, checks", None, None, found.n_bytes - sum(stored.values()), ""))
    n = len(found.unpacked.records) + len(found.unpacked.aliases)
    saved = found.n_before - found.n_bytes
    share = abs(saved) / max(1, found.n_before)
    word = "less" if saved >= 0 else "more: keep yours"
    tied = f", {len(found.unpacked.aliases)} of them tied" if found.unpacked.aliases else ""
    lines = [
        table(("symbols and scales", "tensors", "values", "bytes", "coded by"), rows),
        f"{found.kind}: yours {format_bytes(found.n_before)}, ours {format_bytes(found.n_bytes)} at the same decoded "
        f"weights: {format_bytes(abs(saved))} ({share:.1%}) {word}",
        f"both files decoded, {counted(n, 'tensor')} equal bit for bit{tied}",
    ]
    if loss is not None:
        kl = "" if loss.kl is None else f", KL {decimals(loss.kl, 6)} nats per token to the checkpoint"
        lines.append(f"both {loss.bpb:.6f} bits per byte{kl} on {loss.n_tokens:,} tokens")
    return "\n".join(lines)


def _document(found: Transcoded, artifact: Path, out: Path, loss: BitsPerByte | None) -> dict[str, Any]:
    document = {
        "artifact": str(artifact),
        "kind": found.kind,
        "n_bytes_before": found.n_before,
        "n_bytes": found.n_bytes,
        "out": str(out),
        "tensors": len(found.unpacked.records),
        "aliases": found.unpacked.aliases,
        "equal_bits": True,
        "weights_digest": found.unpacked.digest,
        **picked(found, "encode_s", "decode_s", "choices"),
    }
    return {**document, **loss.as_row()} if loss else document


def _show_dry_run(
    artifact: Path, out: Path, checkpoint: Path | None, equal_loss: Path | None, text: BenchOptions, screen: Screen
) -> None:
    from pgpack.bench.costs import matching_cost, recoding_cost
    from pgpack.bench.foreseen import artifact_values, foreseen_file
    from pgpack.bench.rates import passes_cost

    if (n_values := artifact_values(artifact)) is None:
        raise click.UsageError(NO_ARTIFACT.format(artifact))
    rates, subject = rates_here(), foreseen_file(artifact, checkpoint, text)
    cost = recoding_cost(n_values, rates)
    if subject.n_evaluated:
        cost = cost.then(passes_cost(n_values, {"evaluate": subject.n_run}, rates))
    if equal_loss is not None:
        cost = cost.then(matching_cost(subject.shapes, rates, subject.n_evaluated))
    facts = {"artifact": str(artifact), "out": str(out), "n_params": n_values}
    show_foreseen(screen, {**facts, "tokens": subject.n_evaluated or None}, cost, text.device)
