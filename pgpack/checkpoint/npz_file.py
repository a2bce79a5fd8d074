"""An archive of numpy's (.npz) as a checkpoint: `numpy.savez`, `savez_compressed`, or what `pgpack unpack` writes.

    NAME.npy --header: dtype, shape--> bounds checked for all --its bytes, one tensor at a time--> array

Owns which members are tensors. Words, dates and what is no array at all are left out and named. Refuses what only
pickle could read, two members of one name, and archives that grow too much. Nothing is unpickled.
"""

from __future__ import annotations

import errno
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pgpack.errors import CheckpointError

from .stored import Stored, require_bounded, require_possible
from .writing import KINDS

ENDING = ".npy"
MARK, EMPTY = b"PK\x03\x04", b"PK\x05\x06"
LOCAL = 30  # bytes of a member's own header before its name
TORCH = "data.pkl"  # the end of a name that every torch file holds
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
TYPES = (*KINDS, "complex128")
WORDS = "SUMm"  # kinds of dtypes that no tensor is of: bytes, text, dates, spans of time
PIECE = 1 << 20
DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    OverflowError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
)  # fmt: skip  what zipfile and numpy raise on bytes that are not what they say


@dataclass(frozen=True)
class _Array:
    """A member that holds a tensor. Units: `start` is where in it the values begin, in bytes."""

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def is_npz(path: Path) -> bool:
    """Whether a file is a zip of numpy's arrays: its first member is one, or some member is and it is not torch's."""
    with path.open("rb") as file:
        head = file.read(LOCAL)
        if head[:4] == EMPTY:
            return True
        if head[:4] != MARK or len(head) < LOCAL:
            return False
        first = file.read(int.from_bytes(head[26:28], "little"))
    if first.endswith((ENDING.encode(), TORCH.encode())):
        return first.endswith(ENDING.encode())
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, *DAMAGE):
        return False
    return any(name.endswith(ENDING) for name in names) and not any(name.endswith(TORCH) for name in names)


def read_npz(path: Path) -> Stored:
    """What an archive of numpy's holds, named as `numpy.load` names it.

    Raises: CheckpointError when it is damaged, holds no tensors or two of one name, needs pickle, or takes more than
    16 times its size and more than 4 GiB, or 400 times and 64 MiB.
    """
    arrays: dict[str, _Array] = {}
    others = []
    with _naming_damage(path), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.filename.endswith("/")]
        _require_distinct(path, [member.filename for member in members])
        n_bytes = sum(member.file_size for member in members)
        require_bounded(path, n_bytes, "store its arrays uncompressed (numpy.savez), or as .safetensors")
        for member in members:
            found = _array(archive, member, path) if member.filename.endswith(ENDING) else None
            name = member.filename.removesuffix(ENDING)
            if found is None:
                others.append(name)
            else:
                arrays[name] = found
    if not arrays:
        raise CheckpointError(f"{path}: holds no tensors")
    shapes = {name: array.shape for name, array in arrays.items()}
    require_possible(path, shapes)

    def load(name: str) -> NDArray[Any]:
        return _values(path, arrays[name])

    notes = (f"{path.name}: {', '.join(others)}: no tensor, left out",) if others else ()
    return Stored(shapes, load, notes=notes, dtypes={name: array.dtype.name for name, array in arrays.items()})


def _require_distinct(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CheckpointError(f"{path}: two of its members are called {name!a}; nobody can tell which is meant")
        seen.add(name)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> _Array | None:
    """Where the values of a member are; None for words, dates and a single Python object, which are no tensor.

    Raises: CheckpointError for what only pickle could read, types that no checkpoint has, and a size that is not that
    of its shape; what `_naming_damage` knows.
    """
    name = member.filename.removesuffix(ENDING)
    if member.compress_type not in METHODS:
        raise CheckpointError(
            f"{path}: {name} is packed in a way that numpy does not write; save it with numpy.savez"
        )
    with archive.open(member) as file:
        shape, by_columns, dtype = _header(file)
        start = file.tell()
    if dtype.kind in WORDS or (dtype.hasobject and not shape):
        return None
    if dtype.hasobject:
        raise CheckpointError(
            f"{path}: {name} holds Python objects, not numbers, and nothing is unpickled; leave it out"
        )
    if dtype.name not in TYPES:
        hint = " (numpy has no bfloat16)" if dtype.str[1:] == "V2" else ""
        raise CheckpointError(f"{path}: {name} is of type {dtype.name}{hint}, which is not read; store it as float32")
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in shape):
        raise CheckpointError(f"{path}: {name} claims a shape that no array can have; the file is damaged")
    found = _Array(member, shape, by_columns, dtype, start)
    if start + found.n_bytes != member.file_size:
        raise CheckpointError(
            f"{path}: {name} has {member.file_size - start:,} bytes where its shape needs {found.n_bytes:,}; "
            "the file is damaged"
        )
    return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that Python 2 wrote
        shape, by_columns, dtype = read(file)
    return shape, by_columns, dtype


def _values(path: Path, array: _Array) -> NDArray[Any]:
    """The values of a tensor, a copy by rows in the order of this machine's bytes."""
    held, skipped, check = np.empty(array.n_bytes, np.uint8), array.start, 0
    view, done = held.data, 0
    with _naming_damage(path), path.open("rb") as file:
        for piece in _pieces(file, array.member):
            check = zlib.crc32(piece, check)
            values = piece[skipped:]
            skipped -= len(piece) - len(values)
            view[done : done + len(values)] = values
            done += len(values)
    if done < array.n_bytes or check != array.member.CRC:
        name = array.member.filename.removesuffix(ENDING)
        raise CheckpointError(f"{path}: the values of {name} are not those that were written; the file is damaged")
    found = held.view(array.dtype).reshape(array.shape, order="F" if array.by_columns else "C")
    return np.asarray(found, array.dtype.newbyteorder("="), order="C")


def _pieces(file: IO[bytes], member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The contents of a member, at most as many bytes as it says. Read from where it is and not through an open
    `ZipFile`: opened once for each tensor, that reads the whole directory every time."""
    file.seek(member.header_offset)
    local = file.read(LOCAL)
    if len(local) < LOCAL:
        return
    file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
    packed, left = member.compress_size, member.file_size
    expand = zlib.decompressobj(-zlib.MAX_WBITS) if member.compress_type == zipfile.ZIP_DEFLATED else None
    tail = b""
    while left and (tail or packed):
        piece = tail or file.read(min(PIECE, packed))
        packed -= 0 if tail else len(piece)
        if not piece:
            return
        found = expand.decompress(piece, min(PIECE, left)) if expand else piece[:left]
        tail = expand.unconsumed_tail if expand else b""
        left -= len(found)
        yield found


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """What zip, deflate or a header of numpy's raises on damage, as CheckpointError."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a readable archive of numpy's ({reason})") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the beginning of the file
            raise
        raise CheckpointError(f"{path}: not a readable archive of numpy's (it points outside of itself)") from None
