"""What a sweep says before it works, remembers after it, and does not repeat."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest

from pgpack.bench.options import BenchOptions
from pgpack.checkpoint.checkpoint import load_checkpoint, save_tensors
from pgpack.study.study import Study
from tests.commands.workshop import pgpack, succeed

SPACE = ("--recipe", "role:control=cast; *=rtn(bits={4,6})|rans")
FEW = ("--max-tokens", 512)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures and no page: they take longer than a small sweep."""
    monkeypatch.setattr("pgpack.bench.sweeping.write_outputs", lambda study, breakdown: ())


@pytest.fixture(scope="session")
def bare(model: Path) -> Path:
    """The weights of the model, which name no text."""
    path = model.with_name("bare.safetensors")
    save_tensors(path, dict(load_checkpoint(model).items()), {})
    return path


@pytest.fixture(scope="module")
def begun(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("desk") / "study"
    succeed(pgpack("sweep", model, *SPACE, *FEW, "--budget", "20kB", "--out", out, "-q", "--no-cache"))
    return out


def test_resume_remembers_space_budget_and_text_flags(model: Path, begun: Path) -> None:
    before = (begun / "trials.jsonl").read_bytes()
    account = succeed(pgpack("sweep", model, "--out", begun, "--resume", "--dry-run", "--json")).json
    assert (account["n_candidates"], account["n_missing"]) == (2, 0)
    document = succeed(pgpack("sweep", model, "--out", begun, "--resume", "--json", "-q")).json
    assert (document["budget"], document["n_new"]) == (20_000, 0)
    assert (begun / "trials.jsonl").read_bytes() == before
    assert Study.load(begun).meta.data_flags == "--max-tokens 512"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--recipe", "role:control=cast; *=rtn(bits=5)|rans"), "rtn(bits=5)"),
        (("--budget", "30kB"), "--budget 30000 (before: --budget 20000)"),
        (("--max-tokens", 256), "--max-tokens 256 (before: --max-tokens 512)"),
        (("--search", "random"), "--search random"),
    ],
)
def test_resume_lists_what_changed_and_refuses_it(
    model: Path, begun: Path, flags: tuple[object, ...], said: str
) -> None:
    before = (begun / "trials.jsonl").read_bytes()
    refused = pgpack("sweep", model, *flags, "--out", begun, "--resume")
    assert refused.code == 2
    assert said in refused.err
    assert "--extend" in refused.err
    assert (begun / "trials.jsonl").read_bytes() == before


