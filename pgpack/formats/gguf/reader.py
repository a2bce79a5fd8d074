"""A GGUF file as fields and tensors; a tensor is read, and dequantized, when it is asked for.

    "GGUF" version counts | fields: name type value | tensors: name shape type offset | padding | contents

    NAME-00001-of-00003.gguf: fields and the first tensors | ...-00002-...: more tensors | ...      one model

Owns bounds: whatever the file says lies within it. Refuses version 1, big-endian files and types that the package
gguf does not dequantize. Source: docs/gguf.md of ggml-org/ggml; the types' layouts are those of the package gguf.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import CorruptArtifact, FormatError, ToolMissing

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}  # type -> struct
STRING, ARRAY = 8, 9
PLAIN = {0: "<f4", 1: "<f2", 24: "|i1", 25: "<i2", 26: "<i4", 27: "<i8", 28: "<f8"}  # types that are numpy's own
COUNT, NUMBER, N_TENSORS = "split.count", "split.no", "split.tensors.count"  # fields of a part
PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
MAX_DIMENSIONS = 8
VALUES_AT_ONCE = 1 << 24  # of a tensor that are dequantized together
MISSING = (
    "a GGUF's quantized tensors are read by the package gguf, which is not installed: pip install 'pgpack[gguf]'"
)


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies. Shape: outermost dimension first, as numpy has it. `kind`: ggml's number of its type."""

    shape: tuple[int, ...]
    kind: int
    path: Path
    start: int
    n_bytes: int

    def contents(self, dtype: str) -> NDArray[Any]:
        """Read anew. Shape: (n,). Raises: CorruptArtifact when the file has become shorter."""
        found: NDArray[Any] = np.fromfile(
            self.path, dtype, self.n_bytes // np.dtype(dtype).itemsize, offset=self.start
        )
        if found.nbytes != self.n_bytes:
            raise CorruptArtifact(f"{self.path} was cut while it was read")
        return found


