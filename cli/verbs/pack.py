"""`pgpack pack`: checkpoint -> artifact and manifest."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.bench.options import BenchOptions
from pgpack.cache.options import CacheOptions
from pgpack.tables import table

from ..options.cache import cache_options, opened
from ..options.recipe import chosen_recipe, one_of, recipe_options, require_own_container
from ..options.sizes import SIZE
from ..options.submission import SubmissionFlags, require_alone, submission_options
from ..options.text import bench_of, strict_option, text_options
from ..screen.output import emit_json, format_bytes, note, refuse_overwrite, shared_options

if TYPE_CHECKING:
    from pgpack.bench.packed import Packed
    from pgpack.bench.workpiece import Workpiece
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.pack import Artifact
    from pgpack.submission.submission import RunResult

LARGEST = 8  # tensors shown

EPILOG = """\b
Examples:
  pgpack pack model.safetensors --budget 16MB -o model.pgpack
  pgpack pack model.safetensors --budget 500kB --compensate 120 -o model.pgpack
  pgpack pack model.safetensors --preset sdclip-brotli -o baseline.ptz
  pgpack pack model.safetensors --recipe 'role:control=cast; *=gptq(bits=6,clip=12.85)|rans' \\
      --calibration hessians.safetensors -o model.pgpack
  pgpack pack model.safetensors --budget 16MB --submission my_record \\
      --train-script train_gpt.py --log train.log
