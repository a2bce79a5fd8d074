"""What a fourth newcomer stumbled over: numbers as people write them, idle flags, tokens that were read as bytes."""

from __future__ import annotations

import random
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from pgpack_cli.options.numbers import FiniteNumber, WholeNumber
from pgpack_cli.pgpack_app import app as pgpack_app
from pgpack_cli.pgtrain_app import app as pgtrain_app
from pgpack_cli.screen.next_command import pack_command

from pgpack.bench.options import BenchOptions
from pgpack.checkpoint.analysis import analyze
from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint, save_tensors
from pgpack.sizes import parse_count
from pgpack.text.tokenizer_files import TOKENIZER_FLAG
from tests.commands.workshop import pgpack, pgtrain, succeed
from tests.models.tiny_hf import write_folder
from tests.text.made_tokenizers import sentence_piece

TRELLIS = "role:control=cast; *=tcq(step=0.001)|rans_scaled"


@pytest.fixture(scope="module")
def bare(model: Path) -> Path:
    path = model.with_name("weights_alone.safetensors")
    save_tensors(path, dict(load_checkpoint(model).items()), {})
    return path


def flags_of(command: click.Command, name: str) -> Iterator[tuple[str, click.Parameter]]:
    context = click.Context(command)
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            assert found is not None
            yield from flags_of(found, f"{name} {verb}")
    else:
        yield from ((name, parameter) for parameter in command.params)


FLAGS = [*flags_of(pgpack_app, "pgpack"), *flags_of(pgtrain_app, "pgtrain")]
NUMBERS = [
    (f"{verb} {parameter.opts[-1]}", parameter)
    for verb, parameter in FLAGS
    if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType)
]


@pytest.mark.parametrize(("name", "parameter"), NUMBERS, ids=[name for name, _ in NUMBERS])
def test_every_flag_of_a_number_says_what_one_looks_like(name: str, parameter: click.Parameter) -> None:
    context = click.Context(click.Command(name))
    for wrong in ("x", "nan", "inf", "1MiB"):
        with pytest.raises(click.BadParameter) as refused:
            parameter.type.convert(wrong, parameter, context)
        said = refused.value.message
        assert said.startswith(f"{wrong!r} is not a ")
        assert "number" in said
        example = said.rpartition("; write for example ")[2]
        assert parameter.type.convert(example, parameter, context) == float(example)
    assert isinstance(parameter.type, WholeNumber | FiniteNumber)


def test_numbers_of_both_kinds_were_found() -> None:
    kinds = {type(parameter.type) for _, parameter in NUMBERS}
    assert kinds == {WholeNumber, FiniteNumber}
    assert "pgpack eval --max-tokens" in dict(NUMBERS)


def test_a_number_out_of_bounds_is_told_the_bounds() -> None:
    least, both, open_ = WholeNumber(1), WholeNumber(0, 9), FiniteNumber(0, 1, min_open=True, max_open=True)
    for kind, text, bounds in (
        (least, "0", "a whole number of at least 1; write for example 64"),
        (least, "-3", "a whole number of at least 1; write for example 64"),
        (both, "10", "a whole number of at least 0 and of at most 9; write for example 9"),
        (both, "1.5", "a whole number of at least 0 and of at most 9; write for example 9"),
        (open_, "1", "a number above 0 and below 1; write for example 0.5"),
    ):
        with pytest.raises(click.BadParameter) as refused:
            kind.convert(text, None, None)
        assert refused.value.message == f"{text!r} is not {bounds}"
    assert [both.convert("9", None, None), both.convert(0, None, None), open_.convert("0.25", None, None)] == [
        9,
        0,
        0.25,
    ]


def test_tokens_and_parameters_are_counted_as_people_say_them() -> None:
    said = {"0": 0, "-7": -7, "4096": 4096, "1_000": 1000, "16k": 16_000, "1.5M": 1_500_000, "7B": 7 * 10**9,
            "7b": 7 * 10**9, "9e9": 9 * 10**9, "2G": 2 * 10**9, "15T": 15 * 10**12}  # fmt: skip
    assert {text: parse_count(text) for text in said} == said
    for wrong in ("", "x", "1.5", "10%", "5kB", "5MiB", "1,5", "nan"):
        with pytest.raises(ValueError, match="whole number"):
            parse_count(wrong)


