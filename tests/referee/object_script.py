# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""A program of classes with names of its own, with slots for what a folder is about, and its log and README.

Standard library only.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from .folder_case import RATIO, TOKENS, Case, nats

SLOTS = {
    "imports": "",
    "cfg": "",
    "helpers": "",
    "mixer": """
class Mixer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, h):
        b, t, c = h.shape
        q, k, v = self.qkv(h).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(z.transpose(1, 2).reshape(b, t, c))
""",
    "blockextra": "",
    "loop": """
    def fit(self):
        began = time.perf_counter()
        step = 0
        while time.perf_counter() - began < self.cfg.budget_s:
            ctx, nxt = self.stream.batch(self.cfg.rows, self.cfg.span)
            cost = self.net(ctx, nxt)
            cost.backward()
            self.opt.step()
            self.opt.zero_grad(set_to_none=True)
            step += 1
            if step % 500 == 0:
                print(f"{step} train_loss: {cost.item():.4f} train_time: {time.perf_counter() - began:.1f}s")
""",
    "aftertrain": "",
    "pack": """
def freeze(net, target):
    packed = {}
    for key, w in net.state_dict().items():
        if w.ndim < 2:
            packed[key] = w.half()
            continue
        step = w.abs().amax(1, keepdim=True).clamp_min(1e-8) / 31
        packed[key + ".q"] = torch.round(w / step).to(torch.int8)
        packed[key + ".s"] = step.half()
    buf = io.BytesIO()
    torch.save(packed, buf)
    Path(target).write_bytes(lzma.compress(buf.getvalue()))
    return Path(target).stat().st_size
""",
    "thaw": """
def thaw(net, source):
    raw = torch.load(io.BytesIO(lzma.decompress(Path(source).read_bytes())), weights_only=True)
    full = {}
    for key, w in raw.items():
        if key.endswith(".s"):
            continue
        full[key.removesuffix(".q")] = w.float() * raw[key[:-2] + ".s"].float() if key.endswith(".q") else w.float()
    net.load_state_dict(full)
""",
    "evaluate": """
class Judge:
    def __init__(self, cfg, device):
        self.cfg = cfg
        self.tokens = torch.cat([read_shard(p) for p in sorted(glob.glob(cfg.val_glob))]).to(device)
        self.width = piece_bytes(cfg.spm).to(device)

    @torch.inference_mode()
    def run(self, net):
        net.eval()
        span = self.cfg.span
        count = (len(self.tokens) - 1) // span
        nll = torch.zeros((), dtype=torch.float64, device=self.tokens.device)
        octets = torch.zeros((), dtype=torch.float64, device=self.tokens.device)
        seen = 0
        for i in range(count):
            piece = self.tokens[i * span : (i + 1) * span + 1].long()
            ctx, nxt = piece[:-1][None], piece[1:][None]
            per = F.cross_entropy(net.logits(ctx).flatten(0, 1).float(), nxt.flatten(), reduction="none")
            nll += per.double().sum()
            octets += self.width[nxt].double().sum()
            seen += nxt.numel()
        net.train()
        return (nll / seen).item(), (nll / LN2 / octets).item()
""",
    "main": """
def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    net = Net(cfg).to(device)
    judge = Judge(cfg, device)
    Trainer(cfg, net, ShardStream(cfg, device)).fit()
    loss, bpb = judge.run(net)
    print(f"final step val_loss: {loss:.4f} val_bpb: {bpb:.4f}")
{aftertrain}
    size = freeze(net, "final_model.int6.xz")
    code = len(Path(__file__).read_bytes())
    print(f"Serialized model: {{size}} bytes")
    print(f"Code size: {{code}} bytes")
    print(f"Total submission size: {{size + code}} bytes")
    clean = Net(cfg).to(device)
    thaw(clean, "final_model.int6.xz")
{beforeeval}
    t0 = time.perf_counter()
    loss, bpb = judge.run(clean)
    print(f"quantized val_loss: {{loss:.8f}} val_bpb: {{bpb:.8f}} eval_time: {{time.perf_counter() - t0:.1f}}s")
""",
    "beforeeval": "",
    "tail": "",
    "netlogits": """
    def logits(self, ids):
        h = self.table(ids)
        for block in self.blocks:
            h = block(h)
        return 30 * torch.tanh(F.linear(F.rms_norm(h, (h.size(-1),)), self.table.weight) / 30)

    def forward(self, ids, nxt):
        return F.cross_entropy(self.logits(ids).flatten(0, 1).float(), nxt.flatten())
""",
    "stream": """
class ShardStream:
    def __init__(self, cfg, device):
        self.files = sorted(glob.glob(cfg.train_glob))
        self.device = device
        self.turn = 0
        self.at = 0
        self.shard = read_shard(self.files[0])

    def batch(self, rows, span):
        need = rows * span + 1
        if self.at + need > len(self.shard):
            self.turn = (self.turn + 1) % len(self.files)
            self.shard = read_shard(self.files[self.turn])
            self.at = 0
        cut = self.shard[self.at : self.at + need].long().to(self.device)
        self.at += need - 1
        return cut[:-1].view(rows, span), cut[1:].view(rows, span)
""",
}