@dataclass(frozen=True, eq=False)
class GgufFile:
    """`fields`: name -> number, string, bool, or list of such; `tensors` in file order."""

    path: Path
    version: int
    fields: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    def load(self, name: str) -> NDArray[Any]:
        """A fresh array of a tensor: float32, or the integers of an integer tensor, or float64 as stored.

        Raises: FormatError for a type that cannot be read, ToolMissing without the package gguf.
        """
        tensor = self.tensors[name]
        if tensor.kind in PLAIN:
            found = tensor.contents(PLAIN[tensor.kind]).reshape(tensor.shape)
            return found.astype(np.float32) if tensor.kind == 1 else found
        return self._dequantized(name, tensor)

    def _dequantized(self, name: str, tensor: GgufTensor) -> NDArray[np.float32]:
        """In runs of rows, so that little more than the result is held."""
        try:
            from gguf import quants
            from gguf.constants import GGMLQuantizationType
        except ImportError:
            raise ToolMissing(MISSING) from None
        columns, row_bytes = tensor.shape[-1], _row_bytes(tensor.kind, tensor.shape[-1])
        contents = tensor.contents("u1").reshape(-1, row_bytes)
        found = np.empty((len(contents), columns), np.float32)
        step = max(1, VALUES_AT_ONCE // columns)
        try:
            kind = GGMLQuantizationType(tensor.kind)
            for start in range(0, len(contents), step):
                found[start : start + step] = quants.dequantize(contents[start : start + step], kind)
        except NotImplementedError:
            raise FormatError(
                f"{self.path}: {name} is of type {kind.name}, which the package gguf does not dequantize; give a "
                "file of another type"
            ) from None
        return found.reshape(tensor.shape)


def is_gguf(path: Path) -> bool:
    """Whether a file starts as a GGUF does."""
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def files_of(path: Path) -> list[Path]:
    """The file, or all parts of the model that by its name it is one of, whether they are there or not."""
    named = PART.fullmatch(path.name)
    count = int(named[2]) if named else 0
    parts = (
        [path.with_name(f"{named[1]}-{part + 1:05d}-of-{named[2]}.gguf") for part in range(count)] if named else []
    )
    return parts if path in parts else [path]


def read_gguf(path: Path) -> GgufFile:
    """The fields of a GGUF and where its tensors are; of one part of several all of them, told by its name.

    Raises: FormatError or one of its kinds.
    """
    file = _read_one(path)
    count = file.fields.get(COUNT, 1)
    return file if count == 1 else _joined(path, count)


def _joined(path: Path, count: Any) -> GgufFile:
    """All parts of the model that the file at `path` is one of."""
    if not isinstance(count, int):
        raise CorruptArtifact(f"{path}: its field {COUNT} is no number")
    paths = files_of(path)
    if len(paths) != count:
        raise FormatError(f"{path}: one of {count} parts of a GGUF; its name must end in -0000N-of-{count:05d}.gguf")
    for part in paths:
        if not part.is_file():
            raise FormatError(f"{part}: missing; a GGUF in {count} parts needs all of them in one folder")
    files = [_read_one(part) for part in paths]
    for number, file in enumerate(files):
        if (file.fields.get(NUMBER), file.fields.get(COUNT)) != (number, count):
            raise CorruptArtifact(f"{file.path}: by its fields it is another part than its name says")
    tensors = {name: tensor for file in files for name, tensor in file.tensors.items()}
    n_found = sum(len(file.tensors) for file in files)
    if len(tensors) != n_found or n_found != files[0].fields.get(N_TENSORS, n_found):
        raise CorruptArtifact(f"{path}: its {count} parts hold {n_found} tensors, which are not those of one model")
    return replace(files[0], tensors=tensors)


def _read_one(path: Path) -> GgufFile:
    """One file. Raises as `read_gguf`."""
    with path.open("rb") as file:
        reader = _Reader(path, file)
        try:
            return reader.read()
        except struct.error:
            reader.refuse("it ends early")
        except UnicodeDecodeError:
            reader.refuse("a string is not UTF-8")


class _Reader:
    """A position in a file. What is read is no longer than what is left of it."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.position = path, file, 0
        self.size = path.stat().st_size

    def refuse(self, reason: str) -> NoReturn:
        raise CorruptArtifact(f"{self.path}: a damaged GGUF at byte {self.position:,}: {reason}") from None

    def read(self) -> GgufFile:
        magic, version, n_tensors, n_fields = self.numbers("4sIQQ")
        if magic != MAGIC or version not in VERSIONS:
            what = f"version {version}" if version < 1 << 16 else "a big-endian file"
            raise FormatError(f"{self.path}: a GGUF of {what}; versions 2 and 3, little-endian, are read")
        fields: dict[str, Any] = {}
        for _ in range(n_fields):
            name = self.string()
            fields[name] = self.value(*self.numbers("I"))
        places = {}
        for _ in range(n_tensors):
            name = self.string()
            places[name] = self.tensor()
        if len(places) < n_tensors:
            self.refuse("two tensors have one name")
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            self.refuse(f"an alignment of {alignment}")
        start = self.position + -self.position % alignment
        tensors = {name: self.placed(name, start, *place) for name, place in places.items()}
        return GgufFile(self.path, version, fields, tensors)

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.bytes(struct.calcsize("<" + layout)))

    def bytes(self, length: int) -> bytes:
        self.position += length
        return self.file.read(length)

    def string(self) -> str:
        (length,) = self.numbers("Q")
        if length > self.size - self.position:
            self.refuse(f"a string of {length:,} bytes")
        return str(self.bytes(length), "utf-8")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind in SCALARS:
            return self.numbers(SCALARS[kind])[0]
        if kind != ARRAY:
            self.refuse(f"a value of type {kind}")
        of, length = self.numbers("IQ")
        if of in SCALARS:
            layout = struct.calcsize("<" + SCALARS[of])
            if length * layout > self.size - self.position:
                self.refuse(f"an array of {length:,} values")
            return list(self.numbers(f"{length}{SCALARS[of]}"))
        if of != STRING:
            self.refuse(f"an array of type {of}")
        return [self.string() for _ in range(length)]

    def tensor(self) -> tuple[tuple[int, ...], int, int]:
        (n_dimensions,) = self.numbers("I")
        if n_dimensions > MAX_DIMENSIONS:
            self.refuse(f"a tensor of {n_dimensions} dimensions")
        shape = self.numbers(f"{n_dimensions}Q")
        kind, offset = self.numbers("IQ")
        return tuple(int(length) for length in reversed(shape)), kind, offset

    def placed(self, name: str, start: int, shape: tuple[int, ...], kind: int, offset: int) -> GgufTensor:
        """Raises: CorruptArtifact when the contents lie outside of the file, FormatError for an unknown type."""
        columns = shape[-1] if shape else 1
        rows = 1
        for length in shape[:-1]:
            rows *= length
        if kind in PLAIN:
            n_bytes = rows * columns * np.dtype(PLAIN[kind]).itemsize
        else:
            try:
                n_bytes = rows * _row_bytes(kind, columns)
            except ValueError as error:
                raise FormatError(f"{self.path}: {name} {error}") from None
        if start + offset + n_bytes > self.size:
            self.refuse(f"the contents of {name} lie outside of it")
        return GgufTensor(shape, kind, self.path, start + offset, n_bytes)


def _row_bytes(kind: int, columns: int) -> int:
    """Raises: ValueError for an unknown type, or rows that are no whole blocks; ToolMissing without gguf."""
    try:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError:
        raise ToolMissing(MISSING) from None
    try:
        block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise ValueError(f"is of type {kind}, which the package gguf does not know; a newer one may") from None
    if columns % block:
        raise ValueError(f"has rows of {columns}, which are no whole blocks of {block}")
    return int(columns // block * n_bytes)
