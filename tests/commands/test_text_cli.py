"""`--text` on every command that needs a text, and what is kept of it."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from pgpack.bench.benches import Benches
from pgpack.bench.blueprint import blueprint_of
from pgpack.bench.options import BenchOptions
from pgpack.bench.workpiece import Workpiece
from pgpack.cache.options import CacheOptions
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.sweep.executors.jobs import Setting
from tests.commands.workshop import pgpack, pgtrain, succeed

LIMIT = ("--max-tokens", 640, "-q")
RECIPE = ("--recipe", "role:control=cast; *=rtn(bits={4,6})|rans")


@pytest.fixture(scope="module")
def documents(text_folder: Path) -> Path:
    return text_folder.parent / "documents.txt"


def test_every_command_that_needs_text_takes_it(model: Path, documents: Path, artifact: Path, tmp_path: Path) -> None:
    text = ("--text", documents, *LIMIT)
    measured = succeed(pgpack("eval", model, *text, "--json")).json
    assert measured["n_tokens"] == 640
    assert succeed(pgpack("eval", artifact, "--checkpoint", model, *text, "--json")).json["kl"] > 0
    out = tmp_path / "hessians.safetensors"
    calibrated = succeed(pgpack("calibrate", model, "-o", out, "--tokens", 256, *text, "--json")).json
    assert calibrated["n_tokens"] == 256
    packed = tmp_path / "a.pgpack"
    flags = ("--recipe", "role:control=cast; *=gptq(clip=12)|rans", "--eval", "-o", packed)
    assert succeed(pgpack("pack", model, *flags, *text, "--json")).json["bpb"] == pytest.approx(
        measured["bpb"], rel=0.05
    )
    succeed(pgpack("verify", packed, "--checkpoint", model, "--eval", *text))
    fitted = ("--budget", "9kB", "-o", tmp_path / "b.pgpack")
    assert succeed(pgpack("pack", model, *fitted, *text, "--json")).json["n_bytes"] <= 9000
    succeed(pgpack("transcode", artifact, "-o", tmp_path / "c.pgpack", "--checkpoint", model, *text))


def test_bytes_are_those_of_the_files(model: Path, documents: Path, tmp_path: Path) -> None:
    """Windows of one token: all but the first begin token are scored."""
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(documents.read_bytes()))
    rows = "".join(json.dumps({"body": text}) + "\n" for text in documents.read_text().split("\n\0\n"))
    (tmp_path / "b.jsonl").write_text(rows)
    flags = ("--seq-len", 1, "-q", "--json")
    texts = (("--val", tmp_path / "a.txt.gz"), ("--val", tmp_path / "b.jsonl", "--field", "body"))
    n_bytes = [succeed(pgpack("eval", model, *text, *flags)).json["n_text_bytes"] for text in texts]
    plain = documents.stat().st_size - 2 * 59  # the lines with a NUL part 60 documents
    assert n_bytes == [plain, plain - 59]  # and the field has no line end before them
    wrong = pgpack("eval", model, "--val", tmp_path / "b.jsonl", *flags)
    assert wrong.code == 1
    assert "it has body: name one as --field" in wrong.err


def test_builtin_is_named_out_loud(model: Path, tmp_path: Path) -> None:
    said = succeed(pgpack("eval", model, "--text", "builtin", "--max-tokens", 640))
    assert "text: builtin, the documentation inside CPython 3." in said.err
    lost = pgpack("eval", model, "--text", tmp_path / "none.txt", "-q")
    assert (lost.code, "the word builtin" in lost.err) == (1, True)


def test_text_and_its_sides_are_not_given_at_once(model: Path, documents: Path) -> None:
    refused = pgpack("eval", model, "--text", documents, "--val", documents)
    assert refused.code == 1
    assert "give either text, or val and calib" in refused.err


def test_a_folder_of_shards_is_a_text(model: Path, text_folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copy(model, alone)
    given = succeed(pgpack("eval", alone, "--text", text_folder, *LIMIT, "--json")).json
    own = succeed(pgpack("eval", model, *LIMIT, "--json")).json
    assert given["evaluator_digest"] == own["evaluator_digest"]


def test_a_study_keeps_the_split_and_one_of_shards_is_as_it_was(model: Path, documents: Path, tmp_path: Path) -> None:
    succeed(pgpack("sweep", model, *RECIPE, "--text", documents, "--out", tmp_path / "a", *LIMIT))
    succeed(pgpack("sweep", model, *RECIPE, "--out", tmp_path / "b", *LIMIT))
    cards = [json.loads((tmp_path / name / "study.json").read_text()) for name in "ab"]
    assert [card["v"] for card in cards] == [7, 7]
    assert len(cards[0]["split_digest"]) == 64
    assert cards[1]["split_digest"] is None
    assert f"--text {documents}" in cards[0]["data_flags"]
    succeed(pgpack("sweep", model, *RECIPE, "--text", documents, "--out", tmp_path / "a", *LIMIT))
    assert json.loads((tmp_path / "a" / "study.json").read_text())["split_digest"] == cards[0]["split_digest"]
    (tmp_path / "other.txt").write_text(documents.read_text() + "\n\0\nOne more document, " + "and more " * 30)
    other = pgpack("sweep", model, *RECIPE, "--text", tmp_path / "other.txt", "--out", tmp_path / "a", *LIMIT)
    assert (other.code, "is a study of evaluator" in other.err) in ((1, True), (0, False))  # by that document's side
    succeed(pgpack("report", tmp_path / "a", "-q"))
    succeed(pgpack("frontier", tmp_path / "a", tmp_path / "b", "-q"))


def test_workers_elsewhere_open_the_same_text(model: Path, documents: Path, tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.mkdir()
    (named / "first.txt").write_bytes(documents.read_bytes()[:20_000])
    (named / "second.txt").write_bytes(documents.read_bytes()[20_000:])
    tokenizer = str(model.parent / "text" / "tokenizer.model")
    for options in (
        BenchOptions(text=(str(named),), max_tokens=320),
        BenchOptions(text=("builtin",), max_tokens=320),
        BenchOptions(text=(str(model.parent / "text"),), max_tokens=320),
        BenchOptions(
            val=str(named / "first.txt"), calib=str(named / "second.txt"), tokenizer=tokenizer, max_tokens=320
        ),
    ):
        benches = Benches([Workpiece(model, load_checkpoint(model), options)])
        blueprint = blueprint_of(benches, tmp_path / "out", CacheOptions(off=True))
        sent = tmp_path / f"sent-{len(list(tmp_path.iterdir()))}"
        for name, path in blueprint.files.items():
            (sent / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, sent / name)
        there = blueprint.moved(sent)
        assert there(Setting()).digest == benches(Setting()).digest
        assert (str(named) in " ".join(there.text.text)) is False


def test_pgtrain_data_reads_the_same_kinds(documents: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(documents.read_bytes()))
    flags = ("--vocab-size", 310, "--val-fraction", 0.2, "-q", "--json")
    made = succeed(pgtrain("data", tmp_path / "a.txt.gz", "-o", tmp_path / "text", *flags)).json
    assert made["train_documents"] + made["val_documents"] == 60


def test_changed_shards_are_refused_in_a_sentence_before_the_work(
    text_folder: Path, model: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "text", tmp_path / "out.safetensors"
    shutil.copytree(text_folder, folder)
    shard = folder / "corpus_val_000000.bin"
    data = bytearray(shard.read_bytes())
    data[1024] ^= 1
    shard.write_bytes(data)
    pattern, tokenizer = folder / "corpus_val_*.bin", folder / "tokenizer.model"
    for done in (
        pgtrain("run", "--data", folder, "-o", out, "--layers", 1, "--dim", 16, "--heads", 2, "--kv-heads", 1),
        pgpack("eval", model, "--val", pattern, "--tokenizer", tokenizer),
    ):
        assert (done.code, done.err.count("error:"), "Traceback" in done.err) == (1, 1, False), done.err
        assert f"{shard} does not hold the tokens" in done.err
    assert not out.exists()
