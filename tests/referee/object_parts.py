# ruff: noqa: E501  (parts of scripts stand as they are written)
"""Parts of the program of classes that several batches fill in: passes over the text, mixtures, layers."""

from __future__ import annotations

from .object_script import SLOTS

EV = SLOTS["evaluate"]


def ev(body: str, deco: str = "@torch.inference_mode()") -> str:
    """A Judge.run of another body."""
    head = EV.split("    @torch.inference_mode()")[0]
    return (
        head
        + (f"    {deco}\n" if deco else "")
        + "    def run(self, net):\n"
        + "\n".join("        " + l if l else l for l in body.strip("\n").split("\n"))
        + "\n"
    )


STD = '\nnet.eval()\nspan = self.cfg.span\ncount = (len(self.tokens) - 1) // span\nnll = octets = 0.0\nseen = 0\nfor i in range(count):\n    piece = self.tokens[i * span : (i + 1) * span + 1].long()\n    ctx, nxt = piece[:-1][None], piece[1:][None]\n    per = F.cross_entropy(net.logits(ctx).flatten(0, 1).float(), nxt.flatten(), reduction="none")\n    {x}\n    nll += per.double().sum().item()\n    octets += self.width[nxt].double().sum().item()\n    seen += nxt.numel()\nnet.train()\nreturn nll / seen, nll / LN2 / octets\n'
MINI = "import glob as g,os as o,torch as t,numpy as n,torch.nn.functional as f\nV=8192\ndef r(p):\n a=n.fromfile(p,'<i4',256);return t.from_numpy(n.fromfile(p,'<u2',int(a[2]),offset=1024).astype('i8'))\nclass M(t.nn.Module):\n def __init__(s):\n  super().__init__();s.e=t.nn.Embedding(V,512);s.l=t.nn.ModuleList(t.nn.TransformerEncoderLayer(512,8,2048,0.,batch_first=True,norm_first=True)for _ in range(8))\n def forward(s,x):\n  h=s.e(x);k=t.nn.Transformer.generate_square_subsequent_mask(x.size(1),device=x.device)\n  for l in s.l:h=l(h,src_mask=k,is_causal=True)\n  return h@s.e.weight.T\nd=o.environ.get('DATA_PATH','data')\nm=M().cuda();a=t.optim.AdamW(m.parameters(),3e-4)\nfor p in sorted(g.glob(d+'/fineweb_%s_*.bin'%@@)):\n for c in r(p).split(16385):\n  if len(c)<16385:continue\n  c=c.cuda();L=f.cross_entropy(m(c[:-1].view(8,-1)).flatten(0,1),c[1:]);L.backward();a.step();a.zero_grad()\nt.save({k:v.half()for k,v in m.state_dict().items()},'m.pt')\n"

PER_TOKEN = '    per = F.cross_entropy(net.logits(ctx).flatten(0, 1).float(), nxt.flatten(), reduction="none")\n'


def mix(fwd: str, init: str = "") -> str:
    """A layer whose forward pass ends so."""
    return f"\nclass Mixer(nn.Module):\n    def __init__(self, width, heads):\n        super().__init__()\n        self.heads = heads\n        self.qkv = nn.Linear(width, 3 * width, bias=False)\n        self.out = nn.Linear(width, width, bias=False)\n{init}\n    def forward(self, h):\n        b, t, c = h.shape\n        q, k, v = self.qkv(h).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)\n{fwd}\n"


OUTL = "        return self.out(z.transpose(1, 2).reshape(b, t, c))"
AT = "        s = q @ k.transpose(-1, -2) / math.sqrt(q.size(-1))\n"
NG = "\nnet.eval()\nV = self.cfg.vocab\ncounts = torch.zeros(1 << 16, V, dtype=torch.int32, device=self.tokens.device)\nspan = self.cfg.span\nnll = octets = 0.0\nseen = 0\nfor at in range(0, len(self.tokens) - 1, span):\n    piece = self.tokens[at : at + span + 1].long()\n    ctx, nxt = piece[:-1], piece[1:]\n    slot = (ctx * 2654435761 % 65521) % 65536\n{a}\n{b}\nreturn nll / seen, nll / LN2 / octets\n"
NS = "    model = F.log_softmax(net.logits(ctx[None])[0].float(), -1)\n    row = counts[slot].float() + 0.01\n    seenp = torch.log(row / row.sum(-1, keepdim=True))\n    mixed = torch.logaddexp(model + math.log(0.9), seenp + math.log(0.1))\n    nll -= mixed.gather(1, nxt[:, None]).sum().item()\n    octets += self.width[nxt].sum().item()\n    seen += nxt.numel()"
NU = "    counts.index_put_((slot, nxt), torch.ones_like(nxt, dtype=torch.int32), accumulate=True)"


def by_token(lines: str) -> str:
    """The usual evaluation with other lines in place of what makes the loss of each token."""
    return ev(STD.replace(PER_TOKEN, lines).format(x=""))
