"""`pgpack compare`: models side by side after one prompt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgpack.progress import waiting
from pgpack.tables import decimals, table

from ..options.numbers import WholeNumber
from ..options.types import PATH, require_there
from ..screen.output import Screen, screen_options

if TYPE_CHECKING:
    from pgpack.models.language_model import SideBySide

EPILOG = """\b
Examples:
  pgpack compare SmolLM2-135M/ smol.pgpack --prompt "The capital of France is"
  pgpack compare SmolLM2-135M/ smol-45.pgpack smol-25.pgpack --prompt "1, 2, 3," --json
"""


@click.command("compare", epilog=EPILOG)
@click.argument("models", metavar="A B [C ...]", nargs=-1, required=True, type=PATH)
@click.option("--prompt", required=True, metavar="TEXT", help="What A goes on from.")
@click.option("--max-new-tokens", type=WholeNumber(1), default=32, show_default=True, metavar="N")
@screen_options
def command(*, models: tuple[Path, ...], prompt: str, max_new_tokens: int, screen: Screen) -> None:
    """The greedy tokens of A after a prompt, what each other model would say in their place, and the KL to A.

    Each is an artifact or a model folder; an artifact of weights alone runs with A's config and tokenizer. KL is in
    nats per token, of the other model's distribution to A's, over A's tokens. A dot says what A says.
    """
    if len(models) < 2:
        raise click.UsageError("give two models or more: the first, and those to set beside it")

    require_there(*models)
    with waiting(not screen.quiet, "loading and running the models"):
        from pgpack.bench.speaking import compare_models

        found = compare_models(models, prompt, max_new_tokens)
    others = [{**dataclasses.asdict(other), "mean_kl": other.mean_kl} for other in found.others]
    screen.show({**dataclasses.asdict(found), "others": others}, *_shown(found))


def _shown(found: SideBySide) -> list[str]:
    heads: list[str] = [Path(found.name).name]
    for other in found.others:
        heads += [Path(other.name).name, "KL"]
    rows: list[tuple[Any, ...]] = []
    for i, token in enumerate(found.says):
        row: list[Any] = [_visible(token)]
        for other in found.others:
            row += ["." if other.same[i] else _visible(other.says[i]), other.kl[i]]
        rows.append(tuple(row))
    lines = [table(tuple(heads), rows), "", f"{found.name}: {found.prompt}{''.join(found.says)}"]
    for other in found.others:
        lines.append(
            f"{other.name}: the same token at {sum(other.same)} of {len(other.same)} positions, "
            f"mean KL {decimals(other.mean_kl, 4)} nats per token"
        )
    return lines


def _visible(text: str) -> str:
    """A token with its spaces and line ends seen."""
    return repr(text)[1:-1].replace(" ", "\u2423") or "''"
