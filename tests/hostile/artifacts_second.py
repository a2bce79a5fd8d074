"""More hostile artifacts by rule of FORMAT.md: texts and streams that say the same or too much in other ways.

SECOND: rule -> label -> bytes, as `artifacts.ATTACKS`
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import zlib
from collections.abc import Callable

import zstandard

from .crafting import SCALES, VALID, array, arrays, body_of, changed, coded, document, framed, with_digest

Made = dict[str, Callable[[], bytes]]


def spelled(name: str, before: bytes, after: bytes) -> bytes:
    """A valid file whose header says something in other characters."""
    text = json.dumps(VALID[name]).encode()
    assert before in text
    return framed(text.replace(before, after), body_of(VALID[name]))


def deflated(text: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(text) + deflate.flush()


def with_header(stored: Callable[[bytes], bytes]) -> bytes:
    """A valid file whose header is stored otherwise; all checks are right."""
    packed, body = stored(json.dumps(VALID["raw"]).encode()), body_of(VALID["raw"])
    prefix = struct.pack("<4sBIQ", b"PGPK", 1, len(packed), len(body))
    check = zlib.crc32(body, zlib.crc32(packed))
    return b"".join([prefix, struct.pack("<I", zlib.crc32(prefix)), packed, body, struct.pack("<I", check)])


def in_codec(codec: str, stream: bytes) -> bytes:
    """Four bytes in a stream of one codec."""
    return coded("raw", [codec], [4, len(stream)], stream)


def xz_of_a_large_dictionary() -> bytes:
    """An xz stream whose block asks for a dictionary of 4 GiB, with its check worked out anew."""
    stream = bytearray(lzma.compress(bytes(4), check=lzma.CHECK_CRC32))
    stream[stream.index(b"\x21\x01", 12) + 2] = 40
    n_header = (stream[12] + 1) * 4
    stream[8 + n_header : 12 + n_header] = struct.pack("<I", zlib.crc32(bytes(stream[12 : 8 + n_header])))
    return bytes(stream)


def with_companion(name: str, codecs: list[str] | None = None, lengths: list[int] | None = None) -> bytes:
    stream = bz2.compress(b"{}")
    listed = [[[name, 2]], codecs or ["bz2"], lengths or [2, len(stream)]]
    return with_digest({**VALID["raw"], "companions": listed}, body_of(VALID["raw"]) + stream)


def with_merges(merge: bytes, n: int, n_bytes: int) -> bytes:
    """A companion of `n_bytes` that a vocabulary of `n` equal merges is said to give."""
    fields = [b"{", b",", b"}", b":", b",", b'"', b" ", b'"', b",", b"\1%d" % n]
    told = b"\1" + b"".join(struct.pack("<I", len(field)) + field for field in fields) + b"\n".join([merge] * n)
    stream = zstandard.ZstdCompressor(3).compress(told)
    listed = [[["tokenizer.json", n_bytes]], ["bpe_json", "zstd"], [n_bytes, len(told), len(stream)]]
    return with_digest({**VALID["raw"], "companions": listed}, body_of(VALID["raw"]) + stream)


def sorted_by(name: str, dtype: str, numbers: bytes) -> bytes:
    part = ["uniform", {}, "|i1", [2, 4], 0, [*SCALES, array(name, dtype, 2)], ["row_sort"]]
    return with_digest(document(part, [2, 4], 4 + len(numbers)), bytes(8) + b"\0\x3c" * 2 + numbers)


SECOND: dict[str, Made] = {
    "utf-8": {
        "four million numbers": lambda: framed(b"[" + b"0.5," * 4_000_000 + b"0]"),
        "wide characters": lambda: framed(
            '["\U0001f600"'.encode() + b"".join(b',"%x"' % i for i in range(1_300_000)) + b"]"
        ),
    },
    "keys-once": {"escaped": lambda: spelled("raw", b'"digest"', b'"digest": "0123456789abcdef", "\\u0064igest"')},
    "keys": {
        "a million": lambda: framed(
            '{"\U0001f600":{'.encode() + b",".join(b'"%x":0' % i for i in range(1_300_000)) + b"}}"
        ),
        "a float for a stream": lambda: spelled("raw", b'"|i1", [2, 2], 0', b'"|i1", [2, 2], 0e0'),
    },
    "shapes": {"exponent": lambda: spelled("raw", b"[2, 2]", b"[2e0, 2]")},
    "names-once": {"escaped": lambda: changed("aliases", "aliases", to={"\u0077": "w"})},
    "lengths": {"4299 digits": lambda: spelled("raw", b"[4]", b"[" + b"9" * 4299 + b"]")},
    "trellises": {
        "step 1e999": lambda: spelled("trellis", b"0.5", b"1e999"),
        "step -1e999": lambda: spelled("trellis", b"0.5", b"-1e999"),
        "step of 4299 digits": lambda: spelled("trellis", b"0.5", b"9" * 4299),
    },
    "groups": {"1e999": lambda: spelled("uniform", b'{"group": 0}', b'{"group": 1e999}')},
    "stages": {
        "stride of a billion": lambda: coded("raw", ["shuffle(stride=1000000000)"], [4, 4], bytes(4)),
        "precision 1": lambda: coded("rans(precision=1)", [], [60], bytes(60)),
    },
    "stream-length": {
        "two xz": lambda: in_codec("lzma", lzma.compress(bytes(2)) * 2),
        "two bz2": lambda: in_codec("bz2", bz2.compress(bytes(2)) * 2),
        "xz of 4 GiB": lambda: in_codec("lzma", xz_of_a_large_dictionary()),
        "lzma alone": lambda: in_codec("lzma", lzma.compress(bytes(4), format=lzma.FORMAT_ALONE)),
        "gzip": lambda: in_codec("zlib", gzip.compress(bytes(4))),
        "zstd of 2 GiB": lambda: in_codec("zstd", b"\x28\xb5\x2f\xfd\0" + bytes([21 << 3]) + b"\x21\0\0" + bytes(4)),
        "large brotli window": lambda: in_codec("brotli", b"\x11\x1e" + bytes(8)),
        "two million empty blocks": lambda: in_codec(
            "zlib", b"\x78\x01" + b"\0\0\0\xff\xff" * 2_000_000 + b"\1\4\0\xfb\xff" + bytes(4) + b"\0\4\0\1"
        ),
        "a million merges": lambda: with_merges(b"a b", (1 << 20) - 1, 60 << 20),
        "a million long merges": lambda: with_merges(b"a" * 40 + b" " + b"b" * 38, (1 << 20) - 1, 60 << 20),
        "more merges than there are": lambda: with_merges(b"a b", 1 << 20, 60 << 20),
        "companions": lambda: with_companion("a.json", ["bpe_json", "bz2"], [2, 256 << 20, len(bz2.compress(b"{}"))]),
    },
    "transforms": {
        "a row twice": lambda: sorted_by("@0", "<u2", b"\1\0\1\0"),
        "a row outside": lambda: sorted_by("@0", "<u2", b"\1\0\xff\xff"),
        "rows of u4": lambda: sorted_by("@0", "<u4", bytes(8)),
        **{name: lambda name=name: sorted_by(name, "<u2", b"\1\0\0\0") for name in ("@00", "@-0", "@ 0", "@\u0660")},  # type: ignore[misc]
    },
    "codebooks": {"empty": lambda: arrays("codebook", array("table", "<f2", 0, 1), array("scales", "<f2", 0, 0))},
    "companions": {
        name.strip(): lambda name=name: with_companion(name)  # type: ignore[misc]
        for name in ("con.txt", "model.safetensors.index.json", "\u0660.json", "a.json\n", " a.json", "a.json.")
    },
}  # fmt: skip

STORED: Made = {  # the header is raw deflate to its last byte, and nothing else
    "zlib": lambda: with_header(zlib.compress),
    "gzip": lambda: with_header(gzip.compress),
    "plain": lambda: with_header(bytes),
    "a byte behind": lambda: with_header(lambda text: deflated(text) + b"x"),
    "two parts": lambda: with_header(lambda text: deflated(text[:40]) + deflated(text[40:])),
    "nothing": lambda: with_header(lambda text: deflated(b"")),
    "no end": lambda: with_header(lambda text: deflated(text)[:-1]),
}
