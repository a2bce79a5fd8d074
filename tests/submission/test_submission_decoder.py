"""The single-file decoder: bit-equal to `unpack` on every golden artifact, alone in a folder, and small."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import lzma
import re
import resource
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgpack.codecs import BYTE_CODECS
from pgpack.errors import SubmissionError
from pgpack.formats.own.layout import MAGIC, unframe
from pgpack.stages import parse_stage
from pgpack.submission.assemble import Override, assemble
from pgpack.submission.decoder import Decoder, make_decoder
from pgpack.submission.program import state_dict
from pgpack.submission.specialise import namespace_of, specialise
from pgpack.submission.submission import decoder_file
from pgpack.unpack import unpack
from tests.golden.cases import CASES, FOLDER
from tests.hostile.artifacts import ATTACKS
from tests.hostile.crafting import UNKNOWN, VALID, array, changed, constant, document, framed, valid, with_digest

if importlib.util.find_spec("python_minifier") is None:
    pytest.skip("needs python-minifier", allow_module_level=True)

ALONE = (
    "import runpy, sys; sys.modules.update(torch=None, pgpack=None); sys.argv[1:] = sys.argv[2:]; "
    "runpy.run_path('decode.py', run_name='__main__')"
)
DEFAULT = "trellis-scaled-tables"  # tcq | rans_scaled, the engine's default
DEFAULT_LIMIT = 4096  # bytes, compressed


def golden() -> dict[str, bytes]:
    """Every golden artifact in our own format that decodes without an external program."""
    found = {
        path.stem: path.read_bytes()
        for path in sorted(FOLDER.glob("*.pgpack"))
        if not {"lrzip", "zpaq"} & set(CASES[path.stem].needs)
    }
    return {name: data for name, data in found.items() if data[:4] == MAGIC}


@functools.cache
def decoder_of(name: str) -> Decoder:
    """The decoder of one golden artifact."""
    return make_decoder([golden()[name]])


def run_alone(
    folder: Path, decoder: bytes, artifact: bytes, *words: str, most: int = -1
) -> subprocess.CompletedProcess[str]:
    """The decoder in a folder with nothing but the artifact, without torch and without this package. `most`: bytes
    of a file that it may write."""
    (folder / "decode.py").write_bytes(decoder)
    (folder / "model.pgpack").write_bytes(artifact)
    command = [sys.executable, "-I", "-c", ALONE, "decode.py", *(words or ("model.pgpack", "out.npz"))]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, preexec_fn=limit)


def refused(finished: subprocess.CompletedProcess[str]) -> None:
    """As pgpack refuses a file: exit 4 and one sentence."""
    assert finished.returncode == 4, finished.stderr
    assert re.fullmatch(r"error: .+\n", finished.stderr), finished.stderr


def test_one_decoder_of_all_golden_artifacts_gives_what_unpack_gives() -> None:
    artifacts = golden()
    assert len(artifacts) > 40
    make_decoder([*artifacts.values()])  # compares every tensor's bits, of the readable and of the minified source


@pytest.mark.parametrize("name", VALID)
def test_whatever_the_format_holds_has_a_decoder(name: str) -> None:
    make_decoder([valid(name)])  # compares every tensor's bits


def test_the_plain_program_needs_no_joining_for_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(golden()[DEFAULT])
    with pytest.raises(KeyError):  # its tables of names are filled in by the generator alone
        state_dict(str(tmp_path / "a"))


@pytest.mark.parametrize("name", [DEFAULT, "corrected-lqer", "tied-tensors-once", "raw-integers-and-bools"])
def test_the_shipped_decoder_runs_alone_and_is_bit_equal(name: str, tmp_path: Path) -> None:
    data = golden()[name]
    finished = run_alone(tmp_path, decoder_file(decoder_of(name)).shipped, data)
    assert finished.returncode == 0, finished.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"decode.py", "model.pgpack", "out.npz"}
    with np.load(tmp_path / "out.npz") as found:
        expected = unpack(data).tensors()
        assert list(found) == list(expected)
        for key, values in expected.items():
            assert found[key].dtype == values.dtype
            assert found[key].shape == values.shape
            assert found[key].tobytes() == values.tobytes()


def test_the_default_engine_needs_a_decoder_of_at_most_4_kb_compressed() -> None:
    code = decoder_of(DEFAULT).code.encode()
    assert len(lzma.compress(code, format=lzma.FORMAT_ALONE)) <= DEFAULT_LIMIT


def test_a_damaged_artifact_gives_an_error_and_no_file(tmp_path: Path) -> None:
    data = bytearray(golden()[DEFAULT])
    shipped = decoder_file(decoder_of(DEFAULT)).shipped
    data[-40] ^= 1
    finished = run_alone(tmp_path, shipped, bytes(data))
    refused(finished)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("codec", ["zlib", "bz2", "lzma", "zstd", "brotli"])
def test_a_damaged_stream_of_any_codec_is_no_failed_read(codec: str, tmp_path: Path) -> None:
    stream = parse_stage(codec, BYTE_CODECS).encode(b"wxyz" * 20)
    part = ["raw", {"dtype": "int8"}, "|i1", [80], 0, []]
    whole = with_digest(document(part, [80], 0, ["raw", [codec], [80, len(stream)]]), stream)
    header, shipped = json.dumps(unframe(whole)[0]).encode(), make_decoder([whole]).code.encode()
    runs = [
        run_alone(tmp_path, shipped, framed(header, stream[:at] + bytes([stream[at] ^ 0xFF]) + stream[at + 1 :]))
        for at in range(0, len(stream), 4)
    ]
    harmful = [run for run in runs if run.returncode]  # a trailer that no symbol hangs on is not read
    assert len(harmful) >= 2
    for run in harmful:
        refused(run)


@pytest.mark.parametrize("words", [("model.pgpack",), ("model.pgpack", "out.npz", "more")])
def test_a_missing_argument_gives_the_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    finished = run_alone(tmp_path, decoder_file(decoder_of(DEFAULT)).shipped, golden()[DEFAULT], *words)
    assert (finished.returncode, finished.stderr) == (2, "usage: python decode.py ARTIFACT OUT.npz\n")


def test_what_cannot_be_read_or_written_gives_a_sentence_and_no_file(tmp_path: Path) -> None:
    shipped, data = decoder_file(decoder_of(DEFAULT)).shipped, golden()[DEFAULT]
    for words, most in ((("gone", "out.npz"), -1), (("model.pgpack", "gone/out.npz"), -1), ((), 2000)):
        finished = run_alone(tmp_path, shipped, data, *words, most=most)
        assert (finished.returncode, finished.stderr[:8], finished.stderr.count("\n")) == (1, "error: [", 1)
        assert {path.name for path in tmp_path.iterdir()} == {"decode.py", "model.pgpack"}


def test_a_decoder_has_nothing_that_its_artifact_does_not_use() -> None:
    small = decoder_of("uniform-row")
    assert "class TrellisGrid" not in small.readable
    assert "def trellis" not in small.readable
    assert "import bz2" not in small.readable


def test_a_field_container_is_refused_in_one_sentence() -> None:
    data = (FOLDER / "field-torch-sdclip-brotli.pgpack").read_bytes()
    with pytest.raises(SubmissionError, match="field"):
        make_decoder([data])


def test_joining_resolves_names_and_takes_overrides() -> None:
    tree, origin = assemble(
        [("pgpack.codecs.rans.tables", "levels_from")],
        {("pgpack.codecs.rans.tables", "MAX_LEVEL"): Override("MAX_LEVEL = 3")},
    )
    assert origin["MAX_LEVEL"] == "pgpack.codecs.rans.tables"
    assert "MAX_LEVEL = 3" in ast.unparse(tree)
    assert "class PgpackError" in ast.unparse(tree)  # the base of what it raises, two modules away


def test_specialising_drops_what_did_not_run_and_keeps_what_did() -> None:
    source = """
