"""A bare state dict on the command line: found with its evidence, or asked about; and what the flags change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pgtrain.model.model_config import GPTConfig
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.training.weights import random_tensors

SIZE = {"vocab_size": 310, "num_layers": 2, "model_dim": 16, "num_heads": 2, "num_kv_heads": 1, "seq_len": 32}
LOOPED = GPTConfig(**SIZE, num_loops=1, loop_start=0, loop_end=1, skips="none")
SAID = [f"{field}={value}" for field, value in vars(LOOPED).items() if field in ("num_loops", "loop_end", "skips")]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bare") / "final_model.pt"
    torch.save({name: torch.from_numpy(array) for name, array in random_tensors(LOOPED, 0).items()}, path)
    return path


def text_of(folder: Path) -> tuple[str, ...]:
    return ("--val", f"{folder}/*_val_*.bin", "--tokenizer", f"{folder}/tokenizer.model", "--seq-len", "32")


def test_a_model_that_reads_nothing_is_refused_with_what_to_give(bare: Path, text_folder: Path) -> None:
    """Random weights: no guess is better than chance, and the first in the list is no answer."""
    said = [
        *SAID,
        "sharing=none",
        "loop_start=0",
        "rope_dims=0",
        "rope_base=10000",
        "norm_scale=none",
        "xsa_last_n=0",
    ]
    refused = pgpack("eval", bare, *text_of(text_folder), *(word for each in said for word in ("--set", each)))
    assert refused.code == 1
    assert "no model with these tensors reads this text" in refused.err
    assert "--model NAME" in refused.err


def test_eval_takes_fields_and_loops_from_both_commands(bare: Path, text_folder: Path) -> None:
    named = ("--model", "recurrence-3x3", *(word for each in SAID for word in ("--set", each)))
    own = succeed(pgtrain("eval", bare, *text_of(text_folder), *named, "--json", "-q")).json
    same = succeed(pgpack("eval", bare, *text_of(text_folder), *named, "--json", "-q")).json
    assert own["bpb"] == same["bpb"]
    capped = succeed(pgtrain("eval", bare, *text_of(text_folder), *named, "--set", "logit_softcap=3", "--json", "-q"))
    assert capped.json["bpb"] != own["bpb"]
    for command in (pgtrain, pgpack):
        more = succeed(command("eval", bare, *text_of(text_folder), *named, "--loops", "3", "--json", "-q")).json
        assert more["bpb"] != own["bpb"]
    flat = pgpack("eval", bare, *text_of(text_folder), "--model", "baseline", "--loops", "3")
    assert flat.code == 1
