"""A fuzzer of our own format that knows its structure: python -m tests.hostile.fuzz --cases 200000 --seed 0

    golden and hostile files --header changed in its own terms, body mutated, checks and digest made right--> reader

A case is one number: the same seed gives the same file on every machine. Each is decoded, checked and inspected as
`pgpack verify` would; whatever is no refusal of one sentence, and whatever takes long for its size, is a failure.
Counts of the runs so far are in FUZZED.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pgpack.errors import FormatError
from pgpack.formats.own.contents import weights_digest
from pgpack.formats.own.layout import MAGIC, unframe
from pgpack.inspect import inspect_artifact
from pgpack.unpack import Unpacked, check_digest, unpack

from .crafting import VALID, framed, valid

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PROGRAMS = ("lrzip", "zpaq")  # a process each: too slow here, and they have tests of their own
MAX_BYTES = 8 << 20
SECONDS = 3.0  # for any case, of processor time; the seeds take at most a tenth
NUMBERS = (-1, 0, 1, 2, 3, 4, 7, 16, 255, 256, 4096, 65_536, 1 << 20, 1 << 31, 1 << 40, 1 << 63, 10**30, 0.5, 1e308)
TEXTS = (
    "",
    "w",
    "x" * 2000,
    "..",
    "\x1b[2J",
    "\udc80",
    "__metadata__",
    "@0",
    "@1",
    "|i1",
    "|u1",
    "<i2",
    "<u4",
    "<f2",
)
STAGES = (
    *("raw", "bitpack", "bitplanes", "rans", "rans_scaled", "rans_scaled(states=4)", "transpose", "row_sort"),
    *("zlib", "bz2", "lzma", "zstd", "brotli", "shuffle", "shuffle(stride=4)", "bpe_json"),
)
WORDS = (
    *("plain", "corrected", "factored", "raw", "uniform", "mean_scaled", "codebook", "trellis", "int8", "fp16"),
    *("bool", "complex64", "columns", "rows", "trims", "scales", "table", "group", "step", "states", "dtype"),
)
ODD: tuple[Any, ...] = (*NUMBERS, *TEXTS, *STAGES, *WORDS, None, True, [], {}, [0], [1, 1])


@dataclass(frozen=True)
class Case:
    """What became of a file: refused with a sentence, or read; `fault` says what was wrong with that, or nothing."""

    data: bytes
    refused: str
    seconds: float
    fault: str = ""


@cache
def seeds() -> tuple[tuple[dict[str, Any], bytes], ...]:
    """Header and body of every file that the cases begin with."""
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.pgpack"))]
    files = [data for data in files if data[:4] == MAGIC and len(data) < 20_000] + [valid(name) for name in VALID]
    found = [unframe(data) for data in files]
    return tuple(
        (header, bytes(body)) for header, body in found if not any(p in json.dumps(header) for p in PROGRAMS)
    )


def hostile(number: int) -> bytes:
    """The file of a case."""
    rng = random.Random(number)
    header, body = copy.deepcopy(rng.choice(seeds()))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        rng.choice(CHANGES)(header, rng)
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        body = _mutated(body, rng)
    if rng.random() < 0.7:
        _fit_(header, body)
    text = json.dumps(header).encode()
    if rng.random() < 0.03:
        text = _mutated(text, rng)
    if rng.random() < 0.8:
        text = _with_digest(header, text, body)
    return framed(text, body)


def run(number: int) -> Case:
    """A case, decoded as `pgpack verify` does."""
    data = hostile(number)
    start = time.process_time()
    try:
        unpacked = unpack(data, MAX_BYTES)
        check_digest(unpacked)
        inspect_artifact(data, unpacked)
        refused = fault = ""
    except FormatError as error:
        refused, fault = str(error), ""
        if not refused.isprintable() or len(refused) > 700:
            fault = f"a refusal that is no sentence: {refused[:100]!r}"
    except Exception as error:  # noqa: BLE001  what the fuzzer looks for
        refused, fault = "", f"{type(error).__name__}: {error}"
    seconds = time.process_time() - start
    return Case(data, refused, seconds, fault or (f"took {seconds:.1f} s" if seconds > SECONDS else ""))


def _with_digest(header: Any, text: bytes, body: bytes) -> bytes:
    """The text with the digest that the file decodes to, if it decodes."""
    if not isinstance(header, dict):
        return text
    try:
        found: Unpacked = unpack(framed(json.dumps({**header, "digest": "0" * 16}).encode(), body), MAX_BYTES)
        return json.dumps({**header, "digest": weights_digest(found.records, found.aliases)[:16]}).encode()
    except Exception:  # noqa: BLE001  found again by `run`, which judges it
        return text


def _fit_(header: dict[str, Any], body: bytes) -> None:
    """Makes the last length of the streams sum to the body, where they are numbers."""
    try:
        chains = [stream[2] for stream in header["streams"]] + [header["side"][1]]
        chains += [header["companions"][2]] if "companions" in header else []
        off = len(body) - sum(chain[-1] for chain in chains)
        chain = max(chains, key=lambda chain: chain[-1])
        chain[-1] += off
        if len(chain) == 1:
            return
    except (KeyError, TypeError, IndexError, ValueError):
        return


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside a document."""
    found = []
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        found.append((value, key))
        found += _places(inner)
    return found


