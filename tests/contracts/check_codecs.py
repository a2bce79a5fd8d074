"""What every coding stage must do. Each plug-in's test is short because these checks do the work."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pgpack.codecs.base import ByteCodec, SymbolCoder, SymbolLayout, SymbolTransform
from pgpack.errors import CorruptArtifact


def layouts_of(arrays: Sequence[np.ndarray]) -> list[SymbolLayout]:
    return [SymbolLayout(a.shape, a.dtype.newbyteorder("<").str) for a in arrays]


def check_settings(stage: Any) -> None:
    """Frozen, equal to its copy, hashable; `encoder_only` names fields that exist."""
    fields = {field.name for field in dataclasses.fields(stage)}
    assert type(stage).__dataclass_params__.frozen
    assert dataclasses.replace(stage) == stage
    assert hash(dataclasses.replace(stage)) == hash(stage)
    assert stage.encoder_only <= fields
    assert all(field.type in ("int", "float", "bool", "str") for field in dataclasses.fields(stage))


def byte_examples() -> list[bytes]:
    rng = np.random.default_rng(5)
    gaussian = np.round(rng.standard_normal(3001) * 2.4).astype(np.int8).tobytes()
    return [b"", b"\0", b"ab", b"x" * 1000, bytes(range(256)), gaussian, rng.bytes(777)]


def check_byte_codec(codec: ByteCodec, flips: int = 40) -> None:
    """Exact and deterministic; the declared length is believed by nobody; damage raises CorruptArtifact only."""
    check_settings(codec)
    for plain in byte_examples():
        coded = codec.encode(plain)
        assert codec.encode(plain) == coded
        assert codec.decode(coded, len(plain)) == plain
        for wrong in {0, len(plain) - 1, len(plain) + 1} - {len(plain), -1}:
            with pytest.raises(CorruptArtifact):
                codec.decode(coded, wrong)
        for damaged in (coded + b"\0", coded[:-1]) if coded else (b"\0",):
            with pytest.raises(CorruptArtifact):
                codec.decode(damaged, len(plain))
    check_damage(codec.decode, codec.encode(byte_examples()[5]), 3001, flips)


def check_damage(decode: Any, coded: bytes, n_bytes: int, flips: int) -> None:
    """Random bytes and bit flips: whatever does not raise CorruptArtifact has the declared length."""
    rng = random.Random(9)
    for i in range(flips):
        damaged = bytearray(coded)
        damaged[rng.randrange(len(coded))] ^= 1 << rng.randrange(8)
        noise = rng.randbytes(rng.randrange(1, 200))
        for data in (bytes(damaged), noise, coded[: i * len(coded) // flips], coded[:8] + noise):
            try:
                found = decode(data, n_bytes)
            except CorruptArtifact:
                continue
            assert len(found) == n_bytes


def symbol_examples() -> list[list[np.ndarray]]:
    """Streams of arrays: 0-d, empty, one symbol, constants, extremes of every dtype, the largest alphabet."""
    rng = np.random.default_rng(6)
    gaussian = [np.round(rng.standard_normal((17, 31)) * s).astype(np.int8) for s in (0.3, 2.4, 20)]
    extremes = []
    for name in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"):
        info = np.iinfo(name)
        extremes.append(np.array([info.min, info.max, 0, 1, info.max - 1], dtype=name))
        extremes.append(rng.integers(info.min, info.max, size=300, dtype=name, endpoint=True))
    single = [
        np.array(7, np.int8),
        np.zeros((0, 5), np.int16),
        np.array([-3], np.int8),
        np.full((9, 4), -128, np.int8),
    ]
    fp16 = rng.standard_normal((64, 33)).astype(np.float16).view(np.uint16)
    every = np.arange(1 << 16, dtype=np.uint16)
    return [[], single[:1], single[1:2], single, gaussian, extremes, [*gaussian, *single, fp16, *extremes], [every]]


def check_coder(coder: SymbolCoder, flips: int = 40) -> None:
    """Exact shapes, dtypes and values; deterministic; estimates cost; damage raises CorruptArtifact only."""
    check_settings(coder)
    for arrays in symbol_examples():
        coded = coder.encode(arrays)
        assert coder.encode(arrays) == coded
        check_same(coder.decode(coded, layouts_of(arrays)), arrays)
        costs = coder.ideal_bits(arrays)
        assert len(costs) == len(arrays)
        assert all(cost >= 0 for cost in costs)
        with pytest.raises(CorruptArtifact):
            coder.decode(coded + b"\0", layouts_of(arrays))
        if coded:
            with pytest.raises(CorruptArtifact):
                coder.decode(coded[:-1], layouts_of(arrays))
    check_views(coder)
    arrays = symbol_examples()[6]
    layouts = layouts_of(arrays)

    def decode(data: bytes, n_bytes: int) -> bytes:
        found = coder.decode(data, layouts)
        assert [(a.shape, a.dtype) for a in found] == [(a.shape, a.dtype) for a in arrays]
        return b"".join(a.tobytes() for a in found)

    check_damage(decode, coder.encode(arrays), sum(layout.n_bytes for layout in layouts), flips)


def check_views(coder: SymbolCoder) -> None:
    """Memory order and byte order of the input do not reach the bytes, and the input is not changed."""
    plain = np.arange(-60, 60, dtype=np.int16).reshape(10, 12)
    for view in (np.asfortranarray(plain), plain.astype(">i2"), np.repeat(plain, 2, axis=1)[:, ::2]):
        before = view.copy()
        assert coder.encode([view]) == coder.encode([plain])
        assert np.array_equal(view, before)


def check_same(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


def check_symbol_transform(transform: SymbolTransform) -> None:
    """Inverse is exact from the side information alone; dtype and count stay; the input is not changed."""
    check_settings(transform)
    for arrays in symbol_examples():
        for symbols in arrays:
            before = symbols.copy()
            forward, side = transform.forward(symbols)
            assert forward.size == symbols.size
            assert forward.dtype == symbols.dtype
            check_same([transform.inverse(forward, side)], [before])
            check_same([transform.again(before, side)], [forward])
            check_same([symbols], [before])
