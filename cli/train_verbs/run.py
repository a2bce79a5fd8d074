"""`pgtrain run`: shards -> checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.progress import progress_bar
from pgpack.text.text_folder import TextFolder
from pgtrain.changed_fields import changed_fields
from pgtrain.model.flop_count import activations_per_token, flop_per_token, orthogonalizing_flop
from pgtrain.model.model_config import ACTIVATIONS, GPTConfig
from pgtrain.model.tensor_table import count_parameters
from pgtrain.presets import find_preset
from pgtrain.training.run_log import log_path
from pgtrain.training.train_config import MAX_VAL_TOKENS, ORTHOGONALIZERS, ROUNDINGS, TrainConfig

from ..options.dry_run import dry_run_option, rates_here
from ..options.numbers import FiniteNumber, WholeNumber
from ..options.output import output_option
from ..options.settings import preset_name
from ..options.types import PATH
from ..screen.next_command import pack_command
from ..screen.output import EXIT_RESUMABLE, Screen, note, picked, refuse_overwrite, require_suffix, screen_options

if TYPE_CHECKING:
    from pgpack.bench.rates import Cost, Rates
    from pgtrain.training.run_log import StepRow
    from pgtrain.training.train import TrainResult


def curriculum(text: str) -> tuple[tuple[float, int], ...]:
    """0:64,0.5:256 as ((0.0, 64), (0.5, 256))."""
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((float(start), int(length)) for start, length in pairs)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a curriculum; write shares and lengths: 0:64,0.5:256") from error


WHOLE, FINITE = WholeNumber(), FiniteNumber()
# option -> field of GPTConfig or TrainConfig; what is not given comes from the preset.
MODEL_OPTIONS: dict[str, tuple[str, Any, str]] = {
    "--layers": ("num_layers", WHOLE, "Blocks."),
    "--dim": ("model_dim", WHOLE, "Width of the residual stream."),
    "--heads": ("num_heads", WHOLE, "Query heads."),
    "--kv-heads": ("num_kv_heads", WHOLE, "Key/value heads."),
    "--mlp-mult": ("mlp_mult", FINITE, "MLP hidden units per channel."),
    "--activation": ("mlp_activation", click.Choice(ACTIVATIONS), "Activation of the MLP."),
    "--seq-len": ("seq_len", WHOLE, "Tokens per sequence."),
}
TRAIN_OPTIONS: dict[str, tuple[str, Any, str]] = {
    "--steps": ("steps", WHOLE, "Optimizer steps."),
    "--batch-tokens": ("batch_tokens", WHOLE, "Tokens per step."),
    "--matrix-lr": ("matrix_lr", FINITE, "Rate of Muon."),
    "--embed-lr": ("embed_lr", FINITE, "Rate of the embedding."),
    "--scalar-lr": ("scalar_lr", FINITE, "Rate of gains and scales."),
    "--warmup": ("warmup_steps", WHOLE, "Steps of linear warmup."),
    "--warmdown": ("warmdown_steps", WHOLE, "Steps of linear warmdown at the end."),
    "--grad-clip": ("grad_clip", FINITE, "Largest gradient norm; 0 turns clipping off."),
    "--ema": ("ema_decay", FINITE, "Decay of the weight average; 0 turns it off."),
    "--seed": ("seed", WHOLE, "Seed of weights and batches."),
    "--max-seconds": ("max_seconds", FINITE, "Stop after this much wall clock; 0 is no limit."),
    "--val-every": ("val_every", WHOLE, "Measure bits per byte every N steps; 0: only at the end."),
    "--min-lr": ("min_lr", FINITE, "Share of the rates at which the warmdown ends."),
    "--orthogonalizer": ("muon_orthogonalizer", click.Choice(ORTHOGONALIZERS), "How Muon orthogonalizes."),
    "--row-norm": ("muon_row_norm", bool, "Rows of unit length before Muon orthogonalizes (MuonEq-R)."),
    "--weight-decay": ("weight_decay", FINITE, "Decay of the matrices."),
    "--embed-weight-decay": ("embed_weight_decay", FINITE, "Decay of embedding and head."),
    "--scalar-weight-decay": ("scalar_weight_decay", FINITE, "Decay of gains and scales."),
    "--swa-every": ("swa_every", WHOLE, "Average every N-th weights of the warmdown (with --ema 0); 0: no."),
    "--curriculum": ("seq_curriculum", curriculum, "Tokens per sequence from a share of the run on: 0:64,0.5:256."),
    "--document-batches": ("document_batches", bool, "Begin sequences where documents begin."),
    "--loops-from": ("loops_from", FINITE, "Share of the run from which a looped model loops."),
    "--qat-bits": ("qat_bits", WHOLE, "Bits of the matrices in quantization-aware training; 0: no."),
    "--qat-clip": ("qat_clip", FINITE, "Their clip in standard deviations; 0: their largest weight."),
    "--qat-embed-bits": ("qat_embed_bits", WHOLE, "Bits of embedding and head; 0: no."),
    "--qat-embed-clip": ("qat_embed_clip", FINITE, "Their clip in standard deviations; 0: their largest weight."),
    "--qat-from": ("qat_from", FINITE, "Share of the run from which weights are quantized."),
    "--qat-rounding": ("qat_rounding", click.Choice(ROUNDINGS), "Gradient of rounding."),
    "--for-packer": ("packer", str, "Train the last part for a recipe with tcq, or for a file of a size: 480kB."),
    "--for-packer-from": ("packer_from", FINITE, "Share of the run from which that is."),
    "--pressure": ("packer_pressure", FINITE, "How hard bytes press on the weights there; 1: as the packer pays."),
    "--micro-batches": ("micro_batches", WHOLE, "Parts of a batch, dealt to the processes of torchrun."),
    "--compile": ("compile_backend", str, "Backend of torch.compile, such as inductor."),
}


def _setting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for flag, (field, kind, text) in reversed({**MODEL_OPTIONS, **TRAIN_OPTIONS}.items()):
        flags = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        function = click.option(flags, field, type=kind, default=None, help=text)(function)
    return function


@click.command(
    "run",
    epilog="\b\nExamples:\n  pgtrain run --data text --preset demo -o model.safetensors\n"
    "  pgtrain run --data text --layers 4 --dim 256 --steps 500 -o model.safetensors --dry-run\n"
    "  pgtrain run --data text --preset lanes-tiny --set attn_gate=window -o gated.safetensors\n"
    "  torchrun --nproc-per-node 2 -m pgpack_cli.pgtrain_app run --data text -o model.safetensors --micro-batches 2",
)
@click.option("--data", required=True, type=PATH, help="Folder of `pgtrain data`.")
@output_option(required=True, type=PATH, help="Checkpoint to write.")
@click.option(
    "--preset",
    type=preset_name,
    metavar="NAME",
    default="demo",
    show_default=True,
    help="Settings to start from, of `pgtrain ls`.",
)
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change any field that --dry-run shows.")
@click.option("--tokenizer", type=PATH, help="Tokenizer of the shards: a .model, a tokenizer.json or a folder.")
@_setting_options
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@dry_run_option
@click.option("--restart", is_flag=True, help="Discard the state of an unfinished run.")
@click.option("--force", is_flag=True, help="Replace the checkpoint if it exists.")
@screen_options
def command(
    *,
    data: Path,
    out: Path,
    preset: str,
    changes: tuple[str, ...],
    tokenizer: Path | None,
    device: str,
    dry_run: bool,
    restart: bool,
    force: bool,
    screen: Screen,
    **settings: Any,
) -> int:
    """Train a GPT on a folder of shards and write one fp32 checkpoint.

    The state of the run lies beside the checkpoint while it lasts. After Ctrl-C or a kill the same command
    continues where it stopped and ends with the same checkpoint. The log is OUT.log.jsonl, its picture OUT.loss.svg.
    """
    require_suffix(out, ".safetensors")
    refuse_overwrite(out, force or dry_run or _is_unfinished(out))
    settings |= changed_fields(changes, GPTConfig(), TrainConfig())
    model, training, folder = _plan(data, tokenizer, preset, settings)
    if dry_run:
        _show_plan(model, training, folder, screen)
        return 0
    from pgpack.bench.text import check_device
    from pgtrain.training.loss_curve import picture_path, read_curve, write_curves
    from pgtrain.training.processes import join_processes, leave_processes
    from pgtrain.training.train import Trainer

    check_device(device)
    processes, device = join_processes(device)
    try:
        trainer = Trainer(model, training, folder, out, device, processes)
        silent = screen.quiet or not processes.leads
        if not silent:
            note(f"{count_parameters(model):,} parameters, {training.steps:,} steps; log in {log_path(out)}")
        train = partial(trainer.train, restart=restart, replace=force)
        result = _train_with_bar(train, training, silent or screen.as_json)
    finally:
        leave_processes(processes)
    if not processes.leads:
        return 0 if result.finished else EXIT_RESUMABLE
    if not result.finished:
        if result.steps > result.resumed_from:
            write_curves(picture_path(out), [read_curve(log_path(out))])
        note(f"stopped at step {result.steps}; the state is saved, repeat the same command to continue")
        return EXIT_RESUMABLE
    _show_result(out, model, training, result, screen)
    screen.note(f"loss curve in {picture_path(out)}")
    return 0


def _is_unfinished(out: Path) -> bool:
    """Whether a run was killed behind its checkpoint: the same command then says so and ends."""
    if not out.exists():
        return False
    from pgtrain.training.resume import state_path

    return state_path(out).exists()


def _plan(
    data: Path, tokenizer: Path | None, preset: str, settings: dict[str, Any]
) -> tuple[GPTConfig, TrainConfig, TextFolder]:
    """Preset plus options; the vocabulary comes from the folder's record when there is one."""
    folder = TextFolder.open(data, tokenizer)
    start = find_preset(preset)
    given = {field: value for field, value in settings.items() if value is not None}
    model_fields = {field.name for field in dataclasses.fields(GPTConfig)}
    vocab_size = folder.recorded_vocab_size()
    if vocab_size is None:  # the tokenizer must be loaded
        from pgpack.text.corpus import vocab_size_of

        vocab_size = vocab_size_of(folder)
    shape = {"vocab_size": vocab_size} | {f: v for f, v in given.items() if f in model_fields}
    model = dataclasses.replace(start.model, **shape)
    training = dataclasses.replace(start.training, **{f: v for f, v in given.items() if f not in model_fields})
    return model, training, folder


