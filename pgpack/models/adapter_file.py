"""The user's own Python file as a model source: FILE.py:build, a function from a state dict to a module."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pgpack.errors import DataError, PgpackError, no_file
from pgpack.loss.bpb import Build

from .source import FoundModel, Wanted

ERROR_LEN, LINE_LEN = 300, 120  # characters of what the user's code says, and of its line


def find(wanted: Wanted) -> FoundModel | None:
    """The model of the file that the user named; None where he named no file that is there: others may know the name.

    Raises: DataError when the file has no model.
    """
    if wanted.spec is None or not _parts(wanted.spec)[0].is_file():
        return None
    if wanted.changes:
        raise DataError(f"--set changes fields of a pgtrain model, not of {wanted.spec}")
    path, name = _parts(wanted.spec)
    return FoundModel(_load(wanted.spec, path, name), code=partial(_sources, path))


def require_model_file(spec: str) -> None:
    """Raises: DataError when the file that FILE.py:build names does not exist."""
    path = _parts(spec)[0]
    if not path.is_file():
        raise DataError(
            f"model file {path} {no_file(path)}, and no preset is called so; give --model FILE.py:build or a preset "
            "of `pgtrain ls`"
        )


def _parts(spec: str) -> tuple[Path, str]:
    file, _, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "build")
    return Path(file), name


def _load(spec: str, path: Path, name: str) -> Build:
    """The function that `spec` names (`build` by default). The file is run: it is the user's own code.

    Raises: DataError when the file or the function does not exist.
    """
    require_model_file(spec)
    found = importlib.util.spec_from_file_location(f"pgpack_user_model_{path.stem}", path)
    if found is None or found.loader is None:
        raise DataError(f"{path} is not a Python file; give --model FILE.py:build")
    module = importlib.util.module_from_spec(found)
    with said(spec, path):
        found.loader.exec_module(module)
    function: Callable[..., nn.Module] | None = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"{path} has no function {name}; it must define {name}(state_dict) -> nn.Module")

    def build(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        with said(spec, path):
            model = function(dict(tensors))
        if not isinstance(model, nn.Module):
            raise DataError(f"{spec} returned a {type(model).__name__}, expected an nn.Module")
        return model.requires_grad_(False).eval()

    return build


@contextlib.contextmanager
def said(spec: str, path: Path) -> Iterator[None]:
    """The user's code finds the modules beside `path`, as `python FILE.py` does; what it raises is a sentence with
    its line. Raises: DataError."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    except PgpackError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())[:ERROR_LEN]
        at, line = _own_line(error, path)
        if isinstance(error, NotImplementedError):
            raise DataError(f"{spec} is not filled in yet{at}: {what or 'NotImplementedError'}") from error
        its = f" ({line})" if line else ""
        raise DataError(f"{spec} failed{at}: {type(error).__name__}: {what}{its}") from error
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have taken it away
            sys.path.remove(folder)


def _own_line(error: BaseException, path: Path) -> tuple[str, str]:
    """(where, what it says) of the last line of the user's own that an error passed: in `path` or beside it."""
    folder = path.resolve().parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename).resolve()
        if file.is_relative_to(folder) and "site-packages" not in file.parts:
            where = "" if file == path.resolve() else f" of {file.name}"
            return f" at line {frame.lineno}{where}", (frame.line or "").strip()[:LINE_LEN]
    return "", ""


def _sources(file: Path) -> list[str]:
    """The text of a model file and of all loaded modules from its folder; code from elsewhere is not seen."""
    folder = file.resolve().parent
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    loaded = {Path(found).resolve() for found in files if found}
    beside = sorted(path for path in loaded if path.is_relative_to(folder) and path.suffix == ".py")
    return [path.read_text(encoding="utf-8", errors="replace") for path in (file, *beside) if path.is_file()]
