"""What `make gpu-proof` does, stage by stage, in a process that tells each row as soon as it is there.

    python -m tests.bench.gpu_stages full runs/gpu-proof cuda text speed trunk ...

    text -> speed -> trunk -> plain, for the packer
    each checkpoint: calibrate -> field's packers, engine's efforts

A stage that fails is a row too, and the next one begins. Files are in the work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from shutil import which
from typing import Any

import torch

from experiments.for_packer.training import Arm, Bench
from pgpack.bench.opening import open_bench
from pgpack.bench.packed import write_packed
from pgpack.bench.packing import fit_packed, pack_recipe
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import LEVELS
from pgpack.quantizers.tcq import Tcq
from pgpack.recipe.preset_candidates import SMALL_PASSTHROUGH, preset_recipe
from pgpack.recipe.presets import PASSTHROUGH
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.recipe.selector import Shapes
from pgpack.sizes import parse_size
from pgpack.text.builtin import builtin_corpus
from pgpack.text.corpus import write_text_folder
from pgpack.text.documents import Document, read_parts
from pgpack.text.sentence_piece import SentencePiece, train_tokenizer
from pgpack.text.text_folder import TextFolder
from pgtrain.model.flop_count import flop_per_token
from pgtrain.model.tensor_table import count_parameters
from pgtrain.presets import PRESETS, Preset
from pgtrain.training.run_log import log_path
from pgtrain.training.train import Trainer
from tests.bench.utilisation import peak_tflops, utilisation

Said = dict[str, Any]
SHARED = Path("../shared/data")
BOOKS, PIECES = SHARED / "books.txt.zst", SHARED / "tokenizers" / "fineweb_8192_bpe.model"
TOKENIZED = 8_000_000  # characters that a tokenizer is trained on, where none is at hand
SEED = 1337
ARMS = ("plain", "for the packer")
FIELD = ("sdclip-brotli", "sdclip-brotli, coarser", "pergroup")
WIDER = 1.001  # of a step, so that what trains at it still fits
COARSER = 1.15  # of every clip
DOCUMENTS = 40  # at least, so that some validate
UNTIMED = 3  # steps of a part, which compile


@dataclass(frozen=True)
class Scale:
    """How large everything is. `seconds`: of training one model, shared by both arms up to where they part;
    `steps`: instead, where no speed is to be measured; `text_bytes`: of books that are read at most."""

    preset: str
    budget: str
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    compile: str = "inductor"
    seconds: float = 240.0
    steps: int = 0
    text_bytes: int = 80_000_000
    calib_tokens: int = 65_536
    eval_tokens: int = 262_144
    passthrough: int = PASSTHROUGH
    efforts: tuple[int, ...] = (2, 3, 5)

    @property
    def chosen(self) -> Preset:
        found = PRESETS[self.preset]
        training = {"compile_backend": self.compile, **self.training}
        return dataclasses.replace(
            found,
            model=dataclasses.replace(found.model, **self.model),
            training=dataclasses.replace(found.training, **training),
        )


SCALES = {
    # 35.9 M parameters: 11 layers of 512, 17 as they loop, 8,192 pieces
    "full": Scale(
        "lanes", "16MB",
        training={"batch_tokens": 262_144, "micro_batches": 4, "muon_momentum_steps": 300, "packer_every": 16},
    ),
    "smoke": Scale(
        "lanes-tiny", "80kB",
        {"num_layers": 5, "xsa_last_n": 5, "loop_start": 1, "loop_end": 2, "lane_start": 3, "model_dim": 64,
         "seq_len": 128},
        {"batch_tokens": 256, "micro_batches": 2}, "eager", steps=12,
        text_bytes=400_000, calib_tokens=1024, eval_tokens=2048, passthrough=SMALL_PASSTHROUGH,
    ),
    "tiny": Scale(
        "demo", "14kB", {"vocab_size": 400, "model_dim": 32, "seq_len": 32},
        {"batch_tokens": 128, "micro_batches": 2, "packer_every": 2}, "eager", steps=10,
        text_bytes=60_000, calib_tokens=512, eval_tokens=512, passthrough=SMALL_PASSTHROUGH, efforts=(2, 5),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """The stages at a scale; files are kept in `work`."""

    scale: Scale
    work: Path
    device: str

    def stages(self) -> dict[str, Callable[[], Said]]:
        """Name of a row -> what makes it, in an order that holds."""
        found: dict[str, Callable[[], Said]] = {"text": self.text, "speed": self.speed, "trunk": self.trunk}
        found |= {arm: partial(self.arm, arm) for arm in ARMS}
        for arm in ARMS:
            found[f"calibrate, {arm}"] = partial(self.calibrate, arm)
            for name in FIELD:
                found[f"{name}, {arm}"] = partial(self.field, arm, name)
            for effort in self.scale.efforts:
                found[f"effort {effort}, {arm}"] = partial(self.engine, arm, effort)
        return found

    def text(self) -> Said:
        """Books where they are at hand, else the built-in corpus; as many pieces as the model has."""
        folder, vocab_size = self.work / "text", self.scale.chosen.model.vocab_size
        if not (folder / "corpus.json").exists():
            found = books(BOOKS) if BOOKS.exists() else builtin_corpus()
            documents = shortened(found, self.scale.text_bytes)
            given = SentencePiece.load(PIECES) if vocab_size == 8192 and PIECES.exists() else None
            if given is None:
                given = train_tokenizer((d.text for d in shortened(documents, TOKENIZED)), vocab_size)
            write_text_folder(documents, folder, given, vocab_size, 0.1)
            (folder / "source").write_text("books" if BOOKS.exists() else "built-in corpus", encoding="utf-8")
        told = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        kept = {name: told[name] for name in ("train_tokens", "val_tokens", "vocab_size")}
        return {"source": (folder / "source").read_text(encoding="utf-8"), **kept}

    def speed(self) -> Said:
        """Tokens a second with all loops, compiled where that works; how many steps the time allows."""
        chosen = self.scale.chosen
        for backend in dict.fromkeys((chosen.training.compile_backend, "")):
            training = dataclasses.replace(chosen.training, loops_from=0.0, compile_backend=backend)
            try:
                trainer = Trainer(chosen.model, training, self.folder, self.work / "speed.safetensors", self.device)
                row = utilisation(trainer, 3 if self.scale.steps else 8)
            except Exception as error:  # noqa: BLE001  whatever a compiler raises
                print(f"speed with {backend or 'no compiler'}: {error}", file=sys.stderr, flush=True)
                continue
            n_steps = round(self.scale.seconds * float(str(row["tokens_per_s"])) / training.batch_tokens)
            said = {**row, "n_steps": self.scale.steps or max(20, n_steps)}
            (self.work / "speed.json").write_text(json.dumps(said), encoding="utf-8")
            return said
        raise RuntimeError("no step could be run; the log says why")

    def trunk(self) -> Said:
        """What both arms have in common."""
        started = time.perf_counter()
        trainer = self.bench.trunk()
        return self._trained(log_path(trainer.out), 0, self.bench.parts_at) | {"seconds": _since(started)}

    def arm(self, name: str) -> Said:
        """The last part, plain or for the packer."""
        started = time.perf_counter()
        chosen = Arm(name) if name == ARMS[0] else Arm(name, (("packer", self.scale.budget),))
        path, _ = self.bench.train(chosen)
        val = json.loads(load_checkpoint(path).metadata["training"])["val"]
        part = self._trained(log_path(path), self.bench.parts_at, self.bench.steps)
        return part | {"fp32_bpb": val["bpb"], "seconds": _since(started)}

    def calibrate(self, arm: str) -> Said:
        """Hessians and Fisher weights, on the device."""
        started = time.perf_counter()
        bench = open_bench(self._checkpoint(arm), device=self.device, cache=False)
        found = bench.calibrate(self.scale.calib_tokens, self._calibration(arm))
        return {"n_tokens": found.n_tokens, "matrices": len(found.names), "seconds": _since(started)}

    def field(self, arm: str, name: str) -> Said:
        """A packer of the field at its own dial."""
        started = time.perf_counter()
        bench = self._opened(arm)
        recipe, note = field_recipe(name, self.scale.passthrough, bench.checkpoint.stored_shapes)
        return self._packed(bench, pack_recipe(bench, recipe, evaluate=True), f"{name}, {arm}", note, started)

    def engine(self, arm: str, effort: int) -> Said:
        """The best file within the budget, of the engine alone. An effort that trains takes the step of the effort
        before it, a little coarser: one pack, where a search would train again at every turn."""
        started = time.perf_counter()
        bench, spent = self._opened(arm), LEVELS[effort]
        if spent == spent.untrained:
            packed = fit_packed(bench, parse_size(self.scale.budget), spent, presets=())
            quantizers = [rule.policy.quantizer for rule in packed.recipe.rules]
            step = next(each.step for each in quantizers if isinstance(each, Tcq))
            self._step(arm).write_text(repr(step), encoding="utf-8")
        else:
            step = WIDER * float(self._step(arm).read_text(encoding="utf-8"))
            packed = pack_recipe(bench, engine_recipe(spent, step, bench.checkpoint.stored_shapes), evaluate=True)
        return self._packed(bench, packed, f"effort {effort}, {arm}", str(packed.recipe), started)

    @cached_property
    def folder(self) -> TextFolder:
        return TextFolder.open(self.work / "text")

    @cached_property
    def bench(self) -> Bench:
        chosen, measured = self.scale.chosen, json.loads((self.work / "speed.json").read_text(encoding="utf-8"))
        training = dataclasses.replace(chosen.training, compile_backend=measured["compile"])
        tokens = max(chosen.model.seq_len, self.scale.calib_tokens // 2)
        return Bench(
            dataclasses.replace(chosen, training=training), self.folder, self.work, measured["n_steps"],
            training.batch_tokens, SEED, tokens, self.device,
        )  # fmt: skip

    def _trained(self, log: Path, first: int, last: int) -> Said:
        """Speed and utilisation of the steps behind `first` once loops run, decisions of the trellis included."""
        model = self.scale.chosen.model
        begin = max(first, math.ceil(self.scale.chosen.training.loops_from * self.bench.steps))
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        part = [row for row in rows if begin + min(UNTIMED, max(0, last - begin - 2)) < row["step"] <= last]
        per_second = (part[-1]["tokens"] - part[0]["tokens"]) / max(
            part[-1]["elapsed_s"] - part[0]["elapsed_s"], 1e-9
        )
        card = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else ""
        peak = peak_tflops(card)
        said = {"steps": last - first, "tokens": last * self.bench.batch_tokens, "loss": part[-1]["loss"]}
        said |= {"parameters": count_parameters(model), "tokens_per_s": round(per_second, 1)}
        if peak:
            said["mfu"] = float(f"{flop_per_token(model) * per_second / peak / 1e12:.4g}")
        return said

    def _packed(self, bench: Any, packed: Any, name: str, note: str, started: float) -> Said:
        out = self.work / f"{name.replace(', ', '-').replace(' ', '-')}.pgpack"
        write_packed(out, packed, bench)
        artifact, loss = packed.artifact, packed.loss
        said = {"file": out.name, "n_bytes": artifact.n_bytes, "bpb": loss.bpb, "kl": loss.kl, "note": note}
        times = {"encode_s": round(artifact.encode_s, 1), "decode_s": round(artifact.decode_s, 1)}
        return said | times | {"seconds": _since(started)}

    def _opened(self, arm: str) -> Any:
        return open_bench(
            self._checkpoint(arm), device=self.device, calibration=self._calibration(arm),
            max_tokens=self.scale.eval_tokens, cache=False,
        )  # fmt: skip

    def _checkpoint(self, arm: str) -> Path:
        return self.work / f"{arm.replace(' ', '-')}-{SEED}.safetensors"

    def _step(self, arm: str) -> Path:
        """What the dial was turned to last."""
        return self.work / f"step-{arm.replace(' ', '-')}.txt"

    def _calibration(self, arm: str) -> Path:
        return self.work / f"calibration-{arm.replace(' ', '-')}.safetensors"


def books(path: Path) -> Iterator[Document]:
    """Documents of a file, one at a time."""
    for name, parts in itertools.groupby(read_parts(path), lambda part: part.name):
        yield Document(name, "".join(part.text for part in parts))


def shortened(documents: Iterable[Document], n_bytes: int) -> list[Document]:
    """The first documents that hold about so many characters, none more than its share of DOCUMENTS."""
    kept, left = [], n_bytes
    for document in documents:
        kept.append(Document(document.name, document.text[: n_bytes // DOCUMENTS]))
        left -= len(kept[-1].text)
        if left < 0:
            break
    return kept


def field_recipe(name: str, passthrough: int, shapes: Shapes) -> tuple[Recipe, str]:
    """(recipe of one of FIELD, what is to be known of it)."""
    if name == "pergroup":
        recipe = preset_recipe("pergroup-lrzip", None, passthrough, shapes)
        if which("lrzip"):
            return recipe, "pergroup-lrzip"
        rules = str(recipe).partition("; @container")[0]
        coded = "; ".join(f"{rule}|shuffle|brotli(quality=11)" for rule in rules.split("; "))
        return parse_recipe(coded), "lrzip is not installed: its symbols under brotli 11, a stream a kind"
    dial = COARSER if name.endswith("coarser") else None
    return preset_recipe("sdclip-brotli", dial, passthrough, shapes), f"clips x {dial}" if dial else "as published"


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 1)


def tell(name: str, said: Said) -> None:
    """A row, as a line for whoever started this process."""
    print("ROW " + json.dumps({"stage": name, **said}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", choices=tuple(SCALES))
    parser.add_argument("work", type=Path)
    parser.add_argument("device")
    parser.add_argument("stages", nargs="+")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    stages = Proof(SCALES[given.scale], given.work, given.device).stages()
    for name in given.stages:
        try:
            tell(name, stages[name]())
        except Exception as error:  # noqa: BLE001  a row of its own; the next stage may still work
            lines = str(error).strip().splitlines() or [type(error).__name__]
            tell(name, {"error": f"{type(error).__name__}: {lines[0][:300]}"})


if __name__ == "__main__":
    main()
