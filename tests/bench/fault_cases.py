"""What `tests.bench.faults` runs: commands on a model of some thousand values, and the folders that they begin in."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.words import WORDS

SHAPE = "--layers 1 --dim 16 --heads 2 --kv-heads 1 --seq-len 32 --batch-tokens 128 --steps 4 -q"
DATA = "pgtrain data docs.txt -o text --vocab-size 310 --val-fraction 0.2 -q"
TRAIN = f"pgtrain run --data text {SHAPE} -o m.safetensors"
RECIPE = "--recipe @calib=tokens(count=512);role:control=cast;*=gptq|rans"
NO_CACHE = "--no-cache -q"
TEXT = (DATA,)
MODEL = (DATA, TRAIN)
SPACE = "--max-tokens 512 --recipe @calib=tokens(count=512);role:control=cast;*=gptq(bits={4,6})|rans --jobs 1"
SWEEP = f"pgpack sweep m.safetensors {SPACE} --out study {NO_CACHE}"
PACK = f"pgpack pack m.safetensors {RECIPE} -o m.pgpack {NO_CACHE}"
FOREIGN = f"pgpack pack m.safetensors --preset sdclip-brotli -o m.ptz {NO_CACHE}"


@dataclass(frozen=True)
class Scenario:
    """`before`: the commands that make the folder; `may_go`: patterns of files that tell of a set; `stale`: files
    that a whole run takes away; `says_done`: the command is done again, not refused, where its output is whole.
    `watched`: the input that is replaced, by other/NAME; `made`: what the command makes of it."""

    name: str
    line: str
    before: tuple[str, ...] = ()
    may_go: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    says_done: bool = False
    watched: str = ""
    made: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        return self.line.split()


CALIBRATE = "pgpack calibrate m.safetensors -o h.safetensors --tokens 512 -q"
DOCUMENTS = f"{CALIBRATE} --tokenizer text/tokenizer.model --text"
CACHED = PACK.replace("--no-cache", "--cache cache")
BARE = "pgpack pack NAME --recipe *=rtn|rans -o m.pgpack --cache cache -q"
HF = ("HF", "pgpack pack hf --recipe *=rtn|rans -o hf.pgpack --no-cache -q")
UNPACK = "pgpack unpack m.pgpack -q -o"
FOLDER = "pgpack unpack hf.pgpack -o back -q --format folder"
SHARD = "text/corpus_train_000000.bin"
PAGES: tuple[str, ...] = (
    "study/best.pgpack.json",
    "study/report.html",
    "study/frontier.*",
    "study/study.json",
    "study/anatomy.json",
)
PAGES += ("study/kinds.*", "study/depth.*", "study/tensors.jsonl")
RUN = ("*.state", "*.log.jsonl", "*.loss.svg")
MADE = ("m.pgpack", "m.pgpack.json")

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("data", DATA),
    Scenario("data over an older text", f"{DATA} --force", (DATA.replace("0.2", "0.4"),), ("text/*",)),
    Scenario("train", TRAIN, TEXT, says_done=True),
    Scenario("train over an older model", f"{TRAIN} --force", (DATA, f"{TRAIN} --seed 7"), RUN),
    Scenario("train on", TRAIN, (DATA, f"STOP {TRAIN}"), RUN, ("m.safetensors.state",), says_done=True),
    Scenario("calibrate", CALIBRATE, MODEL),
    Scenario("calibrate over an older file", f"{CALIBRATE} --force", (*MODEL, CALIBRATE.replace("512", "256"))),
    Scenario("pack", PACK, MODEL),
    Scenario("pack with a cache", CACHED, MODEL),
    Scenario(
        "pack over an older artifact",
        f"{PACK} --force",
        (*MODEL, PACK.replace("gptq", "rtn(bits=3)")),
        ("m.pgpack.json",),
    ),
    Scenario("sweep", SWEEP, MODEL, says_done=True),
    Scenario("sweep on", SWEEP.replace("{4,6}", "{4,6,3}"), (*MODEL, SWEEP), PAGES, says_done=True),
    Scenario(
        "sweep without text",
        f"pgpack sweep bare.safetensors --recipe *=rtn(bits={{3,5}})|rans --jobs 1 --out study {NO_CACHE}",
        ("BARE",),
        says_done=True,
    ),
    Scenario("unpack safetensors", f"{UNPACK} back.safetensors", (*MODEL, PACK)),
    Scenario("unpack npz", f"{UNPACK} back.npz", (*MODEL, PACK)),
    Scenario("unpack pt", f"{UNPACK} back.pt", (*MODEL, PACK)),
    Scenario(
        "unpack over an older file",
        f"{UNPACK} back.pt --force",
        (*MODEL, PACK, f"{UNPACK} back.pt --dtype f16"),
    ),
    Scenario("unpack gguf", "pgpack unpack hf.pgpack -o back.gguf -q", HF),
    Scenario("unpack folder", FOLDER, HF),
    Scenario("unpack over an older folder", f"{FOLDER} --force", (*HF, f"{FOLDER} --dtype f16")),
    Scenario("transcode", "pgpack transcode m.ptz -o m.pgpack -q", (*MODEL, FOREIGN)),
    Scenario(
        "submission",
        f"pgpack pack m.safetensors {RECIPE} --submission sub --train-script train.py --about about.json {NO_CACHE}",
        (*MODEL, "SCRIPT"),
    ),
    Scenario("frontier", "pgpack frontier study -o picture.svg -q", (*MODEL, SWEEP)),
    Scenario("export", "pgpack frontier study --export trials.csv -q", (*MODEL, SWEEP)),
    Scenario("report", "pgpack report study -o page.html -q", (*MODEL, SWEEP)),
    Scenario("analyze", "pgpack analyze m.safetensors -o picture.svg -q", MODEL),
    Scenario("curve", "pgtrain curve m.log.jsonl -o curve.svg -q", MODEL),
    Scenario("init-adapter", "pgpack init-adapter adapter.py -q"),
    Scenario("pack: weights", CACHED, (*MODEL, "OTHER m.safetensors"), watched="m.safetensors", made=MADE),
    Scenario("pack: torch weights", BARE.replace("NAME", "bare.pt"), ("BARE",), watched="bare.pt", made=MADE),
    Scenario("pack: GGUF", BARE.replace("NAME", "m.gguf"), ("GGUF",), watched="m.gguf", made=MADE),
    Scenario(
        "pack: calibration",
        BARE.replace("NAME", "bare.safetensors").replace("rtn", "gptq") + " --calibration h.safetensors",
        ("BARE", "CALIBRATION"),
        watched="h.safetensors",
        made=MADE,
    ),
    Scenario(
        "sweep: weights",
        SWEEP.replace("--no-cache", "--cache cache"),
        (*MODEL, "OTHER m.safetensors"),
        watched="m.safetensors",
        made=("study",),
    ),
    Scenario("calibrate: shard", CALIBRATE, (*MODEL, f"OTHER {SHARD}"), watched=SHARD, made=("h.safetensors",)),
    Scenario(
        "calibrate: text",
        f"{DOCUMENTS} docs.jsonl",
        (*MODEL, "JSONL"),
        watched="docs.jsonl",
        made=("h.safetensors",),
    ),
    Scenario(
        "calibrate: Parquet",
        f"{DOCUMENTS} docs.parquet",
        (*MODEL, "PARQUET"),
        watched="docs.parquet",
        made=("h.safetensors",),
    ),
    Scenario(
        "train: shard",
        TRAIN,
        (*TEXT, f"OTHER {SHARD}"),
        watched=SHARD,
        made=("m.safetensors", "m.log.jsonl", "m.loss.svg", "m.safetensors.state"),
    ),
)


def documents(seed: int, n: int = 60) -> list[str]:
    choose = random.Random(seed)
    return [" ".join(choose.choices(WORDS, k=120)) + f". Document {i}." for i in range(n)]


def prepare(scenario: Scenario, folder: Path, run: Callable[[Path, Sequence[str]], Any]) -> None:
    """Make the folder that a scenario begins in."""
    folder.mkdir(parents=True)
    (folder / "docs.txt").write_text("\n\0\n".join(documents(0)), encoding="utf-8")
    for line in scenario.before:
        word, *rest = line.split()
        if word in MAKERS:
            MAKERS[word](folder, rest, run)
            continue
        ended = run(folder, line.split())
        if ended.code:
            raise SystemExit(f"{line}: {ended.said}")


def _bare(folder: Path, rest: Sequence[str], run: Any) -> None:
    import numpy as np
    import torch
    from safetensors.numpy import save_file

    for seed, place in ((0, folder), (1, folder / "other")):
        place.mkdir(exist_ok=True)
        rng = np.random.default_rng(seed)
        tensors = {f"{name}.weight": rng.standard_normal((96, 64)).astype(np.float32) for name in "abcdef"}
        save_file(tensors, place / "bare.safetensors")
        torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, place / "bare.pt")


def _calibration(folder: Path, rest: Sequence[str], run: Any) -> None:
    import numpy as np

    from pgpack.calibration.calibration import from_arrays, save_calibration

    for seed, place in ((0, folder), (1, folder / "other")):
        x = np.random.default_rng(seed).standard_normal((200, 64)).astype(np.float32)
        save_calibration(
            place / "h.safetensors", from_arrays({f"{n}.weight.hessian": x.T @ x for n in "abcdef"}, "t", 1)
        )


def _gguf(folder: Path, rest: Sequence[str], run: Any) -> None:
    import gguf
    import numpy as np

    for seed, place in ((0, folder), (1, folder / "other")):
        place.mkdir(exist_ok=True)
        rng = np.random.default_rng(seed)
        writer = gguf.GGUFWriter(place / "m.gguf", "none")
        for name in "abcdef":
            writer.add_tensor(f"{name}.weight", rng.standard_normal((96, 64)).astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _other(folder: Path, rest: Sequence[str], run: Any) -> None:
    """A second version of an input, by the same commands from another seed."""
    (name,) = rest
    aside = folder.with_name("aside")
    (aside / "other").mkdir(parents=True)
    if name == "m.safetensors":
        shutil.copytree(folder / "text", aside / "text")
        run(aside, f"{TRAIN} --seed 7".split())
    else:
        (aside / "docs.txt").write_text("\n\0\n".join(documents(1)), encoding="utf-8")
        run(aside, f"{DATA} --tokenizer {folder}/text/tokenizer.model".split())
    (folder / "other" / name).parent.mkdir(parents=True)
    shutil.copyfile(aside / name, folder / "other" / name)
    shutil.rmtree(aside)


def _jsonl(folder: Path, rest: Sequence[str], run: Any) -> None:
    import json

    (folder / "other").mkdir()
    for seed, place in ((3, folder), (4, folder / "other")):
        rows = (json.dumps({"text": text}) for text in documents(seed))
        (place / "docs.jsonl").write_text("\n".join(rows) + "\n")


def _parquet(folder: Path, rest: Sequence[str], run: Any) -> None:
    import pyarrow
    from pyarrow import parquet

    (folder / "other").mkdir()
    for seed, place in ((3, folder), (4, folder / "other")):
        parquet.write_table(pyarrow.table({"text": documents(seed)}), place / "docs.parquet")


def _hf(folder: Path, rest: Sequence[str], run: Any) -> None:
    from tests.models.tiny_hf import write_folder, write_tokenizer

    write_tokenizer(write_folder(folder / "hf", "llama-tied"))


def _script(folder: Path, rest: Sequence[str], run: Any) -> None:
    import json

    (folder / "train.py").write_text("import numpy\n\nprint('trained', numpy.__version__)\n")
    (folder / "about.json").write_text(
        json.dumps({"name": "a", "author": "b", "github_id": "c", "date": "2026-01-01"})
    )


def _stop(folder: Path, rest: Sequence[str], run: Any) -> None:
    """The state of a run that was stopped before its end."""
    from tests.bench.fault_layer import Layer

    for at in range(200):
        ended = run(folder, rest, layer=Layer(str(folder), "kill", at))
        if (folder / "m.safetensors.state").exists():
            return
    raise SystemExit(f"no state is left: {ended}")


MAKERS: dict[str, Callable[[Path, Sequence[str], Any], None]] = {
    "BARE": _bare,
    "CALIBRATION": _calibration,
    "GGUF": _gguf,
    "OTHER": _other,
    "JSONL": _jsonl,
    "PARQUET": _parquet,
    "HF": _hf,
    "SCRIPT": _script,
    "STOP": _stop,
}


def _renamed(target: Path, other: Path) -> None:
    aside = target.with_name(target.name + ".moving")
    shutil.copyfile(other, aside)
    os.replace(aside, target)


def _written_over(target: Path, other: Path) -> None:
    data = other.read_bytes()
    with open(target, "r+b") as file:
        file.write(data)
        file.truncate()


def _cut(target: Path, other: Path) -> None:
    os.truncate(target, target.stat().st_size // 2)


REPLACED: dict[str, Callable[[Path, Path], None]] = {
    "replaced": _renamed,
    "written over": _written_over,
    "cut": _cut,
}
