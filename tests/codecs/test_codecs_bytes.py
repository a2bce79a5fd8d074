"""Byte codecs: the shared contract, settings, bombs, peers."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import lzma
import shutil
import tracemalloc
import zlib
from pathlib import Path

import brotli
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.codecs import BYTE_CODECS
from pgpack.codecs.external import Lrzip, Zpaq
from pgpack.codecs.shuffle import Shuffle, shuffled_pieces, unshuffled_bytes
from pgpack.codecs.streams import Brotli, Bz2, Lzma, Zlib, Zstd, brotli_in_steps
from pgpack.errors import CorruptArtifact, RecipeError, ToolMissing
from pgpack.stages import parse_stage, stage_text
from tests.contracts.check_codecs import check_byte_codec

IN_PROCESS = [
    Zlib(), Zlib(1), Bz2(), Lzma(), Lzma(9, True), Zstd(1), Zstd(22),
    Brotli(), Brotli(5, 24), Shuffle(), Shuffle(7),
]  # fmt: skip
BOMB = 64 << 20


@pytest.mark.parametrize("codec", IN_PROCESS, ids=repr)
def test_byte_codecs_keep_their_contract(codec):
    check_byte_codec(codec)


@pytest.mark.parametrize("codec", [Lrzip(), Zpaq(1)], ids=repr)
def test_external_codecs_keep_their_contract(codec):
    if shutil.which(type(codec).__name__.lower()) is None:
        pytest.skip("program not installed")
    check_byte_codec(codec, flips=4)


@pytest.mark.parametrize("codec", [Lrzip(), Zpaq()], ids=repr)
def test_a_missing_program_is_named_with_its_package(codec, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissing, match="install the Debian package"):
        codec.encode(b"data")


@pytest.mark.parametrize("name", sorted(BYTE_CODECS))
def test_stage_text_round_trips_and_bad_settings_are_refused(name):
    stage = BYTE_CODECS[name]()
    assert parse_stage(stage_text(name, stage, full=True), BYTE_CODECS) == stage
    for field in dataclasses.fields(stage):
        if field.type == "int":
            for value in (-1, 1000):
                with pytest.raises(RecipeError, match=" to "):
                    parse_stage(f"{name}({field.name}={value})", BYTE_CODECS)


def test_streams_are_the_libraries_own():
    data = Path(zlib.__file__ or __file__).name.encode() * 500
    assert Zlib(9).encode(data) == zlib.compress(data, 9)
    assert Bz2(9).encode(data) == bz2.compress(data, 9)
    assert Lzma(6).encode(data) == lzma.compress(data, preset=6)
    assert Zstd(22).encode(data) == zstandard.ZstdCompressor(level=22).compress(data)
    assert Brotli(11, 24).encode(data) == brotli.compress(data, quality=11, lgwin=24)


def test_zstd_caps_its_tables_only_where_the_level_asks_for_more_than_160_mib():
    """Tables take 4 * (2^chain + 2^hash) bytes; up to 8 MiB the frame is the library's own."""
    own = zstandard.ZstdCompressionParameters.from_level
    data = np.repeat(np.random.default_rng(0).integers(0, 2, 9 << 10).astype(np.uint8), 1024).tobytes()
    for source, kept in ((data[: 8 << 20], True), (data, False)):
        found, asked = Zstd(22).encode(source), own(22, source_size=len(source))
        assert (4 * (2**asked.chain_log + 2**asked.hash_log) <= 160 << 20) == kept
        capped = own(22, source_size=len(source), chain_log=25, hash_log=22)
        expected = zstandard.ZstdCompressor(level=22) if kept else zstandard.ZstdCompressor(compression_params=capped)
        assert found == expected.compress(source)
        assert Zstd(22).decode(found, len(source)) == source


@pytest.mark.parametrize("codec", [Zlib(), Bz2(), Lzma(), Zstd(19), Brotli(9)], ids=repr)
def test_a_bomb_is_not_inflated_past_its_declared_size(codec):
    bomb = codec.encode(bytes(BOMB))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArtifact, match="more than"):
            codec.decode(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < BOMB // 2
    finally:
        tracemalloc.stop()


def test_brotli_decodes_in_steps_where_the_library_has_no_output_limit():
    data = np.random.default_rng(1).integers(0, 9, 50_000).astype(np.int8).tobytes()
    coded = brotli.compress(data)
    assert brotli_in_steps(brotli.Decompressor(), coded, len(data) + 1) == data
    bomb = brotli.compress(bytes(BOMB), quality=3)
    assert len(brotli_in_steps(brotli.Decompressor(), bomb, 1000)) < BOMB


@given(st.binary(max_size=300), st.integers(2, 256))
@settings(max_examples=60)
def test_shuffle_gathers_every_strand(data, stride):
    expected = b"".join(data[i::stride] for i in range(stride))
    assert Shuffle(stride).encode(data) == expected
    assert Shuffle(stride).decode(expected, len(data)) == data


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(2, 256), st.binary(max_size=5))
@settings(max_examples=60)
def test_pieces_are_shuffled_as_their_concatenation_is(pieces, stride, head):
    data = b"".join(pieces)
    assert shuffled_pieces(pieces, stride, head) == head + Shuffle(stride).encode(data)
    assert unshuffled_bytes(memoryview(Shuffle(stride).encode(data)), stride) == data


@given(st.sampled_from(IN_PROCESS), st.binary(max_size=400), st.integers(0, 2000))
@settings(max_examples=150, deadline=None)
def test_noise_raises_only_corrupt_artifact(codec, data, n_bytes):
    with contextlib.suppress(CorruptArtifact):
        assert len(codec.decode(data, n_bytes)) == n_bytes
