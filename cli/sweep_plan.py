"""What a sweep would do and what it reuses, before it does it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import emit_json, note
from .space_options import SpaceFlags, candidates_of

if TYPE_CHECKING:
    from pgpack.search_space import Candidate
    from pgpack.sweep.journal import Study
    from pgpack.sweep.resume import Reuse

SHOWN = 5  # recipes of a dry run


def show_dry_run(path: Path, space: SpaceFlags, as_json: bool) -> None:
    """The recipes that would be measured; of an old torch file the shapes are not read (that would load torch)."""
    from pgpack.checkpoint import load_checkpoint
    from pgpack.checkpoint_files import require_file
    from pgpack.recipe import infos

    from .files import opens_without_torch

    require_file(path)
    if opens_without_torch(path):
        loaded = load_checkpoint(path)
        tensors = infos(loaded.stored_shapes)
    else:
        from pgtrain.model_config import GPTConfig
        from pgtrain.tensor_table import tensor_shapes

        note("a torch file this old is not read in a dry run; these are the recipes for the baseline GPT")
        tensors = infos(tensor_shapes(GPTConfig()))
    candidates = candidates_of(space, tensors)
    if as_json:
        emit_json({"n_recipes": len(candidates), "recipes": [str(each.recipe) for each in candidates]})
        return
    click.echo(f"{len(candidates)} recipes")
    for each in candidates[:SHOWN]:
        click.echo(f"  {each.recipe}" + (f"  ({each.label})" if each.label else ""))
    if len(candidates) > SHOWN:
        click.echo(f"  and {len(candidates) - SHOWN} more")


def reused(study: Study, candidates: Sequence[Candidate], missing: Sequence[Candidate]) -> Reuse:
    """The account of what `study`'s folder already holds of `candidates`."""
    from pgpack.sweep.journal import TRIALS_FILE, Journal
    from pgpack.sweep.resume import reuse

    folder = study.directory
    kept = ["the fp32 loss"] if study.trials and study.meta.fp32_bpb is not None else []
    kept += sorted(path.name for path in folder.glob("calibration-*.safetensors"))
    return reuse(study, candidates, missing, kept, Journal(folder / TRIALS_FILE).torn_bytes())


def show_reuse(account: Reuse, as_json: bool) -> None:
    """The account on stdout, for a run that stops there."""
    if as_json:
        emit_json({**dataclasses.asdict(account), "n_missing": account.n_candidates - account.n_measured})
    else:
        click.echo("\n".join(account.sentences()))
