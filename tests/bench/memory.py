"""`make bench-memory`: peak memory and processor time of calibration, evaluation and sweeps at sizes of real models.

    random weights of a shape --save--> checkpoint --one process: load, build, observe, save--> calibration file
                                                   --another: load, build, evaluate, KL to itself
                                                   --another: the main process of a sweep by two workers

Memory and time depend on shapes alone, so weights and tokens are random and nothing is downloaded. Each row is a
process of its own, whose peak is the kernel's figure; the checkpoint is made in another one, because a child's peak
starts at its parent's size. SmolLM2's shape needs transformers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.bench.pack_36m import machine, measured

SEQ = 1024


class Size(NamedTuple):
    """`n_tokens` to calibrate on; goals in bytes, that of a sweep's main process where one is measured."""

    vocab_size: int
    n_tokens: int
    calibrate_goal: float
    evaluate_goal: float
    file_goal: float
    sweep_goal: float | None = None


SIZES = {
    "7.6M": Size(1024, 32_768, 1e9, 1e9, 0.1e9),
    "7.6M, 8192 pieces": Size(8192, 32_768, 1e9, 1e9, 0.1e9, 1e9),
    "36M": Size(8192, 32_768, 1.5e9, 1.5e9, 0.3e9),
    "SmolLM2-135M": Size(49_152, 16_384, 3e9, 3e9, 0.5e9),
}


