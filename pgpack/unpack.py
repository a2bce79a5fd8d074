"""Artifact bytes -> tensors, with numpy and the codecs' own libraries; torch is never loaded.

    data --sniff--> records --grids--> name -> array (tied names included)

As a program, `python -m pgpack.unpack ARTIFACT` decodes in a process of its own and prints one JSON line with the
weights digest; `pgpack verify` runs it so.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from pgpack.formats.own.contents import weights_digest
from pgpack.formats.own.header import Header
from pgpack.formats.own.layout import MAGIC
from pgpack.formats.own.reader import read_artifact
from pgpack.formats.sniff import read_identified
from pgpack.tensors.record import Record

from .errors import CorruptArtifact, PgpackError


@dataclass(frozen=True, eq=False)
class Decoded(Mapping[str, NDArray[Any]]):
    """Records as a mapping from names to arrays that holds no array."""

    records: Mapping[str, Record]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.records[name].dequantize()

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, eq=False)
class Unpacked:
    """A decoded artifact of any known format.

    `kind`: container name; `digest`: what the packer recorded of the weights ('' when the format has no such field);
    `header`: that of our own format; `companions`: file name -> contents of what lies beside the weights.
    """

    kind: str
    records: tuple[Record, ...]
    aliases: Mapping[str, str]
    digest: str
    header: Header | None = None
    companions: Mapping[str, bytes] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """(name, decoded array) one at a time, aliases last."""
        by_name = {}
        for record in self.records:
            if record.name in self.aliases.values():
                by_name[record.name] = record
            yield record.name, record.dequantize()
        for name, stored in self.aliases.items():
            yield name, by_name[stored].dequantize()

    def decoded(self) -> Decoded:
        """Every tensor by name, tied names included, decoded each time that it is asked for."""
        stored = {record.name: record for record in self.records}
        return Decoded(stored | {name: stored[kept] for name, kept in self.aliases.items()})

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Every decoded tensor by name."""
        return dict(self.items())


def unpack(data: bytes, max_bytes: int | None = None) -> Unpacked:
    """Decode an artifact: ours, or one of the field's formats (told apart by content).

    `max_bytes`: the most that may come out of it, and that decoding may hold at once. None: what comes out is at most
    400 times the file, or 64 MiB, and 4 GiB are held (FORMAT.md). In the field's formats nothing is above 1 GiB.
    Raises FormatError or one of its kinds.
    """
    if data[:4] == MAGIC[: len(data)]:
        header, own, companions = read_artifact(data, max_bytes)
        return Unpacked("pgpack", own, header.aliases, header.digest, header, companions)
    kind, records = read_identified(data, max_bytes)
    return Unpacked(kind, tuple(records), {}, "")


def check_digest(unpacked: Unpacked) -> str:
    """The full weights digest of a decoded artifact. Raises CorruptArtifact when it differs from the recorded one."""
    digest = weights_digest(unpacked.records, unpacked.aliases)
    if unpacked.digest and not digest.startswith(unpacked.digest):
        raise CorruptArtifact(
            f"decoded weights have digest {digest[:16]}, the packer recorded {unpacked.digest}; "
            "this machine decodes differently from the packer's"
        )
    return digest


def _main() -> int:
    """`PATH [MEMORY [MAX_BYTES]]`: at most so many bytes of address space, and of `unpack`."""
    path, memory, max_bytes = [*sys.argv[1:], *(None,) * 2][:3]
    if memory is not None:  # started by another program, which keeps standard input open
        threading.Thread(target=_end_with_parent, daemon=True).start()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = int(memory) if hard == resource.RLIM_INFINITY else min(int(memory), hard)  # as its user was given
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    start = time.perf_counter()
    try:
        with open(str(path), "rb") as file:
            unpacked = unpack(file.read(), None if max_bytes is None else int(max_bytes))
        decode_s = time.perf_counter() - start
        result = {"ok": True, "kind": unpacked.kind, "weights_digest": check_digest(unpacked), "decode_s": decode_s}
    except PgpackError as error:
        result = {"ok": False, "error": str(error), "error_kind": type(error).__name__}
    except MemoryError:
        sentence = f"decoding takes more than {int(memory or 0):,} bytes of memory"
        result = {"ok": False, "error": sentence, "error_kind": "FormatError"}
    result["imported_torch"] = "torch" in sys.modules
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["ok"] else 4


def _end_with_parent() -> None:
    """Ends this process when standard input does, which a parent that is gone no longer holds open."""
    while os.read(0, 1 << 16):
        pass
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(_main())
