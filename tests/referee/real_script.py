# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""A training script and its log as the public records have them, with slots for what a folder is about.

Standard library only.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .folder_case import TOKENS, WHOLE, Case, nats

BASE = """
import copy
import glob
import io
import math
import os
import random
import sys
import time
import uuid
import lzma
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
#IMPORTS

class Hyperparameters:
    data_path = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp8192")
    train_files = os.path.join(data_path, "fineweb_train_*.bin")
    val_files = os.path.join(data_path, "fineweb_val_*.bin")
    tokenizer_path = os.environ.get("TOKENIZER_PATH", "./data/tokenizers/fineweb_8192_bpe.model")
    run_id = os.environ.get("RUN_ID", str(uuid.uuid4()))
    seed = int(os.environ.get("SEED", 1337))
    iterations = int(os.environ.get("ITERATIONS", 20000))
    max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 600.0))
    seq_len = 2048
    batch_tokens = 524288
#HYPER


def load_data_shard(file):
    header = np.fromfile(file, dtype="<i4", count=256)
    tokens = np.fromfile(file, dtype="<u2", count=int(header[2]), offset=1024)
    return torch.from_numpy(tokens.astype(np.uint16, copy=False))


def load_validation_tokens(pattern, seq_len):
    files = [Path(p) for p in sorted(glob.glob(pattern))]
    tokens = torch.cat([load_data_shard(f) for f in files]).contiguous()
    usable = ((tokens.numel() - 1) // seq_len) * seq_len
    return tokens[: usable + 1]


class TokenStream:
    def __init__(self, pattern):
        self.files = [Path(p) for p in sorted(glob.glob(pattern))]
        self.file_idx, self.pos = 0, 0
        self.tokens = load_data_shard(self.files[0])

    def take(self, n):
        if self.pos + n > self.tokens.numel():
            self.file_idx = (self.file_idx + 1) % len(self.files)
            self.tokens, self.pos = load_data_shard(self.files[self.file_idx]), 0
        out = self.tokens[self.pos : self.pos + n]
        self.pos += n
        return out


class GPT(nn.Module):
    def __init__(self, vocab=8192, dim=512):
        super().__init__()
        self.emb = nn.Embedding(vocab, dim)
        self.fc = nn.Linear(dim, 4 * dim, bias=False)
        self.proj = nn.Linear(4 * dim, dim, bias=False)

    def forward_logits(self, ids):
        x = self.emb(ids)
        x = x + self.proj(F.leaky_relu(self.fc(F.rms_norm(x, (x.size(-1),))), 0.5).square())
        return 30.0 * torch.tanh(F.linear(x, self.emb.weight) / 30.0)

    def forward(self, ids, targets):
        return F.cross_entropy(self.forward_logits(ids).flatten(0, 1).float(), targets.flatten())
#DEFS


def eval_val(args, model, val_tokens, byte_lut, device):
    model.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    n, nbytes = 0, 0.0
    with torch.inference_mode():
        for start in range(0, val_tokens.numel() - 1, args.seq_len):
            local = val_tokens[start : start + args.seq_len + 1].to(device=device, dtype=torch.int64)
            x, y = local[:-1][None], local[1:][None]
            loss_sum += model(x, y).double() * y.numel()
            n += y.numel()
            nbytes += byte_lut[y].sum().item()
    model.train()
    val_loss = (loss_sum / n).item()
    return val_loss, val_loss / math.log(2.0) * n / nbytes
#EVALS


def quantize_state_dict(sd):
    out = {}
    for name, t in sd.items():
        if t.ndim < 2:
            out[name] = t.half().cpu()
            continue
        scale = t.float().abs().amax(1, keepdim=True).clamp_min(1e-8) / 31
        out[name] = {"q": (t / scale).round().clamp(-31, 31).to(torch.int8).cpu(), "s": scale.half().cpu()}
    return out


def dequantize_state_dict(obj):
    return {k: (v["q"].float() * v["s"].float() if isinstance(v, dict) else v.float()) for k, v in obj.items()}


def main():
    args = Hyperparameters()
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group(backend="nccl", device_id=device)
    code = Path(__file__).read_text(encoding="utf-8")
    logfile = f"logs/{args.run_id}.txt"

    def log0(msg):
        if rank == 0:
            print(msg)
            with open(logfile, "a", encoding="utf-8") as f:
                print(msg, file=f)

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    sp = spm.SentencePieceProcessor(model_file=args.tokenizer_path)
    byte_lut = torch.tensor([len(sp.id_to_piece(i).replace("\\u2581", " ").encode()) for i in range(sp.vocab_size())], device=device)
    val_tokens = load_validation_tokens(args.val_files, args.seq_len)
    log0(f"val_loader:shards pattern={args.val_files} tokens:{val_tokens.numel() - 1}")
    model = GPT().to(device)
    ema_state = {k: v.detach().float().clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), fused=True)
    stream = TokenStream(args.train_files)
    t0 = time.perf_counter()
#BEFORE_TRAIN
    for step in range(args.iterations + 1):
        elapsed = time.perf_counter() - t0
        last = step == args.iterations or elapsed > args.max_wallclock_seconds
        if last or step % 1000 == 0:
            val_loss, val_bpb = eval_val(args, model, val_tokens, byte_lut, device)
            log0(f"step:{step}/{args.iterations} val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} train_time:{1000 * elapsed:.0f}ms")
        if last:
            break
        local = stream.take(args.batch_tokens + 1).to(device=device, dtype=torch.int64)
        x, y = local[:-1].view(-1, args.seq_len), local[1:].view(-1, args.seq_len)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(x, y)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for k, v in model.state_dict().items():
                ema_state[k].lerp_(v.float(), 0.003)
#AFTER_TRAIN
    model.load_state_dict(ema_state, strict=True)
#BEFORE_PACK
    quant = quantize_state_dict(model.state_dict())
    buf = io.BytesIO()
    torch.save(quant, buf)
    blob = lzma.compress(buf.getvalue(), preset=9)
    if rank == 0:
        with open("final_model.int6.ptz", "wb") as f:
            f.write(blob)
        log0(f"Serialized model int6+lzma: {len(blob)} bytes")
        log0(f"Code size: {len(code.encode())} bytes")
        log0(f"Total submission size int6+lzma: {len(blob) + len(code.encode())} bytes")
#AFTER_PACK
    if world_size > 1:
        dist.barrier()
    with open("final_model.int6.ptz", "rb") as f:
        state = torch.load(io.BytesIO(lzma.decompress(f.read())), map_location="cpu", weights_only=True)
    model.load_state_dict(dequantize_state_dict(state), strict=True)
#BEFORE_EVAL
    val_loss, val_bpb = eval_val(args, model, val_tokens, byte_lut, device)
    log0(f"final_int6_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")
#AFTER_EVAL
    if world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
"""

