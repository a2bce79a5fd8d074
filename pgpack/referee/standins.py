"""Part of the fenced process: modules that are none, for a file that is only run to see what it would start.

`import torch; torch.nn.Linear(2, 2)` works and computes nothing. Standard library only.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any

REAL = {"brotli", "zstandard", "lz4", "numpy"}  # what unpacks code


class Fake:
    """Stands for whatever a library would give: every attribute, result and item is another one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Fake()

    def __call__(self, *given: Any, **named: Any) -> Any:
        """A decorator gives back what it decorates."""
        return given[0] if len(given) == 1 and not named and callable(given[0]) else Fake()

    def __mro_entries__(self, bases: Any) -> tuple[()]:
        return ()

    def __iter__(self) -> Any:
        return iter(())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        return None

    def __index__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0

    def _more(self, *given: Any) -> Any:
        return Fake()

    def _less(self, other: Any) -> bool:
        return False

    __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _more
    __floordiv__ = __mod__ = __pow__ = __neg__ = __matmul__ = __or__ = __ror__ = __and__ = __setitem__ = _more
    __lt__ = __le__ = __gt__ = __ge__ = _less


class FakeModule(ModuleType):
    __path__: list[str]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name != "__version__":
            raise AttributeError(name)
        return "9.9.9" if name == "__version__" else Fake()


class Pretender(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for every module that is not the standard library's, a codec's or the file's own."""

    def __init__(self, root: str, scratch: str) -> None:
        self.places = (root, scratch)
        self.before = [*sys.meta_path]

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        top = fullname.partition(".")[0]
        if top in sys.stdlib_module_names or (top in REAL and self._installed(fullname, path)):
            return None
        parent = sys.modules.get(top)
        if fullname != top and not isinstance(parent, FakeModule):
            return None
        for finder in sys.meta_path:  # those that the file itself has put there
            if finder is not self and finder not in self.before:
                found = finder.find_spec(fullname, path, target)
                if found is not None:
                    return found
        for folder in map(os.path.realpath, sys.path):
            near = folder.startswith(self.places) or any(place.startswith(folder + os.sep) for place in self.places)
            paths = (folder if os.path.isfile(folder) else "", *(os.path.join(folder, top + e) for e in ("", ".py")))
            if near and any(map(os.path.exists, paths)):
                return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    @staticmethod
    def _installed(fullname: str, path: Any) -> bool:
        return importlib.machinery.PathFinder.find_spec(fullname, path) is not None

    def create_module(self, spec: Any) -> ModuleType:
        module = FakeModule(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        return None