def test_a_billion_tokens_is_no_byte() -> None:
    as_words, as_power = (pgpack("advise", "--budget", "100kB", "--tokens", text) for text in ("9B", "9e9"))
    assert as_words.err == as_power.err
    assert as_words.code == as_power.code
    assert "9,000,000,000" in as_power.err or "9e" in as_power.err
    refused = pgpack("advise", "--budget", "100kB", "--tokens", "abc")
    assert (refused.code, "size" in refused.err.partition("Error")[2]) == (2, False)
    assert succeed(pgpack("advise", "--budget", "100kB", "--tokens", "500k", "-q")).out


def test_a_share_is_offered_only_where_it_is_taken(model: Path, tmp_path: Path) -> None:
    share = "or 90% of the fp32 size"
    assert share not in pgpack("advise", "--budget", "x", "--tokens", "500k").err
    assert share in pgpack("pack", model, "--budget", "x", "-o", tmp_path / "a").err


@pytest.mark.parametrize("content", [None, "no JSON", "[]", "{}", '{"n_params": 3}', '{"n_params": {"least": 1}}'])
def test_what_is_wrong_with_a_law_is_said_in_words(tmp_path: Path, content: str | None) -> None:
    law = tmp_path / "law.json"
    if content is not None:
        law.write_text(content)
    refused = pgpack("advise", "--budget", "100kB", "--tokens", "500k", "--law", law)
    assert (refused.code, "is no law of sizes (" in refused.err) == (1, True)
    assert not any(word in refused.err for word in ("Errno", "Traceback", "__init__", "Span", "NoneType", "indices"))


@pytest.mark.parametrize("flags", [("--dtype", "bf16"), ("--dtype", "f32"), ("--banked",)])
def test_a_flag_that_a_gguf_has_not_is_refused_and_not_forgotten(
    artifact: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    refused = pgpack("unpack", artifact, "-o", tmp_path / "a.gguf", *flags)
    assert (refused.code, f"{flags[0]} is" in refused.err) == (2, True)
    assert not list(tmp_path.iterdir())
    succeed(pgpack("unpack", artifact, "-o", tmp_path / "a.pt", "--dtype", "bf16", "-q"))


def test_every_sentence_about_a_lacking_tokenizer_names_all_kinds() -> None:
    assert all(kind in TOKENIZER_FLAG for kind in (".model", "tokenizer.json", "folder"))
    shown = {parameter.metavar or "PATH" for _, parameter in FLAGS if "--tokenizer" in parameter.opts}
    assert shown == {"PATH"}


def weights(*names: str) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal((4, 4)).astype(np.float32) for name in names}


@pytest.mark.parametrize(
    ("block", "attention", "mlp"),
    [
        ("model.layers.0", "self_attn.o_proj", "mlp.down_proj"),
        ("model.layers.0", "self_attn.dense", "mlp.fc2"),
        ("gpt_neox.layers.0", "attention.dense", "mlp.dense_4h_to_h"),
        ("transformer.h.0", "attn.out_proj", "mlp.fc_out"),
        ("model.decoder.layers.0", "self_attn.out_proj", "fc2"),
    ],
)
def test_the_blocks_of_the_field_have_norms_and_one_note(block: str, attention: str, mlp: str) -> None:
    found = analyze(from_tensors(weights(f"{block}.{attention}.weight", f"{block}.{mlp}.weight"), source="field"))
    (row,) = found.blocks
    assert (row.attn_norm or 0) > 0
    assert (row.mlp_norm or 0) > 0
    assert len(found.notes) == 1
    assert found.notes[0].startswith("none of the challenge's own parameters")


def test_a_block_without_a_known_projection_is_named() -> None:
    found = analyze(from_tensors(weights("layers.0.self_attn.o_proj.weight", "layers.0.moe.weight"), source="field"))
    assert found.notes[0] == "layers.0 has no output projection of mlp under a name that is known here"


def test_one_parameter_of_the_challenge_makes_the_others_worth_a_note() -> None:
    own = weights("blocks.0.attn.proj.weight", "blocks.0.mlp.proj.weight") | {
        "blocks.0.attn.q_gain": np.ones(2, np.float32)
    }
    notes = " ".join(analyze(from_tensors(own, source="own")).notes)
    assert all(word in notes for word in ("no attn_scale", "no resid_mix", "no lanes"))
    assert "no q_gain" not in notes


def test_numbers_of_pgtrain_are_read_alike(tmp_path: Path) -> None:
    refused = pgtrain("run", "--steps", "x", "--data", tmp_path)
    assert (refused.code, "'x' is not a whole number" in refused.err) == (2, True)


