"""`pgpack sweep`: many recipes measured, as a study that can be continued."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions
from pgpack.cache.options import CacheOptions
from pgpack.fit.effort import DEFAULT, LEVELS
from pgpack.progress import waiting
from pgpack.sizes import Size
from pgpack.tables import counted

from ..options.cache import cache_options, say_shared
from ..options.dry_run import rates_here
from ..options.effort import effort_option
from ..options.metric import metric_option
from ..options.numbers import WholeNumber
from ..options.output import output_option
from ..options.recipe import one_of
from ..options.resume import Asked, refuse_other_checkpoints, resumed, study_of_words
from ..options.search import SearchFlags, search_options
from ..options.space import AXES, SpaceFlags, space_options
from ..options.text import bench_of, say_idle, strict_option, text_options
from ..options.types import FOLDER, PATH, refuse_split_size, resolved
from ..options.types import budget as budget_size
from ..screen.live_table import shown_live
from ..screen.output import EXIT_FAILED, EXIT_RESUMABLE, Screen, note, screen_options
from ..screen.stopping import stopping
from .sweep_show import nothing_fits, require_one, show_swept

if TYPE_CHECKING:
    from pgpack.bench.benches import Benches
    from pgpack.cache.store import Cache
    from pgpack.checkpoint.checkpoint import Checkpoint
    from pgpack.recipe.selector import Shapes
    from pgpack.recipe.spaces import Candidate
    from pgpack.study.frontier import Metric
    from pgpack.sweep.samplers.base import SearchTask
    from pgpack.sweep.space import Space

SHOWN = 5  # recipes of a dry run
NO_LOSS = (
    "no text is known, so no loss is measured: sizes are set against the error of the decoded weights{hessians}; "
    "for bits per byte give --text PATH, or --val GLOB --tokenizer PATH (and --model FILE.py:build if it is "
    "asked for)"
)
HESSIANS = " and, by your Hessians, the loss it is expected to cost"

EPILOG = """\b
Examples:
  pgpack sweep model.safetensors --budget 16MB -o study
  pgpack sweep model.safetensors --bits 4,5,6 --clip-sigmas 8:16:2 --codec brotli:11,rans -o study
  pgpack sweep model.safetensors --recipe 'role:control=cast; *=gptq(bits={4:6},clip={8,12})|rans' -o study
  pgpack sweep model.safetensors --search surrogate --trials 40 -o study
  pgpack sweep seed1.safetensors seed2.safetensors seed3.safetensors --budget 16MB -o study
  pgpack sweep model.safetensors --preset sdclip-brotli -o baseline
  pgpack sweep --resume study
  pgpack sweep --check study
