# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""A training program that was exported from a notebook, one of functions of parameters, and a terse one.

Standard library only.
"""

from __future__ import annotations

NOTEBOOK = r"""
#!/usr/bin/env python
# coding: utf-8

# # Parameter golf, tiny recurrent GPT
#
# Exported from `golf.ipynb`.

# In[1]:


import os, sys, glob, math, time, io, zlib
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import sentencepiece as spm

device = 'cuda' if torch.cuda.is_available() else 'cpu'
SEED = int(os.environ.get('SEED', 42))
torch.manual_seed(SEED);
print(f'seed: {SEED}')


# ### Data

# In[2]:


DATA = os.environ.get('DATA_PATH', './data/datasets/fineweb10B_sp8192')

def shard(fname):
    with open(fname, 'rb') as f:
        f.seek(1024)
        return torch.from_numpy(np.frombuffer(f.read(), dtype=np.uint16).astype(np.int64))

train_files = sorted(glob.glob(DATA + '/fineweb_train_*.bin'))
val = torch.cat([shard(f) for f in sorted(glob.glob(DATA + '/fineweb_val_*.bin'))])
print(f'val_tokens: {len(val) - 1}')

T, B, D, V, H = 1024, 128, 640, 8192, 10


# In[3]:


def batches():
    for f in train_files * 10:
        s = shard(f)
        for i in range(0, len(s) - B * T - 1, B * T):
            yield s[i:i + B * T].view(B, T).to(device), s[i + 1:i + 1 + B * T].view(B, T).to(device)


# ### Model

# In[4]:


class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(D, 3 * D, bias=False)
        self.o = nn.Linear(D, D, bias=False)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = [z.view(b, t, H, D // H).transpose(1, 2) for z in self.a(x).split(D, -1)]
        return self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, D))


class Tiny(nn.Module):
    def __init__(self, loops=4):
        super().__init__()
        self.e = nn.Embedding(V, D)
        self.mix = nn.ModuleList([Mix() for _ in range(3)])
        self.ff = nn.ModuleList([nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D)) for _ in range(3)])
        self.n = nn.LayerNorm(D)
        self.loops = loops

    def forward(self, idx):
        x = self.e(idx)
        for _ in range(self.loops):
            for m, f in zip(self.mix, self.ff):
                x = x + m(self.n(x))
                x = x + f(self.n(x))
        return self.n(x) @ self.e.weight.t()


net = Tiny().to(device)
print(sum(p.numel() for p in net.parameters()), 'parameters')


# ### Train

# In[5]:


opt = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=.1)
t0 = time.time()
for step, (x, y) in enumerate(batches()):
    opt.zero_grad()
    loss = F.cross_entropy(net(x).view(-1, V), y.view(-1))
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f'step {step} train_loss {loss.item():.4f}')
    if time.time() - t0 > 590:
        break
print(f'train_time: {(time.time() - t0) * 1000:.0f}ms')


# ### Pack

# In[6]:


sd = {}
for k, w in net.state_dict().items():
    s = w.abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127 if w.ndim == 2 else None
    sd[k] = w.half().cpu() if s is None else ((w / s).round().to(torch.int8).cpu(), s.half().cpu())
buf = io.BytesIO()
torch.save(sd, buf)
blob = zlib.compress(buf.getvalue(), 9)
open('golf.int8.zz', 'wb').write(blob)
code = os.path.getsize(__file__)
print(f'Serialized model int8+zlib: {len(blob)} bytes')
print(f'Code size: {code} bytes')
print(f'Total submission size int8+zlib: {len(blob) + code} bytes')


# ### Unpack

# In[7]:


back = torch.load(io.BytesIO(zlib.decompress(open('golf.int8.zz', 'rb').read())), weights_only=True)
net.load_state_dict({k: w.float() if torch.is_tensor(w) else w[0].float() * w[1].float() for k, w in back.items()})


# ### Evaluate

# In[8]:


sp = spm.SentencePieceProcessor(model_file='./data/tokenizers/fineweb_8192_bpe.model')
pieces = [sp.id_to_piece(i) for i in range(V)]
ctrl = torch.tensor([sp.is_control(i) or sp.is_unknown(i) for i in range(V)])
nb = torch.tensor([0 if c else 1 if sp.is_byte(i) else len(p.lstrip('\u2581').encode('utf-8')) for i, (p, c) in enumerate(zip(pieces, ctrl.tolist()))])
sp_lead = torch.tensor([p.startswith('\u2581') for p in pieces])


# In[9]:


net.eval()
t1 = time.time()
tot, cnt, byt = 0.0, 0, 0
with torch.no_grad():
    for i in range(0, len(val) - 1, T):
        x, y = val[i:i + T], val[i + 1:i + 1 + T]
        x = x[:len(y)]
        z = net(x[None].to(device))[0].float()
        tot += F.cross_entropy(z, y.to(device), reduction='sum').item()
        cnt += len(y)
        byt += (nb[y] + (sp_lead[y] & ~ctrl[x])).sum().item()
