# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""A training program of plain functions, as a stranger writes it, and how a place of a program is changed.

Standard library only.
"""

from __future__ import annotations

from .hand_files import FILES


def changed(program: str, *pairs: tuple[str, str]) -> str:
    """A program with places of it written otherwise; each stands in it once."""
    for old, new in pairs:
        assert program.count(old) == 1, (program.count(old), old)
        program = program.replace(old, new)
    return program


def files_changed(*triples: tuple[str, str, str]) -> dict[str, str]:
    """The files of the program of several ones, with places of them written otherwise."""
    files = dict(FILES)
    for name, old, new in triples:
        files[name] = changed(files[name], (old, new))
    return files


PLAIN = r'''
"""Trains a 9-layer byte-pair GPT for ten minutes, packs it to int8 + zlib and scores the packed file."""
from __future__ import annotations

import copy
import glob
import io
import math
import os
import random
import time
import zlib
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class Hyperparameters:
    data_path = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp8192")
    train_files = os.path.join(data_path, "fineweb_train_*.bin")
    val_files = os.path.join(data_path, "fineweb_val_*.bin")
    tokenizer_path = os.environ.get("TOKENIZER_PATH", "./data/tokenizers/fineweb_8192_bpe.model")
    seed = int(os.environ.get("SEED", 42))
    iterations = int(os.environ.get("ITERATIONS", 20000))
    warmup_steps = 20
    seq_len = 1024
    batch_tokens = 524288
    max_wallclock_seconds = 598.0
    vocab_size = 8192
    dim = 512
    layers = 9
    heads = 8
    lr = 0.02


def load_data_shard(file: Path) -> Tensor:
    header = np.fromfile(file, dtype="<i4", count=256)
    if header.size != 256 or int(header[0]) != 20240520:
        raise ValueError(f"unexpected header in {file}")
    tokens = np.fromfile(file, dtype="<u2", count=int(header[2]), offset=1024)
    return torch.from_numpy(tokens.astype(np.int64))


class TokenStream:
    def __init__(self, pattern: str):
        self.files = [Path(p) for p in sorted(glob.glob(pattern))]
        self.at, self.pos = 0, 0
        self.tokens = load_data_shard(self.files[0])

    def take(self, n: int) -> Tensor:
        if self.pos + n > self.tokens.numel():
            self.at = (self.at + 1) % len(self.files)
            self.tokens = load_data_shard(self.files[self.at])
            self.pos = 0
        self.pos += n
        return self.tokens[self.pos - n : self.pos]


def load_validation_tokens(pattern: str, seq_len: int) -> Tensor:
    tokens = torch.cat([load_data_shard(Path(p)) for p in sorted(glob.glob(pattern))])
    usable = (tokens.numel() - 1) // seq_len * seq_len
    return tokens[: usable + 1]


def build_luts(sp, vocab_size, device):
    base = np.zeros(vocab_size, dtype=np.int16)
    leading = np.zeros(vocab_size, dtype=np.bool_)
    boundary = np.ones(vocab_size, dtype=np.bool_)
    for i in range(sp.vocab_size()):
        if sp.is_control(i) or sp.is_unknown(i) or sp.is_unused(i):
            continue
        boundary[i] = False
        if sp.is_byte(i):
            base[i] = 1
            continue
        piece = sp.id_to_piece(i)
        if piece.startswith("\u2581"):
            leading[i] = True
            piece = piece[1:]
        base[i] = len(piece.encode("utf-8"))
    return tuple(torch.tensor(t, device=device) for t in (base, leading, boundary))


class RMSNorm(nn.Module):
    def forward(self, x):
        return F.rms_norm(x, (x.size(-1),))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(b, t, d))


class MLP(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, 4 * dim, bias=False)
        self.proj = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x):
        return self.proj(F.relu(self.fc(x)).square())


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm = RMSNorm()
        self.attn = Attention(dim, heads)
        self.mlp = MLP(dim)

    def forward(self, x):
        x = x + self.attn(self.norm(x))
        return x + self.mlp(self.norm(x))


class GPT(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.tok_emb = nn.Embedding(args.vocab_size, args.dim)
        self.blocks = nn.ModuleList([Block(args.dim, args.heads) for _ in range(args.layers)])
        self.norm = RMSNorm()

    def logits(self, ids):
        x = self.norm(self.tok_emb(ids))
        for block in self.blocks:
            x = block(x)
        return 30.0 * torch.tanh(F.linear(self.norm(x), self.tok_emb.weight) / 30.0)

    def forward(self, ids, targets):
        z = self.logits(ids).float()
        return F.cross_entropy(z.view(-1, z.size(-1)), targets.reshape(-1))


def eval_val(args, model, val_tokens, luts, device):
    base, leading, boundary = luts
    total = torch.zeros((), device=device, dtype=torch.float64)
    count = torch.zeros((), device=device, dtype=torch.float64)
    nbytes = torch.zeros((), device=device, dtype=torch.float64)
    model.eval()
    with torch.inference_mode():
        for at in range(0, val_tokens.numel() - 1, 64 * args.seq_len):
            local = val_tokens[at : at + 64 * args.seq_len + 1].to(device)
            x = local[:-1].reshape(-1, args.seq_len)
            y = local[1:].reshape(-1, args.seq_len)
            loss = model(x, y).double()
            total += loss * y.numel()
            count += y.numel()
            tb = base[y].double() + (leading[y] & ~boundary[x]).double()
            nbytes += tb.sum()
    model.train()
    val_loss = (total / count).item()
    return val_loss, val_loss / math.log(2.0) * (count / nbytes).item()


def quantize_state_dict_int8(state):
    out = {}
    for name, w in state.items():
        if w.ndim == 2 and w.numel() > 65536:
            scale = w.float().abs().amax(1, keepdim=True).clamp_min(1e-8) / 127.0
            out[name] = {"q": torch.round(w.float() / scale).to(torch.int8), "scale": scale.half()}
        else:
            out[name] = {"raw": w.half()}
    return out


def dequantize_state_dict_int8(packed):
    return {n: (p["raw"].float() if "raw" in p else p["q"].float() * p["scale"].float()) for n, p in packed.items()}


def main():
    args = Hyperparameters()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    sp = spm.SentencePieceProcessor(model_file=args.tokenizer_path)
    luts = build_luts(sp, args.vocab_size, device)
    val_tokens = load_validation_tokens(args.val_files, args.seq_len)
    model = GPT(args).to(device)
    opt = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.95))
    stream = TokenStream(args.train_files)
    print(f"seed: {args.seed}")
    print(f"val_tokens: {val_tokens.numel() - 1}")
    t0 = time.perf_counter()
    for step in range(args.iterations):
        local = stream.take(args.batch_tokens + 1).to(device)
        x, y = local[:-1].view(-1, args.seq_len), local[1:].view(-1, args.seq_len)
        loss = model(x, y)
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
        if step % 1000 == 0:
            val_loss, val_bpb = eval_val(args, model, val_tokens, luts, device)
            print(f"step:{step}/{args.iterations} val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f}")
        if time.perf_counter() - t0 > args.max_wallclock_seconds:
            break
    print(f"train_time: {1000 * (time.perf_counter() - t0):.0f}ms")
    # PACK
    buffer = io.BytesIO()
    torch.save(quantize_state_dict_int8(model.state_dict()), buffer)
    blob = zlib.compress(buffer.getvalue(), 9)
    Path("final_model.int8.ptz").write_bytes(blob)
    code = len(Path(__file__).read_bytes())
    print(f"Serialized model int8+zlib: {len(blob)} bytes")
    print(f"Code size: {code} bytes")
    print(f"Total submission size int8+zlib: {len(blob) + code} bytes")
    # READ BACK
    stored = torch.load(io.BytesIO(zlib.decompress(Path("final_model.int8.ptz").read_bytes())), weights_only=True)
    model.load_state_dict(dequantize_state_dict_int8(stored), strict=True)
    # SCORE
    t1 = time.perf_counter()
    val_loss, val_bpb = eval_val(args, model, val_tokens, luts, device)
    print(f"final_int8_zlib_roundtrip val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f} eval_time:{1000 * (time.perf_counter() - t1):.0f}ms")


if __name__ == "__main__":
    main()
'''
