"""The model sources that are there, and the first of them that knows a checkpoint.

A package registers its function `find` (`pgpack.models.source`) as an entry point:

    [project.entry-points."pgpack.models"]
    my_models = "my_package:find"

The user's own file is asked first, then the config.json beside the weights, then packages by name. What a source
refuses counts only when nobody else knows the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points

from pgpack.cache.store import package_code
from pgpack.errors import CheckpointError, PgpackError

from . import adapter_file, huggingface
from .source import FoundModel, ModelSource, Wanted

GROUP = "pgpack.models"


def find_model(wanted: Wanted) -> FoundModel:
    """The model of a checkpoint.

    Raises: the first source's error; where no source knows it DataError for a model that was named, CheckpointError.
    """
    refused: list[PgpackError] = []
    for source in _sources():
        try:
            if (found := source(wanted)) is not None:
                return found
        except PgpackError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    if wanted.spec is not None:
        adapter_file.require_model_file(wanted.spec)
    raise CheckpointError("no model source knows this checkpoint; give --model FILE.py:build")


def _sources() -> Iterator[ModelSource]:
    yield adapter_file.find
    yield huggingface.find
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        yield partial(_with_code, point.load())


def _with_code(source: ModelSource, wanted: Wanted) -> FoundModel | None:
    """What `source` finds; its code is all of its package."""
    found = source(wanted)
    return found if found is None else replace(found, code=lambda: [package_code(source.__module__)])
