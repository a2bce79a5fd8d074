"""A click group whose verbs live in their own files and are imported only when used.

Keeps `--help` under 0.3 s: torch is never imported to print a page. Refuses an option of one value that is given
twice: click would take the last one without a word.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import click


class LazyGroup(click.Group):
    """Verb name -> (module below this package, one-line help); the module's `command` is loaded on demand."""

    def __init__(self, *args: Any, verbs: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs:
            return None
        module = importlib.import_module(f".{self.verbs[cmd_name][0]}", __package__)
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            _refuse_repeated(command, name, ctx, rest)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, help_line) for verb, (_, help_line) in self.verbs.items()])


def _refuse_repeated(command: click.Command, name: str | None, parent: click.Context, args: list[str]) -> None:
    """Raises: UsageError for an option of one value that is there more than once, here or in a verb of a verb."""
    context = click.Context(command, info_name=name, parent=parent)
    _, rest, order = command.make_parser(context).parse_args(list(args))
    for parameter, count in Counter(order).items():
        if isinstance(parameter, click.Option) and count > 1 and not (parameter.multiple or parameter.is_flag):
            raise click.UsageError(f"{parameter.opts[-1]} is given {count} times; give it once", context)
    if isinstance(command, click.Group) and rest and (below := command.get_command(context, rest[0])) is not None:
        _refuse_repeated(below, rest[0], context, rest[1:])