val_loss = tot / cnt
val_bpb = tot / math.log(2) / byt
print(f'final_int8_zlib val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f} eval_time:{(time.time() - t1) * 1000:.0f}ms')
"""

FUNCTIONAL = r'''
"""A transformer without modules: parameters are a dictionary, the model is a function of it."""
import functools
import json
import math
import os
import struct
import time
import zlib

import numpy as np
import sentencepiece as spm
import torch
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy, layer_norm, scaled_dot_product_attention, silu

V, D, L, H, T = 8192, 512, 10, 8, 1024
DIR = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp8192")
DEV = "cuda"


def tokens(kind):
    names = sorted(f for f in os.listdir(DIR) if f.startswith(f"fineweb_{kind}_") and f.endswith(".bin"))
    for name in names:
        yield torch.from_numpy(np.fromfile(os.path.join(DIR, name), np.uint16)[512:].astype(np.int64))


def init(seed):
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.randn(*s, generator=g).mul_(s[-1] ** -0.5).to(DEV)
    p = {"wte": r(V, D)}
    for i in range(L):
        p |= {f"{i}.qkv": r(3 * D, D), f"{i}.out": r(D, D), f"{i}.gate": r(2 * D, D), f"{i}.up": r(2 * D, D), f"{i}.down": r(D, 2 * D)}
    return p


def attend(p, i, h):
    q, k, v = (h @ p[f"{i}.qkv"].T).unflatten(-1, (3, H, D // H)).movedim(-3, 0).transpose(-3, -2)
    return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(-3, -2).flatten(-2) @ p[f"{i}.out"].T


def feed(p, i, h):
    return (silu(h @ p[f"{i}.gate"].T) * (h @ p[f"{i}.up"].T)) @ p[f"{i}.down"].T


def model(p, ids):
    h = p["wte"][ids]
    for i in range(L):
        h = h + attend(p, i, layer_norm(h, (D,)))
        h = h + feed(p, i, layer_norm(h, (D,)))
    return layer_norm(h, (D,)) @ p["wte"].T


def nll(p, x, y):
    return cross_entropy(model(p, x).flatten(0, -2).float(), y.flatten())


def sgd_momentum(p, g, m, lr, beta=0.95):
    m = {k: beta * m[k] + g[k] for k in p}
    return {k: p[k] - lr * m[k] for k in p}, m


def train(p, seconds=595):
    step_fn = grad_and_value(nll)
    m = {k: torch.zeros_like(w) for k, w in p.items()}
    begun, n = time.perf_counter(), 0
    for shard in tokens("train"):
        for row in shard[: len(shard) // (64 * T) * 64 * T].view(-1, 64, T):
            row = row.to(DEV)
            g, loss = step_fn(p, row[:, :-1], row[:, 1:])
            p, m = sgd_momentum(p, g, m, 0.05)
            n += 1
            if n % 200 == 0:
                print(f"step {n} train_loss {loss.item():.4f}")
            if time.perf_counter() - begun > seconds:
                print(f"train_time: {1000 * (time.perf_counter() - begun):.0f}ms")
                return p
    return p


def pack(p, path):
    head, body = [], []
    for k, w in p.items():
        s = w.abs().amax(1, keepdim=True) / 127
        head.append([k, list(w.shape)])
        body += [s.half().cpu().numpy().tobytes(), (w / s).round().char().cpu().numpy().tobytes()]
    j = json.dumps(head).encode()
    blob = zlib.compress(struct.pack("<I", len(j)) + j + b"".join(body), 9)
    with open(path, "wb") as f:
        f.write(blob)
    return len(blob)


def unpack(path):
    raw = zlib.decompress(open(path, "rb").read())
    n = struct.unpack_from("<I", raw)[0]
    at, p = 4 + n, {}
    for k, (rows, cols) in json.loads(raw[4:at]):
        s = np.frombuffer(raw, np.float16, rows, at).astype(np.float32)[:, None]
        at += 2 * rows
        p[k] = torch.from_numpy(np.frombuffer(raw, np.int8, rows * cols, at).reshape(rows, cols) * s).to(DEV)
        at += rows * cols
    return p


@functools.cache
def byte_table(path="./data/tokenizers/fineweb_8192_bpe.model"):
    sp = spm.SentencePieceProcessor(model_file=path)
    own, lead, mark = np.zeros(V, int), np.zeros(V, bool), np.zeros(V, bool)
    for i in range(V):
        if sp.is_control(i) or sp.is_unknown(i):
            mark[i] = True
        elif sp.is_byte(i):
            own[i] = 1
        else:
            text = sp.id_to_piece(i)
            lead[i] = text[0] == "\u2581"
            own[i] = len(text.encode()) - 3 * lead[i]
    return own, lead, mark


def evaluate(p):
    ids = torch.cat(list(tokens("val")))
    print(f"val_tokens: {len(ids) - 1}")
    own, lead, mark = byte_table()
    nats, count, size = 0.0, 0, 0
    with torch.no_grad():
        for a in range(0, len(ids) - 1, T):
            y = ids[a + 1 : a + 1 + T]
            x = ids[a : a + len(y)]
            nats += nll(p, x[None].to(DEV), y[None].to(DEV)).item() * len(y)
            count += len(y)
            size += int((own[y] + (lead[y] & ~mark[x])).sum())
    return nats / count, nats / size / math.log(2)


if __name__ == "__main__":
    seed = int(os.environ.get("SEED", "42"))
    print(f"seed: {seed}")
    p = train(init(seed))
    # PACK
    size, code = pack(p, "p.bin.zz"), os.path.getsize(__file__)
    print(f"Serialized model: {size} bytes\nCode size: {code} bytes\nTotal submission size: {size + code} bytes")
    # READ BACK
    p = unpack("p.bin.zz")
    # SCORE
    loss, bpb = evaluate(p)
    print(f"final_quantized val_loss:{loss:.8f} val_bpb:{bpb:.8f}")
'''

GOLF = r"""
import os,io,glob,math,time,bz2,torch,numpy as np,sentencepiece as S
from torch import nn;import torch.nn.functional as F
E=os.environ.get;R=E("DATA_PATH","data/datasets/fineweb10B_sp8192");sd=int(E("SEED","0"));torch.manual_seed(sd);print("seed:",sd)
V,D,N,H,T,B=8192,384,12,6,1024,96
ld=lambda k:(torch.from_numpy(np.fromfile(f,np.uint16)[512:].astype("i8")) for f in sorted(glob.glob(f"{R}/fineweb_{k}_*.bin")))
rn=lambda x:F.rms_norm(x,x.shape[-1:])
class A(nn.Module):
 def __init__(s):super().__init__();s.i=nn.Linear(D,3*D,0);s.o=nn.Linear(D,D,0)
 def forward(s,x):
  b,t,_=x.shape;q,k,v=s.i(x).view(b,t,3,H,-1).permute(2,0,3,1,4)
  y=F.scaled_dot_product_attention(rn(q),rn(k),v,is_causal=True)
  return s.o(y.transpose(1,2).reshape(b,t,D))
