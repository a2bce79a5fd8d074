"""Attacks on every reader of foreign files: refused with a sentence, in bounded memory and time, and nothing runs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import CheckpointError, PgpackError
from pgpack.unpack import unpack
from tests.formats.reading import identify

ROOT = Path(__file__).resolve().parents[2]
CORPUS = sorted((ROOT / "tests" / "hostile" / "corpus").iterdir())
LIMIT = 1 << 24
MEMORY = 6 << 30  # of address space; torch alone maps 2 GiB
SECONDS = 60  # of processor time

READ_ALL = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[3]), int(sys.argv[3])))
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.errors import PgpackError
from pgpack.referee.fence import peak_bytes
from pgpack.unpack import unpack
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    said = []
    for read in (lambda: unpack(path.read_bytes(), 1 << 24).tensors(), lambda: dict(load_checkpoint(path).items())):
        try:
            read()
            said.append("")
        except PgpackError as error:
            said.append(f"{type(error).__name__}: {error}")
    found[path.name] = said
print(json.dumps({"found": found, "peak": peak_bytes()}))
"""


@pytest.fixture(scope="module")
def read_in_a_cage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What both readers say of every attack, in a process whose memory is limited, in an empty folder."""
    folder = tmp_path_factory.mktemp("cage")
    command = [sys.executable, "-c", READ_ALL, str(CORPUS[0].parent), str(MEMORY), str(SECONDS)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(folder.iterdir()) == [], "code of a pickle ran"
    said = json.loads(done.stdout)
    assert said["peak"] < 1 << 30
    return said["found"]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_every_attack_is_refused_by_both_readers_with_a_sentence(path: Path, read_in_a_cage) -> None:
    as_artifact, as_checkpoint = read_in_a_cage[path.name]
    assert as_artifact
    assert as_checkpoint
    for sentence in (as_artifact, as_checkpoint):
        assert len(sentence) < 700
        assert "\n" not in sentence


@pytest.mark.parametrize("path", [path for path in CORPUS if path.name.startswith("code-in")], ids=lambda p: p.name)
def test_what_would_run_code_is_said_to(path: Path, read_in_a_cage) -> None:
    as_artifact, as_checkpoint = read_in_a_cage[path.name]
    assert any(word in as_artifact for word in ("run code", "not an artifact", "no torch stream")), as_artifact
    assert any(word in as_checkpoint for word in ("run code", "an artifact (", "packed with zlib")), as_checkpoint


def test_the_corpus_is_small_and_of_many_kinds() -> None:
    assert len(CORPUS) >= 35
    assert sum(path.stat().st_size for path in CORPUS) < 200_000


def mutated(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(found) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del found[at : at + rng.randrange(1, 40)]
        else:
            source = rng.randrange(len(found) + 1)
            found[at:at] = found[source : source + 64]
    return bytes(found)


SMALL = [path.read_bytes() for path in CORPUS if path.stat().st_size < 20_000 and not path.name.startswith("bomb")]


@given(st.sampled_from(SMALL), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_mutated_artifacts_raise_nothing_else(data: bytes, rng: random.Random) -> None:
    changed = mutated(data, rng)
    identify(changed, LIMIT)
    try:
        unpack(changed, LIMIT).tensors()
    except PgpackError as error:
        assert len(str(error)) < 700  # noqa: PT017  whichever way it goes is fine


@given(st.sampled_from(SMALL), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_checkpoints_raise_nothing_else(tmp_path: Path, data: bytes, rng: random.Random) -> None:
    file = tmp_path / "mutated"
    file.write_bytes(mutated(data, rng))
    try:
        for _, array in load_checkpoint(file).items():
            assert array.nbytes < 1 << 28
    except CheckpointError as error:
        assert len(str(error)) < 700  # noqa: PT017