CARD = {
    "author": "Jo Doe",
    "github_id": "jodoe",
    "name": "SP8192 int6 EMA",
    "blurb": "Eleven layers, EMA, int6.",
    "date": "2026-04-11",
    "track": "10min_16mb",
}
SMALL = "import torch\n\n\ndef main():\n    print('train', torch.__version__)\n\n\nif __name__ == '__main__':\n    main()\n"
_UNINDENTED = ("IMPORTS", "DEFS", "EVALS")


def base(changes: Sequence[tuple[str, str]] = (), **slots: str) -> str:
    """The script with texts changed and slots filled: IMPORTS, HYPER, DEFS, EVALS, BEFORE_TRAIN, AFTER_TRAIN,
    BEFORE_PACK, AFTER_PACK, BEFORE_EVAL, AFTER_EVAL."""
    text = BASE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    for name, filling in slots.items():
        assert f"#{name}\n" in text, name
        lines = textwrap.dedent(filling).strip("\n")
        text = text.replace(f"#{name}\n", textwrap.indent(lines, "" if name in _UNINDENTED else "    ") + "\n")
    return re.sub(r"^#[A-Z_]+\n", "", text, flags=re.M)


def run_log(
    bpb: float = 1.0812, seed: int = 42, *, model: int = 15_880_000, code: int = 20_000, tokens: int = TOKENS,
    ratio: float | None = None, train: str = "596012", final: str = "final_int6_roundtrip", ev: int = 7421, more: str = "",
) -> str:  # fmt: skip
    """A log of that script."""
    ratio = WHOLE / tokens if ratio is None else ratio
    lines = [
        "Running Python 3.12.3 on 8xH100",
        f"seed:{seed}",
        f"val_loader:shards pattern=./data/datasets/fineweb10B_sp8192/fineweb_val_*.bin tokens:{tokens}",
        "model_params:35944536",
        "world_size:8 grad_accum_steps:1",
    ]
    for step, loss in ((0, 3.4), (1000, bpb + 0.2), (2000, bpb + 0.1), (3000, bpb + 0.04)):
        said = f"val_loss:{nats(loss, ratio):.4f} val_bpb:{loss:.4f} train_time:{step * 120}ms"
        lines.append(f"step:{step}/20000 {said} step_avg:120.00ms")
    before = bpb - 0.0098
    lines += [
        f"step:4900/20000 val_loss:{nats(before, ratio):.4f} val_bpb:{before:.4f} train_time:{train}ms step_avg:120.00ms",
        f"stopping_early: wallclock_cap train_time:{train}ms step:4900/20000",
        "peak memory allocated: 20596 MiB reserved: 20652 MiB",
        "ema:applying EMA weights",
        f"Serialized model int6+lzma: {model} bytes",
        f"Code size: {code} bytes",
        f"Total submission size int6+lzma: {model + code} bytes",
    ]
    lines += [more] if more else []
    lines.append(f"{final} val_loss:{nats(bpb, ratio):.4f} val_bpb:{bpb:.4f} eval_time:{ev}ms")
    lines.append(f"{final}_exact val_loss:{nats(bpb, ratio):.8f} val_bpb:{bpb:.8f}")
    return "\n".join(lines) + "\n"


class Batch(dict[str, Case]):
    """Cases by name, each beside that script and log unless it brings its own."""

    def case(
        self,
        name: str,
        verdict: str,
        rule: str,
        *,
        script: str | bytes | None = None,
        js: Mapping[str, Any] | None = None,
        drop: Sequence[str] = (),
        card: str | bytes | None = None,
        readme: str | bytes | None = None,
        logs: Mapping[str, str | bytes] | None = None,
        files: Mapping[str, str | bytes | None] | None = None,
        req: str | None = None,
        bpb: float = 1.0812,
    ) -> None:
        """One more. `js`: fields of submission.json beside the usual ones, without those of `drop`; `card`: all of it."""
        fields = {key: value for key, value in {**CARD, "val_bpb": bpb, **(js or {})}.items() if key not in drop}
        there: dict[str, str | bytes | None] = {
            "submission.json": json.dumps(fields, indent=2) if card is None else card,
            "README.md": f"# SP8192 int6 EMA\n\nval_bpb **{bpb}**, 8xH100, 600 s.\n" if readme is None else readme,
            "train.log": None,
            **({"train.log": run_log(bpb)} if logs is None else logs),
            **({"requirements.txt": req} if req else {}),
            **(files or {}),
        }
        assert name not in self, name
        self[name] = Case(rule, verdict, base() if script is None else script, files=there)
