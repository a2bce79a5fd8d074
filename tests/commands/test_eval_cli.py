"""`pgtrain eval` measures one checkpoint in every way, and says which."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.commands.workshop import pgtrain, succeed

LIMIT = ("--max-tokens", 320, "-q")


def test_every_way_has_its_own_digest_over_the_same_bytes(model: Path) -> None:
    ways = [
        (),
        ("--stride", 8),
        ("--documents",),
        ("--stride", 8, "--documents"),
        ("--bf16",),
        ("--ttt", "sgd", "--ttt-chunk", 64),
        ("--ttt", "sgd", "--ttt-chunk", 64, "--freeze-blocks", 1),
        ("--ttt", "lora", "--ttt-chunk", 32, "--ttt-rank", 2, "--stride", 16),
    ]
    rows = [succeed(pgtrain("eval", model, "--json", *LIMIT, *way)).json for way in ways]
    assert len({row["digest"] for row in rows}) == len(ways)
    assert len({row["bpb"] for row in rows}) == len(ways)
    assert {(row["n_tokens"], row["n_text_bytes"]) for row in rows} == {(320, rows[0]["n_text_bytes"])}
    assert (rows[1]["stride"], rows[0]["stride"], rows[3]["documents"]) == (8, 32, True)
    assert rows[-3]["frozen_values"] == 0 < rows[-2]["frozen_values"]
    assert rows[-2]["trained_values"] + rows[-2]["frozen_values"] == rows[-3]["trained_values"]
    assert rows[4]["bpb"] == pytest.approx(rows[0]["bpb"], rel=0.01)
    assert all(row["eval_s"] > 0 and row["nats"] > 0 for row in rows)
    assert {row["checkpoint_sha256"] for row in rows} == {hashlib.sha256(model.read_bytes()).hexdigest()}


def test_people_read_what_was_measured(model: Path) -> None:
    out = succeed(pgtrain("eval", model, *LIMIT, "--stride", 8, "--ttt", "sgd", "--ttt-chunk", 64)).out
    for line in (
        "bpb  ",
        "nats  ",
        "320 tokens, ",
        "windows of 32, stride 8, score-first sgd",
        "trained values",
        " of text and way",
        " of model.safetensors",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (("--ttt-lr", 0.1), 2, "without --ttt"),
        (("--stride", 64), 1, "between 1 and the window, 32"),
        (("--loops", 3), 1, "no loop to repeat 3 times"),
        (("--max-tokens", 3), 1, "of which at most 3 are scored, are too few for one window of 32"),
        (("--model", "nix"), 1, "or a preset of `pgtrain ls`"),
        (("--ttt", "sgd", "--freeze-blocks", 9), 1, "block 2 cannot be frozen"),
    ],
)
def test_a_users_mistake_is_one_sentence(model: Path, flags: tuple, code: int, sentence: str) -> None:
    refused = pgtrain("eval", model, *(() if "--max-tokens" in flags else LIMIT), *flags)
    assert refused.code == code
    assert sentence in refused.err


def test_a_text_of_one_chunk_says_that_nothing_was_trained_on(model: Path) -> None:
    assert (
        "nothing was trained on: one chunk holds all 320 tokens" in pgtrain("eval", model, *LIMIT, "--ttt", "sgd").err
    )
