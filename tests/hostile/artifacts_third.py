"""Still more hostile artifacts by rule of FORMAT.md: little that is held as much, many multiplications, symbols that
their dtype does not hold, numbers and names that look like others; all checks are right.

THIRD: rule -> label -> bytes, as `artifacts.ATTACKS`
"""

from __future__ import annotations

import json
import random
import zlib

import numpy as np
import zstandard

from pgpack.codecs import CODERS
from pgpack.codecs.rans.models import varint
from pgpack.codecs.rans.scaled_tables import Table, write_tables
from pgpack.stages import parse_stage

from .artifacts_second import Made, in_codec, spelled, with_companion
from .crafting import UNKNOWN, VALID, array, arrays, body_of, changed, coded, document, framed, with_digest

WIDE = "\uff10"  # a digit zero that is no ASCII


def zeros(n_bytes: int) -> bytes:
    """A zstd frame of so many zeros, made in pieces."""
    packer = zstandard.ZstdCompressor(3).compressobj(size=n_bytes)
    piece = bytes(1 << 20)
    whole = [packer.compress(piece) for _ in range(n_bytes >> 20)]
    return b"".join([*whole, packer.compress(bytes(n_bytes & 0xFFFFF)), packer.flush()])


def large_table(n: int) -> bytes:
    """Four weights of a codebook of `n` entries, nearly all of them unused."""
    stream = zeros(4 * n)
    part = ["codebook", {}, "|u1", [2, 2], 0, [array("table", "<f4", n, 1), array("scales", "<f4", 0, 0)]]
    found = {**document(part, [2, 2], 0), "side": [["zstd"], [4 * n, len(stream)]]}
    return framed(json.dumps({**found, "digest": "41a567e0e5bf78f2"}).encode(), bytes(4) + stream)


def many_sorts(rows: int) -> bytes:
    """A column whose rows are sorted sixteen times."""
    stream = zlib.compress(np.arange(1 << 12, dtype="<u4").tobytes())  # refused before it is looked at
    sorts = [array(f"@{i}", "<u4", rows) for i in range(16)]
    part = ["uniform", {}, "|i1", [rows, 1], 0, [array("scales", "<f2", 1, 1), *sorts], ["row_sort"] * 16]
    found = document(part, [rows, 1], 0, ["bitpack", [], [9]])
    found["side"] = [["zlib"], [2 + 64 * rows, len(stream)]]
    return framed(json.dumps(found).encode(), bytes(9) + stream)


