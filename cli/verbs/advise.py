"""`pgpack advise`: which size of model for so many bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ..options.numbers import WholeNumber
from ..options.types import PATH, size
from ..screen.output import Screen, picked, screen_options

EPILOG = """\b
Examples:
  pgpack advise --budget 100kB --tokens 500k
  pgpack advise --budget 16MB --tokens 9e9 --law my-law.json
"""


@click.command("advise", epilog=EPILOG)
@click.option("--budget", type=size, required=True, metavar="SIZE", help="Bytes of the packed file: 16MB, 400kB.")
@click.option("--tokens", type=WholeNumber(1), required=True, metavar="N", help="Tokens to train on: 500k, 9e9.")
@click.option("--law", type=PATH, metavar="FILE", help="Another law, of `make bench-budget-size`.")
@screen_options
def command(*, budget: int, tokens: int, law: Path | None, screen: Screen) -> None:
    """How many parameters to train and at how many bits to pack them, for a file of a size.

    The answer is a law's, fitted to models that were trained and packed here at many sizes; it says which, how far it
    errs on models that it was not fitted to, and refuses more than four times beyond them.
    """
    from pgpack.fit.size_law import FORMS, SHIPPED, SizeLaw, advise

    known = SizeLaw.load(law or SHIPPED)
    advice = advise(known, budget, tokens)
    document = {**dataclasses.asdict(advice), **picked(known, "measured_on", "error", "token_error", "form")}
    lines = [
        advice.sentence,
        f"intervals  95 %: {len(known.replicates)} fits to models drawn again; those of the loss also have the error "
        f"on models left out, {known.error:.4f} bits per byte, and where no model has about as many tokens that on "
        f"token counts left out, {known.token_error:.4f}",
        f"from       {known.measured_on}",
        f"law        bits per byte = {FORMS[known.form].text}",
    ]
    if advice.at_edge:
        lines.append("the best size lies at the end of what the law may say; a law of larger models would say more")
    screen.show(document, *lines)
