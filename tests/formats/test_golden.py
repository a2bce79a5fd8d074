"""Artifacts of the past decode as they did then; sizes change only on purpose; damage is refused."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import random
import shutil
import zlib

import pytest

from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.errors import CorruptArtifact, FormatError, TruncatedArtifact
from pgpack.formats.containers import CONTAINERS
from pgpack.formats.own.layout import PREFIX_LEN
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.tensors.grids import GRIDS
from pgpack.tensors.record import FORMS
from pgpack.unpack import check_digest, unpack
from tests.golden.cases import CASES, FOLDER, Case, bell, decoded_sha256, draws, libraries, matrices

GOLDEN = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))
with (FOLDER / "sizes.csv").open(encoding="utf-8", newline="") as file:
    WRITTEN_WITH = file.readline().removeprefix("# ").strip()
    SIZES = {row["name"]: int(row["n_bytes"]) for row in csv.DictReader(file)}
TOLERANCE = 0 if libraries() == WRITTEN_WITH else 16  # bytes; other releases compress a little differently
LARGE = {
    "norm": ((512,), "cast|shuffle|brotli"),
    "big": ((512, 512), "rtn(bits=6)|rans"),
    "planes": ((128, 512), "rtn(bits=4)|bitplanes|zlib"),
    "w": ((192, 512), "rtn(bits=6)|brotli"),
}


def stored(name: str) -> bytes:
    return (FOLDER / f"{name}.pgpack").read_bytes()


def require(case: Case) -> None:
    """Skips where a program or module that decodes the case is not installed."""
    for need in case.needs:
        if shutil.which(need) is None and importlib.util.find_spec(need) is None:
            pytest.skip(f"needs {need}")


def test_every_case_has_a_file_an_entry_and_no_file_is_left_over() -> None:
    names = {path.stem for path in FOLDER.glob("*.pgpack")}
    assert names == set(GOLDEN) == set(CASES)
    assert set(SIZES) == {name for name, case in CASES.items() if case.exact}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_file_was_never_written_again(name: str) -> None:
    assert hashlib.sha256(stored(name)).hexdigest() == GOLDEN[name]["sha256"]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_file_decodes_to_what_it_decoded_to_then(name: str) -> None:
    require(CASES[name])
    unpacked = unpack(stored(name))
    assert check_digest(unpacked) == GOLDEN[name]["weights_digest"]
    assert decoded_sha256(unpacked.tensors()) == GOLDEN[name]["decoded_sha256"]


@pytest.mark.parametrize("name", SIZES)
def test_packing_the_same_input_takes_the_recorded_bytes(name: str) -> None:
    case = CASES[name]
    n_bytes = pack(case.checkpoint(), parse_recipe(case.recipe), case.calibration()).n_bytes
    assert abs(n_bytes - SIZES[name]) <= TOLERANCE, "a changed size is a reviewed diff of its own"


def test_every_single_bit_flip_of_a_golden_file_is_refused() -> None:
    data = stored("two-streams-interleaved")
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError) as caught:
            unpack(bytes(damaged))
        assert bit < 32 or isinstance(caught.value, CorruptArtifact), bit  # the magic: not an artifact


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.needs])
def test_damage_behind_a_correct_check_never_gives_other_weights(name: str) -> None:
    """Flips whose CRC was made good again reach the decoders: they refuse, or the flipped bit did not matter."""
    data, draw = stored(name), random.Random(name)
    for _ in range(5 if name == "rans-two-lanes" else 40):  # 20,000 symbols take 0.1 s
        damaged = bytearray(data)
        bit = draw.randrange(8 * PREFIX_LEN, 8 * (len(data) - 4))
        damaged[bit // 8] ^= 1 << bit % 8
        damaged[-4:] = zlib.crc32(damaged[PREFIX_LEN:-4]).to_bytes(4, "little")
        try:
            digest = check_digest(unpack(bytes(damaged)))
        except FormatError:
            continue
        assert digest == GOLDEN[name]["weights_digest"], bit


@pytest.fixture(scope="module")
def large() -> bytes:
    """About 300 kB with every kind of stream."""
    checkpoint = from_tensors(matrices({name: shape for name, (shape, _) in LARGE.items()}))
    recipe = "; ".join(f"{name}={policy}" for name, (_, policy) in LARGE.items())
    data = pack(checkpoint, parse_recipe(recipe)).data
    assert 250_000 < len(data) < 350_000
    return data


def test_random_bit_flips_of_a_large_artifact_are_refused(large: bytes) -> None:
    draw = random.Random(1)
    for bit in draw.sample(range(32, 8 * len(large)), 4000):
        damaged = bytearray(large)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptArtifact):
            unpack(bytes(damaged))


def test_random_truncations_of_a_large_artifact_are_truncated(large: bytes) -> None:
    draw = random.Random(2)
    for length in [0, 1, 20, 21, len(large) - 1, *draw.sample(range(len(large)), 495)]:
        with pytest.raises(TruncatedArtifact):
            unpack(large[:length])


def test_inputs_are_those_of_splitmix64() -> None:
    """The generator's published first output for seed 0, and what `bell` makes of it."""
    assert int(draws(1, 0)[0]) == 0xE220A8397B1DCDAF
    octets = 0xE220A8397B1DCDAF.to_bytes(8, "little")
    assert bell((1,), 0).tolist() == [(sum(octets) - 1020) / 1024]


def test_every_stage_that_an_artifact_can_name_has_a_golden_file() -> None:
    recipes = [parse_recipe(case.recipe) for case in CASES.values()]
    codings = [rule.policy.coding for recipe in recipes for rule in recipe.rules]
    used = {type(codec) for recipe in recipes for codec in recipe.container_codecs}
    for coding in codings:
        used |= {type(stage) for stage in (*coding.symbol_transforms, coding.coder, *coding.byte_codecs)}
    assert used >= {*SYMBOL_TRANSFORMS.values(), *CODERS.values(), *BYTE_CODECS.values()}
    assert {type(recipe.container) for recipe in recipes} == set(CONTAINERS.values())
    records = [record for name, case in CASES.items() if not case.needs for record in unpack(stored(name)).records]
    assert {record.form for record in records} == set(FORMS)
    # no quantizer gives mean_scaled: `pgpack transcode` writes it, tests/verbs/test_transcode.py reads it back
    assert {part.grid.kind for record in records for part in record.parts} == set(GRIDS) - {"mean_scaled"}
