"""From checkpoint to artifact and back: plan, pack, unpack, eval, calibrate, inspect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pgpack.calibration.calibration import load_calibration
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_tensors
from tests.commands.conftest import RECIPE
from tests.commands.workshop import CONFIG, pgpack, succeed


def same_tensors(a: Checkpoint, b: Checkpoint) -> bool:
    return a.shapes.keys() == b.shapes.keys() and all(np.array_equal(a.tensor(n), b.tensor(n)) for n in a.shapes)


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    """A torch state dict whose head is its embedding, with a buffer of integers."""
    import torch

    rng = np.random.default_rng(0)
    embedding = torch.tensor(rng.standard_normal((24, 16)), dtype=torch.float32)
    state = {
        "tok_emb.weight": embedding,
        "w": torch.ones(3, 4),
        "lm_head.weight": embedding,
        "steps": torch.arange(5),
    }
    torch.save(state, tmp_path / "tied.pt")
    return tmp_path / "tied.pt"


def test_plan_lists_every_tensor_and_reads_no_text(model: Path) -> None:
    planned = succeed(pgpack("plan", model, "--recipe", RECIPE, "--json")).json
    checkpoint = load_checkpoint(model)
    assert [row["name"] for row in planned["tensors"]] == list(checkpoint.stored_shapes)
    assert planned["numel"] == checkpoint.n_params
    assert planned["needs_hessian"] == [r["name"] for r in planned["tensors"] if r["role"] != "control"]
    assert planned["ideal_bits"] == pytest.approx(sum(row["ideal_bits"] for row in planned["tensors"]))
    table = succeed(pgpack("plan", model, "--recipe", RECIPE)).out
    assert "tok_emb.weight" in table
    assert f"{checkpoint.n_params:,} weights, estimated" in table


def test_pack_writes_artifact_and_manifest_that_agree(model: Path, artifact: Path) -> None:
    manifest = json.loads(artifact.with_name("model.pgpack.json").read_text())
    assert manifest["n_bytes"] == artifact.stat().st_size
    assert sum(n for part in manifest["sizes"].values() for n in part.values()) == manifest["n_bytes"]
    assert manifest["recipe"] == RECIPE
    assert manifest["checkpoint_digest"] == load_checkpoint(model).digest
    assert manifest["bpb"] > 0
    assert manifest["kl"] >= 0
    assert not list(artifact.parent.glob("*.tmp"))


def test_equal_packs_write_equal_files(model: Path, artifact: Path, tmp_path: Path) -> None:
    again = tmp_path / "model.pgpack"
    succeed(pgpack("pack", model, "--recipe", RECIPE, "--eval", "-o", again, "-q"))
    assert again.read_bytes() == artifact.read_bytes()
    assert again.with_name("model.pgpack.json").read_text() == artifact.with_name("model.pgpack.json").read_text()


def test_nothing_is_replaced_without_force(model: Path, artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.write_bytes(b"precious")
    for command in (
        ("pack", model, "--recipe", "*=cast"),
        ("unpack", artifact),
        ("calibrate", model, "--tokens", 64),
    ):
        refused = pgpack(*command, "-o", out, "-q")
        assert refused.code == 2
        assert "--force" in refused.err
        assert out.read_bytes() == b"precious"
        succeed(pgpack(*command, "-o", out, "-q", "--force"))
        assert out.read_bytes() != b"precious"
        out.write_bytes(b"precious")


def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    model: Path, artifact: Path, tmp_path: Path
) -> None:
    before = model.read_bytes(), artifact.read_bytes()
    (tmp_path / "file").write_bytes(b"")
    for command in (("pack", model, "--recipe", "*=nothing"), ("unpack", artifact), ("calibrate", model)):
        folder = pgpack(*command, "-o", tmp_path, "--force", "-q")
        assert (folder.code, "is a folder" in folder.err) == (2, True)
        source = pgpack(*command, "-o", command[1], "--force", "-q")
        assert (source.code, "what the command reads" in source.err) == (2, True)
        below = pgpack(*command, "-o", tmp_path / "file" / "below" / "out", "-q")
        assert (below.code, "cannot be written" in below.err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (model.read_bytes(), artifact.read_bytes()) == before


def test_safetensors_files_are_as_readable_as_any_other_new_file(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "any").write_bytes(b"")
    succeed(pgpack("unpack", artifact, "-o", tmp_path / "a.safetensors", "-q"))
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_unpack_restores_names_shapes_types_and_ties(tied: Path, tmp_path: Path) -> None:
    original = load_checkpoint(tied)
    succeed(pgpack("pack", tied, "--recipe", "*=cast(dtype=fp32)", "-o", tmp_path / "a.pgpack"))
    for name in ("decoded.safetensors", "decoded.pt"):
        succeed(pgpack("unpack", tmp_path / "a.pgpack", "-o", tmp_path / name))
        decoded = load_checkpoint(tmp_path / name)
        assert same_tensors(original, decoded)
        assert decoded.tensor("steps").dtype == np.int64
        assert len(decoded.aliases) == 1


def test_unpack_writes_nothing_of_a_damaged_artifact(artifact: Path, tmp_path: Path) -> None:
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.pgpack").write_bytes(data)
    finished = pgpack("unpack", tmp_path / "bad.pgpack", "-o", tmp_path / "out.safetensors")
    assert finished.code == 4
    assert "fail their check" in finished.err
    assert not (tmp_path / "out.safetensors").exists()


def test_an_artifact_and_its_decoded_checkpoint_have_one_loss(model: Path, artifact: Path, tmp_path: Path) -> None:
    packed = succeed(pgpack("eval", artifact, "--checkpoint", model, "--json", "-q")).json
    succeed(pgpack("unpack", artifact, "-o", tmp_path / "decoded.safetensors"))
    text = model.parent / "text"
    flags = (
        "--val",
        text / "*_val_*.bin",
        "--tokenizer",
        text / "tokenizer.model",
        "--seq-len",
        32,
        "--model",
        "baseline",
    )
    decoded = succeed(pgpack("eval", tmp_path / "decoded.safetensors", *flags, "--json", "-q")).json
    alone = succeed(pgpack("eval", artifact, *flags, "--json", "-q")).json
    assert packed["bpb"] == decoded["bpb"] == alone["bpb"]
    assert packed["kl"] > 0
    assert decoded["kl"] is None
    reference = succeed(pgpack("eval", model, "--json", "-q")).json
    assert reference["bpb"] != packed["bpb"]
    assert reference["evaluator_digest"] == packed["evaluator_digest"]


def test_calibration_in_a_file_packs_as_calibration_on_the_fly(model: Path, artifact: Path, tmp_path: Path) -> None:
    done = succeed(pgpack("calibrate", model, "-o", tmp_path / "h.safetensors", "--json", "-q")).json
    assert done["without_hessian"] == []
    assert "tok_emb.weight" in done["hessians"]
    flags = ("--calibration", tmp_path / "h.safetensors", "-o", tmp_path / "a.pgpack", "-q")
    succeed(pgpack("pack", model, "--recipe", RECIPE, *flags))
    assert (tmp_path / "a.pgpack").read_bytes() == artifact.read_bytes()


def test_plan_shows_the_allocation_of_a_calibration(model: Path, tmp_path: Path) -> None:
    hessians = tmp_path / "h.safetensors"
    succeed(pgpack("calibrate", model, "--tokens", 512, "-o", hessians, "-q"))
    flags = ("--recipe", "role:control=cast; *=tcq(step=0.01)|rans_scaled", "--calibration", hessians)
    shown = succeed(pgpack("plan", model, *flags)).out
    assert "columns, octaves" in shown
    tensors = succeed(pgpack("plan", model, *flags, "--json")).json["tensors"]
    for tensor in tensors:
        assert (tensor["allocation"] is None) == (tensor["role"] == "control")
        if tensor["allocation"]:
            assert f"{tensor['allocation']['step']:.4g}" in shown
            assert tensor["ideal_bits"] == tensor["allocation"]["ideal_bits"]


def test_matrices_that_were_never_used_are_listed_loudly(model: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(model)
    tensors = dict(checkpoint.items()) | {"blocks.9.attn.c_q.weight": np.ones((4, 4), np.float32)}
    save_tensors(tmp_path / "more.safetensors", tensors, {})
    (tmp_path / "adapter.py").write_text(
        "from pgtrain.model.gpt import build as build_gpt\nfrom pgtrain.model.model_config import GPTConfig\n"
        "def build(state):\n    state.pop('blocks.9.attn.c_q.weight')\n"
        f"    return build_gpt({CONFIG}, state)\n"
    )
    text = model.parent / "text"
    finished = pgpack(
        "calibrate", tmp_path / "more.safetensors", "--model", f"{tmp_path / 'adapter.py'}:build",
        "--val", text / "*_val_*.bin", "--calib", text / "*_train_*.bin", "--tokenizer", text / "tokenizer.model",
        "--seq-len", 32, "--tokens", 256, "-o", tmp_path / "h.safetensors", "-q",
    )  # fmt: skip
    assert "NO HESSIAN  blocks.9.attn.c_q.weight" in succeed(finished).err


def test_positions_that_a_model_takes_by_slices_are_calibrated_and_its_windows_are_asked_for(
    model: Path, tmp_path: Path
) -> None:
    """A table of 48 positions, of which a window asks for the first; nothing of it says how long windows are."""
    table = load_checkpoint(model).tensor("tok_emb.weight")
    positions = np.random.default_rng(0).normal(0, 0.02, (1, 48, table.shape[1])).astype(np.float32)
    save_tensors(tmp_path / "placed.safetensors", {"emb": table, "pos": positions}, {})
    (tmp_path / "adapter.py").write_text(
        "import torch\nfrom torch import nn\nclass Placed(nn.Module):\n    def __init__(self, state):\n"
        "        super().__init__()\n        self.emb, self.pos = map(nn.Parameter, (state['emb'], state['pos']))\n"
        "    def forward(self, ids):\n"
        "        return torch.tanh(self.emb[ids] + self.pos[:, :ids.shape[1]]) @ self.emb.T\n"
        "def build(state):\n    return Placed(state)\n"
    )
    text = model.parent / "text"
    given = (
        "calibrate", tmp_path / "placed.safetensors", "--model", f"{tmp_path / 'adapter.py'}:build",
        "--val", text / "*_val_*.bin", "--calib", text / "*_train_*.bin", "--tokenizer", text / "tokenizer.model",
        "--tokens", 256, "-o", tmp_path / "h.safetensors", "-q",
    )  # fmt: skip
    assert "give it as --seq-len N" in pgpack(*given).err
    assert "the model fails on this text (RuntimeError: The size of tensor" in pgpack(*given, "--seq-len", 64).err
    assert "NO HESSIAN" not in succeed(pgpack(*given, "--seq-len", 32)).err
    shares = load_calibration(tmp_path / "h.safetensors").fisher("pos")
    np.testing.assert_allclose(shares, np.full(48, 1 / 32), rtol=1e-6)


def test_calibration_text_that_overlaps_the_evaluated_text_is_refused(model: Path, tmp_path: Path) -> None:
    val = model.parent / "text" / "*_val_*.bin"
    finished = pgpack("calibrate", model, "--calib", val, "-o", tmp_path / "h.safetensors", "-q")
    assert finished.code == 1
    assert "also occurs in the calibration text" in finished.err


def test_pack_fills_a_budget_and_says_by_how_much_it_cannot(model: Path, tmp_path: Path) -> None:
    budget = load_checkpoint(model).n_params  # 8 bits per weight, less what the header takes
    packed = succeed(pgpack("pack", model, "--budget", budget, "-o", tmp_path / "a.pgpack", "-q", "--json")).json
    assert 0.99 * budget <= packed["n_bytes"] <= budget  # sizes of so small a model come in steps
    assert packed["kl"] >= 0
    assert "tcq" in packed["recipe"]
    refused = pgpack("pack", model, "--budget", 500, "-o", tmp_path / "b.pgpack", "-q")
    assert refused.code == 3
    assert "too many" in refused.err
    assert not (tmp_path / "b.pgpack").exists()


def test_inspect_accounts_for_every_byte(model: Path, artifact: Path, tmp_path: Path) -> None:
    view = succeed(pgpack("inspect", artifact, "--json")).json
    manifest = json.loads(artifact.with_name("model.pgpack.json").read_text())
    assert {row["name"]: row["n_bytes"] for row in view["tensors"]} == manifest["sizes"]["tensors"]
    assert view["overhead"] == manifest["sizes"]["overhead"]
    sizes = [row["n_bytes"] for row in view["tensors"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) + sum(view["overhead"].values()) == artifact.stat().st_size
    preset = ("--preset", "baseline-int8-zlib", "--passthrough", 100)
    succeed(pgpack("pack", model, *preset, "-o", tmp_path / "a.ptz"))
    field = succeed(pgpack("inspect", tmp_path / "a.ptz", "--json")).json
    assert (field["kind"], field["shares"]) == ("torch_baseline", "estimated")
    assert sum(row["n_bytes"] for row in field["tensors"]) == (tmp_path / "a.ptz").stat().st_size
    assert "order-0 entropy" in succeed(pgpack("inspect", tmp_path / "a.ptz")).out


def test_inspect_shows_ties_and_metadata_of_a_checkpoint(model: Path, tied: Path) -> None:
    rows = succeed(pgpack("inspect", tied, "--json")).json["tensors"]
    assert [row["alias_of"] for row in rows if row["name"] == "lm_head.weight"] == ["tok_emb.weight"]
    document = succeed(pgpack("inspect", model, "--json")).json
    assert document["metadata"]["model_config"]["model_dim"] == 16
    assert document["n_params"] == load_checkpoint(model).n_params
    assert "data_defaults" in succeed(pgpack("inspect", model)).out


def test_weights_that_became_zero_and_tensors_without_a_hessian_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal((40, 24)).astype("f4") for name in ("a.weight", "b.weight")}
    save_tensors(tmp_path / "m.safetensors", {**tensors, "b.weight": tensors["b.weight"] * 1e-9}, {})
    model, out = tmp_path / "m.safetensors", tmp_path / "o.pgpack"
    for rule in ("rtn(bits=4)|rans", "cast(dtype=fp16)|raw", "nf4|rans", "binary|rans", "kmeans(k=16)|rans"):
        said = succeed(pgpack("pack", model, "--recipe", f"*={rule}", "-o", out, "--force")).err
        assert "b.weight became all zero" in said, rule
        assert "too small for the step that stores them" in said
        assert "a.weight" not in said
        shown = succeed(pgpack("verify", out, "--checkpoint", model)).out
        assert "1 tensor became all zero, first b.weight" in shown
    told = succeed(pgpack("pack", model, "--recipe", "*=cast(dtype=bf16)|raw", "-o", out, "--force")).err
    assert "became all zero" not in told
    save_tensors(tmp_path / "m.safetensors", {**tensors, "b.weight": tensors["b.weight"] * 3e-7}, {})
    for rule in ("rtn(bits=4)|rans", "kmeans(k=16)|rans", "cast(dtype=fp16)|raw"):
        said = succeed(pgpack("pack", model, "--recipe", f"*={rule}", "-o", out, "--force")).err
        assert "b.weight lost precision: 16 bits hold steps this small only roughly" in said
        shown = succeed(pgpack("verify", out, "--checkpoint", model)).out
        assert "steps of 1 tensor below what 16 bits hold precisely, first b.weight" in shown
    flags = ("pack", model, "--recipe", "*=tcq(step=1e-4)|rans", "-o", out, "--force")
    said = succeed(pgpack(*flags)).err
    assert "nothing is calibrated: tensors are packed by the weights alone" in said
    assert "became" not in said
    assert "lost" not in said
    coarse = (*flags[:3], "*=tcq(step=1)|rans", *flags[4:])
    assert "at this step they cost more bits than they are worth" in succeed(pgpack(*coarse)).err
    refused = pgpack(*flags, "--strict")
    assert (refused.code, "--calib GLOB" in refused.err) == (2, True)
    planned = succeed(pgpack("plan", model, "--recipe", "*=tcq(step=1e-4)|rans", "--json")).json
    assert planned["ideal_bits"] > 0


def test_loss_is_explained_by_kind(model: Path, tmp_path: Path) -> None:
    recipe = "role:control=cast; *=tcq(step=0.0005)|rans_scaled"
    packing = ("pack", model, "--recipe", recipe, "-o", tmp_path / "a.pgpack", "-q")
    packed = succeed(pgpack(*packing, "--explain-loss", "--json")).json
    rows = {row["kind"]: row for row in packed["losses"]}
    assert sum(row["n_bytes"] for row in rows.values()) == sum(packed["sizes"]["tensors"].values())
    assert sum(row["n_values"] for row in rows.values()) == load_checkpoint(model).n_params
    layers = [kind for kind in rows if ".*." in kind]
    assert layers
    assert all(rows[kind]["n_tensors"] == 2 for kind in layers)
    assert rows["vectors and scalars"]["measured"] < 1e-4  # fp16
    together = sum(row["measured"] for row in rows.values())
    assert together == pytest.approx(packed["kl"], rel=0.3)
    expected = sum(row["expected"] or 0.0 for row in rows.values())
    assert packed["kl"] / 10 < expected < packed["kl"] * 10  # of a model of four training steps
    said = succeed(pgpack(*packing, "--explain-loss", "--force")).out
    assert "KL measured" in said


def test_loss_is_explained_only_where_there_is_text(tied: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.pgpack"
    refused = pgpack("pack", tied, "--recipe", "*=cast", "--explain-loss", "-o", out, "-q")
    assert refused.code
    assert "--text PATH" in refused.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("level", "said"),
    [(0, "trellis, 8 states: "), (1, "trellis, 4 states: "), (4, "trellis, 64 states, rows by 32: ")],
)
def test_a_search_spends_what_the_effort_says(level: int, said: str, model: Path, tmp_path: Path) -> None:
    flags = ("--budget", "6kB", "--effort", level, "-o", tmp_path / "a.pgpack", "--json")
    finished = succeed(pgpack("pack", model, *flags))
    manifest = json.loads((tmp_path / "a.pgpack.json").read_text())
    assert finished.json["n_bytes"] <= 6000
    assert said in finished.err
    assert manifest["calibration_n_tokens"] == {0: 2_048, 1: 8_192}.get(level, manifest["calibration_n_tokens"])
    assert ("calibrated on random pieces" in finished.err) == (level == 0)


def test_no_effort_takes_other_text_than_flags_name(model: Path, tmp_path: Path) -> None:
    given = ("--budget", "6kB", "--effort", 0, "-o", tmp_path / "a.pgpack", "--json")
    finished = succeed(pgpack("pack", model, *given, "--calib", "builtin"))
    assert "random pieces" not in finished.err


def test_without_a_model_to_run_the_lowest_effort_packs_by_the_weights_alone(tied: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.pgpack"
    packed = succeed(pgpack("pack", tied, "--budget", "9kB", "--effort", 0, "-o", out))
    assert "by the weights alone" in packed.err
    assert json.loads(out.with_name("a.pgpack.json").read_text())["calibration_digest"] is None


def test_effort_belongs_to_a_search(model: Path, tmp_path: Path) -> None:
    refused = pgpack("pack", model, "--recipe", "*=cast", "--effort", 2, "-o", tmp_path / "a.pgpack")
    assert refused.code == 2
    assert "--budget" in refused.err
