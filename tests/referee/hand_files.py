"""A training program of five files.

Standard library only.
"""

from __future__ import annotations

FILES = {
    "train_gpt.py": r'''
"""Entry point: train, export, score. Parts: nets.py, shards.py, export.py, scoring.py."""
import argparse
import logging
import os
import time

import torch

import export
import scoring
from nets import Decoder
from shards import ShardReader

log = logging.getLogger("golf")


def parse():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", default="./data/datasets/fineweb10B_sp8192")
    ap.add_argument("--tokenizer", default="./data/tokenizers/fineweb_8192_bpe.model")
    ap.add_argument("--seed", type=int, default=42)
    ap.add_argument("--budget", type=float, default=590.0)
    ap.add_argument("--lr", type=float, default=6e-4)
    ap.add_argument("--artifact", default="weights.q8.xz")
    return ap.parse_args()


def train(net, reader, opt, budget):
    begun = time.perf_counter()
    step = 0
    while time.perf_counter() - begun < budget:
        inputs, targets = reader.next_batch()
        loss = net.loss(inputs, targets)
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        if step % 250 == 0:
            log.info("step %d train_loss %.4f", step, loss.item())
    log.info("train_time: %dms", 1000 * (time.perf_counter() - begun))
    return net


def main():
    a = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(a.seed)
    log.info("seed: %d", a.seed)
    net = Decoder().cuda()
    opt = torch.optim.AdamW(net.parameters(), lr=a.lr)
    reader = ShardReader(a.data, "train", rows=128, length=1024)
    train(net, reader, opt, a.budget)
    # PACK
    n = export.save(net.state_dict(), a.artifact)
    code = sum(os.path.getsize(f) for f in ("train_gpt.py", "nets.py", "shards.py", "export.py", "scoring.py"))
    log.info("Serialized model q8+xz: %d bytes", n)
    log.info("Code size: %d bytes", code)
    log.info("Total submission size q8+xz: %d bytes", n + code)
    # READ BACK
    judged = Decoder().cuda()
    judged.load_state_dict(export.load(a.artifact))
    # SCORE
    result = scoring.evaluate(judged, a.data, a.tokenizer)
    log.info("final_q8_xz val_loss:%.8f val_bpb:%.8f eval_time:%dms", result.nats, result.bpb, 1000 * result.seconds)


if __name__ == "__main__":
    main()
''',
    "nets.py": r"""
import torch
from torch import nn
from torch.nn import functional as F


class Heads(nn.Module):
    def __init__(self, dim, heads, length):
        super().__init__()
        self.heads = heads
        self.inp, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        mask = torch.full((length, length), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        b, t, d = x.shape
        qkv = self.inp(x).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.unbind(2)
        w = torch.einsum("bqhd,bkhd->bhqk", q, k) * (d // self.heads) ** -0.5
        w = torch.softmax(w + self.mask[:t, :t], dim=-1)
        return self.out(torch.einsum("bhqk,bkhd->bqhd", w, v).reshape(b, t, d))


class Cell(nn.Module):
    def __init__(self, dim, heads, length):
        super().__init__()
        self.pre, self.post = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads = Heads(dim, heads, length)
        self.body = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.heads(self.pre(x))
        return x + self.body(self.post(x))


class Decoder(nn.Module):
    def __init__(self, vocab=8192, dim=512, cells=8, heads=8, length=1024):
        super().__init__()
        self.words = nn.Embedding(vocab, dim)
        self.places = nn.Embedding(length, dim)
        self.cells = nn.Sequential(*[Cell(dim, heads, length) for _ in range(cells)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, ids):
        x = self.words(ids) + self.places.weight[: ids.shape[1]]
        return self.norm(self.cells(x)) @ self.words.weight.T

    def loss(self, ids, targets, reduction="mean"):
        return F.cross_entropy(self(ids).transpose(1, 2).float(), targets, reduction=reduction)
""",
    "shards.py": r"""
import pathlib

import numpy as np
import torch


def read(path):
    with open(path, "rb") as f:
        head = np.frombuffer(f.read(1024), dtype=np.int32)
        body = np.frombuffer(f.read(), dtype=np.uint16, count=int(head[2]))
    return torch.from_numpy(body.astype(np.int64))


def shards(root, split):
    return sorted(pathlib.Path(root).glob(f"fineweb_{split}_*.bin"))


class ShardReader:
    def __init__(self, root, split, rows, length):
        self.files, self.rows, self.length = shards(root, split), rows, length
        self.k, self.at, self.now = 0, 0, read(self.files[0])

    def next_batch(self):
        n = self.rows * self.length
        if self.at + n + 1 > len(self.now):
            self.k, self.at = (self.k + 1) % len(self.files), 0
            self.now = read(self.files[self.k])
        chunk = self.now[self.at : self.at + n + 1].cuda(non_blocking=True)
        self.at += n
        return chunk[:-1].view(self.rows, -1), chunk[1:].view(self.rows, -1)
""",
    "export.py": r"""
import io
import lzma
import os

import torch


def quantize(w):
    if w.ndim < 2:
        return {"f": w.half()}
    s = w.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127
    return {"q": (w / s).round().clamp(-127, 127).to(torch.int8), "s": s.half()}


def restore(entry):
    return entry["f"].float() if "f" in entry else entry["q"].float() * entry["s"].float()


def save(state, path):
    buf = io.BytesIO()
    torch.save({k: quantize(w.detach().cpu().float()) for k, w in state.items()}, buf)
    with open(path, "wb") as f:
        f.write(lzma.compress(buf.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    return os.path.getsize(path)


def load(path):
    with open(path, "rb") as f:
        raw = lzma.decompress(f.read())
    return {k: restore(e) for k, e in torch.load(io.BytesIO(raw), map_location="cuda", weights_only=True).items()}
""",
    "scoring.py": r"""
import math
import time
from typing import NamedTuple

import sentencepiece as spm
import torch

from shards import read, shards


class Result(NamedTuple):
    nats: float
    bpb: float
    seconds: float


def tables(path):
    sp = spm.SentencePieceProcessor(model_file=path)
    size, lead, control = [], [], []
    for i in range(sp.get_piece_size()):
        piece = sp.id_to_piece(i)
        c = sp.is_control(i) or sp.is_unknown(i)
        control.append(c)
        lead.append(piece.startswith("\u2581") and not c)
        size.append(0 if c else 1 if sp.is_byte(i) else len(piece.replace("\u2581", "").encode("utf-8")))
    return torch.tensor(size), torch.tensor(lead), torch.tensor(control)


@torch.no_grad()
def evaluate(net, root, tokenizer, window=1024):
    text = torch.cat([read(p) for p in shards(root, "val")])
    size, lead, control = tables(tokenizer)
    begun = time.perf_counter()
    net.eval()
    nats, n, octets = 0.0, 0, 0
    for start in range(0, len(text) - 1, window):
        target = text[start + 1 : start + 1 + window]
        source = text[start : start + len(target)]
        nats += net.loss(source[None].cuda(), target[None].cuda(), reduction="sum").item()
        n += len(target)
        octets += int((size[target] + (lead[target] & ~control[source])).sum())
    return Result(nats / n, nats / n / math.log(2) * n / octets, time.perf_counter() - begun)
""",
}
