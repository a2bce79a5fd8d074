"""`pgpack generate`: what a model says after a prompt."""

from __future__ import annotations

from pathlib import Path

import click

from pgpack.progress import waiting

from ..options.numbers import WholeNumber
from ..options.types import PATH, require_there
from ..screen.output import Screen, screen_options

EPILOG = """\b
Examples:
  pgpack generate smol.pgpack "The capital of France is"
  pgpack generate SmolLM2-135M/ "Once upon a time" --max-new-tokens 200
"""


@click.command("generate", epilog=EPILOG)
@click.argument("model", type=PATH)
@click.argument("prompt")
@click.option("--max-new-tokens", type=WholeNumber(1), default=64, show_default=True, metavar="N")
@screen_options
def command(*, model: Path, prompt: str, max_new_tokens: int, screen: Screen) -> None:
    """Greedy text from MODEL, an artifact that was packed from a model folder, or such a folder.

    The prompt is taken as it is, without a chat template. Ends at the model's own end of text.
    """
    if not model.exists() and Path(prompt).exists():
        raise click.UsageError(f"{model} is no file, and {prompt} is there: the model comes first, then the prompt")

    require_there(model)
    with waiting(not screen.quiet, f"loading {model}"):
        from pgpack.bench.speaking import open_model

        opened = open_model(model)
    if screen.as_json:
        screen.show({"model": str(model), "prompt": prompt, "text": opened.continued(prompt, max_new_tokens)})
        return
    _ = opened.tokens_of(prompt)  # an empty one is refused before anything is shown
    if not screen.quiet:
        click.echo(prompt, nl=False)
    opened.continued(prompt, max_new_tokens, lambda text: click.echo(text, nl=False))
    click.echo()