"""


def _check(context: click.Context, _: click.Parameter, folder: Path | None) -> None:
    """Prints which files of a study are whole and ends, before checkpoints are asked for."""
    if folder is None or context.resilient_parsing:
        return
    from pgpack.report.intact import check_study

    found = check_study(folder)
    width = max(len(file.name) for file in found)
    Screen().show(None, *(f"{'ok  ' if file.ok else 'FAIL'}  {file.name:{width}}  {file.detail}" for file in found))
    context.exit(0 if all(file.ok for file in found) else EXIT_FAILED)


@click.command("sweep", epilog=EPILOG)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, type=PATH)
@space_options
@click.option(
    "--budget",
    type=budget_size,
    metavar="SIZE",
    help="The size to be best at, such as 16MB or 10%, on all checkpoints.",
)
@effort_option("With --budget: what is spent on the recipe that is tuned to it")
@metric_option("Loss that recipes are compared by, in table, pictures and choice [default: kl, without text error].")
@output_option(type=FOLDER, help="Folder of the study.")
@click.option(
    "--check",
    type=FOLDER,
    metavar="STUDY",
    callback=_check,
    is_eager=True,
    expose_value=False,
    help="Say which files of a study are damaged and stop: exit code 4 where one is.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a study, with its checkpoints and flags: --resume STUDY; an error when there is none.",
)
@click.option("--extend", is_flag=True, help="With --resume: take other flags than the study's, and keep its trials.")
@click.option("--retry-failed", is_flag=True, help="Measure trials that failed before once more.")
@click.option("--dry-run", is_flag=True, help="Print the recipes (with --resume: what is reused) and stop.")
@search_options
@click.option("--jobs", type=WholeNumber(1), metavar="N", help="Worker processes [default: what cores allow].")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Measure on a Dask cluster: tcp://HOST:PORT or its scheduler file."
)
@strict_option
@text_options
@cache_options
@screen_options
def command(
    *,
    checkpoints: tuple[Path, ...],
    space: SpaceFlags,
    budget: Size | None,
    effort: int | None,
    metric: Metric | None,
    out: Path | None,
    resume: bool,
    extend: bool,
    retry_failed: bool,
    dry_run: bool,
    search: SearchFlags,
    jobs: int | None,
    scheduler: str | None,
    strict: bool,
    text: BenchOptions,
    cache: CacheOptions,
    screen: Screen,
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
    if jobs is not None and scheduler is not None:
        raise click.UsageError("--jobs is for this machine; a cluster has the workers that it has: leave one out")
    one_of(
        {"--space": space.space, "--recipe": space.recipe, "--preset": space.preset, AXES: space.axes or None}, False
    )
    refuse_split_size(budget, checkpoints)
    if search.is_grid and search != SearchFlags():
        raise click.UsageError("--trials and --seed belong to --search NAME; without it all of the space is measured")
    if extend and not resume:
        raise click.UsageError("--extend belongs to --resume")
    checkpoints, out = study_of_words(checkpoints, out, resume)
    wanted = space.read()
    text = dataclasses.replace(text, strict=strict)
    if resume:
        asked_now = resumed(out, Asked(checkpoints, wanted, search, budget, text), extend, screen.note)
        checkpoints, wanted, search = asked_now.checkpoints, asked_now.space, asked_now.search
        budget, text = asked_now.budget, asked_now.text
    if effort is not None and (budget is None or not wanted.is_default):
        raise click.UsageError("--effort belongs to --budget and to the default space, whose last recipe it tunes")
    if dry_run and not resume:
        _show_dry_run(checkpoints, text, wanted, search, budget, cache, screen)
        return 0
    from pgpack.bench.same_text import refuse_other_text
    from pgpack.bench.sweeping import Sweep, fills, grid_of, reused, sweep
    from pgpack.cache.opening import open_cache
    from pgpack.sweep.executors.placement import Placement

    refuse_other_text(out, checkpoints[0], text)
    spent = LEVELS[DEFAULT if effort is None else effort]
    benches = _benches(checkpoints, text, screen, out, open_cache(cache, screen.note), spent.calib is not None)
    first = benches.first
    refuse_other_checkpoints(out if resume and not extend else None, benches)
    limit = resolved(budget, first.checkpoint.fp32_bytes)
    if not search.is_grid and not first.has_text:
        raise click.UsageError(f"--search {search.name} needs a loss, and no text is known: give --text or --val")
    asked = Sweep(
        out,
        candidates=grid_of(benches, wanted) if search.is_grid else (),
        search=None if search.is_grid else _search_of(search, wanted, benches.tensors, limit, first.text.n_windows),
        budget=limit,
        fill=fills(benches, wanted, limit),
        effort=spent,
        retry_failed=retry_failed,
        placement=Placement(jobs, scheduler),
        cache=cache,
        space=wanted.text,
        search_flags=search.as_text(),
        metric=metric,
    )
    if not first.has_text:
        screen.note(NO_LOSS.format(hessians="" if text.calibration is None else HESSIANS))
    if dry_run:
        account = reused(benches, asked)
        document = {**vars(account), "n_missing": account.n_missing}
        screen.show(document, *account.sentences())
        return 0
    with stopping(partial(_last_word, out)) as stop:
        try:
            swept = sweep(benches, asked, partial(shown_live, quiet=screen.quiet))
        except KeyboardInterrupt:
            stop.say()
            return EXIT_RESUMABLE
    say_shared(first.cache, screen)
    show_swept(swept, screen)
    require_one(swept.study)
    if swept.best is None and limit is not None:
        raise nothing_fits(swept.study, limit)
    return 0


def _last_word(out: Path) -> str:
    if not (out / "trials.jsonl").is_file() or not (out / "trials.jsonl").stat().st_size:
        return "stopped before the first trial; repeat the same command to begin"
    look = shlex.join(["pgpack", "frontier", str(out)])
    return f"stopped; repeat the same command to go on, or look at what is there: {look}"


def _benches(
    checkpoints: Sequence[Path], text: BenchOptions, screen: Screen, out: Path, cache: Cache, draws: bool
) -> Benches:
    """The checkpoints with their model and text; where there is none, what flags are for nothing is said, unless some
    recipe `draws` its own. Raises: click.UsageError, SettingError."""
    from pgpack.bench.benches import Benches
    from pgpack.checkpoint.adapter import open_merged

    if len(checkpoints) > 1 and text.calibration is not None:
        raise click.UsageError(
            f"--calibration {text.calibration} is of one checkpoint, and {len(checkpoints)} are given; leave it out, "
            "and each is calibrated on the calibration text"
        )
    with waiting(not screen.quiet, "loading"):
        loaded = [(path, open_merged(path, text.base, text.key)) for path in checkpoints]
    say_idle(loaded[0][1], text, screen, draws)
    several = len(loaded) > 1
    return Benches([bench_of(*each, text, screen, out, cache, several) for each in loaded])


def _show_dry_run(
    paths: Sequence[Path],
    text: BenchOptions,
    space: Space,
    search: SearchFlags,
    budget: Size | None,
    cache: CacheOptions,
    screen: Screen,
) -> None:
    """The recipes that would be measured, of a search those that it asks for first."""
    from pgpack.bench.costs import grid_cost
    from pgpack.bench.doomed import refuse_hopeless
    from pgpack.bench.foreseen import HOPELESS
    from pgpack.checkpoint.files import require_file
    from pgpack.sweep.space import in_our_format

    for path in paths:
        require_file(path)
    tensors, loaded, evaluated = _tensors(paths[0], text)
    companions = () if loaded is None else loaded.companions
    limit = resolved(budget, 4 * sum(math.prod(shape) for shape in tensors.values()))
    if limit is not None and loaded is not None and space.is_default and (evaluated or not text.strict):
        refuse_hopeless(loaded, limit, most=HOPELESS)
    head, facts = "", {}
    if search.is_grid:
        candidates: Sequence[Candidate] = space.candidates(tensors)
        if companions and space.is_default:
            candidates = in_our_format(candidates)
    else:
        found = _search_of(search, space, tensors, limit).begin()
        candidates = found.sampler.ask().candidates
        facts = {"search": search.as_text(), "n_trials": found.n_trials, "n_points": found.n_points}
        among = "" if found.n_points is None else f" in a space of {found.n_points:,}"
        head = f"{search.as_text()}: at most {found.n_trials} trials{among}; it begins with these "
    recipes = [str(each.recipe) for each in candidates]
    document = {"n_recipes": len(candidates), "n_checkpoints": len(paths), "recipes": recipes, **facts}
    lines = [
        f"{head}{counted(len(candidates), 'recipe')}" + (f" on {len(paths)} checkpoints" if len(paths) > 1 else "")
    ]
    lines += [f"  {each.recipe}" + (f"  ({each.label})" if each.label else "") for each in candidates[:SHOWN]]
    if len(candidates) > SHOWN:
        lines.append(f"  and {len(candidates) - SHOWN} more")
    rates = rates_here(cache.folder)
    cost = grid_cost([each.recipe for each in candidates], tensors, rates, evaluated)
    n_trials = len(candidates) if search.is_grid else found.n_trials
    cost = cost.times(len(paths) * n_trials / max(1, len(candidates)))
    screen.show({**document, "cost": cost.as_document()}, *lines, *cost.lines())


def _search_of(
    flags: SearchFlags, space: Space, tensors: Shapes, budget: int | None, n_windows: int | None = None
) -> SearchTask:
    """The search that the flags name, on a text of `n_windows` (None: not known yet).

    Raises: click.UsageError, RecipeError.
    """
    from pgpack.sweep.samplers.base import SearchTask

    if flags.name == "ladder" and not space.is_default:
        raise click.UsageError("--search ladder turns the engine's own dial; it takes no space")
    points = space.points(tensors)
    return SearchTask(flags.name, tensors, flags.trials, flags.seed, points, budget, n_windows)


def _tensors(path: Path, text: BenchOptions) -> tuple[Shapes, Checkpoint | None, int]:
    """What recipes are made for, the checkpoint, tokens that are evaluated; an old torch file is not read (that would
    load torch)."""
    from pgpack.bench.foreseen import evaluated_tokens
    from pgpack.checkpoint.adapter import open_merged
    from pgpack.checkpoint.files import opens_without_torch

    if opens_without_torch(path):
        loaded = open_merged(path, text.base, text.key)
        return loaded.stored_shapes, loaded, evaluated_tokens(path, loaded, text)
    from pgtrain.model.model_config import GPTConfig
    from pgtrain.model.tensor_table import tensor_shapes

    note("a torch file this old is not read in a dry run; these are the recipes for the baseline GPT")
    return tensor_shapes(GPTConfig()), None, evaluated_tokens(path, None, text)
