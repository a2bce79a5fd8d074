"""Writes the corpus of attacks on the readers beside this file: python -m tests.hostile.write_hostile

Files are committed; a new attack is a new file. None can harm a reader that would fall for it: the code in the
pickles makes an empty folder called pgpack-was-here.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import brotli
import torch
import zstandard

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
BOMB = 64 << 20


class Runs:
    """A pickle of this makes a folder when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("pgpack-was-here",)


def saved(value, zipped=True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def rezipped(data: bytes, change) -> bytes:
    """A torch stream whose entries went through `change(name, contents) -> contents` into an ordinary zip file."""
    source = zipfile.ZipFile(io.BytesIO(data))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, change(entry.filename, source.read(entry)))
    return buffer.getvalue()


def repickled(data: bytes, before: bytes, after: bytes) -> bytes:
    changed = rezipped(data, lambda name, c: c.replace(before, after) if name.endswith("data.pkl") else c)
    assert changed != rezipped(data, lambda name, c: c)
    return changed


def safetensors(header, body=b"", length=None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(**change):
    whole = {
        "type": "ternary", "packed": b"\x00" * 13, "scale": torch.ones(4).half(), "shape": [4, 16],
        "padded_cols": 16, "group_size": 16, "n_trits": 64, "orig_shape": [4, 16],
    }  # fmt: skip
    return saved({"w": whole | change})


def pergroup(n=9, lengths=(0,) * 9, body=b"") -> bytes:
    return b"PGRP" + struct.pack(f"<I{len(lengths)}I", n, *lengths) + body


def overlapping() -> bytes:
    """A zip file whose second entry points into the first."""
    data = bytearray(saved({"a": torch.zeros(64), "b": torch.zeros(64)}))
    directory = data.rfind(b"PK\x05\x06")
    start = struct.unpack_from("<I", data, directory + 16)[0]
    first = data.find(b"PK\x01\x02", start)
    second = data.find(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def compressed_entry() -> bytes:
    source = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(1 << 20)})))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for each in source.infolist():
            target.writestr(each.filename, source.read(each))
    return buffer.getvalue()


def attacks() -> dict[str, bytes]:
    code = saved({"a": torch.zeros(2), "b": Runs()})
    state = saved({"a": torch.zeros(4, 3)})
    sdclip = {"w": {"a": Runs()}, "m": {"a": "passthrough (float16)"}}
    wide = saved({"w": {"a": torch.zeros(1).expand(1 << 40)}, "m": {"a": "passthrough (float16)"}})
    f32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {
        "code-in-a-torch-file.pt": code,
        "code-in-an-old-torch-file.pt": saved({"b": Runs()}, zipped=False),
        "code-in-a-bare-pickle.pt": pickle.dumps({"b": Runs()}),
        "code-in-zlib.int8.ptz": zlib.compress(saved({"__quant_format__": "int8_clean_per_row_v1", "x": Runs()})),
        "code-in-zlib-of-a-bare-pickle.int8.ptz": zlib.compress(pickle.dumps({"b": Runs()})),
        "code-in-brotli.int6.ptz": brotli.compress(saved(sdclip)),
        "code-in-a-ternary-file.ptz": entry(extra=Runs()),
        "bomb.zst.ptz": zstandard.ZstdCompressor(level=19).compress(bytes(BOMB)),
        "bomb.br.ptz": brotli.compress(bytes(BOMB), quality=9),
        "bomb-behind-a-method-byte.ptz": b"\x01" + brotli.compress(bytes(BOMB), quality=9),
        "bomb-of-a-compressed-entry.pt": compressed_entry(),
        "huge-tensor-of-one-value.int6.ptz": brotli.compress(wide),
        "negative-length-of-a-tensor.pt": repickled(state, b"K\x04K\x03\x86", b"J\xff\xff\xff\xffK\x03\x86"),
        "negative-stride.pt": repickled(state, b"K\x03K\x01\x86", b"J\xfd\xff\xff\xffK\x01\x86"),
        "tensor-beyond-its-storage.pt": repickled(state, b"K\x04K\x03\x86", b"K\xffK\x03\x86"),
        "storage-that-is-not-there.pt": repickled(state, b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x009"),
        "overlapping-entries.pt": overlapping(),
        "cut.pt": state[: len(state) // 2],
        "safetensors-header-beyond-the-file.safetensors": safetensors({"a": f32}, bytes(8), 1 << 62),
        "safetensors-beyond-its-body.safetensors": safetensors({"a": f32 | {"data_offsets": [0, 1 << 40]}}, bytes(8)),
        "safetensors-huge-shape.safetensors": safetensors({"a": f32 | {"shape": [1 << 40, 1 << 40]}}, bytes(8)),
        "safetensors-negative-shape.safetensors": safetensors({"a": f32 | {"shape": [-2]}}, bytes(8)),
        "safetensors-overlapping.safetensors": safetensors({"a": f32, "b": f32}, bytes(8)),
        "index-that-leads-out.index.json": json.dumps({"weight_map": {"a": "../../etc/passwd"}}).encode(),
        "index-of-itself.index.json": json.dumps({"weight_map": {"a": "index-of-itself.index.json"}}).encode(),
        "index-nested-deep.index.json": b'{"weight_map": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "pergroup-of-four-billion-streams.ptz": pergroup(n=0xFFFFFFFF),
        "pergroup-of-streams-of-4-gib.ptz": pergroup(lengths=(0xFFFFFFFF,) * 9),
        "pergroup-without-its-rest.ptz": pergroup(lengths=(0,) * 7 + (3, 0), body=b"abc"),
        "ternary-of-negative-length.ptz": entry(n_trits=-64),
        "ternary-of-an-exabyte.ptz": entry(n_trits=1 << 60, shape=[1 << 20, 1 << 40], padded_cols=1 << 40),
        "ternary-groups-of-nothing.ptz": entry(group_size=0),
        "ternary-of-other-codes.ptz": entry(packed=b"\xff" * 13),
        "shuffled-nothing.ptz": brotli.compress(b"BSHF\x02"),
        "shuffled-by-zero.ptz": brotli.compress(b"BSHF\x00" + bytes(40)),
        "bank-of-an-odd-number.pt": saved({"qo_bank": torch.zeros(3, 2, 2)}),
        "our-own-header-of-4-gib.pgpack": b"PGPK\x01\xff\xff\xff\xff" + bytes(12),
        "nothing.ptz": b"",
    }


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for name, data in attacks().items():
        if not (CORPUS / name).exists():  # a committed file never changes
            (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