def test_a_vocabulary_too_small_for_its_characters_is_told_the_smallest(tmp_path: Path) -> None:
    draw = random.Random(0)
    letters = "".join(map(chr, range(0xC0, 0x150)))
    words = ["".join(draw.choices(letters, k=5)) for _ in range(3000)]
    documents = "\n\0\n".join(" ".join(draw.choices(words, k=200)) for _ in range(30))
    (tmp_path / "a.txt").write_text(documents, encoding="utf-8")
    made = ("data", tmp_path / "a.txt", "-o", tmp_path / "shards", "-q")
    refused = pgtrain(*made, "--vocab-size", 300)
    assert (refused.code, "characters and the 256 bytes alone take" in refused.err) == (1, True)
    least = refused.err.rpartition("--vocab-size ")[2].split()[0]
    assert pgtrain(*made, "--vocab-size", int(least) - 1).code == 1
    succeed(pgtrain(*made, "--vocab-size", least))


def test_shards_of_text_that_a_given_tokenizer_loses_say_so(tmp_path: Path) -> None:
    small = sentence_piece(["the cat sat on a mat"] * 40, byte_fallback=False, vocab_size=40)
    (tmp_path / "a.model").write_bytes(small)
    for text, said in (("the cat sat on a mat ", False), ("the CAT \u6f22\u5b57 ", True)):
        for name in "at":
            (tmp_path / f"{name}.txt").write_text((text + name) * 99, encoding="utf-8")
        made = ("data", tmp_path / "a.txt", tmp_path / "t.txt", "--tokenizer", tmp_path / "a.model", "--force")
        found = succeed(pgtrain(*made, "-o", tmp_path / "shards"))
        assert ("of the characters (most often" in found.err) is said


def test_a_study_that_has_not_got_the_loss_is_named(bare: Path, model: Path, tmp_path: Path) -> None:
    recipe = ("--recipe", "role:control=cast; *=rtn(bits={4,6})|rans")
    succeed(pgpack("sweep", bare, *recipe, "-o", tmp_path / "silent", "-q"))
    succeed(pgpack("sweep", model, *recipe, "--max-tokens", 512, "-o", tmp_path / "read", "-q"))
    merged = succeed(pgpack("frontier", tmp_path / "read", tmp_path / "silent"))
    assert "note: no trial of silent has a measured" in merged.err
    assert "note: no trial of read" not in merged.err
    assert "no trial of" not in succeed(pgpack("frontier", tmp_path / "silent")).err


def test_the_command_to_pack_a_finetuned_model_runs_as_it_is_printed(
    bare: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "fine tuned.safetensors"
    flags = ("--steps", 1, "--calib-tokens", 256, "--max-tokens", 256, "-q")
    told = succeed(pgtrain("finetune", model, "--for-packer", TRELLIS, "-o", out, *flags)).out
    words = shlex.split(told.partition("pack it: ")[2])
    assert words[:2] == ["pgpack", "pack"]
    assert words[-2:] == ["--max-tokens", "256"]
    succeed(pgpack(*words[1:], "-q"))
    assert (tmp_path / "fine tuned.pgpack").is_file()
    assert pack_command(Path("a b"), "*=rtn", BenchOptions(base="x", text=("t t",))) == (
        "pgpack pack 'a b' --recipe '*=rtn' -o 'a b.pgpack' --text 't t'"
    )


def test_a_finetuned_folder_that_exists_is_a_usage_error(text_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write_folder(tmp_path / "llama", "llama-tied", vocab_size=310)
    shutil.copy(next(text_folder.glob("*.model")), tmp_path / "llama" / "tokenizer.model")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x.txt").write_text("mine")
    text = ("--text", text_folder, "--max-tokens", 256, "-q")
    refused = pgtrain("finetune", tmp_path / "llama", "--for-packer", TRELLIS, "-o", tmp_path / "there", *text)
    assert (refused.code, "there exists; give another name" in refused.err) == (2, True)


def test_experts_are_told_apart_by_their_whole_names(tmp_path: Path) -> None:
    names = [f"model.layers.0.block_sparse_moe.experts.{number}.w2.weight" for number in range(3)]
    save_tensors(tmp_path / "experts.safetensors", weights(*names), {})
    shown = succeed(pgpack("analyze", tmp_path / "experts.safetensors")).out
    assert all(name in shown for name in names)
