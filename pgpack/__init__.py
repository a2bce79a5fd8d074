"""pgpack: pack small language models into a byte budget.

    open_checkpoint(path)              -> Checkpoint      named fp32 tensors
    open_bench(path, text=...)         -> Bench           a checkpoint with its model and text: plan, pack, fit, sweep
    open_artifact(path)                -> ArtifactFile    bytes, tensors, checks
    open_study(folder)                 -> Study           measured trials and their frontier
    Recipe.parse(text)                 -> Recipe          what happens to which tensor

Importing it costs no torch and no numpy: a name is looked up when it is first asked for. Everything else hangs on
what these return; pgpack/API.md lists it. What is not listed there may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .bench.artifact import open_artifact
    from .bench.opening import open_bench, open_checkpoint, open_study
    from .recipe.recipe import Recipe

__all__ = ["Recipe", "open_artifact", "open_bench", "open_checkpoint", "open_study"]

_PLACES = {
    "Recipe": "recipe.recipe",
    "open_artifact": "bench.artifact",
    "open_bench": "bench.opening",
    "open_checkpoint": "bench.opening",
    "open_study": "bench.opening",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