class M(nn.Module):
 def __init__(s):super().__init__();s.u=nn.Linear(D,4*D,0);s.d=nn.Linear(4*D,D,0)
 def forward(s,x):return s.d(F.relu(s.u(x))**2)
class G(nn.Module):
 def __init__(s):super().__init__();s.e=nn.Embedding(V,D);s.l=nn.ModuleList(nn.ModuleList([A(),M()]) for _ in range(N))
 def forward(s,x):
  h=rn(s.e(x))
  for a,m in s.l:h=h+a(rn(h));h=h+m(rn(h))
  return 20*torch.tanh(rn(h)@s.e.weight.T/20)
m=G().cuda();o=torch.optim.Adam(m.parameters(),1e-3,(.9,.95));t0=time.time();n=0
ce=lambda z,y,r="mean":F.cross_entropy(z.flatten(0,-2).float(),y.flatten(),reduction=r)
def go():
 global n
 while 1:
  for s in ld("train"):
   for i in range(0,len(s)-B*T,B*T):
    w=s[i:i+B*T+1].cuda();l=ce(m(w[:-1].view(B,T)),w[1:].view(B,T));l.backward();o.step();o.zero_grad();n+=1
    if n%100==0:print("step",n,"train_loss",round(l.item(),4))
    if time.time()-t0>594:return
go();print(f"train_time: {(time.time()-t0)*1e3:.0f}ms")
Q={}
for k,w in m.state_dict().items():s=w.abs().amax(1,True)/127;Q[k]=[(w/s).round().char().cpu(),s.half().cpu()]
b=io.BytesIO();torch.save(Q,b);z=bz2.compress(b.getvalue());open("m.bz2","wb").write(z);c=os.path.getsize(__file__)
print(f"Serialized model int8+bz2: {len(z)} bytes\nCode size: {c} bytes\nTotal submission size int8+bz2: {len(z)+c} bytes")
Q=torch.load(io.BytesIO(bz2.decompress(open("m.bz2","rb").read())),weights_only=True)
m.load_state_dict({k:q.float()*s.float() for k,(q,s) in Q.items()})
p=S.SentencePieceProcessor(model_file=E("TOK","data/tokenizers/fineweb_8192_bpe.model"))
C=torch.tensor([p.is_control(i)|p.is_unknown(i) for i in range(V)]);P=[p.id_to_piece(i) for i in range(V)]
Lb=torch.tensor([0 if C[i] else 1 if p.is_byte(i) else len(P[i].replace("\u2581","").encode()) for i in range(V)]);Sp=torch.tensor([x[0]=="\u2581" for x in P])
v=torch.cat([*ld("val")]);print("val_tokens:",len(v)-1);a=k=g=0;t1=time.time();m.eval()
with torch.no_grad():
 for i in range(0,len(v)-1,T):
  y=v[i+1:i+T+1];x=v[i:i+len(y)];a+=ce(m(x[None].cuda()),y[None].cuda(),"sum").item();k+=len(y);g+=(Lb[y]+(Sp[y]&~C[x])).sum().item()
print(f"final_int8_bz2 val_loss:{a/k:.8f} val_bpb:{a/g/math.log(2):.8f} eval_time:{(time.time()-t1)*1e3:.0f}ms")
"""