def run_cost(model: GPTConfig, training: TrainConfig, val_tokens: int, rates: Rates) -> Cost:
    """What a run will need."""
    from pgpack.bench.rates import training_cost

    seen = training.steps * training.batch_tokens
    n_times = 1 + (training.steps // training.val_every if training.val_every else 0)
    return training_cost(
        count_parameters(model),
        flop_per_token(model) * seen + training.steps * orthogonalizing_flop(model, training.muon_iterations),
        seen,
        n_times * min(val_tokens, MAX_VAL_TOKENS),
        rates,
        per_token=activations_per_token(model),
        n_activations=training.batch_tokens // training.micro_batches * activations_per_token(model),
    )


def _show_plan(model: GPTConfig, training: TrainConfig, folder: TextFolder, screen: Screen) -> None:
    train_tokens, val_tokens = folder.count_tokens()
    seen = training.steps * training.batch_tokens
    cost = run_cost(model, training, val_tokens, rates_here())
    plan = {
        "parameters": count_parameters(model),
        "train_tokens": train_tokens,
        "val_tokens": val_tokens,
        "tokens_seen": seen,
        "epochs": round(seen / max(train_tokens, 1), 3),
        "training_flop": flop_per_token(model) * seen,
    }
    configs = (dataclasses.asdict(model), dataclasses.asdict(training))
    screen.show(
        {
            **plan,
            "cost": cost.as_document(),
            "model": json.loads(model.to_json()),
            "training": dataclasses.asdict(training),
        },
        *(f"{key:15} {value:,}" for key, value in plan.items()),
        *cost.lines(),
        *(f"  {key:20} {value}" for config in configs for key, value in config.items()),
    )


def _train_with_bar(
    train: Callable[[Callable[[StepRow], None]], TrainResult], training: TrainConfig, silent: bool
) -> TrainResult:
    with progress_bar(training.steps, "step", "training", silent) as bar:

        def on_step(row: StepRow) -> None:
            if bar.n == 0 and row.step > 1:  # a resumed run: what lies before does not count for the ETA
                bar.initial = bar.n = row.step - 1
            bar.set_postfix(loss=f"{row.loss:.3f}", refresh=False)
            bar.update()

        return train(on_step)


def _show_result(out: Path, model: GPTConfig, training: TrainConfig, result: TrainResult, screen: Screen) -> None:
    assert result.val is not None
    document = {
        "checkpoint": str(out),
        "parameters": count_parameters(model),
        **picked(result, "steps", "resumed_from"),
        "tokens": result.steps * training.batch_tokens,
        "train_loss": result.train_loss,
        "train_s": result.elapsed_s,
        "qat_recipe": result.qat_recipe,
        **result.val.as_row(),
    }
    lines = [
        f"bpb     {result.val.bpb:.4f} on {result.val.n_tokens:,} validation tokens",
        f"loss    {result.train_loss:.4f} nats per training token, {result.elapsed_s:.0f} s",
        f"written to {out}",
    ]
    if result.qat_recipe is not None:
        lines.append(f"pack the weights it trained with: {pack_command(out, str(result.qat_recipe))}")
    screen.show(document, *lines)
