"""Python source inside of bytes and strings, undone layer by layer: texts of bytes, compressors, archives.

    "cT>3..." --base 85--> bytes --LZMA--> bytes --> Python     also base 64, 32, 16; zlib, gzip, bz2, zstd, brotli;
                                                                zip and tar with their .py members

Owns what counts as code: text that parses and does something. Refuses more than `LIMIT` bytes of anything.
"""

from __future__ import annotations

import ast
import base64
import binascii
import bz2
import io
import lzma
import re
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator

LIMIT = 8 << 20  # bytes of anything unpacked
BROTLI_BYTES = 1 << 17  # of a stream, fed in small pieces: it may grow a thousandfold
DEPTH = 6
SHORTEST = 20  # characters that could hold packed code
DOES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.With, ast.For, ast.While, ast.If, ast.Try)
_WORDY = re.compile(rb"[A-Za-z0-9+/=_\-\s]+\Z")


def sources(data: bytes) -> tuple[bytes, ...]:
    """Every Python source in `data`, unpacked as deep as it lies; () when there is none."""
    return tuple(dict.fromkeys(_sources(data, 0)))


def _sources(data: bytes, depth: int) -> Iterator[bytes]:
    if depth > DEPTH or len(data) > LIMIT:
        return
    if is_code(data):
        yield data
        return
    for inner in (*_members(data), *_decompressed(data)):
        yield from _sources(inner, depth + 1)


def in_constant(value: str | bytes) -> tuple[bytes, ...]:
    """Every Python source that a constant of a script holds, as it is or as the text of packed bytes."""
    if len(value) < SHORTEST:
        return ()
    if isinstance(value, bytes):
        return sources(value) or _of_texts(value)
    try:
        data = value.encode()
    except UnicodeEncodeError:
        return ()
    if is_code(data):
        return (data,)
    wide = value.encode("latin-1", "ignore")
    return _of_texts(data) or (sources(wide) if wide != data else ())


def _of_texts(data: bytes) -> tuple[bytes, ...]:
    """Sources in what a text of bytes stands for, forwards and backwards."""
    for text in (data, data[::-1]):
        for decode in _TEXTS:
            try:
                found = sources(decode(text))
            except (ValueError, binascii.Error, OverflowError):
                continue
            if found:
                return found
    return ()


def _base64(data: bytes) -> bytes:
    if not _WORDY.match(data):
        raise ValueError("no base 64")
    return base64.b64decode(data.translate(bytes.maketrans(b"-_", b"+/")) + b"==")


_TEXTS: tuple[Callable[[bytes], bytes], ...] = (
    base64.b85decode,
    _base64,
    lambda data: base64.a85decode(data, adobe=data.startswith(b"<~")),
    lambda data: bytes.fromhex(data.decode("ascii")),
    base64.b32decode,
)


def is_code(data: bytes) -> bool:
    """Whether it is Python source that does something: imports, definitions, calls; no prose, number or list."""
    if len(data) < 6 or b"\0" in data[:4096]:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in tree.body:
        if isinstance(node, DOES) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            return True
        if isinstance(node, ast.Assign) and any(isinstance(inner, ast.Call) for inner in ast.walk(node)):
            return True
    return False


def _decompressed(data: bytes) -> Iterator[bytes]:
    """What the known compressors make of `data`; several may think that it is theirs."""
    for undo in (_zlib(47), _zlib(-15), _bz2, _lzma, _raw_lzma, _zstd, _brotli):
        try:
            found = undo(data)
        except (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError, MemoryError):
            continue
        if found:
            yield found


def _zlib(window: int) -> Callable[[bytes], bytes]:
    return lambda data: zlib.decompressobj(window).decompress(data, LIMIT)


def _bz2(data: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, LIMIT)


def _lzma(data: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=256 << 20).decompress(data, LIMIT)


def _raw_lzma(data: bytes) -> bytes:
    chain = [{"id": lzma.FILTER_LZMA2, "dict_size": 64 << 20}]
    return lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=chain).decompress(data, LIMIT)


def _zstd(data: bytes) -> bytes:
    if not data.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("no zstd")
    try:
        import zstandard
    except ImportError:
        raise ValueError("zstandard is not installed") from None
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            return reader.read(LIMIT)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _brotli(data: bytes) -> bytes:
    try:
        import brotli
    except ImportError:
        raise ValueError("brotli is not installed") from None
    if len(data) > BROTLI_BYTES:
        raise ValueError("too long for what has no bound of its own")
    undo, found = brotli.Decompressor(), b""
    try:
        for at in range(0, len(data), 64):
            found += undo.process(data[at : at + 64])
            if len(found) > LIMIT:
                break
    except brotli.error as error:
        raise ValueError(str(error)) from None
    return found


def _members(data: bytes) -> Iterator[bytes]:
    """The .py members of a zip or tar archive."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for item in archive.infolist()[:200]:
                    if item.filename.endswith(".py") and item.file_size <= LIMIT:
                        yield archive.read(item)
        elif data[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive.getmembers()[:200]:
                    file = archive.extractfile(member) if member.name.endswith(".py") and member.isfile() else None
                    if file is not None and member.size <= LIMIT:
                        yield file.read(LIMIT)
    except (zipfile.BadZipFile, tarfile.TarError, OSError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return


def archived_modules(data: bytes, below: Iterable[str] = ()) -> frozenset[str]:
    """Top-level modules of a zip file on `sys.path`, and those of its folders `below`; none of another file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()[:2000]
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return frozenset()
    folders = ["", *(f"{folder.strip('/')}/" for folder in below)]
    parts = [name[len(folder) :].split("/") for folder in folders for name in names if name.startswith(folder)]
    return frozenset(part[0].removesuffix(".py") for part in parts if part[-1].endswith((".py", ".pyc")))