def used(n):
    if n < 0:
        raise ValueError
    unread = 3
    try:
        return n + 1 if n else unused()
    except KeyError:
        return 0
def unused():
    return 0
def root(n):
    return used(n)
"""
    tree = specialise(ast.parse(source), ("root",), lambda namespace: namespace["root"](4))
    text = ast.unparse(tree)
    assert namespace_of(tree)["root"](4) == 5
    for gone in ("unused", "unread", "ValueError", "KeyError"):
        assert gone not in text


ODD_FILES = {
    "another version": lambda: b"PGPK\2" + valid("uniform")[5:],
    "a flipped bit": lambda: valid("uniform")[:-6] + b"\xff" + valid("uniform")[-5:],
    "cut": lambda: valid("uniform")[:-1],
    "a gigabyte": lambda: constant([1 << 15, 1 << 15]),
    "overflow": ATTACKS["shapes"]["2^63 beside zero"],
    "another digest": ATTACKS["digest"]["another"],
}


@pytest.mark.parametrize("odd", ODD_FILES.values(), ids=ODD_FILES)
def test_the_plain_program_refuses_what_it_can_see_and_takes_no_memory(odd, tmp_path: Path) -> None:
    decoder = make_decoder([valid("uniform"), valid("raw")])
    limit = b"import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2)\n"
    done = run_alone(tmp_path, limit + decoder.code.encode(), odd())
    refused(done)
    assert not (tmp_path / "out.npz").exists()


def test_no_tensor_is_written_under_the_name_of_a_path(tmp_path: Path) -> None:
    data = changed("raw", "tensors", 0, 0, to="../../w")
    done = run_alone(tmp_path, make_decoder([data]).code.encode(), data)
    refused(done)
    assert "path" in done.stderr
    assert not (tmp_path / "out.npz").exists()


def packed_small(part: list[Any], shape: list[int], symbols: bytes, side: bytes, form: str = "plain") -> bytes:
    """A file of these symbols and side arrays, under zlib, whose digest is right where it opens."""
    streams, sides = zlib.compress(symbols, 9), zlib.compress(side, 9)
    found = document(part, shape, 0, ["raw", ["zlib"], [len(symbols), len(streams)]], form)
    found["side"] = [["zlib"], [len(side), len(sides)]]
    return with_digest(found, streams + sides)


def factors(rows: int, cols: int, shape: list[int], corrected: bool = False) -> bytes:
    parts = [["raw", {"dtype": "fp16"}, "<u2", s, 0, [], [], s] for s in ([rows, 1], [1, cols])]
    first = [["uniform", {}, "|i1", shape, 0, [array("scales", "<f2", shape[0], 1)]]] if corrected else []
    n = 2 * (rows + cols) + (shape[0] * shape[1] if corrected else 0)
    side = b"\0\x3c" * shape[0] if corrected else b""
    return packed_small([*first, *parts], shape, bytes(n), side, "corrected" if corrected else "factored")


def codebook(rows: int, cols: int, width: int) -> bytes:
    arrays = [array("table", "<f2", 1, width), array("scales", "<f2", 0, 0)]
    part = ["codebook", {}, "|u1", [rows, cols], 0, arrays]
    return packed_small(part, [rows * cols * min(width, 4)], bytes(rows * cols), bytes(2 * width))


def uniform(cols: int, scales: int) -> bytes:
    part = ["uniform", {}, "|i1", [1, cols], 0, [array("scales", "<f2", scales, 1)]]
    return packed_small(part, [1, cols], bytes(cols), b"\0\x3c" * scales)


def row_sort(cols: int, rows: int) -> bytes:
    arrays = [array("scales", "<f2", 2, 1), array("@0", "<u2", rows)]
    part = ["uniform", {}, "|i1", [2, cols], 0, arrays, ["row_sort"]]
    return packed_small(part, [2, cols], bytes(2 * cols), b"\0\x3c" * 2 + b"\0\0\1\0" * (rows // 2))


def tied(n: int, names: int) -> bytes:
    data = packed_small(["raw", {"dtype": "int8"}, "|i1", [n], 0, []], [n], bytes(n), b"")
    header, body = unframe(data)
    return with_digest(
        {**header, "digest": UNKNOWN, "aliases": {f"tied {i}": "w" for i in range(names)}}, bytes(body)
    )


def nothing(rows: int) -> bytes:
    sides = [array("columns", "|i1", 0), array("rows", "|i1", 0), array("trims", "|i1", 0)]
    return packed_small(["trellis", {"step": 0.5, "states": 4}, "|i1", [rows, 0], 0, sides], [rows, 0], b"", b"")


def tall(rows: int) -> bytes:
    sides = [array(name, "|i1", n) for name, n in (("columns", 0), ("rows", 0), ("trims", 0))]
    return packed_small(
        ["trellis", {"step": 0.5, "states": 4}, "|i1", [rows, 1], 0, sides], [rows, 1], bytes(rows), b""
    )


GROWING = {  # what decodes: little, and much out of little
    "factors": (lambda: factors(3, 3, [3, 3]), lambda: factors(1 << 15, 1 << 15, [1, 1])),
    "correction": (lambda: factors(3, 3, [3, 3], True), lambda: factors(1 << 15, 1 << 15, [1, 1], True)),
    "codebook": (lambda: codebook(2, 2, 2), lambda: codebook(1000, 1, 1_000_000)),
    "scales": (lambda: uniform(4, 1), lambda: uniform(1 << 15, 1 << 15)),
    "row numbers": (lambda: row_sort(4, 2), lambda: row_sort(1 << 16, 1 << 20)),
    "rows of nothing": (lambda: nothing(4), lambda: nothing(1 << 40)),
    "rows of one": (lambda: tall(4), lambda: tall(1 << 22)),
    "tied names": (lambda: tied(4, 1), lambda: tied(1 << 22, 200)),
}


@pytest.mark.parametrize("name", GROWING)
def test_nothing_grows_in_the_plain_program_beyond_what_was_declared(name: str, tmp_path: Path) -> None:
    little, much = (make() for make in GROWING[name])
    small = b"import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 29,) * 2)\n"
    decoder = small + make_decoder([little]).code.encode()
    assert run_alone(tmp_path, decoder, little).returncode == 0
    (tmp_path / "out.npz").unlink()
    done = run_alone(tmp_path, decoder, much)
    refused(done)
    assert "llocate" not in done.stderr
    assert not (tmp_path / "out.npz").exists()
