"""`pgtrain run` hands every training option to the run and draws its loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pgpack_cli.train_verbs.run import TRAIN_OPTIONS, command

from pgtrain.training.train_config import TrainConfig
from tests.commands.workshop import pgpack, pgtrain, succeed

SHAPE = ("--layers", 2, "--dim", 16, "--heads", 2, "--kv-heads", 1, "--seq-len", 32)
SMALL = (*SHAPE, "--batch-tokens", 128, "--steps", 4, "-q")


def test_every_field_of_training_that_has_a_flag_exists() -> None:
    fields = set(TrainConfig.__dataclass_fields__)
    assert {field for field, _, _ in TRAIN_OPTIONS.values()} <= fields


def test_options_arrive_and_the_plan_shows_them(text_folder: Path, tmp_path: Path) -> None:
    flags = (
        "--row-norm --orthogonalizer polar_express --ema 0 --swa-every 2 --curriculum 0:16,0.5:32 --document-batches"
    )
    flags += " --qat-bits 5 --qat-rounding soft --micro-batches 2 --min-lr 0.1 --dry-run --json"
    plan = succeed(
        pgtrain("run", "--data", text_folder, "-o", tmp_path / "m.safetensors", *SMALL, *flags.split())
    ).json["training"]
    assert plan["muon_row_norm"] is plan["document_batches"] is True
    assert plan["seq_curriculum"] == [[0.0, 16], [0.5, 32]]
    chosen = ("muon_orthogonalizer", "swa_every", "qat_bits", "qat_rounding", "micro_batches", "min_lr")
    assert [plan[key] for key in chosen] == ["polar_express", 2, 5, "soft", 2, 0.1]


def test_a_run_with_qat_is_drawn_and_packs_with_its_own_recipe(text_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    succeed(pgtrain("run", "--data", text_folder, "-o", out, *SMALL, "--qat-bits", 6, "--qat-from", 0.5))
    assert (tmp_path / "m.loss.svg").read_text().startswith("<svg")
    from pgpack.checkpoint.checkpoint import load_checkpoint

    recipe = json.loads(load_checkpoint(out).metadata["training"])["qat_recipe"]
    succeed(pgpack("pack", out, "--recipe", recipe, "-o", tmp_path / "m.pgpack", "-q"))


def test_curves_of_several_runs_make_one_picture(text_folder: Path, tmp_path: Path) -> None:
    logs = []
    for seed in (1, 2):
        out = tmp_path / f"seed{seed}.safetensors"
        succeed(pgtrain("run", "--data", text_folder, "-o", out, *SMALL, "--seed", seed))
        logs.append(out.with_suffix(".log.jsonl"))
    drawn = succeed(pgtrain("curve", *logs, "-o", tmp_path / "both.svg", "--json")).json
    assert [run["name"] for run in drawn["runs"]] == ["seed1", "seed2"]
    assert (tmp_path / "both.svg").read_text().count("<polyline") == 2
    assert pgtrain("curve", *logs, "-o", tmp_path / "both.svg").code == 2  # nothing is overwritten
    refused = pgtrain("curve", tmp_path / "none.jsonl", "-o", tmp_path / "c.svg")
    assert refused.code == 1
    assert "none.jsonl" in refused.err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--curriculum", "soon"), "0:64,0.5:256"),
        (("--swa-every", "3"), "--ema 0"),
        (("--micro-batches", "3"), "equal parts"),
        (("--compile", "abacus"), "no backend 'abacus'; known: "),
    ],
)
def test_a_users_mistake_is_one_sentence(flags: tuple, sentence: str, text_folder: Path, tmp_path: Path) -> None:
    refused = pgtrain("run", "--data", text_folder, "-o", tmp_path / "m.safetensors", *SMALL, *flags)
    assert refused.code in (1, 2)
    assert sentence in refused.err


def test_the_help_names_every_flag() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    assert all(flag in text for flag in TRAIN_OPTIONS)
