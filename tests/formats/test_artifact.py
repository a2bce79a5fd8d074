"""The container: any damage is refused with the right error, equal input gives equal bytes, sizes add up."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.errors import CorruptArtifact, FormatError, TruncatedArtifact, UnsupportedVersion
from pgpack.formats.own.header import Header
from pgpack.formats.own.layout import MAGIC, PREFIX_LEN, frame, unframe
from pgpack.formats.own.size_report import apportion
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.unpack import check_digest, unpack

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RECIPE = "ndim<=1=cast|shuffle|brotli; emb=rtn(bits=4)|rans; *=rtn(bits=6)|bitpack|zlib"


def small_checkpoint() -> Checkpoint:
    rng = np.random.default_rng(0)
    emb = rng.standard_normal((12, 8)).astype(np.float32)
    return from_tensors(
        {
            "emb": emb,
            "w": rng.standard_normal((8, 6)).astype(np.float32),
            "head": emb.copy(),
            "gain": np.ones(5, np.float32),
            "scalar": np.float32(3.5).reshape(()),
            "steps": np.arange(3, dtype=np.int64),
            "conv": rng.standard_normal((2, 3, 4)).astype(np.float32),
            "empty": np.zeros((0, 4), np.float32),
        }
    )


@pytest.fixture(scope="module")
def artifact() -> bytes:
    return pack(small_checkpoint(), parse_recipe(RECIPE)).data


def test_every_tensor_comes_back_under_its_name_and_shape(artifact: bytes) -> None:
    checkpoint = small_checkpoint()
    tensors = unpack(artifact).tensors()
    assert {name: array.shape for name, array in tensors.items()} == dict(checkpoint.shapes)
    np.testing.assert_array_equal(tensors["steps"], [0, 1, 2])
    np.testing.assert_array_equal(tensors["head"], tensors["emb"])
    assert tensors["scalar"] == np.float32(3.5)
    for name, array in checkpoint.items():
        if array.size:
            np.testing.assert_allclose(tensors[name], array, atol=0.2 * float(np.abs(array).max()))


def test_every_single_bit_flip_is_refused(artifact: bytes) -> None:
    for position in range(len(artifact)):
        for bit in range(8):
            damaged = bytearray(artifact)
            damaged[position] ^= 1 << bit
            with pytest.raises(FormatError) as caught:
                unpack(bytes(damaged))
            if position >= 4:
                assert isinstance(caught.value, CorruptArtifact), (position, bit)


def test_every_prefix_is_truncated(artifact: bytes) -> None:
    for length in range(len(artifact)):
        with pytest.raises(TruncatedArtifact):
            unpack(artifact[:length])


def test_a_tail_is_corrupt(artifact: bytes) -> None:
    with pytest.raises(CorruptArtifact, match="follow the declared end"):
        unpack(artifact + b"\0")


def test_another_version_is_named(artifact: bytes) -> None:
    prefix = artifact[:4] + b"\2" + artifact[5:17]
    other = prefix + zlib.crc32(prefix).to_bytes(4, "little") + artifact[21:]
    with pytest.raises(UnsupportedVersion, match="version 2"):
        unpack(other)


def test_packing_is_deterministic(artifact: bytes) -> None:
    assert pack(small_checkpoint(), parse_recipe(RECIPE)).data == artifact


def test_the_size_report_sums_to_the_file() -> None:
    packed = pack(small_checkpoint(), parse_recipe(RECIPE))
    assert packed.report.n_bytes == packed.n_bytes
    assert set(packed.report.tensors) == set(small_checkpoint().shapes) - {"head"}


def test_a_changed_weight_fails_the_digest(artifact: bytes) -> None:
    header, body = unframe(artifact)
    header["digest"] = "0" * 16
    with pytest.raises(CorruptArtifact, match="decodes differently"):
        check_digest(unpack(frame(header, bytes(body))))


def test_a_header_is_written_as_it_was_read() -> None:
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.pgpack"))]
    documents = [unframe(data)[0] for data in files if data[:4] == MAGIC]
    assert len(documents) > 20
    for document in documents:
        assert json.dumps(Header.from_json(document).to_json()) == json.dumps(document)


HOSTILE = {
    "negative shape": lambda h: h["tensors"][0].__setitem__(1, [-1, 4]),
    "huge shape": lambda h: h["tensors"][0][3][0].__setitem__(3, [1 << 40, 1 << 20]),
    "unknown dtype": lambda h: h["tensors"][0][3][0].__setitem__(2, "|O"),
    "unknown grid": lambda h: h["tensors"][0][3][0].__setitem__(0, "magic"),
    "unknown form": lambda h: h["tensors"][0].__setitem__(2, "corrected"),
    "twice the same name": lambda h: h["tensors"].append(h["tensors"][0]),
    "stream out of range": lambda h: h["tensors"][0][3][0].__setitem__(4, 9),
    "negative stream": lambda h: h["tensors"][0][3][0].__setitem__(4, -1),
    "dangling alias": lambda h: h.__setitem__("aliases", {"x": "nowhere"}),
    "unknown coder": lambda h: h["streams"][0].__setitem__(0, "exec(cmd=rm)"),
    "lengths too long": lambda h: h["streams"][0][2].__setitem__(-1, 10**9),
    "no tensors": lambda h: h.pop("tensors"),
    "a number for a list": lambda h: h.__setitem__("tensors", 3),
    "fewer symbols than the shape": lambda h: h["tensors"][1].__setitem__(1, [100, 100]),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_header_is_refused(artifact: bytes, attack: str) -> None:
    header, body = unframe(artifact)
    HOSTILE[attack](header)
    with pytest.raises(FormatError):
        check_digest(unpack(frame(header, bytes(body))))


@given(st.binary(max_size=200))
def test_random_bytes_are_not_an_artifact(data: bytes) -> None:
    with pytest.raises(FormatError):
        unpack(data)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4)))
def test_a_header_of_any_json_is_refused(value: object) -> None:
    header = {"tensors": value, "streams": value, "side": value, "digest": ""}
    with pytest.raises(FormatError):
        unpack(frame(json.loads(json.dumps(header)), b"x"))


def test_a_decoder_process_loads_no_torch(artifact: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pgpack"
    path.write_bytes(artifact)
    done = subprocess.run([sys.executable, "-m", "pgpack.unpack", str(path)], capture_output=True, check=False)
    result = json.loads(done.stdout)
    assert result["ok"]
    assert not result["imported_torch"]
    assert result["weights_digest"] == pack(small_checkpoint(), parse_recipe(RECIPE)).weights_digest


def test_the_prefix_is_as_the_format_page_says(artifact: bytes) -> None:
    assert PREFIX_LEN == 21
    assert artifact[:5] == b"PGPK\x01"
    assert zlib.crc32(artifact[:17]) == int.from_bytes(artifact[17:21], "little")


@given(st.integers(0, 10_000), st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_shares_are_whole_and_sum_to_the_total(total: int, costs: list[float]) -> None:
    shares = apportion(total, costs)
    assert sum(shares) == total
    assert min(shares) >= 0