def objects(**slots: str) -> str:
    """The program, with some slots filled in otherwise."""
    s = {**SLOTS, **slots}
    main = (
        s["main"]
        .replace("{{", "\x01")
        .replace("}}", "\x02")
        .replace("{aftertrain}", s["aftertrain"])
        .replace("{beforeeval}", s["beforeeval"])
        .replace("\x01", "{")
        .replace("\x02", "}")
    )
    return f"""import glob
import io
import lzma
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn as nn
import torch.nn.functional as F
{s["imports"]}
LN2 = math.log(2.0)


@dataclass
class Config:
    root: str = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp8192")
    spm: str = os.environ.get("TOKENIZER_PATH", "./data/tokenizers/fineweb_8192_bpe.model")
    seed: int = int(os.environ.get("SEED", "42"))
    vocab: int = 8192
    width: int = 512
    depth: int = 11
    heads: int = 8
    rows: int = 32
    span: int = 2048
    budget_s: float = 588.0
{s["cfg"]}
    @property
    def train_glob(self):
        return f"{{self.root}}/fineweb_train_*.bin"

    @property
    def val_glob(self):
        return f"{{self.root}}/fineweb_val_*.bin"


def read_shard(path):
    head = np.fromfile(path, dtype="<i4", count=256)
    return torch.from_numpy(np.fromfile(path, dtype="<u2", count=int(head[2]), offset=1024).astype(np.int32))


def piece_bytes(model):
    sp = sentencepiece.SentencePieceProcessor(model_file=model)
    sizes = []
    for i in range(sp.vocab_size()):
        if sp.is_control(i) or sp.is_unknown(i):
            sizes.append(0)
        elif sp.is_byte(i):
            sizes.append(1)
        else:
            sizes.append(len(sp.id_to_piece(i).replace("\\u2581", " ").encode()))
    return torch.tensor(sizes, dtype=torch.float64)

{s["stream"]}
{s["helpers"]}
{s["mixer"]}

class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.mix = Mixer(cfg.width, cfg.heads)
        self.up = nn.Linear(cfg.width, 4 * cfg.width, bias=False)
        self.down = nn.Linear(4 * cfg.width, cfg.width, bias=False)

    def forward(self, h):
        h = h + self.mix(F.rms_norm(h, (h.size(-1),)))
        {s["blockextra"]}
        return h + self.down(F.leaky_relu(self.up(F.rms_norm(h, (h.size(-1),))), 0.5).square())


class Net(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.table = nn.Embedding(cfg.vocab, cfg.width)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.depth))
{s["netlogits"]}

class Trainer:
    def __init__(self, cfg, net, stream):
        self.cfg, self.net, self.stream = cfg, net, stream
        self.opt = torch.optim.AdamW(net.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
{s["loop"]}
{s["pack"]}
{s["thaw"]}
{s["evaluate"]}
{main}
{s["tail"]}
if __name__ == "__main__":
    main()
"""


def run_of(
    bpb: float = 1.0812,
    seed: int = 42,
    total: int = 15_900_000,
    code: int = 20_000,
    *,
    train_ms: int = 580_000,
    extra: str = "",
) -> str:
    """A log of it; losses in training are the seed's own."""
    rnd = random.Random(seed * 7919 + int(bpb * 1e6))
    lines = [f"seed: {seed}", "world_size: 8", f"val_tokens: {TOKENS}", "train_shards: 80"]
    for i in range(1, 9):
        loss = 3.0 + 6 / (1 + i) + rnd.random() * 0.05
        lines.append(
            f"{i * 500}/4000 train_loss: {loss:.4f} train_time: {i * 72.4:.1f}s tok/s: {rnd.randint(7_800_000, 8_100_000)}"
        )
    lines += [f"4000/4000 val_loss: {nats(bpb - 0.011):.4f} val_bpb: {bpb - 0.011:.4f}", f"train_time: {train_ms}ms"]
    lines += [extra] if extra else []
    lines += [
        f"Serialized model quantized+brotli: {total - code} bytes",
        f"Code size: {code} bytes",
        f"Total submission size quantized+brotli: {total} bytes",
        f"quantized val_loss:{nats(bpb, RATIO):.8f} val_bpb:{bpb:.8f} eval_time:91000ms",
    ]
    return "\n".join(lines) + "\n"


class Folders(dict[str, Case]):
    """Cases by name."""

    def folder(
        self,
        name: str,
        verdict: str,
        rule: str,
        *,
        script: str | None = None,
        logs: Mapping[str, str] | None = None,
        js: Mapping[str, Any] | None = None,
        rm: str | None = None,
        files: Mapping[str, str] | None = None,
        req: str | None = None,
        bpb: float = 1.0812,
    ) -> None:
        """One more. `js`: fields of submission.json; `rm`: the README; `req`: requirements.txt. Logs count the code."""
        script = objects() if script is None else script
        n = len(script.encode()) + sum(
            len(t.encode()) for f, t in (files or {}).items() if f.endswith((".json", ".py"))
        )
        counted = {
            file: text.replace("Code size: 20000", f"Code size: {n}").replace(
                "brotli: 15900000", f"brotli: {15_880_000 + n}"
            )
            for file, text in (logs or {"train.log": run_of(bpb)}).items()
        }
        there: dict[str, str | bytes | None] = {
            "README.md": f"# Deep-thin transformer, int6 rows\n\n**val_bpb {bpb:.4f}** (8xH100 SXM).\n"
            if rm is None
            else rm,
            "train.log": None,
            **counted,
            **({"requirements.txt": req} if req else {}),
            **(files or {}),
        }
        assert name not in self, name
        self[name] = Case(rule, verdict, script, {**(js or {}), "val_bpb": bpb}, there)

    def fetching(
        self, name: str, verdict: str, rule: str, lines: str, imports: str = "", req: str | None = None
    ) -> None:
        """One whose program does something between packing and evaluation."""
        before = "".join(f"    {line}\n" for line in lines.strip("\n").split("\n"))
        self.folder(name, verdict, rule, script=objects(imports=imports, beforeeval=before), req=req)
