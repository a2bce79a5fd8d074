"""Artifacts of our own format made by hand, sound or with something changed; all digests and checks are right.

VALID: documents by name, each of which opens.
"""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np

from pgpack.errors import PgpackError
from pgpack.formats.own.contents import weights_digest
from pgpack.unpack import unpack

Document = dict[str, Any]
UNKNOWN = "0123456789abcdef"


def framed(text: bytes, body: bytes = b"") -> bytes:
    """A file with these bytes as its header, inflated, and this body."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(text) + deflate.flush()
    prefix = struct.pack("<4sBIQ", b"PGPK", 1, len(packed), len(body))
    check = zlib.crc32(body, zlib.crc32(packed))
    return b"".join([prefix, struct.pack("<I", zlib.crc32(prefix)), packed, body, struct.pack("<I", check)])


def with_digest(document: Document, body: bytes = b"", max_bytes: int | None = None) -> bytes:
    """The file of a header, whose digest is made right where the file can be decoded within `max_bytes`."""
    data = framed(json.dumps(document).encode(), body)
    if document.get("digest") != UNKNOWN:
        return data
    try:
        unpacked = unpack(data, max_bytes)
        with patch.object(np, "isfinite", lambda values: np.True_):  # the right digest of what no reader decodes
            digest = weights_digest(unpacked.records, unpacked.aliases)[:16]
    except PgpackError:
        return data
    return framed(json.dumps({**document, "digest": digest}).encode(), body)


def array(name: str, dtype: str, *shape: int) -> list[Any]:
    return [name, dtype, list(shape)]


def document(
    part: list[Any], shape: list[int], n_side: int, stream: list[Any] | None = None, form: str = "plain"
) -> Document:
    """A header of one tensor `w`; `part`: its first six fields, or a list of such parts."""
    parts = part if isinstance(part[0], list) else [part]
    n = sum(int(np.prod(each[3])) * np.dtype(each[2]).itemsize for each in parts)
    return {
        "tensors": [["w", shape, form, parts]],
        "streams": [stream or ["raw", [], [n]]],
        "side": [[], [n_side]],
        "digest": UNKNOWN,
    }


def body_of(found: Document, fill: int = 0) -> bytes:
    """A body of `fill` for streams without codecs; fp16 ones for the side stream."""
    n_side = found["side"][1][-1]
    side = (np.ones(n_side // 2, "<f2").tobytes() + b"\0")[:n_side]
    return bytes([fill]) * sum(stream[2][-1] for stream in found["streams"]) + side


SCALES = [array("scales", "<f2", 2, 1)]
FACTORS = [array("columns", "|i1", 2), array("rows", "|i1", 2), array("trims", "|i1", 0)]
A, B = [["raw", {"dtype": "fp16"}, "<u2", s, 0, [], [], s] for s in ([3, 2], [2, 3])]
VALID: dict[str, Document] = {
    "raw": document(["raw", {"dtype": "int8"}, "|i1", [2, 2], 0, []], [2, 2], 0),
    "bool": document(["raw", {"dtype": "bool"}, "|u1", [2], 0, []], [2], 0),
    "complex": document(["raw", {"dtype": "complex64"}, "<u4", [3, 2], 0, []], [3], 0),
    "uniform": document(["uniform", {"group": 0}, "|i1", [2, 4], 0, SCALES], [2, 4], 4),
    "mean_scaled": document(["mean_scaled", {"group": 4}, "|i1", [2, 4], 0, SCALES], [2, 4], 4),
    "codebook": document(
        ["codebook", {}, "|u1", [2, 2], 0, [array("table", "<f2", 2, 2), array("scales", "<f2", 0, 0)]], [2, 4], 8
    ),
    "trellis": document(["trellis", {"step": 0.5, "states": 4}, "|i1", [2, 2], 0, FACTORS], [2, 2], 4),
    "row_sort": document(
        ["uniform", {}, "|i1", [2, 4], 0, [*SCALES, array("@0", "<u2", 2)], ["row_sort"]], [2, 4], 8
    ),
    "factored": document([A, B], [3, 3], 0, form="factored"),
    "corrected": document(
        [["uniform", {}, "|i1", [3, 3], 0, [array("scales", "<f2", 3, 1)]], A, B], [3, 3], 6, form="corrected"
    ),
    "aliases": {**document(["raw", {"dtype": "int8"}, "|i1", [4], 0, []], [4], 0), "aliases": {"tied": "w"}},
}


def valid(name: str) -> bytes:
    found = VALID[name]
    body = body_of(found)
    if name == "row_sort":
        body = body[:-4] + b"\1\0\0\0"
    return with_digest(found, body)


def changed(name: str, *path: Any, to: Any, body: bytes | None = None) -> bytes:
    """A valid file one value of whose header is another. `path`: where, or from `part` on within the first part."""
    found = copy.deepcopy(VALID[name])
    if path and path[0] == "part":
        path = ("tensors", 0, 3, 0, *path[1:])
    at: Any = found
    for key in path[:-1]:
        at = at[key]
    if isinstance(at, list) and path[-1] == len(at):
        at.append(to)
    else:
        at[path[-1]] = to
    return with_digest(found, body_of(found) if body is None else body)


def arrays(name: str, *described: list[Any]) -> bytes:
    """A valid file with other side arrays, which fill the side stream."""
    found = copy.deepcopy(VALID[name])
    found["tensors"][0][3][0][5] = [*described]
    found["side"][1] = [sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for _, dtype, shape in described)]
    return with_digest(found, body_of(found))


def texted(edit: Callable[[bytes], bytes]) -> bytes:
    """A valid file whose header's text is edited."""
    found = VALID["raw"]
    return framed(edit(json.dumps(found).encode()), body_of(found))


