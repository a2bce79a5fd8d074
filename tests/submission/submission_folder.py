"""A submission folder that no rule faults, small enough to be judged in a second, and what a fault does to it."""

from __future__ import annotations

import base64
import json
import lzma
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.pack import pack
from pgpack.recipe.recipe import parse_recipe

SEEDS = {42: 1.06190, 0: 1.06120, 1234: 1.06250}
VAL_TOKENS, VAL_BYTES = 40_540_160, 151_080_891
MODE = "quantized_ttt_phased"
TRAINING = b"""import io
import zlib

import torch


def main():
    model = torch.nn.Linear(2, 2)
    state = torch.load(io.BytesIO(zlib.decompress(b"")), weights_only=True)
    model.load_state_dict(state, strict=True)


if __name__ == "__main__":
    main()
"""
DECODER = """import json
import sys
import zlib

import numpy as np

data = open(sys.argv[1], "rb").read()
size = int.from_bytes(data[5:9], "little")
header = json.loads(zlib.decompress(data[21 : 21 + size], -15))
place, tensors = 21 + size, {}
for name, shape, form, parts in header["tensors"]:
    values = np.frombuffer(data, "<f4", int(np.prod(shape)), place)
    place += values.nbytes
    tensors[name] = values.reshape(shape)
np.savez(sys.argv[2], **tensors)
"""


def weights(seed: int) -> dict[str, NDArray[np.float32]]:
    """The tensors of a model of one seed."""
    rng = np.random.default_rng(seed)
    return {
        "tok_emb.weight": rng.standard_normal((24, 8)).astype(np.float32),
        "blocks.0.mlp.fc.weight": rng.standard_normal((16, 8)).astype(np.float32),
        "blocks.0.attn_scale": rng.standard_normal(8).astype(np.float32),
    }


def packed(tensors: dict[str, NDArray[Any]], recipe: str = "*=cast(dtype=fp32)") -> bytes:
    """An artifact of these tensors."""
    return pack(from_tensors(tensors), parse_recipe(recipe)).data


def self_extracting(source: bytes) -> bytes:
    """A file that executes `source`, as the field ships its scripts."""
    text = base64.b85encode(lzma.compress(source))
    return b'import lzma as L,base64 as B\nexec(L.decompress(B.b85decode("' + text + b'")))\n'


def nats(bpb: float) -> float:
    """val_loss of a val_bpb on the whole split."""
    return bpb * math.log(2) * VAL_BYTES / VAL_TOKENS


def log_text(bpb: float, model: int, code: int) -> str:
    """A log as the field's scripts write it."""
    before = bpb - 0.009
    return f"""val_tokens: {VAL_TOKENS}
gptq:reserving 8s, effective=592000ms
4945/20000 val_loss: {nats(before) + 0.03:.4f} val_bpb: {before + 0.01:.4f}
stopping_early: wallclock_cap train_time: 592054ms step: 4945/20000
diagnostic pre-quantization post-ema val_loss:{nats(before):.8f} val_bpb:{before:.8f} eval_time:6718ms
Code size: {code} bytes
GPTQ:collected 67 Hessians in 4.7s
Serialized model quantized+rans: {model} bytes
Total submission size quantized+rans: {model + code} bytes
diagnostic quantized val_loss:{nats(bpb) + 0.03:.8f} val_bpb:{bpb + 0.0113:.8f} eval_time:9995ms
{MODE} val_loss:{nats(bpb):.8f} val_bpb:{bpb:.8f} eval_time:396853ms
total_eval_time:396.9s
"""


def write_good(folder: Path, seeds: Iterable[int] = SEEDS) -> Path:
    """The folder, whose every number is true."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train_gpt.py").write_bytes(self_extracting(TRAINING))
    (folder / "train_gpt_readable.py").write_bytes(TRAINING)
    (folder / "decode.py").write_text(DECODER)
    (folder / "requirements.txt").write_text("numpy\ntorch>=2.9\n")
    for seed in seeds:
        (folder / f"model_seed{seed}.pgpack").write_bytes(packed(weights(seed)))
    recount(folder)
    return folder


def code_bytes(folder: Path) -> int:
    """Bytes of the counted files."""
    return sum((folder / name).stat().st_size for name in ("train_gpt.py", "decode.py"))


def recount(folder: Path) -> None:
    """Logs, submission.json and README.md written anew from what lies in the folder."""
    code = code_bytes(folder)
    models = {seed: folder / f"model_seed{seed}.pgpack" for seed in SEEDS}
    models = {seed: path.stat().st_size for seed, path in models.items() if path.exists()}
    losses = {seed: SEEDS[seed] for seed in models}
    for seed, bpb in losses.items():
        (folder / f"train_seed{seed}.log").write_text(log_text(bpb, models[seed], code))
    mean, std = statistics.fmean(losses.values()), statistics.pstdev(losses.values())
    largest = max(models.values())
    rows = {
        str(seed): {"val_loss": nats(bpb), "val_bpb": bpb, "artifact_bytes": models[seed] + code}
        for seed, bpb in losses.items()
    }
    document = {
        "author": "A. Author",
        "github_id": "author",
        "name": "A model",
        "date": "2026-04-29",
        "track": "10min_16mb",
        "val_loss": nats(mean),
        "val_bpb": mean,
        "val_bpb_std": std,
        "seeds": [*losses],
        "seed_results": rows,
        "bytes_model": largest,
        "bytes_code": code,
        "bytes_total": largest + code,
        "counted_files": ["train_gpt.py", "decode.py", *(f"model_seed{seed}.pgpack" for seed in losses)],
    }
    (folder / "submission.json").write_text(json.dumps(document, indent=2))
    table = "\n".join(f"| {seed} | {bpb:.5f} | {models[seed] + code:,} |" for seed, bpb in losses.items())
    readme = f"# A model\n\nval_bpb {mean:.5f} (std {std:.5f}), {largest + code:,} bytes in all.\n\n"
    (folder / "README.md").write_text(f"{readme}| seed | val_bpb | bytes |\n|---|---|---|\n{table}\n")


def claim(**changes: Any) -> Callable[[Path], None]:
    """A fault: fields of submission.json replaced."""

    def change(folder: Path) -> None:
        path = folder / "submission.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    """A fault: a piece of text replaced in a file."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def script(more: bytes) -> Callable[[Path], None]:
    """A fault: lines added to the training script, which is wrapped and counted anew."""

    def change(folder: Path) -> None:
        (folder / "train_gpt.py").write_bytes(self_extracting(TRAINING + more))
        recount(folder)

    return change
