"""Numbers that are one, losses of lines and when they were measured, pictures and what tools leave behind."""

from __future__ import annotations

import math
import struct
import zlib

import pytest

from pgpack.referee.caches import is_left_by_tool, source_of
from pgpack.referee.check_text import FULL_BYTES, ratio_of
from pgpack.referee.claims import byte_counts, decimals
from pgpack.referee.logs import read_logs
from pgpack.referee.losses import AFTER, BEFORE, TRAINING, UNCLEAR, figures
from pgpack.referee.numbers import claimed_same, mean_same, same
from pgpack.referee.pictures import is_noise


@pytest.mark.parametrize(
    ("short", "long", "is_one"),
    [
        ("1.0812", "1.0812", True), ("1.0812", "1.08123", True), ("1.0812", "1.08115", True),
        ("1.0812", "1.08125", True),
        ("1.0812", "1.081299", True), ("1.0812", "1.08114", False), ("1.0812", "1.0813", False),
        ("1.0812", "1.0811", False),
        ("1.0812", "1.08130", False), ("1.081", "1.08149", True), ("1.081", "1.0820", False),
        ("1.08", "1.0812", False),
    ],
)  # fmt: skip
def test_a_number_with_fewer_digits_is_the_other_rounded_or_cut(short: str, long: str, is_one: bool) -> None:
    one, other = (float(short), len(short) - 2), (float(long), len(long) - 2)
    assert same(*one, *other) == same(*other, *one) == is_one


def test_a_number_of_json_may_have_lost_its_zeros() -> None:
    assert claimed_same(1.0800, 4, 1.08)
    assert claimed_same(1.08123, 5, 1.081)
    assert not claimed_same(1.0812, 4, 1.08)


def test_a_mean_of_rounded_rows() -> None:
    assert mean_same(1.082333, 8, 1.0823)
    assert mean_same(1.08239, 8, 1.0823)
    assert not mean_same(1.082333, 8, 1.0824)
    assert mean_same(1.082333, 4, 1.0824)  # rows of four digits leave half a unit open
    assert not mean_same(1.082333, 4, 1.0826)


STAGES = {
    '{"event": "final", "step": 9, "val_bpb": 1.0812}': AFTER,
    '{"step": 9, "val_bpb": 1.0812, "stage": "int6 roundtrip"}': AFTER,
    '{"step": 9, "stage": "pre-quant final", "val_bpb": 1.0812}': BEFORE,
    '{"event": "eval", "step": 9, "val_bpb": 1.0812}': UNCLEAR,
    '{"step": 9, "val_bpb": 1.0812}': TRAINING,
    "step 9 | val_bpb 1.0812": TRAINING,
    "[step 9] final quantized val_bpb: 1.0812": AFTER,
}


@pytest.mark.parametrize("line", STAGES)
def test_a_line_with_a_step_is_what_its_words_say(line: str) -> None:
    assert [figure.stage for figure in figures(line, 1)] == [STAGES[line]]


def test_bytes_per_token_are_open_by_the_printed_digits() -> None:
    tokens = 45_508_608
    exact = FULL_BYTES / tokens
    for digits, factor, gives in ((8, 1.0, True), (8, 1.0002, False), (4, 1.0001, True), (4, 1.001, False)):
        loss = round(1.0812 * math.log(2) * exact * factor, digits)
        assert ratio_of(loss, digits, 1.0812, digits).gives(tokens, FULL_BYTES) == gives
    assert ratio_of(1.0812 * math.log(2) * exact, 8, 1.0812, 8).gives(tokens - 40_000, FULL_BYTES)
    assert not ratio_of(1.0812 * math.log(2) * exact, 8, 1.0812, 8).gives(tokens - 200_000, FULL_BYTES)


def test_a_long_line_of_a_log_takes_no_time() -> None:
    lines = [" " * 390, "1.0 " * 100, "seed" + " " * 380, "tokens" + " tokens" * 50, ("-" * 40 + " seed ") * 8]
    (log,) = read_logs("train.log", "\n".join(lines * 400) + "\nseed: 42\n")
    assert log.seed == 42


def test_noise_is_no_picture() -> None:
    def png(width: int, height: int, colour: int = 2) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"\0" * 4

    assert not is_noise(png(4000, 3000), 3_000_000)  # a twelfth of its pixels
    assert is_noise(png(1000, 1000), 3_000_000)
    assert is_noise(b"\x89PNG\r\n\x1a\n" + b"\1" * 100, 2_000_000)
    assert is_noise(png(4000, 3000, 5), 3_000_000)
    assert not is_noise(b"\x89PNG\r\n\x1a\n", 300_000)


def test_what_tools_leave_behind() -> None:
    compiled, loose = b"\xa7\r\r\n" + b"\0" * 60, zlib.compress(b"blob 12\0hello world!")
    assert source_of("a/__pycache__/b.cpython-311.opt-1.pyc") == "a/b.py"
    assert source_of("a/b.pyc") == ""
    assert is_left_by_tool("__pycache__/b.cpython-311.pyc", compiled, 150_000, has_source=True)
    assert not is_left_by_tool("__pycache__/b.cpython-311.pyc", compiled, 150_000, has_source=False)
    assert not is_left_by_tool("__pycache__/b.cpython-311.pyc", compiled, 16_000_000, has_source=True)
    assert not is_left_by_tool("__pycache__/b.bin", b"\0" * 64, 150_000, has_source=True)
    assert is_left_by_tool(f".git/objects/ab/{'c' * 38}", loose, 150_000, has_source=False)
    assert not is_left_by_tool(f".git/objects/ab/{'c' * 38}", b"\x78\x9c" + b"\xff" * 60, 150_000, has_source=False)
    assert is_left_by_tool(".git/objects/pack/pack-1.pack", b"PACK\0\0\0\2", 10**8, has_source=False)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("RUN_ID=seq2048_full_20260319a", set()), ("records/20260319/run", set()), ("run_20260319", set()),
        ("20260319 bytes", {20_260_319}), ("15867289/16000000", {15_867_289, 16_000_000}),
        ("15.867.289 Bytes", {15_867_289}), ("15'867'289", {15_867_289}), ("15 867 289 octets", {15_867_289}),
        ("15867289B", {15_867_289}), ("bytes_total=15867289", {15_867_289}), ("15,867,289.", {15_867_289}),
    ],
)  # fmt: skip
def test_a_date_or_a_name_is_no_count_of_bytes(text: str, counts: set[int]) -> None:
    assert byte_counts(text) == counts


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,20576485", ((1.20576485, 8),)), ("1,206 und 1,20576", ((1.206, 3), (1.20576, 5))), ("7,179 steps", ()),
        ("1,206 of 15,867,289 and 1,2058", ((1.2058, 4),)), ("seeds 42,1337,2025", ()),
    ],
)  # fmt: skip
def test_a_comma_is_a_point_where_it_can_be_nothing_else(text: str, numbers: tuple[tuple[float, int], ...]) -> None:
    assert decimals(text) == numbers
