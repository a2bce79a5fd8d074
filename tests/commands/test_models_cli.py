"""Models of others through the real commands: a Hugging Face folder, an adapter with its base, a GGUF."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.commands.test_startup import loaded_by
from tests.commands.workshop import pgpack, succeed
from tests.models.tiny_gguf import write_gguf
from tests.models.tiny_hf import LENGTH, tiny_model, write_folder

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers about itself
RECIPE = "role:control=cast; role:embedding=rtn(bits=8)|rans; *=gptq(clip=12)|rans"
VOCABULARY = 310


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, text_folder: Path) -> Path:
    """A tied Llama in bfloat16 shards, with the tokenizer of `text_folder`."""
    made = tmp_path_factory.mktemp("models") / "tiny-llama"
    write_folder(made, "llama-tied", shards=True, dtype="bfloat16", vocab_size=VOCABULARY)
    shutil.copy(next(text_folder.glob("*.model")), made / "tokenizer.model")
    return made


@pytest.fixture(scope="module")
def text(text_folder: Path) -> tuple[object, ...]:
    val, train = (next(text_folder.glob(f"*_{kind}_*.bin")) for kind in ("val", "train"))
    return ("--val", val, "--calib", train)


def test_a_folder_is_inspected_as_one_checkpoint(folder: Path) -> None:
    found = succeed(pgpack("inspect", folder, "--json")).json
    assert found["n_bytes"] > sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    rows = {row["name"]: row for row in found["tensors"]}
    assert rows["lm_head.weight"]["alias_of"] == "model.embed_tokens.weight"
    assert rows["model.layers.0.self_attn.q_proj.weight"]["role"] == "attention"
    assert "dialect transformers, llama" in succeed(pgpack("inspect", folder)).out


def test_transformers_and_the_compiler_are_loaded_only_where_a_model_is_built(folder: Path, tmp_path: Path) -> None:
    recipe, out = "role:control=cast; *=rtn(bits=6)|rans", tmp_path / "x.pgpack"
    succeed(
        pgpack("pack", folder, "--recipe", recipe, "-o", out, "-q")
    )  # which builds one, to see whether it is whole
    for words in (
        ("plan", folder, "--recipe", recipe),
        ("eval", folder, "--text", "builtin", "--dry-run"),
        ("inspect", out),
    ):
        found = set(loaded_by("pgpack", *words))
        assert not {"transformers", "torch._dynamo", "torch._inductor", "sympy"} & found, words
    assert out.exists()


def test_a_folder_is_planned_packed_and_measured(folder: Path, text, tmp_path: Path) -> None:
    planned = succeed(pgpack("plan", folder, "--recipe", RECIPE, "--json", "-q")).json
    assert planned["aliases"] == {"lm_head.weight": "model.embed_tokens.weight"}
    out = tmp_path / "tiny.pgpack"
    packed = succeed(pgpack("pack", folder, "--recipe", RECIPE, "-o", out, "--eval", "--json", "-q", *text)).json
    assert packed["kl"] < 0.05
    fp32 = succeed(pgpack("eval", folder, "--json", "-q", *text)).json
    assert fp32["bpb"] == pytest.approx(packed["bpb"], rel=0.05)
    again = succeed(pgpack("eval", out, "--checkpoint", folder, "--json", "-q", *text)).json
    assert again["bpb"] == pytest.approx(packed["bpb"], rel=1e-6)
    bare = tmp_path / "bare.pgpack"
    words = ("pack", folder, "--recipe", RECIPE, "--weights-only", "-o", bare, "--eval", "--json", "-q", *text)
    alone = succeed(pgpack(*words)).json  # the folder's model and tokenizer run, its artifact lacks them
    assert (alone["kl"], alone["bpb"]) == (packed["kl"], packed["bpb"])
    assert succeed(pgpack("inspect", bare, "--json")).json["companions"] == {}
    assert alone["n_bytes"] < packed["n_bytes"]


def test_what_lies_beside_the_weights_is_planned_and_the_fields_files_that_lack_it_are_said(
    folder: Path, text, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.pgpack"
    succeed(pgpack("pack", folder, "--recipe", RECIPE, "-o", out, "-q", *text))
    taken = succeed(pgpack("inspect", out, "--json")).json["overhead"]["companions"]
    assert succeed(pgpack("plan", folder, "--recipe", RECIPE, "--json", "-q")).json["companion_bytes"] == taken
    assert "for config and tokenizer" in succeed(pgpack("plan", folder, "--recipe", RECIPE)).out
    dry = ("pack", folder, "-o", tmp_path / "b", "--dry-run", "--json", "-q")
    assert succeed(pgpack(*dry, "--recipe", RECIPE)).json["companion_bytes"] == taken
    assert succeed(pgpack(*dry, "--budget", "1MB")).json["companion_bytes"] == taken
    for weights in (("--recipe", RECIPE, "--weights-only"), ("--preset", "sdclip-brotli")):
        assert "companion_bytes" not in succeed(pgpack(*dry, *weights)).json
    preset = ("--preset", "baseline-int8-zlib", "--passthrough", 100)
    said = succeed(pgpack("pack", folder, *preset, "-o", tmp_path / "c.ptz")).err
    assert "the field's files hold weights alone: config.json" in said


def test_a_sweep_of_a_folder_compares_what_holds_the_folder(folder: Path, model: Path, tmp_path: Path) -> None:
    dry = ("--out", tmp_path / "study", "--dry-run", "--json", "-q")
    ours, theirs = (succeed(pgpack("sweep", path, *dry)).json["recipes"] for path in (folder, model))
    assert not [recipe for recipe in ours if "@container" in recipe]
    assert [recipe for recipe in theirs if "@container" in recipe]
    recipe = ("--recipe", "numel<=100=cast(dtype=fp16); *=rtn_percentile(bits={4,5}); @container=torch_baseline|zlib")
    said = succeed(pgpack("sweep", folder, *recipe, "--out", tmp_path / "study")).err
    assert "their sizes leave config.json" in said


def test_a_family_that_no_gguf_is_written_of_is_a_request_that_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    out = tmp_path / "a.pgpack"
    succeed(pgpack("pack", write_folder(tmp_path / "m", "gpt_neox"), "--recipe", "*=rtn|rans", "-o", out, "-q"))
    refused = pgpack("unpack", out, "-o", tmp_path / "a.gguf")
    assert (refused.code, "write a folder instead" in refused.err) == (2, True)
    assert not (tmp_path / "a.gguf").exists()


def test_a_folder_that_exists_is_refused_as_a_file_is(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.pgpack"
    succeed(pgpack("pack", folder, "--recipe", "*=rtn|rans", "-o", out, "-q"))
    for name in ("back/", "back.npz"):
        succeed(pgpack("unpack", out, "-o", tmp_path / name))
        refused = pgpack("unpack", out, "-o", f"{tmp_path}/{name}")
        assert (refused.code, "exists; give another" in refused.err, "--force" in refused.err) == (2, True, True)
        succeed(pgpack("unpack", out, "-o", tmp_path / name, "--force"))
    (tmp_path / "back" / "thesis.tex").write_text("precious")
    refused = pgpack("unpack", out, "-o", tmp_path / "back", "--force")
    assert (refused.code, "holds thesis.tex" in refused.err) == (2, True)


def test_a_config_that_asks_for_code_is_refused_where_the_model_is_needed(folder: Path, text, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "m.M"}}))
    refused = pgpack("eval", other, *text)
    assert refused.code == 1
    assert "run code that comes with the model" in refused.err
    assert "Traceback" not in refused.err


def test_windows_longer_than_the_model_reads_are_refused(folder: Path, text, tmp_path: Path) -> None:
    other = write_folder(tmp_path, "gpt2", vocab_size=VOCABULARY)
    shutil.copy(folder / "tokenizer.model", other)
    refused = pgpack("eval", other, *text, "--seq-len", LENGTH + 1)
    assert (refused.code, f"--seq-len {LENGTH}" in refused.err, "Traceback" in refused.err) == (1, True, False)


def test_an_adapter_needs_its_base(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{name}.lora_A.weight": torch.ones(2, 32), f"{name}.lora_B.weight": torch.ones(32, 2)},
        adapter / "adapter_model.safetensors",
    )
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "some/model"}
    (adapter / "adapter_config.json").write_text(json.dumps(told))
    refused = pgpack("inspect", adapter)
    assert (refused.code, "--base DIR" in refused.err) == (1, True)
    before, after = (
        succeed(pgpack("inspect", *which, "--json")).json for which in ((folder,), (adapter, "--base", folder))
    )
    assert before["checkpoint_digest"] != after["checkpoint_digest"]
    changed = [old["name"] for old, new in zip(before["tensors"], after["tensors"], strict=True) if old != new]
    assert changed == ["model.layers.0.self_attn.q_proj.weight"]
    succeed(pgpack("plan", adapter, "--base", folder, "--recipe", "*=rtn(bits=4)|rans"))
    succeed(pgpack("pack", adapter, "--base", folder, "--recipe", "*=rtn|rans", "-o", tmp_path / "x.pgpack", "-q"))


def test_a_gguf_is_inspected_and_packed(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    write_gguf(tmp_path / "tiny.gguf", "llama", "Q8_0", model=tiny_model("llama", intermediate_size=64))
    found = succeed(pgpack("inspect", tmp_path / "tiny.gguf", "--json")).json
    assert {row["name"] for row in found["tensors"]} >= {"model.embed_tokens.weight", "lm_head.weight"}
    out = tmp_path / "tiny.pgpack"
    succeed(pgpack("pack", tmp_path / "tiny.gguf", "--recipe", "*=rtn(bits=5)|rans", "-o", out, "-q"))
    assert out.stat().st_size < (tmp_path / "tiny.gguf").stat().st_size


def test_a_model_without_text_writes_its_own(folder: Path, text, tmp_path: Path) -> None:
    recipe = ("--recipe", f"{RECIPE}; @calib=tokens(count=512)", "--eval", "--json", "-q", "--seq-len", 32)
    packed = [
        succeed(pgpack("pack", folder, *recipe, "-o", tmp_path / f"{name}.pgpack", *flags)).json
        for name, flags in (
            ("own", (*text[:2], "--calib", "self")),
            ("again", (*text[:2], "--calib", "self")),
            ("alone", ("--val", "self", "--calib", "self", "--max-tokens", 512)),
        )
    ]
    assert (tmp_path / "own.pgpack").read_bytes() == (tmp_path / "again.pgpack").read_bytes()
    assert 0 < packed[0]["kl"] < 0.05
    assert 0 < packed[2]["kl"] < 0.05
    said = pgpack("eval", folder, "--val", "self", "--max-tokens", 64, "--seq-len", 32)
    assert "written by the model itself" in succeed(said).err


def test_a_model_that_is_found_by_its_loss_cannot_write(model: Path, tmp_path: Path) -> None:
    from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors

    save_tensors(tmp_path / "bare.safetensors", dict(load_checkpoint(model).items()), {})
    tokenizer = next((model.parent / "text").glob("*.model"))
    flags = ("--val", "self", "--tokenizer", tokenizer, "--max-tokens", 64, "--seq-len", 32)
    refused = pgpack("eval", tmp_path / "bare.safetensors", *flags)
    assert refused.code == 1
    assert "it cannot write its own; name it with --model" in refused.err
