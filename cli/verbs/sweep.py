"""`pgpack sweep`: many recipes measured, as a study that can be continued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions
from pgpack.cache.options import CacheOptions

from ..options.cache import cache_options, opened, say_shared
from ..options.executor import ExecutorFlags, executor_options
from ..options.recipe import one_of
from ..options.search import SearchFlags, search_options
from ..options.sizes import SIZE
from ..options.space import AXES, SpaceFlags, axis_options
from ..options.text import bench_of, strict_option, text_options
from ..screen.live_table import shown_live
from ..screen.output import EXIT_RESUMABLE, note, shared_options
from ..screen.stopping import stopping
from .sweep_plan import search_of, show_dry_run, show_reuse
from .sweep_show import nothing_fits, show_swept

if TYPE_CHECKING:
    from pgpack.bench.benches import Benches
    from pgpack.bench.sweeping import Sweep
    from pgpack.cache.store import Cache
    from pgpack.sweep.executors.placement import Placement
    from pgpack.sweep.space import Space

NO_LOSS = (
    "no text is known, so no loss is measured: sizes are set against the error of the decoded weights{hessians}; "
    "for bits per byte give --text PATH, or --val GLOB --tokenizer FILE.model (and --model FILE.py:build if it is "
    "asked for)"
)
HESSIANS = " and, by your Hessians, the loss it is expected to cost"

EPILOG = """\b
Examples:
  pgpack sweep model.safetensors --budget 16MB --out study
  pgpack sweep model.safetensors --bits 4,5,6 --clip-sigmas 8:16:2 --codec brotli:11,rans --out study
  pgpack sweep model.safetensors --recipe 'role:control=cast; *=gptq(bits={4:6},clip={8,12})|rans' --out study
  pgpack sweep model.safetensors --search surrogate --trials 40 --out study
  pgpack sweep seed1.safetensors seed2.safetensors seed3.safetensors --budget 16MB --out study
  pgpack sweep model.safetensors --preset sdclip-brotli --out baseline
"""


@click.command("sweep", epilog=EPILOG)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@axis_options
@click.option(
    "--budget", type=SIZE, metavar="BYTES", help="The size to be best at, such as 16MB, on every checkpoint."
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the study.")
@click.option("--resume", is_flag=True, help="Go on with the study in --out; an error when there is none.")
@click.option("--retry-failed", is_flag=True, help="Measure trials that failed before once more.")
@click.option("--dry-run", is_flag=True, help="Print the recipes (with --resume: what is reused) and stop.")
@search_options
@executor_options
@strict_option
@text_options
@cache_options
@shared_options
def command(
    *,
    checkpoints: tuple[Path, ...],
    space: SpaceFlags,
    budget: int | None,
    out: Path,
    resume: bool,
    retry_failed: bool,
    dry_run: bool,
    search: SearchFlags,
    workers: ExecutorFlags,
    strict: bool,
    text: BenchOptions,
    cache: CacheOptions,
    as_json: bool,
    quiet: bool,
) -> int:
    """Pack, decode and evaluate CHECKPOINT under many recipes, and draw the frontier of bytes and loss.

    Without a space a sensible one is explored; with --budget its last recipe is tuned to it. Lists are
    written a,b,c and ranges lo:hi:step. The folder gets trials.jsonl, frontier.csv, .svg, .png, report.html and
    best.pgpack. Where no text is known, sizes are set against the error of the weights instead (distortion.csv).
    Several checkpoints (seeds) are measured under the same recipes: a recipe's size is that of its largest artifact,
    its loss the mean.
    Tensors that a recipe wants a Hessian for and that have none are packed by the weights alone.
    After Ctrl-C or a kill the same command goes on: it says what it reuses, no trial is repeated.
    """
    one_of(
        {"--space": space.space, "--recipe": space.recipe, "--preset": space.preset, AXES: space.axes or None}, False
    )
    if resume and not (out / "study.json").is_file() and not (out / "distortion.jsonl").is_file():
        raise click.UsageError(f"--resume: {out} holds no study; leave --resume out to begin one")
    if dry_run and not resume:
        show_dry_run(checkpoints, text.base, space.read(), search, budget, as_json)
        return 0
    from pgpack.bench.sweeping import reused, sweep

    text = replace(text, strict=strict)
    benches = _benches(checkpoints, text, quiet, out, opened(cache, quiet))
    asked = _asked(benches, space.read(), search, workers.placement(), cache, out, budget)
    asked = replace(asked, retry_failed=retry_failed)
    if not benches.first.has_text:
        note(NO_LOSS.format(hessians="" if text.calibration is None else HESSIANS), quiet)
    if dry_run:
        show_reuse(reused(benches, asked), as_json)
        return 0
    last_word = f"stopped; repeat the same command to go on, or look at what is there: pgpack frontier {out}"
    with stopping(last_word) as stop:
        try:
            swept = sweep(benches, asked, partial(shown_live, quiet=quiet))
        except KeyboardInterrupt:
            stop.say()
            return EXIT_RESUMABLE
    say_shared(benches.first.cache, quiet)
    show_swept(swept, as_json)
    if swept.best is None and budget is not None:
        raise nothing_fits(swept.study, budget)
    return 0


def _benches(checkpoints: Sequence[Path], text: BenchOptions, quiet: bool, out: Path, cache: Cache) -> Benches:
    """The checkpoints with their model and text. Raises: click.UsageError, SettingError."""
    from pgpack.bench.benches import Benches
    from pgpack.checkpoint.adapter import open_merged

    if len(checkpoints) > 1 and text.calibration is not None:
        raise click.UsageError(
            f"--calibration {text.calibration} is of one checkpoint, and {len(checkpoints)} are given; leave it out, "
            "and each is calibrated on the calibration text"
        )
    loaded = [(path, open_merged(path, text.base)) for path in checkpoints]
    return Benches([bench_of(path, checkpoint, text, quiet, out, cache) for path, checkpoint in loaded])


def _asked(
    benches: Benches,
    space: Space,
    flags: SearchFlags,
    placement: Placement,
    cache: CacheOptions,
    out: Path,
    budget: int | None,
) -> Sweep:
    """What the flags ask for. Raises: click.UsageError, RecipeError."""
    from pgpack.bench.sweeping import Sweep, fills, grid_of

    bench, tensors = benches.first, benches.tensors
    fill = fills(benches, space, budget)
    asked = Sweep(
        out,
        budget=budget,
        fill=fill,
        placement=placement,
        cache=cache,
        space=space.text,
        search_flags=flags.as_text(),
    )
    if not flags.is_grid:
        if not bench.has_text:
            raise click.UsageError(f"--search {flags.name} needs a loss, and no text is known: give --text or --val")
        return replace(asked, search=search_of(flags, space, tensors, budget, bench.text.n_windows))
    return replace(asked, candidates=grid_of(benches, space))
