"""`pgpack completion`: what makes the shell complete verbs, flags and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..screen.output import Screen, screen_options

SHELLS = ("bash", "zsh", "fish")
EPILOG = """\b
Examples:
  pgpack completion bash >> ~/.bashrc
  pgtrain completion zsh >> ~/.zshrc
  pgpack completion fish > ~/.config/fish/completions/pgpack.fish
"""

ZSH_ON = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"


@click.command("completion", epilog=EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
@screen_options
@click.pass_context
def command(context: click.Context, *, shell: str, screen: Screen) -> None:
    """Print the lines that make SHELL complete this program; append them to what it reads when it starts.

    While completing, the shell asks the program itself, so that new commands and flags need no new lines.
    """
    program = context.find_root().info_name or "pgpack"
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{program}_complete".upper().replace("-", "_")
    asked = kind(context.find_root().command, {}, program, variable)
    source = asked.source_template % asked.source_vars()
    if shell == "zsh":  # whose completion is not on unless its user asked for it: every start would end in an error
        head, _, rest = source.partition("\n")
        source = f"{head}\n{ZSH_ON}\n{rest}"
    if screen.as_json:
        screen.show({"shell": shell, "source": source})
    else:
        click.echo(source)  # as it is: a line of it that is broken means something else