def test_resume_needs_no_checkpoint_wherever_it_is_asked(
    model: Path, begun: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = Study.load(begun)
    inside = tmp_path / "work" / "study"
    shutil.copytree(begun, inside)
    shutil.copy(model, tmp_path / "model.safetensors")
    shutil.copytree(model.parent / "text", tmp_path / "text")
    card = dataclasses.replace(known.meta, checkpoint="model.safetensors")
    (inside / "study.json").write_text(card.to_json())
    for folder, name in ((model.parent, begun), (tmp_path, "work/study"), (inside, inside)):
        monkeypatch.chdir(folder)
        account = succeed(pgpack("sweep", "--resume", name, "--dry-run", "--json")).json
        assert (account["n_candidates"], account["n_missing"]) == (2, 0)
    (tmp_path / "model.safetensors").unlink()
    lost = pgpack("sweep", "--resume", inside)
    assert lost.code == 2
    assert "was begun with model.safetensors, which is not there any more; say where it is: " in lost.err


def test_resume_refuses_another_checkpoint_and_a_folder_that_is_no_study(
    model: Path, begun: Path, tmp_path: Path
) -> None:
    other, loaded = model.with_name("other.safetensors"), load_checkpoint(model)
    save_tensors(other, {name: 2 * weight for name, weight in loaded.items()}, loaded.metadata)
    before = (begun / "trials.jsonl").read_bytes()
    for words in ((other,), (model, other)):
        refused = pgpack("sweep", *words, "--resume", "-o", begun)
        assert refused.code == 2
        assert f"{other} holds other weights; leave it out" in refused.err
    assert (begun / "trials.jsonl").read_bytes() == before
    for words, said in (
        (("--resume", tmp_path), f"{tmp_path} is no study to go on with"),
        (("-o", begun), "give CHECKPOINT"),
        ((model,), "give -o STUDY"),
    ):
        refused = pgpack("sweep", *words)
        assert refused.code == 2
        assert said in refused.err


def test_extend_takes_what_changed_and_keeps_the_trials(model: Path, begun: Path) -> None:
    more = ("--recipe", "role:control=cast; *=rtn(bits={4,5})|rans")
    document = succeed(pgpack("sweep", model, *more, "--out", begun, "--resume", "--extend", "--json")).json
    assert (document["n_new"], document["n_trials"]) == (1, 3)
    assert pgpack("sweep", model, *more, "--out", begun, "--extend").code == 2


def test_flags_of_a_card_read_back_as_they_were_written() -> None:
    options = BenchOptions(text=("a b", "c'd"), seq_len=64, strict=True, set=("x=1",), tokenizer="t.model")
    assert BenchOptions.of_flags(options.as_flags()) == options
    assert BenchOptions.of_flags("") == BenchOptions()
    with pytest.raises(ValueError, match="no flag"):
        BenchOptions.of_flags("--nonsense 3")


def test_a_sweep_whose_trials_all_fail_says_the_commonest_reason_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: object, **kwargs: object) -> None:
        raise MemoryError("no room for it")

    monkeypatch.setattr("pgpack.quantizers.uniform.Rtn.quantize", no_memory)
    six = ("--recipe", "role:control=cast; *=rtn(bits={3:8})|rans")
    finished = pgpack("sweep", model, *six, *FEW, "--budget", "20kB", "--jobs", 1, "--out", tmp_path, "--no-cache")
    assert finished.code == 1
    assert finished.err.count("no room for it") == 2  # as it happens, and in the last sentence
    assert "none of the 6 trials succeeded; all say: no room for it" in finished.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--bits", "4", "--strict"), "--strict: "),
        (("--recipe", "role:control=cast; *=rtn(bits={4,6})|rans; @tune=steps(count=9)"), "calibration text"),
        (("--recipe", "role:control=cast; *=gptq(bits=4)|rans; @compensate=weights(count=9)"), "calibration text"),
        (("--recipe", "nothing.*=rtn(bits={4,6})|rans"), "no rule covers"),
        (("--metric", "bpb"), "--metric bpb is measured on text"),
    ],
)
def test_what_makes_every_trial_fail_without_text_is_refused_before_work(
    bare: Path, tmp_path: Path, flags: tuple[object, ...], said: str
) -> None:
    out = tmp_path / "study"
    refused = pgpack("sweep", bare, *flags, "--out", out, "-q")
    assert refused.code == 2
    assert said in refused.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--bits", "99"), "--bits 99: "),
        (("--clip-sigmas", "wide"), "--clip-sigmas wide: "),
        (("--codec", "brotli:11,gzip"), "--codec brotli:11,gzip: "),
        (("--prune", "half"), "--prune half: "),
        (("--codebook", "nf5"), "--codebook nf5: "),
        (("--embed-bits", "0"), "--embed-bits 0: "),
        (("--preset", "sdclip-broti"), "sdclip-broti"),
        (("--recipe", "*=rtn(bits=99)|rans"), "^"),
    ],
)
def test_an_error_of_a_dial_names_the_flag_or_the_character(
    bare: Path, tmp_path: Path, flags: tuple[object, ...], said: str
) -> None:
    refused = pgpack("sweep", bare, *flags, "--out", tmp_path / "study")
    assert refused.code == 2
    assert said in refused.err


def test_a_hopeless_budget_is_known_before_the_work(model: Path, tmp_path: Path) -> None:
    for words in (("pack", model, "-o", tmp_path / "x.pgpack"), ("sweep", model, "-o", tmp_path / "study")):
        started = time.process_time()
        finished = pgpack(*words, "--budget", "300B", "-q", "--no-cache")
        assert finished.code == 3
        assert "nothing fits 300 bytes: the coarsest recipe takes" in finished.err
        assert time.process_time() - started < 10
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["sweep", "pack", "eval", "calibrate"])
def test_calibration_text_that_is_also_evaluated_is_refused_by_every_command(
    model: Path, text_folder: Path, tmp_path: Path, verb: str
) -> None:
    shards = text_folder / "*val*.bin"
    out = tmp_path / "out"
    words: dict[str, tuple[object, ...]] = {
        "sweep": (*SPACE, "-o", out),
        "pack": ("--recipe", "role:control=cast; *=rtn(bits=4)|rans", "--eval", "-o", out),
        "eval": (),
        "calibrate": ("-o", out),
    }
    refused = pgpack(verb, model, *words[verb], "--val", shards, "--calib", shards, "-q")
    assert refused.code == 1
    assert "100.0% of the evaluated text also occurs in the calibration text" in refused.err
    assert not out.exists()


def test_every_table_names_study_checkpoint_and_text(model: Path, begun: Path) -> None:
    swept = succeed(pgpack("sweep", model, "--out", begun, "--resume", "-q")).out
    shown = succeed(pgpack("frontier", begun)).out
    for text in (swept, shown):
        assert "study: model.safetensors (" in text
        assert "compared by KL to the fp32 model" in text
    assert "all 3 fit; the best is " in shown
    assert json.loads(succeed(pgpack("frontier", begun, "--json")).out)["subject"].startswith("study: model.")
