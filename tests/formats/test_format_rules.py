"""Every MUST of FORMAT.md has hostile files; they are refused for that reason, in bounded memory and time."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgpack.errors import CorruptArtifact, FormatError
from pgpack.formats.own.needs import HELD, HELD_RATIO, OUTPUT_LEAST, PRODUCT_LEAST, PRODUCT_RATIO, Needs
from pgpack.tensors.grid_schema import SCHEMAS
from pgpack.tensors.grids import GRIDS
from pgpack.unpack import check_digest, unpack
from tests.hostile.artifacts import ATTACKS, REASONS
from tests.hostile.artifacts_second import STORED
from tests.hostile.crafting import VALID, constant, valid

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "pgpack" / "formats" / "own" / "FORMAT.md").read_text(encoding="utf-8")
RULES = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.partition("## Rules")[2], re.M)
MEMORY = 1500 << 20  # of address space, of which Python, numpy and the codecs map 700 MiB
SECONDS = 15.0

ATTACK_ALL = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from tests.hostile.artifacts import ATTACKS
from pgpack.errors import CorruptArtifact, FormatError
from pgpack.unpack import check_digest, unpack
said = {}
for rule, attacks in ATTACKS.items():
    for label, make in attacks.items():
        data, start = make(), time.process_time()
        try:
            check_digest(unpack(data))
            sentence = ""
        except FormatError as error:
            sentence = str(error)
        said[f"{rule}: {label}"] = (sentence, time.process_time() - start)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[str, float]]:
    """What the reader says of every attack, and the processor time that it took, in a process of limited memory."""
    command = [sys.executable, "-c", ATTACK_ALL, str(MEMORY)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, tuple[str, float]] = json.loads(done.stdout)
    return found


def test_every_rule_of_the_page_has_attacks_and_every_attack_a_rule() -> None:
    assert RULES == list(ATTACKS) == list(REASONS)
    assert all(ATTACKS.values())


def test_every_grid_has_a_schema() -> None:
    assert list(SCHEMAS) == list(GRIDS)


@pytest.mark.parametrize("name", VALID)
def test_what_the_attacks_begin_with_opens(name: str) -> None:
    unpacked = unpack(valid(name))
    assert check_digest(unpacked).startswith(unpacked.digest)


@pytest.mark.parametrize("name", STORED)
def test_a_header_is_raw_deflate_to_its_last_byte(name: str) -> None:
    with pytest.raises(CorruptArtifact, match=r"the header (is unreadable|does not inflate)"):
        unpack(STORED[name]())


@pytest.mark.parametrize("rule", ATTACKS)
def test_what_breaks_a_rule_is_refused_for_that_reason(rule: str, said: dict[str, tuple[str, float]]) -> None:
    for label in ATTACKS[rule]:
        sentence, seconds = said[f"{rule}: {label}"]
        assert re.search(REASONS[rule], sentence), f"{label}: {sentence!r}"
        assert sentence.isprintable(), label
        assert len(sentence) < 400, label
        assert seconds < SECONDS, label


def test_a_limit_that_is_raised_lets_a_file_through() -> None:
    data = constant([1 << 12, (1 << 12) + 1])
    with pytest.raises(FormatError, match=f"above the limit of {OUTPUT_LEAST:,}") as caught:
        unpack(data)
    wanted = re.search(r"--max-bytes (\d+)", str(caught.value))
    assert wanted
    (record,) = unpack(data, int(wanted[1])).records
    assert record.dequantize().shape == (1 << 12, (1 << 12) + 1)
    with pytest.raises(FormatError, match="above the limit"):
        unpack(data, int(wanted[1]) - 1)


def test_the_limits_are_those_of_the_page() -> None:
    assert "400\ntimes the file, or 64 MiB where that is more" in PAGE
    assert "at most 4 GiB" in PAGE
    assert (OUTPUT_LEAST, HELD) == (64 << 20, 4 << 30)
    assert "at most 8 times what may come out" in PAGE
    assert "at most 2^15 multiplications for each byte of the file, or 2^34" in PAGE
    assert (HELD_RATIO, PRODUCT_RATIO, PRODUCT_LEAST) == (8, 1 << 15, 1 << 34)


@pytest.mark.parametrize(
    "needs", [Needs(0, (512 << 20) + 1), Needs(0, 0, (1 << 34) + 1)], ids=["held", "multiplications"]
)
def test_what_a_small_file_may_hold_and_multiply_is_bounded_and_can_be_raised(needs: Needs) -> None:
    with pytest.raises(FormatError, match=r"above the limit .* --max-bytes"):
        needs.check(1000)
    needs.check(1 << 20)  # a larger file may more
    needs.check(1000, 1 << 30)
    dataclasses.replace(needs, held=max(0, needs.held - 1), products=max(0, needs.products - 1)).check(1000)
