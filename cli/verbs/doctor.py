"""`pgpack doctor`: what is installed, what the machine has, and what a job will take on it."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.tables import table
from pgpack.version import __version__

from ..options.cache import folder_option
from ..options.numbers import WholeNumber
from ..options.types import PATH
from ..screen.output import Screen, screen_options

if TYPE_CHECKING:
    from pgpack.bench.rates import Rates

LIBRARIES = ("torch", "numpy", "scipy", "numba", "brotli", "zstandard", "safetensors", "click")
EXAMPLES = (2_000_000, 36_000_000, 135_000_000)  # parameters of jobs, where no model is named
EPILOG = """\b
Examples:
  pgpack doctor
  pgpack doctor SmolLM2-135M/
  pgpack doctor --parameters 360000000 --json
"""


@click.command("doctor", epilog=EPILOG)
@click.argument("model", type=PATH, required=False)
@click.option("--parameters", type=WholeNumber(1), metavar="N", help="Of a model that is not here yet.")
@folder_option
@screen_options
def command(*, model: Path | None, parameters: int | None, cache_folder: Path | None, screen: Screen) -> None:
    """Versions, cores, memory and extras; and what packing and sweeping MODEL will take, in seconds and megabytes.

    The machine is measured for some seconds, and what is found is kept for the estimates of every --dry-run.
    """
    if model is not None and parameters is not None:
        raise click.UsageError("give MODEL or --parameters, not both")
    from pgpack.bench.measuring import measured_rates
    from pgpack.bench.rates import keep_rates
    from pgpack.cache.options import default_folder
    from pgpack.sweep.executors.machine import free_bytes, usable_cores

    sizes = [_parameters(model)] if model else [parameters] if parameters else list(EXAMPLES)
    rates = measured_rates()
    folder, kept = cache_folder or default_folder(), False
    if folder is not None:
        try:
            keep_rates(folder, rates)
            kept = True
        except OSError as error:
            screen.note(f"the rates are not kept: {folder}: {error.strerror or error}")
    cores, memory = usable_cores(), free_bytes()
    jobs = [_job(n, rates) for n in sizes]
    document: dict[str, Any] = {
        "pgpack": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "extras": dict(_extras()),
        "cores": cores,
        "free_bytes": memory,
        "rates": {"trellis": rates.trellis, "model": rates.model, "kept": kept},
        "jobs": jobs,
    }
    screen.show(document, *_lines(document))


def _parameters(model: Path) -> int:
    from pgpack.checkpoint.adapter import open_merged

    return open_merged(model, None, None).n_params


def _job(n_params: int, rates: Rates) -> dict[str, Any]:
    """What to expect of a model of one matrix of so many values."""
    from pgpack.bench.costs import budget_cost, pack_cost, search_recipes
    from pgpack.bench.options import VAL_TOKENS
    from pgpack.fit.effort import DEFAULT, LEVELS

    shapes = {"layer.weight": (max(1, n_params // 512), min(512, n_params))}
    effort = LEVELS[DEFAULT]
    alone = pack_cost(search_recipes(effort, shapes)[-1:], shapes, rates)
    budget = budget_cost(effort, shapes, rates, VAL_TOKENS)
    return {
        "parameters": n_params,
        "fp32_bytes": 4 * n_params,
        "pack_s": alone.total_s,
        "pack_bytes": alone.n_bytes,
        "budget_s": budget.total_s,
        "budget_bytes": budget.n_bytes,
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    from pgpack.progress import duration
    from pgpack.sizes import spoken_size

    yield f"pgpack {document['pgpack']}, python {document['python']}, {document['system']}"
    yield "  ".join(f"{name} {number or 'MISSING'}" for name, number in document["libraries"].items())
    for extra, lacking in document["extras"].items():
        yield f"{extra:12}" + ("ok" if not lacking else f"lacks {', '.join(lacking)}: pip install 'pgpack[{extra}]'")
    free = "an unknown amount of" if document["free_bytes"] is None else spoken_size(document["free_bytes"])
    yield f"{document['cores']} cores, {free} memory free"
    rates = document["rates"]
    yield f"trellis {rates['trellis']:,.0f} values/s, model {rates['model']:.3g} parameters x tokens/s" + (
        "; kept for every --dry-run" if rates["kept"] else ""
    )
    yield table(
        ("parameters", "as fp32", "pack --recipe", "memory", "pack --budget", "memory"),
        [
            (
                job["parameters"],
                spoken_size(job["fp32_bytes"]),
                duration(job["pack_s"]),
                spoken_size(job["pack_bytes"]),
                duration(job["budget_s"]),
                spoken_size(job["budget_bytes"]),
            )
            for job in document["jobs"]
        ],
    )
    yield "(trellis of 64 states; a budget with 32,768 tokens of calibration and 65,536 of evaluation)"


def _extras() -> Iterator[tuple[str, list[str]]]:
    """(extra, what of it is not installed), in the order of the package's own metadata."""
    found: dict[str, list[str]] = {}
    for requirement in _requirements():
        matched = re.match(r"([A-Za-z0-9_.-]+).*extra == ['\"]([a-z]+)['\"]", requirement)
        if matched and matched[2] != "dev":
            lacking = found.setdefault(matched[2], [])
            if _version(matched[1]) is None:
                lacking.append(matched[1])
    yield from found.items()


def _requirements() -> list[str]:
    try:
        return requires("pgpack") or []
    except PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