def _any_value_(header: dict[str, Any], rng: random.Random) -> None:
    container, key = rng.choice(_places(header))
    container[key] = rng.choice(ODD)


def _number_(header: dict[str, Any], rng: random.Random) -> None:
    places = [(c, k) for c, k in _places(header) if type(c[k]) in (int, float)]
    if places:
        container, key = rng.choice(places)
        value = container[key]
        container[key] = rng.choice((value + 1, value - 1, 2 * value, -value, value // 2, float(value), *NUMBERS))


def _text_(header: dict[str, Any], rng: random.Random) -> None:
    places = [(c, k) for c, k in _places(header) if isinstance(c[k], str)]
    container, key = rng.choice(places)
    container[key] = rng.choice((*TEXTS, *STAGES, *WORDS))


def _item_(header: dict[str, Any], rng: random.Random) -> None:
    """Something left out, doubled or moved."""
    places = [(c, k) for c, k in _places(header) if isinstance(c, list)]
    if not places:
        return
    container, key = rng.choice(places)
    kind = rng.randrange(3)
    if kind == 0:
        del container[key]
    elif kind == 1:
        container.insert(key, copy.deepcopy(container[key]))
    else:
        container.append(container.pop(key))


def _key_(header: dict[str, Any], rng: random.Random) -> None:
    places = [(c, k) for c, k in _places(header) if isinstance(c, dict)]
    container, key = rng.choice(places)
    value = container.pop(key)
    if rng.random() < 0.7:
        container[rng.choice((*WORDS, *TEXTS, "aliases", "companions"))] = value


def _parts_(header: dict[str, Any], rng: random.Random) -> list[Any]:
    return [part for *_, parts in header["tensors"] for part in parts if isinstance(part, list) and len(part) > 5]


def _layout_(header: dict[str, Any], rng: random.Random) -> None:
    """Another dtype or shape of the symbols or of an array of a part."""
    part = rng.choice(_parts_(header, rng))
    target, dtype, shape = rng.choice([(part, 2, 3), *((each, 1, 2) for each in part[5])])
    if rng.random() < 0.4:
        target[dtype] = rng.choice(("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4"))
    else:
        old = target[shape]
        target[shape] = rng.choice((old[::-1], [*old, 1], old[1:], [0, *old], [n * 2 for n in old], [1, *old]))


def _grid_(header: dict[str, Any], rng: random.Random) -> None:
    """The grid of another part in place of a part's own."""
    parts = _parts_(header, rng)
    part = rng.choice(parts)
    other = rng.choice(_parts_(copy.deepcopy(rng.choice(seeds())[0]), rng) or parts)
    part[0], part[1] = other[0], other[1]
    if rng.random() < 0.5:
        part[5] = other[5]


def _tie_(header: dict[str, Any], rng: random.Random) -> None:
    names = [tensor[0] for tensor in header["tensors"]]
    header["aliases"] = {rng.choice((*names, *TEXTS, "tied")): rng.choice((*names, *TEXTS)) for _ in range(2)}


def _guarded(change: Callable[[dict[str, Any], random.Random], None]) -> Callable[[Any, random.Random], None]:
    """A change that leaves alone what an earlier one has made too odd for it."""

    def guarded(header: Any, rng: random.Random) -> None:
        try:
            change(header, rng)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError):
            return

    return guarded


CHANGES = [
    _guarded(change)
    for change in (_any_value_, _number_, _number_, _text_, _item_, _key_, _layout_, _layout_, _grid_, _tie_)
]


def _mutated(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    at, kind = rng.randrange(len(found) + 1), rng.randrange(5)
    if kind <= 1 and at < len(found):
        found[at] = rng.choice((0, 255, 1, 127, 128, found[at] ^ 1 << rng.randrange(8)))
    elif kind == 2:
        found[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 3:
        del found[at : at + rng.randrange(1, 40)]
    else:
        found[at : at + 8] = rng.choice((bytes(8), b"\xff" * 8, rng.randbytes(8)))
    return bytes(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    slowest = 0.0
    for number in range(given.seed, given.seed + given.cases):
        case = run(number)
        counts["fault" if case.fault else "refused" if case.refused else "read"] += 1
        slowest = max(slowest, case.seconds)
        if case.fault:
            print(f"case {number}: {case.fault}", flush=True)
    print(f"{given.cases:,} cases from {given.seed}: {dict(counts)}; slowest {slowest:.2f} s", flush=True)


if __name__ == "__main__":
    main()
