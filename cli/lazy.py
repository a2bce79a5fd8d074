"""A click group whose verbs live in their own files and are imported only when used.

Keeps `--help` under 0.3 s: torch is never imported to print a page. Answers a mistyped verb or flag with the nearest.
Refuses an option of one value that is given twice: click would take the last one without a word.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from pgpack.stages import did_you_mean

USAGE = 2  # exit code
ALIKE = 0.8  # of a flag to one that is meant, where most flags belong to commands
SENTENCE = 200  # characters of a verb's first sentence at most
OTHER_WORDS = {  # that other programs, or the other of ours, have for what a command does
    "pgtrain": {
        "run": "train fit", "data": "tokenize", "ls": "list presets", "curve": "plot", "adopt": "", "finetune": "",
    },
    "pgpack": {
        "pack": "compress quantize encode", "unpack": "decompress decode export convert extract",
        "inspect": "info show", "eval": "evaluate", "verify": "check", "generate": "chat", "sweep": "search tune",
    },
}  # fmt: skip
WIDEST = 110  # columns of a help page; of a narrower terminal all


class Group(click.Group):
    """A group that answers a mistyped verb with the nearest, and says where the flags of a verb stand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [name for each in self.get_params(ctx) for name in each.opts]
            program, wrong = ctx.command_path, error.option_name
            behind = f"; the flags of a command stand behind it: {program} COMMAND {wrong}"
            near = did_you_mean(wrong, known, ALIKE) or behind
            raise click.UsageError(f"no option {wrong!r} of {program}{near}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with their first sentence whole, which click would cut."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, verb.get_short_help_str(SENTENCE)) for name, verb in found.items() if verb is not None]
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            near = _meant(args[0], known)
            raise click.UsageError(f"no command {args[0]!r}{near}", ctx)
        return super().resolve_command(ctx, args)


def _meant(word: str, known: Sequence[str]) -> str:
    """What a word that is no command may mean, as the end of a sentence: a command in words of other programs, one
    that is spelled alike, or one of our other program."""
    found = [(program, verb) for program, verbs in OTHER_WORDS.items() for verb, words in verbs.items()
             if word.lower() in (verb, *words.split())]  # fmt: skip
    own = [f"; did you mean {verb!r}?" for _, verb in found if verb in known]
    elsewhere = [f"; that is {program} {verb}" for program, verb in found]
    return next(iter((*own, *filter(None, [did_you_mean(word, known)]), *elsewhere)), "")


class SingleOption(click.Option):
    """An option of one value that says where several go: `instead`, the end of a sentence."""

    def __init__(self, *args: Any, instead: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.instead = instead


class LazyGroup(Group):
    """Verb name -> (module below this package, one-line help); the module's `command` is loaded on demand.

    `first`: (line to type, what it does) of the verbs that one needs first, shown where none is given.
    """

    def __init__(
        self, *args: Any, verbs: dict[str, tuple[str, str]], first: Sequence[tuple[str, str]] = (), **kwargs: Any
    ) -> None:
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST}
        super().__init__(*args, context_settings=settings, **kwargs)
        self.verbs = verbs
        self.first = first

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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and self.first and not ctx.resilient_parsing:
            formatter = ctx.make_formatter()
            formatter.write_text(f"{ctx.info_name}: {(self.help or '').partition(chr(10))[0]}")
            with formatter.section("The commands that one needs first"):
                formatter.write_dl(self.first)
            formatter.write_paragraph()
            formatter.write_text(f"{ctx.info_name} --help shows all commands, {ctx.info_name} COMMAND --help one.")
            click.echo(formatter.getvalue().rstrip("\n"))
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, help_line) for verb, (_, help_line) in self.verbs.items()])


def _refuse_repeated(command: click.Command, name: str | None, parent: click.Context, args: list[str]) -> None:
    """Raises: UsageError for an option of one value that is there more than once, here or in a verb of a verb."""
    context = click.Context(command, info_name=name, parent=parent)
    try:
        _, rest, order = command.make_parser(context).parse_args(list(args))
    except click.NoSuchOption as error:
        known = [name for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)]
        wrong = error.option_name
        raise click.UsageError(f"no option {wrong!r}{did_you_mean(wrong, known)}", context) from None
    for parameter, count in Counter(order).items():
        if isinstance(parameter, click.Option) and count > 1 and not (parameter.multiple or parameter.is_flag):
            instead = getattr(parameter, "instead", "")
            raise click.UsageError(f"{parameter.opts[-1]} is given {count} times; give it once{instead}", context)
    if isinstance(command, click.Group) and rest and (below := command.get_command(context, rest[0])) is not None:
        _refuse_repeated(below, rest[0], context, rest[1:])