"""


@click.command("pack", epilog=EPILOG)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@recipe_options
@click.option("--budget", type=SIZE, metavar="BYTES", help="Search for the best recipe that fits, such as 16MB.")
@click.option(
    "--compensate",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="With --budget: quantize in stages; N optimizer steps on calibration text make up for the errors.",
)
@click.option(
    "--tune",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="With --budget: fit the step sizes too, by N optimizer steps on calibration text.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Artifact to write.")
@submission_options
@click.option("--eval", "evaluate", is_flag=True, help="Measure the decoded artifact and record its loss.")
@click.option("--weights-only", is_flag=True, help="Leave config and tokenizer of a model folder out.")
@click.option("--dry-run", is_flag=True, help="Check the recipe against the checkpoint and stop.")
@click.option("--force", is_flag=True, help="Replace the artifact if it exists.")
@strict_option
@text_options
@cache_options
@shared_options
def command(
    *,
    checkpoints: tuple[Path, ...],
    recipe: str | None,
    preset: str | None,
    passthrough: int | None,
    budget: int | None,
    compensate: int,
    tune: int,
    out: Path | None,
    flags: SubmissionFlags,
    evaluate: bool,
    weights_only: bool,
    dry_run: bool,
    force: bool,
    strict: bool,
    text: BenchOptions,
    cache: CacheOptions,
    as_json: bool,
    quiet: bool,
) -> None:
    """Pack CHECKPOINT by a recipe, a preset of the field, or into a byte budget.

    The artifact is decoded once and compared before it is written; OUT.json records what it was made of.
    Of a model folder it also holds what is needed to run it (config, tokenizer, licence), which the budget counts.
    With --budget the step sizes are searched on real bytes, and the loss decides between what fits; exit code 3
    when nothing does.
    With --submission DIR a whole folder is written (README.md, submission.json, a decoder of its own, the script
    packed); --budget is for code and weights together, 16 MB unless it is given, and several checkpoints are seeds.
    Tensors that a recipe wants a Hessian for and that have none are packed by the weights alone, and named.
    """
    text = dataclasses.replace(text, strict=strict)
    if flags.submission is not None:
        if out is not None or force:
            raise click.UsageError("--submission DIR takes the place of -o and --force; DIR must be new")
        from .pack_submission import run_submission

        chosen = one_of({"--recipe": recipe, "--preset": preset}, at_least_one=False)
        if chosen and (compensate or tune):
            raise click.UsageError("--compensate and --tune belong to a search, not to a given recipe")
        require_own_container(recipe, preset)
        makers = [
            _Maker(path, recipe, preset, passthrough, compensate, tune, text, cache, quiet) for path in checkpoints
        ]
        if flags.study is not None and not dry_run:
            _require_study_of(flags.study, makers)
        run_submission(checkpoints, makers, flags, budget, chosen is None, dry_run, as_json, quiet)
        return
    require_alone(flags)
    if len(checkpoints) > 1:
        raise click.UsageError("several checkpoints are the seeds of a --submission DIR; give one")
    if out is None:
        raise click.UsageError("give -o FILE for the artifact, or --submission DIR")
    checkpoint = checkpoints[0]
    one_of({"--recipe": recipe, "--preset": preset, "--budget": budget})
    if budget is not None and passthrough is not None:
        raise click.UsageError("--passthrough belongs to --preset")
    if budget is None and (compensate or tune):
        raise click.UsageError(
            "--compensate and --tune belong to --budget; in a recipe write @compensate=weights(count=N) or "
            "@tune=steps(count=N)"
        )
    refuse_overwrite(out, force or dry_run, checkpoint)
    if dry_run:
        _show_dry_run(checkpoint, text.base, recipe, preset, passthrough, budget, out, as_json)
        return
    from pgpack.bench.packed import write_packed
    from pgpack.bench.packing import fit_packed, pack_recipe
    from pgpack.checkpoint.adapter import open_merged

    loaded = open_merged(checkpoint, text.base)
    if weights_only:
        loaded = loaded.alone()
    bench = bench_of(checkpoint, loaded, text, quiet, cache=opened(cache, quiet, in_memory=budget is not None))
    if budget is not None:
        packed = fit_packed(bench, budget, compensate, tune)
    else:
        given = chosen_recipe(recipe, preset, passthrough, loaded.stored_shapes)
        packed = pack_recipe(bench, given, evaluate)
    write_packed(out, packed, bench)
    _show(out, packed, bench.checkpoint, as_json)


@dataclass
class _Maker:
    """Makes the artifact of one checkpoint of a submission, of at most so many bytes where no recipe is given."""

    path: Path
    recipe: str | None
    preset: str | None
    passthrough: int | None
    compensate: int
    tune: int
    text: BenchOptions
    cache: CacheOptions
    quiet: bool

    @functools.cached_property
    def bench(self) -> Workpiece:
        from pgpack.checkpoint.adapter import open_merged

        cache = opened(self.cache, self.quiet)
        return bench_of(self.path, open_merged(self.path, self.text.base).alone(), self.text, self.quiet, cache=cache)

    def __call__(self, n_bytes: int) -> RunResult:
        from pgpack.submission.submission import RunResult

        packed = self._packed(n_bytes)
        before = self.bench.measurer().fp32_loss() if packed.loss is not None else None
        artifact = packed.artifact.data
        return RunResult(
            None, artifact, str(packed.recipe), self.bench.checkpoint.n_params, None, packed.loss, before
        )

    def _packed(self, n_bytes: int) -> Packed:
        from pgpack.bench.packing import fit_packed, pack_recipe
        from pgpack.errors import CheckpointError, DataError

        if self.recipe is None and self.preset is None:
            return fit_packed(self.bench, n_bytes, self.compensate, self.tune, [])
        tensors = self.bench.checkpoint.stored_shapes
        chosen = chosen_recipe(self.recipe, self.preset, self.passthrough, tensors)
        try:
            self.bench.measurer()
        except (DataError, CheckpointError) as error:
            note(f"no loss is measured ({error})", self.quiet)
            return pack_recipe(self.bench, chosen, evaluate=False)
        return pack_recipe(self.bench, chosen, evaluate=True)


def _require_study_of(directory: Path, makers: Sequence[_Maker]) -> None:
    """Raises StudyError when the study in `directory` is of none of the checkpoints."""
    from pgpack.errors import StudyError
    from pgpack.study.study import Study

    meta = Study.load(directory).meta
    studied = [each.checkpoint_digest for each in meta.checkpoints]
    given = [maker.bench.checkpoint.digest for maker in makers]
    if not set(studied) & set(given):
        raise StudyError(
            f"{directory} is a study of checkpoint {studied[0]} ({meta.checkpoint}), but {makers[0].path} is "
            f"checkpoint {given[0]}; give a study of it as --study, or leave --study out"
        )


def _show(out: Path, packed: Packed, checkpoint: Checkpoint, as_json: bool) -> None:
    artifact, loss = packed.artifact, packed.loss
    bits = 8 * artifact.n_bytes / max(1, checkpoint.n_params)
    if as_json:
        emit_json(
            {
                "artifact": str(out),
                "recipe": str(packed.recipe),
                "recipe_digest": packed.recipe.digest,
                "n_bytes": artifact.n_bytes,
                "bits_per_weight": bits,
                "weights_digest": artifact.weights_digest,
                "quantize_s": artifact.quantize_s,
                "encode_s": artifact.encode_s,
                "decode_s": artifact.decode_s,
                **({"bpb": loss.bpb, "nats": loss.nats, "kl": loss.kl, "eval_s": loss.eval_s} if loss else {}),
                "sizes": {"tensors": dict(artifact.report.tensors), "overhead": dict(artifact.report.overhead)},
            }
        )
        return
    click.echo(f"recipe    {packed.recipe}")
    click.echo(f"size      {format_bytes(artifact.n_bytes)}, {bits:.3f} bits per weight")
    if loss:
        kl = "" if loss.kl is None else f", KL {loss.kl:.5f} nats per token to the checkpoint"
        click.echo(f"loss      {loss.bpb:.5f} bits per byte{kl}")
    times = (
        f"quantize {artifact.quantize_s:.2f} s, encode {artifact.encode_s:.2f} s, decode {artifact.decode_s:.2f} s"
    )
    click.echo(f"times     {times}")
    click.echo(_largest(artifact, checkpoint))
    click.echo(f"written to {out}, described by {out.name}.json")


def _largest(artifact: Artifact, checkpoint: Checkpoint) -> str:
    """The largest tensors, then the rest and the overhead in one line each; sums to the file."""
    by_size = sorted(artifact.report.tensors.items(), key=lambda item: -item[1])
    numel = {record.name: max(1, _numel(record.shape)) for record in artifact.records}
    rows: list[tuple[str, int, float | None]] = [
        (name, n_bytes, 8 * n_bytes / numel[name]) for name, n_bytes in by_size[:LARGEST]
    ]
    if rest := by_size[LARGEST:]:
        rest_bytes, rest_numel = sum(n for _, n in rest), sum(numel[name] for name, _ in rest)
        rows.append((f"{len(rest)} more tensors", rest_bytes, 8 * rest_bytes / rest_numel))
    rows += [(name, n_bytes, None) for name, n_bytes in artifact.report.overhead.items()]
    return table(("where the bytes are", "bytes", "bits/weight"), rows)


def _numel(shape: tuple[int, ...]) -> int:
    n = 1
    for length in shape:
        n *= length
    return n


def _show_dry_run(
    path: Path,
    base: str | None,
    recipe: str | None,
    preset: str | None,
    passthrough: int | None,
    budget: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """What `pack` would do, from names and shapes alone; those of an old torch file are not read (it takes torch)."""
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.checkpoint.files import opens_without_torch, require_file
    from pgpack.recipe.applied import apply

    require_file(path)
    document: dict[str, Any] = {"checkpoint": str(path), "artifact": str(out), "budget": budget}
    if opens_without_torch(path):
        loaded = open_merged(path, base)
        tensors = loaded.stored_shapes
        document |= {"tensors": len(tensors), "n_params": loaded.n_params}
    else:
        tensors = {}
        note("the shapes of a torch file this old are not read in a dry run; the recipe is checked alone")
    if budget is None and (recipe is not None or tensors):
        chosen = chosen_recipe(recipe, preset, passthrough, tensors)
        needy = list(apply(chosen, tensors).needs_hessian) if tensors else []
        document |= {"recipe": str(chosen), "recipe_digest": chosen.digest, "needs_hessian": needy}
    if as_json:
        emit_json(document)
        return
    for key, value in document.items():
        if value is not None:
            click.echo(f"{key:14} {len(value) if isinstance(value, list) else value}")