def cubic(n: int, n_bytes: int, form: str = "factored") -> bytes:
    """Factors of full rank in 18 bytes, beside so many bytes that cannot be packed."""
    noise = random.Random(0).randbytes(n_bytes)
    parts = [["raw", {"dtype": "fp16"}, "<u2", [n, n], 0, []]] * 2
    if form == "corrected":
        parts.insert(0, ["uniform", {}, "|i1", [n, n], 0, [array("scales", "<f2", 1, 1)]])
    n_side, n_stream = 2 * (form == "corrected"), 9 * len(parts)
    found = document(parts, [n, n], n_side, ["bitpack", [], [n_stream]], form)
    found["tensors"].append(["noise", [n_bytes], "plain", [["raw", {"dtype": "int8"}, "|i1", [n_bytes], 1, []]]])
    found["streams"].append(["raw", [], [n_bytes]])
    return framed(json.dumps(found).encode(), bytes(n_stream) + noise + b"\0\x3c" * (n_side // 2))


def too_wide(coder: str, values: list[int], dtype: str, symbols: str, stored: str) -> bytes:
    """Symbols of `dtype` under a header that says `symbols`."""
    stream = parse_stage(coder, CODERS).encode([np.array(values, dtype).reshape(2, 2)])
    part = ["raw", {"dtype": stored}, symbols, [2, 2], 0, []]
    return with_digest(document(part, [2, 2], 0, [coder, [], [len(stream)]]), stream)


def two_streams(lengths: tuple[int, int], n_bytes: int) -> bytes:
    """Two tensors of four bytes, each in a stream of its own, before a body of `n_bytes`."""
    tensors = [[str(i), [4], "plain", [["raw", {"dtype": "int8"}, "|i1", [4], i, []]]] for i in range(2)]
    streams = [["raw", [], [length]] for length in lengths]
    found = {"tensors": tensors, "streams": streams, "side": [[], [0]], "digest": UNKNOWN}
    return with_digest(found, bytes(n_bytes))


def of_tables(coder: str, n_streams: int, n_tables: int, precision: int) -> bytes:
    """Streams of one symbol each, which say that so many tables of two symbols are to be built."""
    levels = parse_stage("rans", CODERS).encode([np.zeros(1, np.int8)] * 2)
    described = varint(precision) + varint(n_tables) + varint(0)
    described += write_tables([Table(0, np.array([1, 1]), precision)] * n_tables)
    sections = b"".join(varint(len(part)) + part for part in (levels, described))
    if coder == "rans_wide":
        reach = bytes([8]) * n_tables
        sections = b"".join([b"\0", varint(len(levels)), levels, b"\0", varint(len(described)), described, reach])
    stream = sections + (1 << 17).to_bytes(4, "little")
    packed = zlib.compress(stream, 9)
    part = ["uniform", {}, "|i1", [1, 1]]
    tensors = [[str(i), [1, 1], "plain", [[*part, i, [array("scales", "<f2", 1, 1)]]]] for i in range(n_streams)]
    chain = [coder, ["zlib"], [len(stream), len(packed)]]
    found = {"tensors": tensors, "streams": [chain] * n_streams, "side": [[], [2 * n_streams]], "digest": "0" * 16}
    return framed(json.dumps(found).encode(), packed * n_streams + b"\0\x3c" * n_streams)


CODED = ("bitpack", "bitplanes", "rans", "rans_scaled", "rans_wide")
THIRD: dict[str, Made] = {
    "output": {
        "a table of half a gigabyte": lambda: large_table(1 << 27),
        "sixteen sorts of a gigabyte": lambda: many_sorts(1 << 24),
        "factors of full rank": lambda: cubic(2900, 400_000),
        "corrections of full rank": lambda: cubic(2700, 400_000, "corrected"),
        "tied to what is large": lambda: with_digest(
            {
                **document(["raw", {"dtype": "int8"}, "|i1", [1 << 24], 0, []], [1 << 24], 0, ["bitpack", [], [9]]),
                "aliases": {str(i): "w" for i in range(4)},
            },
            bytes(9),
        ),
    },
    "tables": {
        "fine": lambda: of_tables("rans_scaled", 9, 256, 15),
        "in every stream": lambda: of_tables("rans_scaled", 256, 512, 12),
        "wide": lambda: of_tables("rans_wide", 256, 512, 12),
    },
    "dtypes": {
        **{
            f"{coder} beyond {symbols}": lambda coder=coder, symbols=symbols, stored=stored: too_wide(  # type: ignore[misc]
                coder, [300, -300, 2, 0], "<i2", symbols, stored
            )
            for coder in CODED
            for symbols, stored in (("|i1", "int8"), ("|u1", "uint8"))
        },
        **{
            f"{coder} from 2^63 on": lambda coder=coder: too_wide(  # type: ignore[misc]
                coder, [(1 << 63) - 1, -(1 << 63), 0, 1], "<i8", "<i2", "int16"
            )
            for coder in ("bitpack", "bitplanes", "rans", "rans_wide")
        },
    },
    "digest": {
        "line end": lambda: changed("raw", "digest", to=UNKNOWN + "\n"),
        "wide digits": lambda: changed("raw", "digest", to=WIDE * 16),
        "0x": lambda: changed("raw", "digest", to="0x23456789abcdef"),
        "list": lambda: changed("raw", "digest", to=[UNKNOWN]),
    },
    "names": {
        "pair the wrong way round": lambda: changed("raw", "tensors", 0, 0, to="\udc00\ud800"),
        "tied to half a character": lambda: changed("aliases", "aliases", to={"a": "w\ud800"}),
        "delete": lambda: changed("raw", "tensors", 0, 0, to="w\x7f"),
        "list": lambda: changed("raw", "tensors", 0, 0, to=["w"]),
        "null": lambda: changed("raw", "tensors", 0, 0, to=None),
    },
    "names-once": {"alias of itself": lambda: changed("aliases", "aliases", to={"a": "w", "w": "w"})},
    "aliases": {
        "ring": lambda: changed("aliases", "aliases", to={"a": "b", "b": "a"}),
        "another case": lambda: changed("aliases", "aliases", to={"a": "W"}),
        "bool": lambda: changed("aliases", "aliases", to={"a": True}),
    },
    "lengths": {
        "float": lambda: spelled("raw", b"[4]", b"[4.0]"),
        "text": lambda: spelled("raw", b"[4]", b'["4"]'),
        "streams that overlap": lambda: two_streams((4, 4), 6),
        "streams with a gap": lambda: two_streams((4, 4), 9),
        "2^64 in all": lambda: two_streams((1 << 40, (1 << 40) - 4), 4),
        "side of nothing": lambda: with_digest(VALID["uniform"], body_of(VALID["uniform"])[:-4]),
    },
    "stream-length": {
        "of a dictionary": lambda: in_codec("zstd", b"\x28\xb5\x2f\xfd\x21\x07\4\x21\0\0" + bytes(4)),
        "a frame to be skipped": lambda: in_codec(
            "zstd", b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstandard.ZstdCompressor().compress(bytes(4))
        ),
        "raw deflate": lambda: in_codec("zlib", zlib.compress(bytes(4))[2:-4]),
        "nothing": lambda: in_codec("brotli", b""),
        "of nothing": lambda: coded("raw", [], [0], b""),
    },
    "shapes": {
        "-0.0": lambda: spelled("raw", b"[2, 2]", b"[-0.0, 2]"),
        "list in a list": lambda: changed("raw", "tensors", 0, 1, to=[[2], 2]),
        "2^21 squared": lambda: changed("raw", "part", 3, to=[1 << 21, 1 << 20]),
    },
    "codebooks": {
        "255 of 2": lambda: with_digest(VALID["codebook"], b"\0\1\0\xff" + body_of(VALID["codebook"])[4:]),
        "u8": lambda: with_digest(
            document(["codebook", {}, "<u8", *VALID["codebook"]["tensors"][0][3][0][3:]], [2, 4], 8),
            bytes(32) + b"\0\x3c" * 4,
        ),
    },
    "grids": {
        "mean of 64 bits": lambda: with_digest(
            document(["mean_scaled", {"group": 4}, "<i8", [2, 4], 0, [array("scales", "<f2", 2, 1)]], [2, 4], 4),
            (1 << 62).to_bytes(8, "little") * 8 + b"\0\x3c" * 2,
        )
    },
    "groups": {"0.0": lambda: spelled("uniform", b'{"group": 0}', b'{"group": 0.0}')},
    "scales": {"none": lambda: arrays("uniform", array("scales", "<f2", 0, 0))},
    "factors": {
        "rank of one side": lambda: changed("factored", "part", 7, to=[2, 3]),
        "nothing by nothing": lambda: with_digest(
            document(
                [["raw", {"dtype": "fp16"}, "<u2", shape, 0, [], [], shape] for shape in ([2, 0], [0, 3])],
                [3, 3],
                0,
                form="factored",
            )
        ),
    },
    "companions": {
        name: lambda name=name: with_companion(name)  # type: ignore[misc]
        for name in ("..", "a/b.json", "a\\b.json", "/etc/passwd", "\u202egnosj.json", "a.py", "LPT1.json", "~")
    },
}  # fmt: skip
