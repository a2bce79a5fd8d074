"""How a folder's scripts are started, by its shell scripts and its README: variables, options, files that are copied.

    D=data; export EXTRA=$D/fineweb_val_*.bin; torchrun train_gpt.py --more "$EXTRA"

Nothing is run: what a shell computes (`$(...)`, tests, loops over files) is not known. Values that mean off leave a
default as it is, for the same text may show other runs too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from .script import Place
from .text_names import is_evaluated_path, names_training

SHELLS = (".sh", ".bash", ".slurm", ".sbatch", ".env")
_WORD = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s;&|\"'<>)]+)+"
_SET = re.compile(rf"(?<![\w.$/-])([A-Za-z_]\w{{0,40}})=({_WORD})")
_EACH = re.compile(rf"\bfor\s+([A-Za-z_]\w{{0,40}})\s+in\s+({_WORD})")
_OPTION = re.compile(rf"(?<!\S)--([A-Za-z][\w-]{{1,40}})(?:=|\s+)({_WORD})")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?[-=]([^}]*))?\}|(\w+))")
_OFF = re.compile(r"(?:0|false|no|off|none)?\Z", re.I)
# variables that switch test-time training on, which a log with its result tells of
SWITCH = re.compile(r"(?:USE_|ENABLE_|DO_|RUN_)?(?:LEGAL_|EVAL_)?TTT(?:_ENABLED?|_ON)?")
_COPIES = ("ln", "cp", "mv", "rsync", "install")
_CATS = re.compile(rf"(?:^|[;&|]\s*|\b(?:do|then)\s+)cat\s+(?P<given>[^;&|>]+?)\s*>>?\s*(?P<to>{_WORD})")


@dataclass(frozen=True)
class Launch:
    """`environment`, `options`: (name, value) as they are written; `copies`: names of files that evaluated text was
    copied or linked to."""

    environment: frozenset[tuple[str, str]] = frozenset()
    options: frozenset[tuple[str, str]] = frozenset()
    copies: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @property
    def names(self) -> frozenset[str]:
        """Of the variables that are set."""
        return frozenset(name for name, _ in self.environment)

    def with_on(self, names: Iterable[str]) -> Launch:
        """The same with these variables switched on."""
        return replace(self, environment=self.environment | {(name, "1") for name in names})

    def variable(self, name: str) -> str | None:
        """A variable's value, None where it has none or several; of several one that is evaluated text."""
        return _only(self.environment, name)

    def option(self, name: str) -> str | None:
        """An option's value, as `variable`; - and _ are the same."""
        return _only(self.options, name)


NO_LAUNCH = Launch()


def _only(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    values = sorted(value for each, value in pairs if each == name)
    return next((v for v in values if is_evaluated_path(v)), values[0] if len(values) == 1 else None)


def launch_of(texts: Iterable[str]) -> Launch:
    """What these texts set for a run."""
    environment, options, copies = set[tuple[str, str]](), set[tuple[str, str]](), set[str]()
    for text in texts:
        for line, known in _lines(text):
            environment |= {(name, known[name]) for name, _ in _SET.findall(line) if not _OFF.match(known[name])}
            if re.search(r"\.py\b|\bpython|torchrun", line):
                found = ((name, _plain(value, known)) for name, value in _OPTION.findall(line))
                options |= {(name.replace("-", "_"), value) for name, value in found if not _OFF.match(value)}
            copies |= {to for to in _copied(line, known) if not names_training(to) and not is_evaluated_path(to)}
    return Launch(frozenset(environment), frozenset(options), frozenset(copies))


def copied_to_training(name: str, text: str) -> Iterator[Place]:
    """Lines of a shell script that give evaluated text the name of a training file."""
    for number, (line, known) in enumerate(_lines(text), 1):
        for to in _copied(line, known):
            if names_training(to):
                yield Place(name, number, f"{line.strip()[:80]}: the validation file becomes {to}")


def _lines(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(line, variables as they are behind it); what goes on behind a backslash stands in its first line."""
    known: dict[str, str] = {}
    carried = ""
    blank = 0
    for line in text.splitlines():
        line = "" if line.lstrip().startswith("#") else line[:4096]
        if line.endswith("\\") and len(carried) < 1 << 16:
            carried += line[:-1] + " "
            blank += 1
            continue
        line, carried = carried + line, ""
        for name, value in (*_EACH.findall(line), *_SET.findall(line)):
            known[name] = _plain(value, known)
        yield line, dict(known)
        for _ in range(blank):
            yield "", dict(known)
        blank = 0
    if carried:
        for name, value in _SET.findall(carried):
            known[name] = _plain(value, known)
        yield carried, known


def _plain(value: str, known: dict[str, str]) -> str:
    """Without quotes, variables replaced by what is known of them."""
    quoted = re.sub(r"[\"'`]", "", value)
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[3], found[2] or ""), quoted)[:400]


def _copied(line: str, known: dict[str, str]) -> Iterator[str]:
    """The names that a line gives to evaluated text."""
    for command in re.split(r"[;&|]|\b(?:do|then)\b", line):
        words = [_plain(word, known) for word in re.findall(_WORD, command)]
        words = [word for word in words if word not in ("sudo", "command")]
        if len(words) > 2 and words[0].rpartition("/")[2] in _COPIES:
            *given, to = (word for word in words[1:] if not word.startswith("-"))
            yield from _named(given, to)
    for found in _CATS.finditer(line):
        yield from _named(
            [_plain(word, known) for word in re.findall(_WORD, found["given"])], _plain(found["to"], known)
        )


def _named(given: Iterable[str], to: str) -> Iterator[str]:
    base = to.rpartition("/")[2]
    for each in given:
        if is_evaluated_path(each):
            yield base if "." in base.strip(".") else each.rpartition("/")[2]
