# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""A training program of data classes and objects.

Standard library only.
"""

from __future__ import annotations

OBJECTS = r'''
import dataclasses
import lzma
import math
import os
import pathlib
import time
import typing as tp

import numpy as np
import sentencepiece
import torch
from torch import nn
from torch.nn import functional as fn


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    vocab: int = 8192
    width: int = 448
    depth: int = 11
    n_head: int = 7
    context: int = 2048
    cap: float = 15.0


@dataclasses.dataclass
class RunConfig:
    root: pathlib.Path = pathlib.Path(os.getenv("DATA_ROOT", "data/datasets/fineweb10B_sp8192"))
    spm_file: str = "data/tokenizers/fineweb_8192_bpe.model"
    out: pathlib.Path = pathlib.Path("model.int6.xz")
    minutes: float = 9.9
    seed: int = dataclasses.field(default_factory=lambda: int(os.getenv("SEED", "1337")))
    rows_per_step: int = 192
    peak_lr: float = 8e-4
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)


def read_shard(path):
    raw = np.memmap(path, dtype=np.uint16, mode="r", offset=1024)
    return torch.from_numpy(raw.astype(np.int64))


class Corpus:
    """Endless batches of the training shards."""

    def __init__(self, cfg: RunConfig):
        self.cfg = cfg
        self.shards = sorted(cfg.root.glob("fineweb_train_*.bin"))
        self.rng = np.random.default_rng(cfg.seed)

    def __iter__(self) -> tp.Iterator[tuple[torch.Tensor, torch.Tensor]]:
        t = self.cfg.model.context
        while True:
            shard = read_shard(self.shards[self.rng.integers(len(self.shards))])
            for row in range(0, len(shard) - self.cfg.rows_per_step * t - 1, self.cfg.rows_per_step * t):
                piece = shard[row : row + self.cfg.rows_per_step * t + 1].cuda()
                yield piece[:-1].view(-1, t), piece[1:].view(-1, t)


class HeldOut:
    """The validation text and how many bytes each of its tokens stands for."""

    def __init__(self, cfg: RunConfig):
        self.ids = torch.cat([read_shard(p) for p in sorted(cfg.root.glob("fineweb_val_*.bin"))])
        sp = sentencepiece.SentencePieceProcessor(model_file=cfg.spm_file)
        sizes, spaced, edge = [], [], []
        for i in range(sp.vocab_size()):
            special = sp.is_control(i) or sp.is_unknown(i)
            text = sp.id_to_piece(i)
            sizes.append(0 if special else 1 if sp.is_byte(i) else len(text.removeprefix("\u2581").encode()))
            spaced.append(not special and not sp.is_byte(i) and text.startswith("\u2581"))
            edge.append(special)
        self.sizes, self.spaced, self.edge = torch.tensor(sizes), torch.tensor(spaced), torch.tensor(edge)

    def bytes_of(self, before, target):
        return self.sizes[target] + (self.spaced[target] & ~self.edge[before])


class SelfAttention(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.n_head = c.n_head
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(c.width, c.width, bias=False) for _ in range(4))
        self.register_buffer("tri", torch.ones(c.context, c.context, dtype=torch.bool).tril(), persistent=False)

    def forward(self, h):
        n, t, w = h.shape
        split = lambda y: y.view(n, t, self.n_head, w // self.n_head).transpose(1, 2)
        q, k, v = split(self.wq(h)), split(self.wk(h)), split(self.wv(h))
        score = q @ k.transpose(-2, -1) / math.sqrt(w // self.n_head)
        score = score.masked_fill(~self.tri[:t, :t], float("-inf"))
        return self.wo((score.softmax(-1) @ v).transpose(1, 2).reshape(n, t, w))


class Layer(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(c.width), nn.RMSNorm(c.width)
        self.mix = SelfAttention(c)
        self.up, self.down = nn.Linear(c.width, 3 * c.width, bias=False), nn.Linear(3 * c.width, c.width, bias=False)

    def forward(self, h):
        h = h + self.mix(self.n1(h))
        return h + self.down(fn.gelu(self.up(self.n2(h))))


class Net(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.c = c
        self.emb = nn.Embedding(c.vocab, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.depth))
        self.last = nn.RMSNorm(c.width)
        self.head = nn.Linear(c.width, c.vocab, bias=False)

    def forward(self, ids):
        h = self.emb(ids)
        for layer in self.layers:
            h = layer(h)
        return self.c.cap * torch.tanh(self.head(self.last(h)).float() / self.c.cap)

    def nll(self, ids, targets):
        return fn.cross_entropy(self(ids).flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


class Trainer:
    def __init__(self, cfg: RunConfig, net: Net):
        self.cfg, self.net = cfg, net
        self.opt = torch.optim.Adam(net.parameters(), lr=cfg.peak_lr, betas=(0.9, 0.95), fused=True)
        self.begun = time.monotonic()

    @property
    def progress(self):
        return (time.monotonic() - self.begun) / (60 * self.cfg.minutes)

    def fit(self, batches):
        for step, (x, y) in enumerate(batches):
            if self.progress >= 1:
                break
            for group in self.opt.param_groups:
                group["lr"] = self.cfg.peak_lr * min(1.0, 3 * (1 - self.progress))
            loss = self.net.nll(x, y).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.opt.step()
            self.opt.zero_grad()
            if step % 100 == 0:
                print(f"step {step} train_loss {loss.item():.4f}")
        print(f"train_time: {1000 * (time.monotonic() - self.begun):.0f}ms")


class Packer:
    LEVELS = 31

    @classmethod
    def write(cls, net, path):
        parts = []
        for name, w in net.state_dict().items():
            w = w.float().cpu()
            step = (w.abs().amax(-1, keepdim=True) / cls.LEVELS).clamp_min(1e-9) if w.ndim > 1 else w.abs().max() / cls.LEVELS + 1e-9
            parts.append(np.ascontiguousarray(step.half().numpy()).tobytes())
            parts.append((w / step.half().float()).round().to(torch.int8).numpy().tobytes())
        path.write_bytes(lzma.compress(b"".join(parts), preset=9))
        return path.stat().st_size

    @classmethod
    def read(cls, net, path):
        raw, at, state = lzma.decompress(path.read_bytes()), 0, {}
        for name, w in net.state_dict().items():
            rows = w.shape[0] if w.ndim > 1 else 1
            step = np.frombuffer(raw, np.float16, rows, at).astype(np.float32)
            at += 2 * rows
            q = np.frombuffer(raw, np.int8, w.numel(), at).reshape(w.shape).astype(np.float32)
            at += w.numel()
            state[name] = torch.from_numpy(q * step.reshape(-1, *[1] * (w.ndim - 1)) if w.ndim > 1 else q * step)
        return state


class Scorer:
    def __init__(self, cfg, held_out):
        self.cfg, self.text = cfg, held_out

    @torch.no_grad()
    def __call__(self, net):
        net.eval()
        t, ids = self.cfg.model.context, self.text.ids
        nats = n_tok = n_byte = 0.0
        for a in range(0, len(ids) - 1, t):
            x, y = ids[a : a + t][: len(ids) - 1 - a], ids[a + 1 : a + t + 1]
            nll = net.nll(x[None].cuda(), y[None].cuda())
            nats += nll.double().sum().item()
            n_tok += y.numel()
            n_byte += self.text.bytes_of(x, y).sum().item()
        net.train()
        return nats / n_tok, nats / math.log(2) / n_byte


def run(cfg: RunConfig):
    torch.manual_seed(cfg.seed)
    print(f"seed: {cfg.seed}")
    net = Net(cfg.model).cuda()
    held_out = HeldOut(cfg)
    print(f"val_tokens: {len(held_out.ids) - 1}")
    Trainer(cfg, net).fit(Corpus(cfg))
    # PACK
    size = Packer.write(net, cfg.out)
    code = pathlib.Path(__file__).stat().st_size
    print(f"Serialized model int6+xz: {size} bytes\nCode size: {code} bytes\nTotal submission size int6+xz: {size + code} bytes")
    # READ BACK
    fresh = Net(cfg.model).cuda()
    fresh.load_state_dict(Packer.read(fresh, cfg.out))
    # SCORE
    begun = time.monotonic()
    loss, bpb = Scorer(cfg, held_out)(fresh)
    print(f"final_int6_xz val_loss:{loss:.8f} val_bpb:{bpb:.8f} eval_time:{1000 * (time.monotonic() - begun):.0f}ms")


if __name__ == "__main__":
    run(RunConfig())
'''