def builder(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """State dict -> module; an empty state dict gives random weights."""
    import torch

    if name != "SmolLM2-135M":
        from pgtrain.model.gpt import GPT, build, initialize_
        from pgtrain.model.model_config import GPTConfig

        shapes = {
            "7.6M": (7, 384, 6, 3, 2.0),
            "7.6M, 8192 pieces": (7, 320, 5, 5, 2.0),
            "36M": (11, 512, 8, 4, 4.0),
        }
        layers, dim, heads, kv_heads, mult = shapes[name]
        config = GPTConfig(SIZES[name].vocab_size, layers, dim, heads, kv_heads, mult, SEQ)
        return lambda state: build(config, state) if state else initialize_(GPT(config), 0)
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, rope_theta=100_000.0, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip

    class Logits(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(ids, use_cache=False).logits
            return logits

    def made(state: Mapping[str, Any]) -> torch.nn.Module:
        model = LlamaForCausalLM(llama)
        if state:
            model.load_state_dict({**state, "lm_head.weight": state["model.embed_tokens.weight"]}, assign=True)
            model.tie_weights()
        return Logits(model)

    return made


def tokens(name: str, n_tokens: int) -> np.ndarray:
    """Random tokens, the frequent ones first."""
    found = np.random.default_rng(0).zipf(1.2, n_tokens) % SIZES[name].vocab_size
    return found.astype(np.uint16)


def prepare(name: str, folder: Path) -> None:
    """Write the checkpoint."""
    from pgpack.checkpoint.checkpoint import save_tensors

    state = builder(name)({}).state_dict()
    tensors = {key.removeprefix("model."): value for key, value in state.items() if "lm_head" not in key}
    save_tensors(folder / "checkpoint.safetensors", {key: value.numpy() for key, value in tensors.items()}, {})


def calibrate(name: str, folder: Path, n_tokens: int) -> None:
    """What `pgpack calibrate` does once it has tokens."""
    import torch

    from pgpack.calibration.calibration import save_calibration
    from pgpack.calibration.observe import observe
    from pgpack.checkpoint.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(folder / "checkpoint.safetensors")
    model = builder(name)({key: torch.tensor(array) for key, array in checkpoint.items()})
    given = tokens(name, n_tokens)
    found = observe(model, given, SEQ, token_digest="", output_rows=0, stored=checkpoint.shapes)
    save_calibration(folder / "calibration.safetensors", found)
    print(json.dumps({"hessians": len(found.names)}))


def evaluate(name: str, folder: Path, n_tokens: int) -> None:
    """Loss of the checkpoint and its KL to itself, which must be 0."""
    from pgpack.checkpoint.checkpoint import load_checkpoint
    from pgpack.loss.bpb import TextEvaluator
    from pgpack.text.tokenizer import TokenizedText

    tensors = dict(load_checkpoint(folder / "checkpoint.safetensors").items())
    given = tokens(name, n_tokens + 1)
    text = TokenizedText(given, np.full(len(given), 4, np.uint8))
    loss = TextEvaluator(builder(name), text, SIZES[name].vocab_size, SEQ, reference=tensors).evaluate(tensors)
    if loss.kl != 0:
        raise SystemExit(f"the KL of {name} to itself is {loss.kl}")
    print(json.dumps({"nats": loss.nats}))


def sweep(name: str, folder: Path, n_tokens: int) -> None:
    """Two recipes by two workers; prints the main process's own peak. Units: bytes."""
    import resource

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from pgpack.bench.benches import Benches
    from pgpack.bench.options import BenchOptions
    from pgpack.bench.sweeping import Sweep, grid_of
    from pgpack.bench.sweeping import sweep as run
    from pgpack.bench.workpiece import Workpiece
    from pgpack.checkpoint.checkpoint import load_checkpoint
    from pgpack.sweep.executors.placement import Placement
    from pgpack.sweep.space import Space
    from pgpack.text.data import write_shards

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(f"<{i}>" for i in range(SIZES[name].vocab_size - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    letters = [pieces.index(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]  # which the tokenizer writes again
    drawn = np.random.default_rng(1).choice(letters, 2 * n_tokens).astype(np.uint16)
    for side, part in (("val", drawn[:n_tokens]), ("train", drawn[n_tokens:])):
        write_shards(part, folder, f"random_{side}")
    (folder / "adapter.py").write_text(f"from tests.bench.memory import builder\nbuild = builder({name!r})\n")
    options = BenchOptions(
        val=str(folder / "random_val_*.bin"), calib=str(folder / "random_train_*.bin"),
        tokenizer=str(folder / "tokenizer.json"), seq_len=SEQ, model=f"{folder / 'adapter.py'}:build",
    )  # fmt: skip
    path, out = folder / "checkpoint.safetensors", folder / "study"
    benches = Benches((Workpiece(path, load_checkpoint(path), options, keep_in=out),))
    recipes = f"role:control=cast; *=gptq(bits={{4,6}},clip=12)|rans; @calib=tokens(count={n_tokens})"
    space = Space.of([recipes])
    found = run(
        benches, Sweep(out, candidates=grid_of(benches, space), placement=Placement(jobs=2), space=space.text)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if not all(trial.ok for trial in found.study.trials):
        raise SystemExit(f"a trial failed: {[trial.error for trial in found.study.trials]}")
    print(json.dumps({"peak": peak}))


def row(name: str, folder: Path, share: float) -> dict[str, Any]:
    """The figures of one size. Units: bytes, processor seconds."""
    size = SIZES[name]
    n_tokens = max(SEQ, round(size.n_tokens * share) // SEQ * SEQ)
    found: dict[str, Any] = {"name": name, "n_tokens": n_tokens}
    here = ["-m", "tests.bench.memory", "--folder", str(folder), "--only", name]
    subprocess.run([sys.executable, *here, "--step", "prepare"], check=True)
    for step, count in (("calibrate", n_tokens), ("evaluate", max(SEQ, n_tokens // 2 // SEQ * SEQ))):
        _, peak, seconds = measured([*here, "--step", step, "--tokens", str(count)])
        found |= {f"{step}_peak": peak, f"{step}_cpu_s": round(seconds, 1)}
    if size.sweep_goal is not None:
        own, _, seconds = measured([*here, "--step", "sweep", "--tokens", str(n_tokens)])
        found |= {"sweep_peak": own["peak"], "sweep_cpu_s": round(seconds, 1)}
    found["file_bytes"] = (folder / "calibration.safetensors").stat().st_size
    goals = {"calibrate_peak": size.calibrate_goal, "evaluate_peak": size.evaluate_goal, "file_bytes": size.file_goal}
    if size.sweep_goal is not None:
        goals["sweep_peak"] = size.sweep_goal
    return found | {"missed": [key for key, goal in goals.items() if found[key] > goal]}


def main() -> None:
    """Every size, or one; `--share` of its tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=("prepare", "calibrate", "evaluate", "sweep"))
    parser.add_argument("--tokens", type=int)
    given = parser.parse_args()
    if given.step == "prepare":
        return prepare(given.only, given.folder)
    if given.step:
        step = {"calibrate": calibrate, "evaluate": evaluate, "sweep": sweep}[given.step]
        return step(given.only, given.folder, given.tokens)
    rows = []
    for name in [given.only] if given.only else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(name, Path(folder), given.share))
        print(json.dumps(rows[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
