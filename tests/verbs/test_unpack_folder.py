"""A folder packed and unpacked is a folder again: transformers loads it, with the logits of the packed weights."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import pgpack
from pgpack.bench.artifact import ArtifactFile
from pgpack.bench.unpacking import form_of, write_unpacked
from pgpack.checkpoint.checkpoint import Checkpoint, load_checkpoint
from pgpack.checkpoint.model_folder import write_folder as write_model_folder
from pgpack.checkpoint.tokenizer_files import with_tokenizer_files
from pgpack.checkpoint.writing import Outgoing
from pgpack.errors import SettingError
from pgpack.files import replacing_folder
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe
from pgpack.tensors.grids import QuantizedTensor
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record
from pgpack.text.find_tokenizer import load_tokenizer
from pgpack.unpack import Unpacked, unpack
from tests.hostile.crafting import changed
from tests.models.tiny_hf import reference_logits, tokens, write_folder, write_tokenizer

pytest.importorskip("transformers")
EXACT = "*=cast(dtype=fp32)"
COARSE = "ndim<=1=cast; *=rtn(bits=5)|rans"


def packed(checkpoint: Checkpoint, folder: Path, recipe: str = COARSE) -> ArtifactFile:
    path = folder / "model.pgpack"
    path.write_bytes(pack(checkpoint, parse_recipe(recipe)).data)
    return pgpack.open_artifact(path)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("llama") / "model", "llama-tied")
    return write_tokenizer(folder)


@pytest.fixture
def artifact(llama: Path, tmp_path: Path) -> ArtifactFile:
    return packed(load_checkpoint(llama), tmp_path)


FOLDERS = [
    ("llama", {}, EXACT),
    ("llama-tied", {}, COARSE),
    ("llama", {"shards": True}, EXACT),
    ("llama-tied", {"dtype": "bfloat16"}, EXACT),
    ("gpt2", {}, COARSE),
    ("gpt2", {"dtype": "float16"}, EXACT),
    ("qwen2", {}, EXACT),
    ("qwen3", {}, EXACT),
    ("gpt_neox", {}, EXACT),
    ("gemma", {}, EXACT),
    ("opt", {}, EXACT),
    ("mamba", {}, EXACT),
    ("mamba2", {}, EXACT),
    ("mixtral", {}, EXACT),
    ("qwen2_moe", {}, COARSE),
    ("qwen3_moe", {}, EXACT),
]


@pytest.mark.parametrize(("family", "settings", "recipe"), FOLDERS, ids=str)
def test_the_folder_gives_the_logits_of_the_packed_weights(
    family: str, settings: dict[str, object], recipe: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    source = write_folder(tmp_path / "source", family, **settings)
    artifact = packed(load_checkpoint(source), tmp_path, recipe)
    artifact.unpack(tmp_path / "back")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "back", local_files_only=True).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    ids = tokens()
    with torch.no_grad():
        found = model(ids).logits
    again = artifact.model()
    assert type(again) is type(model)
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, found, atol=1e-5)
    if recipe == EXACT:
        assert torch.equal(found, reference_logits(source, ids))
    expected = artifact.tensors()
    for name, parameter in model.state_dict().items():
        if name in expected:
            assert torch.equal(parameter, torch.tensor(expected[name])), name
    held = {name for name, _ in model.named_parameters() if "experts." not in name and ".mlp.gate." not in name}
    renamed = {"lm_head.weight"} if family == "gpt_neox" else set()  # embed_out of the file
    assert held - renamed <= set(expected)


def test_a_tied_head_is_stored_once_and_an_untied_one_that_is_equal_twice(llama: Path, tmp_path: Path) -> None:
    tied = load_checkpoint(llama)
    packed(tied, tmp_path, EXACT).unpack(tmp_path / "tied")
    assert "lm_head.weight" in tied.shapes
    assert "lm_head.weight" not in names_in(tmp_path / "tied" / "model.safetensors")
    config = json.loads((llama / "config.json").read_text()) | {"tie_word_embeddings": False}
    untied = dataclasses.replace(tied, companions={"config.json": json.dumps(config).encode()})
    packed(untied, tmp_path, EXACT).unpack(tmp_path / "untied")
    assert "lm_head.weight" in names_in(tmp_path / "untied" / "model.safetensors")
    assert torch.equal(reference_logits(tmp_path / "untied", tokens()), reference_logits(llama, tokens()))


def names_in(file: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        return set(opened.keys())


@pytest.mark.parametrize(("dtype", "width"), [("f32", 4), ("f16", 2), ("bf16", 2)])
def test_dtype_is_how_the_weights_are_stored_and_loaded(
    artifact: ArtifactFile, tmp_path: Path, dtype: str, width: int
) -> None:
    from transformers import AutoModelForCausalLM

    artifact.unpack(tmp_path / "back", dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "back", local_files_only=True)
    kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    exact = artifact.tensors()
    for name, parameter in model.state_dict().items():
        assert parameter.dtype == kind
        assert torch.equal(parameter, torch.tensor(exact[name]).to(kind))
    n_values = sum(array.size for name, array in exact.items() if name != "lm_head.weight")
    size = (tmp_path / "back" / "model.safetensors").stat().st_size
    assert width * n_values < size < width * n_values + 4000


def test_the_tokenizer_comes_back(artifact: ArtifactFile, llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    artifact.unpack(tmp_path / "back")
    before, after = (
        AutoTokenizer.from_pretrained(path, local_files_only=True) for path in (llama, tmp_path / "back")
    )
    for text in ("the quick brown fox", "caf\u00e9 1234 \u20ac\n", ""):
        assert after(text)["input_ids"] == before(text)["input_ids"]
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (llama / "tokenizer.json").read_bytes()


def test_packed_again_the_folder_gives_the_same_weights(artifact: ArtifactFile, tmp_path: Path) -> None:
    artifact.unpack(tmp_path / "back")
    again = packed(load_checkpoint(tmp_path / "back"), tmp_path, EXACT)
    assert again.digest == artifact.digest
    assert again.companions.keys() == artifact.companions.keys()


def test_one_file_in_each_form(artifact: ArtifactFile, tmp_path: Path) -> None:
    expected = artifact.tensors()
    for name, read in (
        ("a.safetensors", lambda path: dict(load_checkpoint(path).items())),
        ("a.pt", lambda path: {k: v.numpy() for k, v in torch.load(path, weights_only=True).items()}),
        ("a.npz", lambda path: dict(np.load(path, allow_pickle=False))),
    ):
        returned = artifact.unpack(tmp_path / name)
        found = read(tmp_path / name)
        assert found.keys() == expected.keys() == returned.keys()
        for key, array in expected.items():
            assert np.array_equal(found[key], array)
            assert np.array_equal(returned[key], array)
        artifact.unpack(tmp_path / f"half-{name}", dtype="f16")
        assert (
            all(array.dtype == np.float16 for array in read(tmp_path / f"half-{name}").values())
            or name == "a.safetensors"
        )
    artifact.unpack(tmp_path / "b.pt", dtype="bf16")
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    assert all(torch.equal(state[key], torch.tensor(array).bfloat16()) for key, array in expected.items())
    assert state["lm_head.weight"].data_ptr() == state["model.embed_tokens.weight"].data_ptr()


def test_a_name_says_the_form() -> None:
    config = {"config.json": b"{}"}
    names = ["a.safetensors", "a.NPZ", "b/a.pt", "a.pth", "smol", "smol-1.7B/"]
    assert [form_of(name, config) for name in names] == ["safetensors", "npz", "pt", "pt", "folder", "folder"]
    assert form_of("decoded", {}) == "safetensors"
    with pytest.raises(SettingError, match=r"ending .onnx; give NAME.safetensors, .*NAME.gguf, or NAME/"):
        form_of("a.onnx", config)
    with pytest.raises(SettingError, match="holds no config"):
        form_of("smol/", {})


def test_what_a_type_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    from pgpack.checkpoint.writing import write_npz, write_safetensors

    large = np.array([1e5, 1], np.float32)
    with pytest.raises(SettingError, match=r"w holds 1e\+05, beyond float16; give --dtype bf16 or f32"):
        write_safetensors(tmp_path / "a.safetensors", [Outgoing("w", (2,), "F16", lambda: large)], {})
    with pytest.raises(SettingError, match="numpy has no bf16"):
        write_npz(tmp_path / "a.npz", [Outgoing("w", (2,), "BF16", lambda: large)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_nothing_is_written_that_its_reader_refuses(form: str, value: float, tmp_path: Path) -> None:
    tensor = np.array([[1, value]], np.float32)
    part = QuantizedTensor(tensor.view(np.uint32), RawValues("fp32"), tensor.shape)
    unpacked = Unpacked("pgpack", (Record("w", tensor.shape, "plain", (part,)),), {}, "")
    with pytest.raises(SettingError, match=r"w holds NaN or infinity, which no checkpoint may; give NAME\.npz"):
        write_unpacked(tmp_path / "back", unpacked, form, {})
    with pytest.raises(SettingError, match="the artifact holds no tensors"):
        write_unpacked(tmp_path / "back", Unpacked("pgpack", (), {}, ""), form, {})
    with pytest.raises(SettingError, match="the artifact holds no tensors"):
        write_unpacked(tmp_path / "back.npz", Unpacked("pgpack", (), {}, ""), "npz", {})
    nothing = QuantizedTensor(np.zeros((4, 0), np.uint32), RawValues("fp32"), (4, 0))
    hollow = Unpacked("pgpack", (Record("w", (4, 0), "plain", (nothing,)),), {}, "")
    for each in (form, "npz"):
        with pytest.raises(SettingError, match="1 of 1 tensors hold no value"):
            write_unpacked(tmp_path / f"back.{each}", hollow, each, {})
    assert not list(tmp_path.iterdir())
    write_unpacked(tmp_path / "back.npz", unpacked, "npz", {})
    assert np.array_equal(np.load(tmp_path / "back.npz")["w"], tensor, equal_nan=True)


def test_what_rounds_to_infinity_in_bf16_is_refused(tmp_path: Path) -> None:
    from pgpack.checkpoint.writing import write_safetensors

    largest = np.array([np.finfo(np.float32).max], np.float32)
    with pytest.raises(SettingError, match=r"w holds 3\.403e\+38, beyond bfloat16; give --dtype f32"):
        write_safetensors(tmp_path / "a.safetensors", [Outgoing("w", (1,), "BF16", lambda: largest)], {})


def sentence_piece(**settings: object) -> bytes:
    import sentencepiece

    texts = [f"the quick brown fox jumps over the lazy dog {i}, (naive) x=1;" for i in range(200)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=330, byte_fallback=True, num_threads=1,
        hard_vocab_limit=False, minloglevel=2, **settings,
    )  # fmt: skip
    return model.getvalue()


def test_a_sentencepiece_model_alone_is_a_tokenizer_that_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = write_folder(tmp_path / "source", vocab_size=340)
    as_llama = {"model_type": "bpe", "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    (source / "tokenizer.model").write_bytes(sentence_piece(**as_llama))
    artifact = packed(load_checkpoint(source), tmp_path)
    artifact.unpack(tmp_path / "back")
    assert not (source / "tokenizer.json").exists()
    assert (tmp_path / "back" / "tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()
    ours = load_tokenizer(source)
    for found in (AutoTokenizer.from_pretrained(tmp_path / "back", local_files_only=True), artifact.tokenizer()):
        for text in ("the fox, twice  over", " na\u00efve \u6771\u4eac\n\tx = 1"):
            assert found(text)["input_ids"] == ours.encode(text).tokens.tolist()


@pytest.mark.parametrize("settings", [{"model_type": "unigram"}, {"model_type": "bpe"}])
def test_a_tokenizer_that_would_write_other_tokens_is_not_made(settings: dict[str, object]) -> None:
    companions = {"tokenizer.model": sentence_piece(**settings)}  # both normalize as NFKC does
    assert with_tokenizer_files(companions) == companions
    assert with_tokenizer_files({"tokenizer.model": b"none"}) == {"tokenizer.model": b"none"}


def test_a_folder_is_replaced_only_when_forced_and_only_when_it_is_a_model(
    artifact: ArtifactFile, tmp_path: Path
) -> None:
    back = tmp_path / "back"
    artifact.unpack(back)
    with pytest.raises(FileExistsError, match="--force"):
        artifact.unpack(back)
    (back / "model.safetensors").write_bytes(b"older")
    artifact.unpack(back, force=True)
    assert (back / "model.safetensors").stat().st_size > 1000
    (back / "thesis.tex").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"holds thesis.tex, which is not replaced"):
        artifact.unpack(back, force=True)
    assert (back / "thesis.tex").read_bytes() == b"precious"
    (tmp_path / "empty").mkdir()
    artifact.unpack(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "empty", "model.pgpack"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("old")

    def fail() -> None:
        with replacing_folder(path, ("config.json",)) as aside:
            (aside / "config.json").write_text("new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert (path / "config.json").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_shards_are_cut_before_their_limit_and_loaded_in_one(llama: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(llama)
    tensors = [
        Outgoing(name, shape, "F32", lambda name=name: checkpoint.tensor(name))
        for name, shape in checkpoint.shapes.items()
    ]
    folder = tmp_path / "shards"
    write_model_folder(folder, tensors, checkpoint.companions, checkpoint.aliases, shard_bytes=45_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert len(files) > 1
    assert index["metadata"]["total_size"] == sum(t.n_bytes for t in tensors if t.name != "lm_head.weight")
    assert all((folder / file).stat().st_size < 45_000 + 4000 for file in files)
    assert torch.equal(reference_logits(folder, tokens()), reference_logits(llama, tokens()))


def test_no_name_of_code_is_left_in_a_folder(llama: Path, tmp_path: Path) -> None:
    code = {"auto_map": {"AutoModelForCausalLM": "elsewhere/model--modeling.X"}}
    checkpoint = load_checkpoint(llama)
    changed = {
        name: json.dumps(json.loads(checkpoint.companions[name]) | code).encode()
        for name in ("config.json", "tokenizer_config.json")
    }
    hostile = dataclasses.replace(checkpoint, companions={**checkpoint.companions, **changed})
    packed(hostile, tmp_path).unpack(tmp_path / "back")
    assert b"auto_map" not in b"".join(path.read_bytes() for path in (tmp_path / "back").glob("*.json"))


@pytest.mark.parametrize("name", ["../../w", "/etc/w", "a//w", "", "a/..", "..\\w"])
def test_no_npz_has_a_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    unpacked = unpack(changed("raw", "tensors", 0, 0, to=name))
    with pytest.raises(SettingError, match=r"like a path; give NAME\.safetensors"):
        write_unpacked(tmp_path / "back.npz", unpacked, "npz", {})
    assert not list(tmp_path.iterdir())
    write_unpacked(tmp_path / "back.safetensors", unpacked, "safetensors", {})


def test_wide_complex_values_come_back_where_the_format_has_them(tmp_path: Path) -> None:
    from pgpack.checkpoint.writing import outgoing, write_npz, write_safetensors, write_torch
    from pgpack.errors import SettingError

    values = np.array([1 + 2j, 3 - 1e-12j])
    tensors = [outgoing("x", (2,), "complex128", lambda: values, "f32")]
    write_npz(tmp_path / "a.npz", tensors)
    write_torch(tmp_path / "a.pt", tensors, {})
    for path in (tmp_path / "a.npz", tmp_path / "a.pt"):
        assert np.array_equal(load_checkpoint(path).tensor("x"), values)
    with pytest.raises(SettingError, match=r"x is of type complex128, which safetensors has not; give NAME\.pt"):
        write_safetensors(tmp_path / "a.safetensors", tensors, {})
    assert not (tmp_path / "a.safetensors").exists()
