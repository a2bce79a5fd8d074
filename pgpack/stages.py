"""A stage is a frozen dataclass whose fields are its whole configuration; this module gives it a text form.

    name(key=value, key=value)          text -> stage by `parse_stage`; stage -> text by `stage_text`

Numbers print shortest (12.85, 20, 1e-05), booleans as true/false. Tables of names live with their kinds
(`pgpack.quantizers`, `pgpack.codecs`, `pgpack.formats.containers`). A stage is imported when its name is first looked
up: a dry run that names two of thirty pays for two.

Other packages add names to a table through its entry-point group, such as `pgpack.quantizers`. They are asked only
when a name is not built in or the whole table is listed, and never take a built-in name. Refused: a name that two
packages have, an entry that cannot be loaded.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from .errors import RecipeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

SAID = "_said"  # in the __dict__ of a stage that was parsed: the names of the settings that were written out
_STAGE = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(?:\((.*)\))?\s*\Z", re.S)


class Fault(RecipeError):
    """A recipe error with the position of its fault inside the parsed text."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@lru_cache(maxsize=64)
def _entries(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What packages on `path`, the search path of imports, register in a group; looked for once."""
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))


class Table(Mapping[str, type[Any]]):
    """name -> class of one kind of stage; `places` says where each is, as "module:Class" below `package`.

    `group`: the entry points by which other packages add to it; '' for a table that is closed.
    """

    def __init__(self, package: str, places: Mapping[str, str], group: str = "") -> None:
        self._places = {name: f"{package}.{place}" for name, place in places.items()}
        self._groups = [group] if group else []

    @staticmethod
    def joined(tables: Iterable[Table]) -> Table:
        """All names of several tables in one; no two of them have the same."""
        table = Table("", {})
        for part in tables:
            table._places.update(part._places)
            table._groups += part._groups
        return table

    @property
    def built_in(self) -> tuple[str, ...]:
        """The names that are ours; other packages are not asked."""
        return tuple(self._places)

    def _added(self) -> dict[str, EntryPoint]:
        """What other packages add. Raises RecipeError where two of them have the same name."""
        added: dict[str, EntryPoint] = {}
        for entry in chain.from_iterable(_entries(group, tuple(sys.path)) for group in self._groups):
            if entry.name in added:
                places = f"{added[entry.name].value} and {entry.value}"
                raise RecipeError(f"two packages name a stage {entry.name}, {places}; uninstall one of them")
            if entry.name not in self._places:
                added[entry.name] = entry
        return added

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._places:
            return _loaded(self._added()[name])
        module, _, cls = self._places[name].partition(":")
        found: type[Any] = getattr(import_module(module), cls)
        return found

    def __iter__(self) -> Iterator[str]:
        return chain(self._places, self._added())

    def __len__(self) -> int:
        return len(self._places) + len(self._added())

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._added()

    def name_of(self, stage: Any) -> str:
        """The name of a stage's class. Raises RecipeError where it is not in this table."""
        place = f"{type(stage).__module__}:{type(stage).__qualname__}"
        for name, found in self._places.items():
            if found == place:
                return name
        for name, entry in self._added().items():
            if _loaded(entry) is type(stage):
                return name
        raise RecipeError(f"{type(stage).__name__} is not a registered stage")


def _loaded(entry: EntryPoint) -> type[Any]:
    try:
        found: type[Any] = entry.load()
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"the stage {entry.name} of {entry.value} cannot be loaded: {error}") from error
    return found


def value_text(value: Any) -> str:
    """Shortest text that parses back to `value`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def stage_text(name: str, stage: Any, *, full: bool = False, omit: frozenset[str] = frozenset()) -> str:
    """`name(key=value,...)`; fields at their default are left out unless `full` or written out by somebody; those in
    `omit` always."""
    said = vars(stage).get(SAID, frozenset())
    shown = [
        f"{field.name}={value_text(getattr(stage, field.name))}"
        for field in dataclasses.fields(stage)
        if field.name not in omit and (full or field.name in said or getattr(stage, field.name) != field.default)
    ]
    return f"{name}({','.join(shown)})" if shown else name


def default_example(name: str, cls: type[Any]) -> str:
    """The stage with all its defaults written out, for error messages."""
    parts = []
    for field in dataclasses.fields(cls):
        known = field.default is not dataclasses.MISSING
        parts.append(f"{field.name}={value_text(field.default) if known else '...'}")
    return f"{name}({','.join(parts)})" if parts else name


def _annotation(field: dataclasses.Field[Any]) -> str:
    """The name of a field's type, in a module that postpones annotations and in one that does not."""
    return field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))


def parse_value(text: str, annotation: str, position: int) -> Any:
    """A value of the field's annotated type ('int', 'float', 'bool', 'str')."""
    kind = str(annotation)
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        several = "; a sweep tries several that stand in {}, separated by commas" if text[:1] in tuple("[(") else ""
        raise Fault(f"{text!r} is not a value of type {kind}{several}", position) from None


def did_you_mean(word: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The nearest of what is known, as the end of a sentence; '' where nothing is near.

    Units: `alike` from 0 to 1, how near (difflib's ratio).
    """
    import difflib  # late, as is all that few answers need: help and dry runs start fast

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=alike)
    return f"; did you mean {found[0]!r}?" if found else ""


def parse_stage(text: str, table: Table, position: int = 0) -> Any:
    """The stage that `text` names, from `table`; it remembers which settings were written out (no part of its value).

    Raises Fault (a RecipeError) pointing into the text.
    """
    match = _STAGE.match(text)
    start = position + len(text) - len(text.lstrip())
    if match is None:
        raise Fault(f"expected name(key=value,...), found {text.strip()!r}", start)
    name, arguments = match.group(1), match.group(2)
    if name not in table:
        near = did_you_mean(name, table)
        raise Fault(f"unknown stage {name!r}; known here: {', '.join(sorted(table))}{near}", start)
    cls = table[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    offset = position + (match.start(2) if arguments is not None else 0)
    for part in arguments.split(",") if arguments and arguments.strip() else []:
        key, equals, value = part.partition("=")
        if not equals or key.strip() not in fields or key.strip() in values:
            raise Fault(
                f"{name} has no setting {part.strip()!r}; all of them: {default_example(name, cls)}",
                offset + len(part) - len(part.lstrip()),
            )
        value_at = offset + part.index("=") + 1
        values[key.strip()] = parse_value(value.strip(), _annotation(fields[key.strip()]), value_at)
        offset += len(part) + 1
    try:
        stage = cls(**values)
        vars(stage)[SAID] = frozenset(values)
        return stage
    except TypeError:
        raise Fault(f"{name} lacks a setting: {default_example(name, cls)}", start) from None
    except RecipeError as error:
        raise Fault(str(error), start) from None
