"""An artifact of any known format -> a pgpack artifact that decodes to the same bits: only the coding changes.

    file --unpack--> records --kinds of symbols--> every chain measured, the smallest kept --> pgpack file
                        |                                                                          |
                        +------------------------- every tensor compared <------------------------+

Symbols, scales and raw values are carried over as they are; tensors with equal contents are stored once. Refuses to
return anything that does not decode to what the given file decodes to.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pgpack.codecs.base import ByteCodec
from pgpack.codecs.fixed_width import little_endian
from pgpack.formats.own.contents import Contents
from pgpack.formats.own.needs import UNLIMITED
from pgpack.formats.own.size_report import SizeReport
from pgpack.formats.own.writer import Pgpack
from pgpack.recipe.policy import Coding
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record
from pgpack.tensors.roles import role_of
from pgpack.tensors.trellis_grid import TrellisGrid

from .codecs import BYTE_CODECS, CODERS
from .errors import RecipeError, RoundTripError
from .stages import parse_stage
from .unpack import Unpacked, unpack

SAMPLE = 1 << 20  # symbols of a kind on which chains compete before all of it is coded
FINALISTS = 3
CLOSE = 1.04  # a chain that takes so much more than the best on the sample is left out
BROTLI, LZMA = "brotli(quality=11,lgwin=24)", "lzma(preset=6,extreme=true)"
SIDE_CHAINS = (f"shuffle(stride=2)|{BROTLI}", f"shuffle(stride=2)|{LZMA}", BROTLI, LZMA)
Arrays = Sequence[NDArray[Any]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """How one kind of symbols is coded. Units: `n_bytes` of the chosen chain, `others` those of the finalists."""

    kind: str
    n_tensors: int
    n_symbols: int
    chain: str
    n_bytes: int
    others: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Transcoded:
    """A file coded anew. `kind` is the container that was given, `n_before` its bytes; `data` is the new file.

    Units: seconds; `encode_s` includes all chains that were tried.
    """

    kind: str
    n_before: int
    data: bytes
    report: SizeReport
    choices: tuple[Choice, ...]
    unpacked: Unpacked
    encode_s: float
    decode_s: float

    @property
    def n_bytes(self) -> int:
        return len(self.data)


def transcode(data: bytes, progress: Progress = lambda kind: None) -> Transcoded:
    """The smallest pgpack artifact with the symbols of `data`, an artifact of any known format.

    `progress` is told each kind of symbols as its chain is chosen. Raises FormatError when `data` is no artifact;
    RoundTripError is a bug in pgpack.
    """
    start = time.perf_counter()
    given = unpack(data)
    records, aliases = tied(given.records, given.aliases)
    coding: dict[str, Coding] = {}
    choices = []
    for kind, members in kinds_of(records).items():
        choice = best_chain(kind, members)
        choices.append(choice)
        coding |= {record.name: chain_coding(choice.chain) for record in members}
        progress(kind)
    contents = Contents(records, coding, aliases, companions=given.companions)
    fresh, report = Pgpack().write(contents, best_side_codecs(records))
    encoded = time.perf_counter()
    read = unpack(fresh, UNLIMITED)
    decoded = time.perf_counter()
    compare(given, read)
    return Transcoded(
        given.kind, len(data), fresh, report, tuple(choices), read, encoded - start, decoded - encoded
    )  # fmt: skip


def tied(records: Iterable[Record], aliases: Mapping[str, str]) -> tuple[tuple[Record, ...], dict[str, str]]:
    """The records without those that repeat an earlier one, and the aliases with their names."""
    kept: dict[str, str] = {}
    stored, found = [], dict(aliases)
    for record in records:
        first = kept.setdefault(_identity(record), record.name)
        if first == record.name:
            stored.append(record)
        else:
            found[record.name] = first
            found |= {alias: first for alias, name in aliases.items() if name == record.name}
    return tuple(stored), found


def _identity(record: Record) -> str:
    """Equal for records that decode alike because they hold the same."""
    if len(record.shape) < 2:
        return record.name  # vectors of ones are equal by accident; naming them costs more than it saves
    digest = hashlib.sha256(f"{record.shape} {record.form}".encode())
    for part in record.parts:
        digest.update(f"\0{part.grid.kind} {part.grid.params} {part.shape}".encode())
        for array in (part.symbols, *part.grid.arrays.values()):
            digest.update(f"\0{array.dtype.str} {array.shape}\0".encode() + array.tobytes())
    return digest.hexdigest()


def kinds_of(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records whose symbols are alike, by a name for people: grid, dtype and, of quantized matrices, the role."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        part = record.parts[0]
        if isinstance(part.grid, RawValues):
            name = f"raw {part.grid.dtype}"
        else:
            name = f"{part.grid.kind} {part.symbols.dtype.name}, {role_of(record.name, record.shape)}"
        kinds.setdefault(name, []).append(record)
    return kinds


def chains_for(record: Record) -> tuple[str, ...]:
    """The chains that compete for records like this one."""
    part = record.parts[0]
    width = part.symbols.dtype.itemsize
    general: tuple[str, ...] = ("rans", f"raw|{BROTLI}", f"raw|{LZMA}")
    if isinstance(part.grid, RawValues) or width > 1:
        shuffled = tuple(f"raw|shuffle(stride={width})|{codec}" for codec in (BROTLI, LZMA) if width > 1)
        if isinstance(part.grid, RawValues):
            return (*general, *shuffled, f"bitplanes|{LZMA}")
        general += shuffled
    states = part.grid.states if isinstance(part.grid, TrellisGrid) else 0
    scaled = f"rans_scaled(states={states})" if states else "rans_scaled"
    return (scaled, *general, f"bitplanes|{LZMA}")


def best_chain(kind: str, members: Sequence[Record]) -> Choice:
    """The chain that takes the fewest bytes for the symbols of `members`, which share a stream."""
    arrays = [part.symbols for record in members for part in record.parts]
    n_symbols = sum(array.size for array in arrays)
    chains: Sequence[str] = chains_for(members[0])
    if n_symbols > SAMPLE:
        sizes = measured(chains, _sampled(arrays))
        bound = CLOSE * min(sizes.values())
        chains = [chain for chain in sorted(sizes, key=sizes.__getitem__)[:FINALISTS] if sizes[chain] <= bound]
    sizes = measured(chains, arrays)
    best = min(sizes, key=sizes.__getitem__)
    others = {chain: n_bytes for chain, n_bytes in sizes.items() if chain != best}
    return Choice(kind, len(members), n_symbols, best, sizes[best], others)


def measured(chains: Sequence[str], arrays: Arrays) -> dict[str, int]:
    """Chain -> bytes of `arrays` in one stream; a chain that cannot code them is left out."""
    sizes: dict[str, int] = {}
    for chain in chains:
        coding = chain_coding(chain)
        try:
            coded = coding.coder.encode(arrays)
        except RecipeError:
            continue
        sizes[chain] = len(_through(coded, coding.byte_codecs))
    return sizes


def _sampled(arrays: Arrays) -> list[NDArray[Any]]:
    """A run of rows from the middle of each array, SAMPLE symbols in all."""
    share = SAMPLE / sum(array.size for array in arrays)
    found = []
    for array in arrays:
        rows = max(1, int(share * len(array))) if array.ndim else 1
        start = (len(array) - rows) // 2 if array.ndim else 0
        found.append(array[start : start + rows] if array.ndim else array)
    return found


def chain_coding(chain: str) -> Coding:
    """The coding that a chain such as `raw|shuffle(stride=2)|lzma` names."""
    coder, *codecs = chain.split("|")
    return Coding((), parse_stage(coder, CODERS), tuple(parse_stage(codec, BYTE_CODECS) for codec in codecs))


def best_side_codecs(records: Iterable[Record]) -> tuple[ByteCodec, ...]:
    """The codecs that take the fewest bytes for scales and tables, in the order in which the writer joins them."""
    sides = [array for record in records for part in record.parts for array in part.grid.arrays.values()]
    joined = b"".join(little_endian(array).tobytes() for array in sides)
    chains = [tuple(parse_stage(codec, BYTE_CODECS) for codec in chain.split("|")) for chain in SIDE_CHAINS]
    return min([(), *chains], key=lambda chain: len(_through(joined, chain)))


def _through(data: bytes, codecs: Sequence[ByteCodec]) -> bytes:
    for codec in codecs:
        data = codec.encode(data)
    return data


def compare(given: Unpacked, ours: Unpacked) -> None:
    """Every tensor of both decodes to the same bits. Raises RoundTripError naming the first that does not."""
    before, after = _by_name(given), _by_name(ours)
    if before.keys() != after.keys():
        raise RoundTripError(f"other tensors come back: {', '.join(sorted(before.keys() ^ after.keys())[:4])}")
    for name, record in before.items():
        old, new = record.dequantize(), after[name].dequantize()
        if (old.dtype, old.shape) != (new.dtype, new.shape) or old.tobytes() != new.tobytes():
            raise RoundTripError(f"{name} does not decode to what the given file decodes to")


def _by_name(unpacked: Unpacked) -> dict[str, Record]:
    records = {record.name: record for record in unpacked.records}
    return records | {alias: records[stored] for alias, stored in unpacked.aliases.items()}
