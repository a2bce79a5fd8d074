"""`make bench-search`: how much of an exhaustive grid's frontier a search finds, and for what share of its cost.

    three dials of GPTQ, 216 recipes --pgpack sweep, an empty cache------------------> the grid's frontier, its cost
                                     --pgpack sweep --search, an empty cache each----> the search's frontier and cost
                                     --samplers asked again, answered from the grid--> the same over several seeds

Share of the frontier: hypervolume, linear in bytes and loss, of what the search measured over that of the whole grid;
the corner is the largest size and loss on the grid's frontier, for each metric. Costs are processor seconds of a
process and what it starts, calibration and the fp32 model's own loss included on both sides; a replay costs no time,
so for it the share of trials is given, which on this grid are of nearly equal cost.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pgpack.study.frontier import Metric, hypervolume, measured, pareto, points_of
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from pgpack.sweep.samplers.base import Batch, RandomSampler, Sampler
from pgpack.sweep.samplers.optuna_samplers import OptunaSampler
from pgpack.sweep.samplers.space import SearchSpace, template_of
from pgpack.sweep.samplers.surrogate import SurrogateSampler
from tests.bench.pack_36m import machine
from tests.bench.sweep_cost import Spent, say, spent

GOAL, COST_GOAL = 0.99, 0.20
TEMPLATE = (
    "ndim<=1=cast|shuffle|brotli; role:control=cast|shuffle|brotli; "
    "role:embedding=gptq(bits=8,clip={14,20,28,41,57,83})|rans; "
    "role:attention=gptq(bits=8,clip={28,41,57,83,114,159})|rans; "
    "*=gptq(bits=8,clip={28,41,57,83,114,159})|rans"
)
SHARES = (0.05, 0.10, 0.15, 0.20)
SEEDS = range(5)
RUNS = (("surrogate", 36), ("halving", 48))
METRICS: tuple[Metric, ...] = ("kl", "bpb")
Document = dict[str, Any]


class Grid:
    """What is known of every recipe, and how much of it some of them are worth."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = tuple(trials)
        self.by_recipe = {trial.recipe_digest: trial for trial in trials}

    def share(self, trials: Sequence[Trial], metric: Metric) -> float:
        """Hypervolume of `trials` over the grid's."""
        front = points_of(pareto(self.trials, metric), metric)
        corner = (float(front[:, 0].max()), float(front[:, 1].max()))
        return hypervolume(points_of(trials, metric), corner) / hypervolume(front, corner)

    def found(self, trials: Sequence[Trial]) -> dict[str, float]:
        """The share by metric."""
        return {metric: self.share(trials, metric) for metric in METRICS}


def samplers(space: SearchSpace, n_trials: int, seed: int) -> Iterator[tuple[str, Sampler]]:
    """Those that evaluate all of the text, which a replay can answer."""
    yield "surrogate", SurrogateSampler(space, n_trials, seed)
    yield "random", RandomSampler(space, n_trials, seed)
    if importlib.util.find_spec("optuna") is not None:
        for name in ("tpe", "nsga2"):
            yield name, OptunaSampler(space, n_trials, seed, name)


def replay(sampler: Sampler, grid: Grid) -> list[Trial]:
    """What `sampler` asks for, in its order, when it is told the grid's rows."""
    asked: list[Trial] = []
    batch: Batch
    while (batch := sampler.ask()).candidates:
        rows = [grid.by_recipe[candidate.recipe.digest] for candidate in batch.candidates]
        asked += rows
        sampler.tell(rows)
    return asked


def replays(grid: Grid, space: SearchSpace) -> Document:
    """Median and worst share over the seeds, by sampler, metric and share of the grid's trials."""
    n_most = int(max(SHARES) * len(grid.trials))
    orders: dict[str, list[list[Trial]]] = {}
    for seed in SEEDS:
        for name, sampler in samplers(space, n_most, seed):
            orders.setdefault(name, []).append(replay(sampler, grid))
    table: Document = {}
    for name, runs in orders.items():
        for share in SHARES:
            count = int(share * len(grid.trials))
            cell: Document = {"n_trials": count}
            for metric in METRICS:
                shares = [grid.share(run[:count], metric) for run in runs]
                cell[metric] = {"median": statistics.median(shares), "worst": min(shares)}
            table.setdefault(name, {})[f"{share:.2f}"] = cell
    return table


def run(checkpoint: Path, folder: Path, max_tokens: int, study: str, *flags: object) -> tuple[Study, Spent]:
    """One sweep by the command in a cache of its own."""
    where = ("--out", folder / study, "--cache", folder / f"{study}-cache", "--max-tokens", max_tokens, "--jobs", 1)
    _, cost = spent("sweep", checkpoint, "--recipe", TEMPLATE, *where, *flags)
    say(study, cost)
    return Study.load(folder / study), cost


