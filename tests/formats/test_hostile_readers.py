"""Every reader of foreign files behind its checksums and codecs: what is inside is damaged, then wrapped again.

A flipped bit of a compressed or checked file is refused by the codec or the check; these reach what is after.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.codecs import BYTE_CODECS
from pgpack.errors import PgpackError
from pgpack.formats.field import pergroup
from pgpack.formats.field.compressed import decompress
from pgpack.formats.own.layout import frame, unframe
from pgpack.formats.torch_files.stream import load
from pgpack.unpack import unpack
from tests.formats.reading import identify, read_field_artifact
from tests.formats.test_hostile import mutated
from tests.formats.torch_stream import save
from tests.hostile.write_hostile import CORPUS, entry

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LIMIT = 1 << 24
ODD: tuple[Any, ...] = (
    -1,
    0,
    1,
    255,
    1 << 31,
    1 << 63,
    -(1 << 63),
    1e308,
    "",
    "x" * 99,
    "..",
    None,
    True,
    [],
    {},
    [-1],
)
SAFETENSORS = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "__metadata__": {"format": "pt"},
}


def odd_somewhere(value: Any, rng: random.Random) -> Any:
    """A JSON document with one value replaced, one key renamed or one item left out or doubled."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(ODD)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        kept = rng.choice(([], [value[at]] * 2, [odd_somewhere(value[at], rng)], [odd_somewhere(value[at], rng)]))
        return [*value[:at], *kept, *value[at + 1 :]]
    key = rng.choice(list(value))
    changed = {**value, key: odd_somewhere(value[key], rng)}
    if rng.random() < 0.2:
        changed[rng.choice(("", "data", "a", key + "x"))] = changed.pop(key)
    return changed


def with_entries(stream: bytes, rng: random.Random) -> bytes:
    """A torch stream one of whose entries, the pickle most often, is damaged; names, lengths and checks are right."""
    source = zipfile.ZipFile(io.BytesIO(stream))
    names = [each.filename for each in source.infolist()]
    chosen = rng.choice([*names, *[name for name in names if name.endswith("data.pkl")] * len(names)])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name in names:
            data = source.read(name)
            target.writestr(name, mutated(data, rng) if name == chosen else data)
    return buffer.getvalue()


def damaged_stream(stream: bytes, rng: random.Random) -> bytes:
    return rng.choice((mutated, with_entries))(stream, rng)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.pgpack").read_bytes()


BASELINE = decompress(golden("field-torch-baseline-zlib"), LIMIT)
SHUFFLED = decompress(golden("field-torch-sdclip-brotli"), LIMIT)
TERNARY = entry()
PERGROUP = pergroup.unframed(golden("field-pergroup-lrzip"))
OURS = ["trellis-256-states", "rans-scaled-rows-and-columns", "corrected-lqer", "tied-tensors-once", "codebook-pairs"]


def ours(rng: random.Random) -> bytes:
    """A pgpack artifact whose checks are right and whose header or body is not."""
    header, body = unframe(golden(rng.choice(OURS)))
    if rng.random() < 0.3:
        return frame(header, mutated(bytes(body), rng))
    return frame(odd_somewhere(header, rng) if rng.random() < 0.95 else {}, bytes(body))


def shuffled(rng: random.Random) -> bytes:
    """A byte-shuffled torch stream, as the SDClip records write it, before its codec."""
    return rng.choice((SHUFFLED[:4], SHUFFLED[:5])) + mutated(SHUFFLED[5:], rng)


def grouped(rng: random.Random) -> bytes:
    """A PGRP file whose rest or whose row orders are damaged behind brotli."""
    brotli = BYTE_CODECS["brotli"](quality=1)
    streams = list(PERGROUP)
    at = rng.choice((-2, -2, -1))
    if streams[at]:
        inside = decompress(streams[at], LIMIT)
        streams[at] = brotli.encode((damaged_stream if at == -2 else mutated)(inside, rng))
    return pergroup.framed(streams)


def framed(rng: random.Random) -> bytes:
    """A PGRP file whose frame is damaged; no stream is decoded."""
    data = pergroup.framed(PERGROUP)
    head = 8 + 4 * len(PERGROUP)
    return data[:4] + mutated(data[4:head], rng) + data[head:]


FIELD: dict[str, Callable[[random.Random], bytes]] = {
    "baseline": lambda rng: damaged_stream(BASELINE, rng),
    "behind a codec": lambda rng: BYTE_CODECS["zlib"](level=1).encode(damaged_stream(BASELINE, rng)),
    "shuffled": shuffled,
    "ternary": lambda rng: damaged_stream(TERNARY, rng),
    "pergroup frame": framed,
}


def refused_or_read(read: Callable[[], Any]) -> None:
    try:
        read()
    except PgpackError as error:
        assert len(str(error)) < 700  # noqa: PT017  whichever way it goes is fine
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("make", FIELD.values(), ids=FIELD.keys())
@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_field_s_containers_are_read_or_refused(
    make: Callable[[random.Random], bytes], rng: random.Random
) -> None:
    data = make(rng)
    identify(data, LIMIT)
    refused_or_read(lambda: [record.dequantize() for record in read_field_artifact(data, LIMIT)])


@pytest.mark.skipif(shutil.which("lrzip") is None, reason="needs lrzip")
@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_pergroup_files_are_read_or_refused(rng: random.Random) -> None:
    refused_or_read(lambda: pergroup.read(grouped(rng), LIMIT))


@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_our_artifacts_are_read_or_refused(rng: random.Random) -> None:
    data = ours(rng)
    refused_or_read(lambda: unpack(data, LIMIT).tensors())


@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_torch_streams_are_read_or_refused(rng: random.Random) -> None:
    data = damaged_stream(BASELINE, rng)
    refused_or_read(lambda: save(load(data, LIMIT)))


@given(rng=st.randoms(use_true_random=False), zipped=st.booleans())
@settings(max_examples=100, deadline=None)
def test_checkpoints_are_read_or_refused(
    rng: random.Random, zipped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if zipped:
        data = damaged_stream(BASELINE, rng)
    else:
        header = json.dumps(odd_somewhere(SAFETENSORS, rng)).encode()
        data = struct.pack("<Q", len(header)) + header + bytes(32)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    refused_or_read(lambda: dict(load_checkpoint(path).items()))


def test_the_seeds_are_whole() -> None:
    for data in (BASELINE, SHUFFLED, TERNARY):
        assert read_field_artifact(data, LIMIT)
    assert all(unpack(golden(name)).tensors() for name in OURS)
    assert CORPUS.is_dir()
