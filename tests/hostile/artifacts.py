"""Hostile artifacts of our own format, one or more for each MUST of FORMAT.md; all digests and checks are right.

ATTACKS: rule of FORMAT.md -> label -> bytes      REASONS: rule -> what every refusal of it says
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from .artifacts_second import SECOND
from .artifacts_third import THIRD
from .crafting import (
    FACTORS,
    VALID,
    A,
    B,
    array,
    arrays,
    body_of,
    changed,
    coded,
    constant,
    document,
    factors,
    many,
    not_finite,
    products,
    scaled_codebook,
    side,
    side_of,
    streams,
    texted,
    trellis,
    with_digest,
)

INFINITE, NOT_A_NUMBER = b"\x00\x7c", b"\x01\x7e"
ZERO_MEGABYTE = zlib.compress(bytes(1 << 20), 9)

ATTACKS: dict[str, dict[str, Callable[[], bytes]]] = {
    "utf-8": {
        "bom": lambda: texted(lambda text: b"\xef\xbb\xbf" + text),
        "utf-16": lambda: texted(lambda text: text.decode().encode("utf-16")),
        "latin-1": lambda: texted(lambda text: text.replace(b'"w"', b'"\xe9"')),
        "cut": lambda: texted(lambda text: text[:-2]),
        "list": lambda: texted(lambda text: b"[" + text + b"]"),
        "twice": lambda: texted(lambda text: text + text),
    },
    "keys-once": {
        "top": lambda: texted(lambda text: text[:-1] + b', "digest": "0123456789abcdef"}'),
        "inside": lambda: texted(lambda text: text.replace(b'{"dtype"', b'{"dtype": "int16", "dtype"')),
    },
    "numbers": {
        "nan": lambda: texted(lambda text: text.replace(b"[4]", b"[NaN]")),
        "infinity": lambda: texted(lambda text: text.replace(b"[4]", b"[Infinity]")),
        "minus infinity": lambda: texted(lambda text: text.replace(b"[4]", b"[-Infinity]")),
        "5000 digits": lambda: texted(lambda text: text.replace(b"[4]", b"[" + b"9" * 5000 + b"]")),
    },
    "header-size": {
        "17 MiB": lambda: texted(lambda text: text + b" " * (17 << 20)),
        "nested": lambda: texted(lambda text: b"[" * 100_000),
        "nested in pairs": lambda: texted(lambda text: b'{"a":' * 20 + b"1" + b"}" * 20),
        "five million items": lambda: texted(lambda text: b"[" + b"0," * 5_000_000 + b"0]"),
    },
    "keys": {
        "unknown": lambda: changed("raw", "extra", to=1),
        "missing": lambda: with_digest({k: v for k, v in VALID["raw"].items() if k != "side"}),
        "part of nine": lambda: changed("factored", "part", 8, to={}),
        "part of five": lambda: with_digest(document(["raw", {"dtype": "int8"}, "|i1", [4], 0], [4], 0), bytes(4)),
        "tensor of five": lambda: changed("raw", "tensors", 0, 4, to=1),
        "stream of four": lambda: changed("raw", "streams", 0, 3, to=1),
        "side of three": lambda: changed("raw", "side", 2, to=1),
        "array of four": lambda: changed("uniform", "part", 5, 0, 3, to=1),
        "list for an object": lambda: changed("raw", "part", 1, to=[]),
        "null": lambda: changed("raw", "tensors", to=None),
        "a number for a grid": lambda: changed("raw", "part", 0, to=1),
        "a list for a grid": lambda: changed("raw", "part", 0, to=[]),
        "a list for a form": lambda: changed("raw", "tensors", 0, 2, to=[]),
        "true for a stream": lambda: changed("raw", "part", 4, to=True),
        "a stream below zero": lambda: changed("raw", "part", 4, to=-1),
        "an unknown form": lambda: changed("raw", "tensors", 0, 2, to="sum"),
        "parts of another form": lambda: changed("raw", "tensors", 0, 2, to="factored"),
    },
    "counts": {
        "tensors": lambda: with_digest(many((1 << 15) + 1)),
        "streams": lambda: with_digest(streams(257), bytes(257)),
        "aliases": lambda: changed("aliases", "aliases", to={str(i): "w" for i in range((1 << 15) + 1)}),
        "codecs": lambda: coded("raw", ["shuffle"] * 17, [4] * 18, bytes(4)),
        "transforms": lambda: changed("uniform", "part", 6, to=["transpose"] * 18),
        "arrays": lambda: changed("raw", "part", 5, to=[array(f"a{i}", "|i1", 0) for i in range(33)]),
    },
    "names": {
        "surrogate": lambda: changed("raw", "tensors", 0, 0, to="\udfff"),
        "surrogate alias": lambda: changed("aliases", "aliases", to={"\ud800": "w"}),
        "escape": lambda: changed("raw", "tensors", 0, 0, to="\x1b[31m"),
        "c1": lambda: changed("raw", "tensors", 0, 0, to="a\x9b2J"),
        "newline": lambda: changed("aliases", "aliases", to={"a\nb": "w"}),
        "nul": lambda: changed("raw", "tensors", 0, 0, to="a\0b"),
        "long": lambda: changed("raw", "tensors", 0, 0, to="é" * 513),
        "metadata": lambda: changed("raw", "tensors", 0, 0, to="__metadata__"),
        "metadata alias": lambda: changed("aliases", "aliases", to={"__metadata__": "w"}),
        "number": lambda: changed("raw", "tensors", 0, 0, to=5),
        "array": lambda: changed("uniform", "part", 5, 0, 0, to="\x1b"),
    },
    "names-once": {
        "tensors": lambda: with_digest({**many(2), "tensors": many(1)["tensors"] * 2}),
        "alias": lambda: changed("aliases", "aliases", to={"w": "w"}),
        "arrays": lambda: changed("uniform", "part", 5, 1, to=array("scales", "<f2", 0, 1)),
    },
    "aliases": {
        "number": lambda: changed("aliases", "aliases", to={"a": 5}),
        "no target": lambda: changed("aliases", "aliases", to={"a": "b"}),
        "chain": lambda: changed("aliases", "aliases", to={"a": "w", "b": "a"}),
        "list": lambda: changed("aliases", "aliases", to=[["a", "w"]]),
        "null": lambda: changed("aliases", "aliases", to=None),
    },
    "digest": {
        "empty": lambda: changed("raw", "digest", to=""),
        "one": lambda: changed("raw", "digest", to="3"),
        "upper case": lambda: changed("raw", "digest", to="0123456789ABCDEF"),
        "17": lambda: changed("raw", "digest", to="0123456789abcdef0"),
        "number": lambda: changed("raw", "digest", to=1234567890123456),
        "another": lambda: changed("raw", "digest", to="0" * 16),
    },
    "shapes": {
        "10^30": lambda: changed("raw", "part", 3, to=[0, 10**30]),
        "2^63 beside zero": lambda: with_digest(
            document(["raw", {"dtype": "int8"}, "|i1", [0, 1 << 63], 0, []], [0], 0)
        ),
        "2^41 in all": lambda: with_digest(
            document(["raw", {"dtype": "int8"}, "|i1", [0, 1 << 21, 1 << 20], 0, []], [0], 0)
        ),
        "below zero": lambda: changed("raw", "tensors", 0, 1, to=[-2, -2]),
        "float": lambda: changed("raw", "tensors", 0, 1, to=[2.0, 2]),
        "true": lambda: changed("raw", "part", 3, to=[True, 4], body=bytes(4)),
        "33": lambda: changed("raw", "tensors", 0, 1, to=[1] * 31 + [2, 2]),
        "text": lambda: changed("raw", "tensors", 0, 1, to="22"),
    },
    "dtypes": {
        "object": lambda: changed("raw", "part", 2, to="|O"),
        "big-endian": lambda: changed("raw", "part", 2, to=">i2", body=bytes(8)),
        "float symbols": lambda: changed("uniform", "part", 2, to="<f2", body=bytes(16) + b"\0\x3c" * 2),
        "f8 array": lambda: arrays("uniform", array("scales", "<f8", 2, 1)),
        "list": lambda: changed("raw", "part", 2, to=["|i1"]),
    },
    "stages": {
        "unknown coder": lambda: coded("rot13", [], [4], bytes(4)),
        "unknown codec": lambda: coded("raw", ["rot13"], [4, 4], bytes(4)),
        "unknown transform": lambda: changed("uniform", "part", 6, to=["rot13"]),
        "unknown setting": lambda: coded("rans(speed=1)", [], [4], bytes(4)),
        "setting out of range": lambda: coded("rans(precision=31)", [], [4], bytes(4)),
        "number": lambda: coded("raw", [7], [4, 4], bytes(4)),  # type: ignore[list-item]
        "text for a list": lambda: coded("raw", "zlib", [4] * 5, bytes(4)),  # type: ignore[arg-type]
        "long": lambda: coded("raw" + " " * 200, [], [4], bytes(4)),
        "control": lambda: coded("raw\x1b", [], [4], bytes(4)),
    },
    "streams": {
        "not there": lambda: changed("raw", "part", 4, to=1),
        "of nothing": lambda: changed("raw", "streams", to=[["raw", [], [4]], ["raw", [], [0]]]),
        "a million of nothing": lambda: with_digest({**many(0), "streams": [["raw", [], [0]]] * 200_000}),
    },
    "lengths": {
        "one too few": lambda: coded("raw", ["zlib"], [4], bytes(4)),
        "none": lambda: coded("raw", [], [], bytes(4)),
        "below zero": lambda: coded("raw", ["zlib"], [-4, 8], bytes(8)),
        "true": lambda: coded("raw", ["shuffle"], [True, 4], bytes(4)),
        "2^63": lambda: coded("raw", ["zlib"], [1 << 63, 4], bytes(4)),
        "body longer": lambda: coded("raw", [], [4], bytes(5)),
        "body shorter": lambda: coded("raw", [], [4], bytes(3)),
    },
    "stream-length": {
        "bomb before the coder": lambda: coded("rans", ["zlib"], [1 << 20, len(ZERO_MEGABYTE)], ZERO_MEGABYTE),
        "bomb between codecs": lambda: coded("raw", ["zlib", "bz2"], [4, 1 << 30, 40], bytes(40)),
        "another than declared": lambda: coded("raw", ["zlib"], [4, 11], zlib.compress(bytes(5))),
    },
    "tables": {},
    "side-length": {
        "longer": lambda: side([], [6], bytes(6)),
        "shorter": lambda: side([], [2], bytes(2)),
        "bomb": lambda: side(["zlib"], [1 << 20, len(ZERO_MEGABYTE)], ZERO_MEGABYTE),
    },
    "transforms": {
        "row sort without rows": lambda: changed("uniform", "part", 6, to=["row_sort"]),
        "transpose with side": lambda: changed("row_sort", "part", 6, to=["transpose"]),
        "side of no transform": lambda: changed("row_sort", "part", 5, 1, 0, to="@1"),
        "rows of i2": lambda: changed("row_sort", "part", 5, 1, 1, to="<i2"),
        "no permutation": lambda: with_digest(VALID["row_sort"], body_of(VALID["row_sort"])),
    },
    "grids": {
        "unknown": lambda: changed("raw", "part", 0, to="lattice"),
        "parameter": lambda: changed("uniform", "part", 1, to={"groups": 1}),
        "array for a parameter": lambda: changed("uniform", "part", 5, 1, to=array("group", "|i1", 0)),
        "parameters for arrays": lambda: changed(
            "trellis", "part", 1, to={"step": 1.0, "states": 4, "columns": 0, "rows": 0, "trims": 0}
        ),
        "no scales": lambda: arrays("uniform"),
        "unsigned": lambda: changed("uniform", "part", 2, to="|u1"),
        "3-d": lambda: changed("uniform", "part", 3, to=[2, 2, 2]),
    },
    "raw": {
        "fp32 of i1": lambda: changed("raw", "part", 1, to={"dtype": "fp32"}),
        "fp8 of i8": lambda: changed("raw", "part", 1, to={"dtype": "fp8"}),
        "unsigned": lambda: changed("raw", "part", 2, to="|u1"),
        "unknown": lambda: changed("raw", "part", 1, to={"dtype": "fp4"}),
        "none": lambda: changed("raw", "part", 1, to={}),
        "list": lambda: changed("raw", "part", 1, to={"dtype": ["int8"]}),
        "complex of three": lambda: changed("complex", "part", 3, to=[2, 3]),
        "complex scalar": lambda: changed("complex", "part", 3, to=[6]),
    },
    "bools": {"2": lambda: with_digest(VALID["bool"], b"\1\2"), "255": lambda: with_digest(VALID["bool"], b"\0\xff")},
    "scales": {
        "3 x 1": lambda: changed("uniform", "part", 5, 0, 2, to=[3, 1]),
        "1-d": lambda: changed("uniform", "part", 5, 0, 2, to=[2]),
        "i2": lambda: changed("uniform", "part", 5, 0, 1, to="<i2"),
        "too many groups": lambda: changed("uniform", "part", 5, 0, 2, to=[2, 2]),
        "mean of one": lambda: changed("mean_scaled", "part", 5, 0, 2, to=[1, 1]),
        "codebook": lambda: changed("codebook", "part", 5, 1, 2, to=[3, 1]),
        "bomb": lambda: with_digest(
            document(
                [
                    "codebook",
                    {"group": 1000},
                    "|u1",
                    [9, 2],
                    0,
                    [array("table", "<f2", 1, 1), array("scales", "<f2", 9, 2)],
                ],
                [9, 2],
                38,
            ),
            bytes(56),
        ),
    },
    "groups": {
        **{
            str(odd): lambda odd=odd: changed("uniform", "part", 1, to={"group": odd})  # type: ignore[misc]
            for odd in (True, -1, 2.0, "x", None, 1 << 31, 1 << 70, [4])
        },
        "mean 0": lambda: changed("mean_scaled", "part", 1, to={"group": 0}),
        "mean 2^70": lambda: changed("mean_scaled", "part", 1, to={"group": 1 << 70}),
        "mean none": lambda: changed("mean_scaled", "part", 1, to={}),
        "codebook 2^70": lambda: changed("codebook", "part", 1, to={"group": 1 << 70}),
    },
    "codebooks": {
        "signed": lambda: changed("codebook", "part", 2, to="|i1"),
        "outside": lambda: with_digest(VALID["codebook"], body_of(VALID["codebook"], 2)),
        "1-d": lambda: changed("codebook", "part", 5, 0, 2, to=[4]),
        "integers": lambda: changed("codebook", "part", 5, 0, 1, to="<i2"),
        "width 0": lambda: arrays("codebook", array("table", "<f2", 4, 0), array("scales", "<f2", 0, 0)),
    },
    "trellises": {
        **{
            f"step {odd}": lambda odd=odd: changed(  # type: ignore[misc]
                "trellis", "part", 1, to={"step": odd, "states": 4}
            )
            for odd in (0, -1.0, None, "1.5", True, 1e39, 1e-60, 10**400, [1.0])
        },
        **{
            f"states {odd}": lambda odd=odd: changed(  # type: ignore[misc]
                "trellis", "part", 1, to={"step": 1.0, "states": odd}
            )
            for odd in (4.0, True, 0, 2, "4", 512, None)
        },
        "no step": lambda: changed("trellis", "part", 1, to={"states": 4}),
        "columns f2": lambda: arrays("trellis", array("columns", "<f2", 2), *FACTORS[1:]),
        "columns f4": lambda: arrays("trellis", array("columns", "<f4", 2), *FACTORS[1:]),
        "rows 2-d": lambda: arrays("trellis", FACTORS[0], array("rows", "|i1", 2, 1), FACTORS[2]),
        "trims of one": lambda: arrays("trellis", *FACTORS[:2], array("trims", "|i1", 1)),
        "unsigned": lambda: changed("trellis", "part", 2, to="|u1"),
    },
    "finite": {
        "uniform": lambda: not_finite("uniform", 8, INFINITE),
        "mean": lambda: not_finite("mean_scaled", 8, NOT_A_NUMBER),
        "codebook": lambda: not_finite("codebook", 4, NOT_A_NUMBER),
    },
    "finite-values": {
        "uniform": lambda: side_of("uniform", b"\x7f" * 8, "<f4", 3e38, 1),
        "mean": lambda: side_of("mean_scaled", b"\1" + bytes(7), "<f4", 3e38, 1),
        "codebook, scaled": lambda: scaled_codebook(3e38, 3e38),
        "trellis of two steps": lambda: trellis(1e38, 4),
        "trellis of columns": lambda: trellis(1e34, 1, columns=127),
        "trellis of rows": lambda: trellis(1e34, 1, rows=127),
        "factored": lambda: products("factored", 1e20, 1e20),
        "factored, infinite less infinite": lambda: products("factored", float("inf"), 0),
        "corrected": lambda: products("corrected", -3e38, 3),
        "corrected by NaN": lambda: products("corrected", float("nan"), 0),
    },
    "part-values": {
        "wide": lambda: with_digest(
            document(
                ["codebook", {}, "|u1", [9, 9], 0, [array("table", "<f2", 1, 900), array("scales", "<f2", 0, 0)]],
                [9, 9],
                1800,
                ["bitpack", [], [9]],
            ),
            bytes(1809),
        ),
        "more": lambda: changed("factored", "part", 3, to=[3, 4]),
        "fewer": lambda: changed("factored", "part", 3, to=[1, 2]),
        "a row more": lambda: changed("uniform", "tensors", 0, 1, to=[4]),
        "trellis": lambda: changed("trellis", "tensors", 0, 1, to=[3]),
    },
    "tensor-shape": {
        "larger": lambda: changed("factored", "tensors", 0, 1, to=[4, 4]),
        "plain": lambda: with_digest(
            document(["raw", {"dtype": "int8"}, "|i1", [2, 2], 0, [], [], [2, 2]], [3, 3], 0), bytes(4)
        ),
        "corrected": lambda: with_digest(
            document([[*VALID["corrected"]["tensors"][0][3][0], [], [3, 3]], A, B], [9, 2], 6, form="corrected"),
            bytes(33) + b"\0\x3c" * 3,
        ),
    },
    "factors": {
        "integers": lambda: factors(1, 4, 4, "int8"),
        "inner": lambda: changed("factored", "part", 7, to=[2, 3]),
        "3-d": lambda: changed("factored", "part", 7, to=[3, 2, 1]),
        "rank above both": lambda: factors(5, 4, 4),
    },
    "output": {
        "2^30 floats": lambda: constant([1 << 15, 1 << 15]),
        "integers": lambda: with_digest(
            document(["raw", {"dtype": "int8"}, "|i1", [1, 10**8], 0, []], [1, 10**8], 0, ["bitpack", [], [9]]),
            bytes(9),
        ),
        "product": lambda: factors(1, 1 << 14, 1 << 14),
        "groups": lambda: constant([1 << 13, 1 << 13]),
        "aliases": lambda: with_digest(
            {
                **document(["raw", {"dtype": "int8"}, "|i1", [1 << 20], 0, []], [1 << 20], 0, ["bitpack", [], [9]]),
                "aliases": {f"{i}": "w" for i in range(100)},
            },
            bytes(9),
        ),
        "companions": lambda: with_digest(
            {
                **VALID["raw"],
                "companions": [[[f"{i}.txt", 60 << 20] for i in range(2)], ["bz2"], [120 << 20, 40]],
            },
            bytes(44),
        ),
    },
    "companions": {
        "path": lambda: changed("raw", "companions", to=[[["../a.json", 2]], ["bz2"], [2, 40]], body=bytes(44)),
        "number": lambda: changed("raw", "companions", to=[[[5, 2]], ["bz2"], [2, 40]], body=bytes(44)),
        "true": lambda: changed("raw", "companions", to=[[["a.json", True]], ["bz2"], [1, 40]], body=bytes(44)),
        "none": lambda: changed("raw", "companions", to=[[], [], [0]]),
        "sizes": lambda: changed("raw", "companions", to=[[["a.json", 3]], ["bz2"], [2, 40]], body=bytes(44)),
        "65 files": lambda: changed("raw", "companions", to=[[[f"{i}", 0] for i in range(65)], [], [0]]),
        "other codec": lambda: changed("raw", "companions", to=[[["a.json", 2]], ["zlib"], [2, 40]], body=bytes(44)),
    },
}

for _further in (SECOND, THIRD):
    for _rule, _more in _further.items():
        ATTACKS[_rule] |= _more

REASONS = {  # rule -> what every refusal of it says
    "utf-8": "UTF-8|JSON|Unterminated|Extra data",
    "keys-once": "stands twice",
    "numbers": "no number of JSON|Exceeds the limit",
    "header-size": "inflates to more than|nest deeper|more than 4194304 items",
    "keys": "its keys are|expected|a part needs|has form|a list of",
    "counts": r"expected 0 to \d+|at most 32768 names",
    "names": "a name is|is not UTF-8|takes|control characters",
    "names-once": "twice",
    "aliases": "a name is|alias of a tensor that is not there|aliases are an object",
    "digest": "digest",
    "shapes": "is not a shape|larger than|a list of 33|expected a list",
    "dtypes": "is not allowed here|do(es)? not fit|cannot begin at",
    "stages": "unknown stage|no setting|must be|is no stage|expected a list",
    "streams": "a stream that is not there, or a stream holds no tensor|a list of 200000",
    "lengths": "one length more|expected 1 to|not numbers of bytes|the body has",
    "stream-length": "symbols take|a codec leaves|does not decode|decodes to|does not give|ends early",
    "tables": "slots of tables",
    "side-length": "side information declares",
    "transforms": "row sort|transpose",
    "grids": "unknown grid|no parameters but|has the arrays|decodes matrices",
    "raw": "raw values|complex values",
    "bools": "a bool is stored as",
    "scales": "the scales of a grid|an array scales",
    "groups": "the group of a grid",
    "codebooks": "codebook",
    "trellises": "trellis",
    "finite": "is not finite",
    "finite-values": "^w decodes to NaN or infinity, which only raw values may hold",
    "part-values": "values for a part",
    "tensor-shape": "for a tensor of shape",
    "factors": "factors of shapes|is of float32",
    "output": "decoding (gives|holds|takes) .* above the limit of .* --max-bytes",
    "companions": "companion|unknown stage|expected 1 to 64",
}