def measure(checkpoint: Path, folder: Path, max_tokens: int) -> Document:
    """The whole bench as the JSON document."""
    grid_study, grid_cost = run(checkpoint, folder, max_tokens, "grid")
    grid = Grid(measured(grid_study.trials))
    if len(grid.trials) != len(grid_study.trials):
        raise SystemExit(f"{len(grid_study.trials) - len(grid.trials)} trials of the grid failed")
    runs = {}
    for name, n_trials in RUNS:
        study, cost = run(checkpoint, folder, max_tokens, name, "--search", name, "--trials", n_trials)
        runs[name] = {
            "n_full": len(study.trials),
            "n_partial": len(study.partial),
            "cost": asdict(cost),
            "cost_share": cost.processor_s / grid_cost.processor_s,
            "found": grid.found(study.trials),
        }
    space = SearchSpace((template_of(TEMPLATE),))
    return {
        "machine": machine(),
        "checkpoint": checkpoint.name,
        "n_params": (grid_study.meta.fp32_n_bytes or 0) // 4,
        "max_tokens": max_tokens,
        "n_grid": len(grid.trials),
        "n_front": {metric: len(pareto(grid.trials, metric)) for metric in METRICS},
        "grid_cost": asdict(grid_cost),
        "goal": {"hypervolume": GOAL, "cost": COST_GOAL},
        "runs": runs,
        "seeds": len(SEEDS),
        "replays": replays(grid, space),
    }


def page(document: Document) -> str:
    """The document for people."""
    cost, host = document["grid_cost"], document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    lines = [
        "# A search beside the exhaustive grid",
        "",
        f"`make bench-search`: {document['n_grid']} recipes (three dials of GPTQ: embedding, attention, the other "
        f"matrices) on `{document['checkpoint']}`, {document['n_params']:,} parameters, {document['max_tokens']:,} "
        f"held-out tokens. {host['cpu']}, {host['cores']} cores, {host['system']}; {versions}.",
        "",
        f"The grid costs {cost['processor_s']:.0f} s of processor time ({cost['wall_s']:.0f} s wall) and has "
        f"{document['n_front']['kl']} points on its frontier by KL, {document['n_front']['bpb']} by bits per byte. "
        f"Goal: at least {GOAL:.0%} of its hypervolume for at most {COST_GOAL:.0%} of its cost.",
        "",
        "## Real runs, each from an empty cache",
        "",
        "| search | trials on all of the text | on a part of it | cost | hypervolume, KL | bits/byte | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in document["runs"].items():
        shares = found["found"]
        holds = min(shares["kl"], shares["bpb"]) >= GOAL and found["cost_share"] <= COST_GOAL
        lines.append(
            f"| {name} | {found['n_full']} | {found['n_partial']} | {found['cost_share']:.1%} | "
            f"{shares['kl']:.2%} | {shares['bpb']:.2%} | {_verdict(holds)} |"
        )
    lines += [
        "",
        "Costs are processor seconds of the whole command; calibration and the fp32 model's own loss are in them. "
        "Samplers rank by KL; the frontier in bits per byte, which is noisier, is found beside it.",
        "",
        f"## Samplers answered from the grid, {document['seeds']} seeds: median (worst)",
        "",
        "| sampler | trials | share of trials | hypervolume, KL | bits/byte | goal |",
        "|---|---|---|---|---|---|",
    ]
    for name, table in document["replays"].items():
        for share, cell in table.items():
            texts = " | ".join(f"{cell[m]['median']:.2%} ({cell[m]['worst']:.2%})" for m in METRICS)
            holds = min(cell["kl"]["worst"], cell["bpb"]["worst"]) >= GOAL
            lines.append(f"| {name} | {cell['n_trials']} | {float(share):.0%} | {texts} | {_verdict(holds)} |")
    lines += [
        "",
        "The surrogate draws nothing in a space this small, so its seeds agree. Halving needs rows on a part of the "
        "text, which the grid has not, and is only run for real.",
        "",
    ]
    return "\n".join(lines)


def _verdict(holds: bool) -> str:
    return "met" if holds else "missed *(negative)*"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="a search beside the exhaustive grid")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--max-tokens", type=int, default=32768, help="evaluated tokens")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, required=True)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        document = measure(flags.checkpoint, Path(temporary), flags.max_tokens)
    flags.json.write_text(json.dumps(document, indent=1) + "\n")
    flags.markdown.write_text(page(document))


if __name__ == "__main__":
    main()