def many(n: int) -> Document:
    """`n` empty tensors in one stream."""
    part = ["raw", {"dtype": "int8"}, "|i1", [0], 0, []]
    return {
        **VALID["raw"],
        "tensors": [[str(i), [0], "plain", [part]] for i in range(n)],
        "streams": [["raw", [], [0]]],
    }


def streams(n: int) -> Document:
    """As many tensors as streams."""
    tensors = [[str(i), [], "plain", [["raw", {"dtype": "int8"}, "|i1", [], i, []]]] for i in range(n)]
    return {**VALID["raw"], "tensors": tensors, "streams": [["raw", [], [1]]] * n}


def constant(shape: list[int], max_bytes: int | None = None) -> bytes:
    """A tensor of zeros in a handful of bytes; its digest is right where it decodes within `max_bytes`."""
    part = ["uniform", {}, "|i1", shape, 0, [array("scales", "<f2", 1, 1)]]
    return with_digest(document(part, shape, 2, ["bitpack", [], [9]]), bytes(9) + b"\0\x3c", max_bytes)


def factors(rank: int, rows: int, cols: int, dtype: str = "fp16") -> bytes:
    parts = [["raw", {"dtype": dtype}, "<u2" if dtype == "fp16" else "|i1", s, 0, [], [], s]
             for s in ([rows, rank], [rank, cols])]  # fmt: skip
    return with_digest(document(parts, [rows, cols], 0, ["bitpack", [], [18]], "factored"), bytes(18))


def coded(coder: str, codecs: list[str], lengths: list[int], stream: bytes) -> bytes:
    """Four bytes as integers, in a stream of any making."""
    found = document(["raw", {"dtype": "int8"}, "|i1", [4], 0, []], [4], 0, [coder, codecs, lengths])
    return with_digest(found, stream)


def side(codecs: list[str], lengths: list[int], stream: bytes) -> bytes:
    found = {**VALID["uniform"], "side": [codecs, lengths]}
    return with_digest(found, bytes(8) + stream)


def not_finite(name: str, where: int, bits: bytes) -> bytes:
    body = bytearray(body_of(VALID[name]))
    body[where : where + 2] = bits
    return with_digest(VALID[name], bytes(body))


def side_of(name: str, symbols: bytes, dtype: str, *values: float) -> bytes:
    """A valid file with these symbols, and these values in place of its first side array."""
    found = copy.deepcopy(VALID[name])
    described = found["tensors"][0][3][0][5]
    first = np.array(values, dtype).tobytes()
    described[0][1] = dtype
    rest = body_of(found)[-(found["side"][1][0] - 2 * int(np.prod(described[0][2]))) :] if described[1:] else b""
    found["side"][1] = [len(first) + len(rest)]
    return with_digest(found, symbols + first + rest)


def products(form: str, a: float, b: float, dtype: str = "fp32") -> bytes:
    """A file whose factors hold these numbers; of a corrected tensor Q is of ones."""
    parts = [["raw", {"dtype": dtype}, "<u4", s, 0, [], [], s] for s in ([3, 2], [2, 3])]
    numbers = np.concatenate([np.full(6, a, "<f4"), np.full(6, b, "<f4")])
    if form == "corrected":
        parts.insert(0, ["raw", {"dtype": dtype}, "<u4", [3, 3], 0, []])
        numbers = np.concatenate([np.ones(9, "<f4"), numbers])
    return with_digest(document(parts, [3, 3], 0, form=form), numbers.tobytes())


def trellis(step: float, symbol: int, columns: int = 0, rows: int = 0) -> bytes:
    """A file of a trellis of one symbol and these exponents."""
    found = copy.deepcopy(VALID["trellis"])
    found["tensors"][0][3][0][1]["step"] = step
    return with_digest(found, bytes([symbol] * 4 + [columns] * 2 + [rows] * 2))


def scaled_codebook(entry: float, scale: float) -> bytes:
    part = ["codebook", {}, "|u1", [2, 2], 0, [array("table", "<f4", 1, 2), array("scales", "<f4", 1, 1)]]
    return with_digest(document(part, [2, 4], 12), bytes(4) + np.array([entry, entry, scale], "<f4").tobytes())
