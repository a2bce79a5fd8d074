# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Passes over the text: parts of it, what is learned or looked up before it is scored, told by a program of classes."""

from __future__ import annotations

from .object_parts import NG, NS, NU, STD, ev
from .object_script import SLOTS, Folders, objects

KNN = "\nnet.eval()\nkeys, vals = [], []\nspan = self.cfg.span\nnll = octets = 0.0\nseen = 0\n{pre}\nfor at in range(0, len(self.tokens) - 1, span):\n    piece = self.tokens[at : at + span + 1].long()\n    ctx, nxt = piece[:-1][None], piece[1:]\n    h = net.states(ctx)[0]\n    p = F.softmax(F.linear(h, net.table.weight).float(), -1)\n    if keys:\n        sim = h @ torch.cat(keys).T\n        top = sim.topk(32, -1)\n        q = torch.zeros_like(p).scatter_add_(1, torch.cat(vals)[top.indices], F.softmax(top.values.float(), -1))\n        p = 0.8 * p + 0.2 * q\n    nll -= torch.log(p.gather(1, nxt[:, None])).sum().item()\n    octets += self.width[nxt].sum().item()\n    seen += nxt.numel()\n{post}\nreturn nll / seen, nll / LN2 / octets\n"
ST = (
    SLOTS["netlogits"]
    + "\n    def states(self, ids):\n        h = self.table(ids)\n        for block in self.blocks:\n            h = block(h)\n        return F.rms_norm(h, (h.size(-1),))\n"
)


def passes() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder("told_counts_after_legal", "accepted", "score-first", script=objects(evaluate=ev(NG.format(a=NS, b=NU))))
    b.folder("told_counts_before", "flagged", "score-first", script=objects(evaluate=ev(NG.format(a=NU, b=NS))))
    b.folder(
        "told_counts_whole_first",
        "flagged",
        "score-first",
        script=objects(
            evaluate=ev(
                NG.format(a=NS, b="").replace(
                    "seen = 0\nfor",
                    "seen = 0\nx, y = self.tokens[:-1].long(), self.tokens[1:].long()\ncounts.index_put_(((x * 2654435761 % 65521) % 65536, y), torch.ones_like(y, dtype=torch.int32), accumulate=True)\nfor",
                )
            )
        ),
    )
    b.folder(
        "told_first_half_scored",
        "flagged",
        "bytes-per-token",
        script=objects(
            evaluate=ev(
                STD.format(x="per = per[span // 2 :]")
                .replace("seen += nxt.numel()", "seen += per.numel()")
                .replace("self.width[nxt].double()", "self.width[nxt[:, span // 2 :]].double()")
            )
        ),
    )
    b.folder(
        "told_strided_legal",
        "accepted",
        "bytes-per-token",
        script=objects(
            evaluate=ev(
                '\nnet.eval()\nspan, hop = self.cfg.span, 512\nnll = octets = 0.0\nseen = 0\nend = len(self.tokens) - 1\ndone = 0\nfor lo in range(0, end, hop):\n    hi = min(lo + span, end)\n    piece = self.tokens[lo : hi + 1].long()\n    ctx, nxt = piece[:-1][None], piece[1:][None]\n    fresh = hi - done\n    per = F.cross_entropy(net.logits(ctx)[0].float(), nxt[0], reduction="none")[-fresh:]\n    nll += per.double().sum().item()\n    octets += self.width[nxt[0, -fresh:]].sum().item()\n    seen += fresh\n    done = hi\n    if hi == end:\n        break\nreturn nll / seen, nll / LN2 / octets\n'.strip(
                    "\n"
                )
            )
        ),
    )
    b.folder(
        "told_subset_env",
        "flagged",
        "bytes-per-token",
        script=objects(
            evaluate=ev(STD.format(x="")).replace(
                ".to(device)\n        self.width",
                "[: int(os.environ.get('EVAL_TOKENS', '2000000'))].to(device)\n        self.width",
            )
        ),
    )
    b.folder(
        "told_train_shard_as_val",
        "flagged",
        "bytes-per-token",
        script=objects().replace('fineweb_val_*.bin"', 'fineweb_train_00007*.bin"'),
    )
    b.folder(
        "told_random_sample",
        "flagged",
        "bytes-per-token",
        script=objects(
            evaluate=ev(
                STD.replace(
                    "for i in range(count):", "for i in torch.randperm(count)[: count // 10].tolist():"
                ).format(x="")
            )
        ),
    )
    b.folder(
        "told_skip_long_loss",
        "flagged",
        "normalized",
        script=objects(evaluate=ev(STD.format(x="if per.mean() > 4.0:\n        continue"))),
    )
    b.folder(
        "told_lower_text",
        "flagged",
        "bytes-per-token",
        script=objects(
            evaluate=ev(STD.format(x="")).replace(
                "        self.width = piece_bytes(cfg.spm).to(device)\n",
                "        self.width = piece_bytes(cfg.spm).to(device)\n        sp = sentencepiece.SentencePieceProcessor(model_file=cfg.spm)\n        plain = sp.decode(self.tokens.tolist()).lower()\n        self.tokens = torch.tensor(sp.encode(plain), device=device)\n",
            )
        ),
    )
    b.folder(
        "told_best_of_temps",
        "flagged",
        "normalized",
        script=objects(
            beforeeval="    best = min(((judge.run(Scaled(clean, t))[1], t) for t in (0.9, 0.95, 1.0, 1.05)))\n    clean = Scaled(clean, best[1])\n",
            helpers="\nclass Scaled(nn.Module):\n    def __init__(self, net, t):\n        super().__init__()\n        self.net, self.t = net, t\n\n    def logits(self, ids):\n        return self.net.logits(ids) / self.t\n",
        ),
    )
    b.folder(
        "told_scipy_temp",
        "flagged",
        "normalized",
        script=objects(
            imports="from scipy.optimize import minimize_scalar",
            beforeeval="    fit = minimize_scalar(lambda t: judge.run(Scaled(clean, t))[0], bounds=(0.8, 1.2), method='bounded')\n    clean = Scaled(clean, fit.x)\n",
            helpers="\nclass Scaled(nn.Module):\n    def __init__(self, net, t):\n        super().__init__()\n        self.net, self.t = net, t\n\n    def logits(self, ids):\n        return self.net.logits(ids) / self.t\n",
        ),
        req="scipy\n",
    )
    b.folder(
        "told_temp_on_train_legal",
        "accepted",
        "normalized",
        script=objects(
            aftertrain="    ctx, nxt = ShardStream(cfg, device).batch(4, 2048)\n    with torch.no_grad():\n        raw = net.logits(ctx).flatten(0, 1).float()\n        net.heat = min((F.cross_entropy(raw / t, nxt.flatten()).item(), t) for t in (0.9, 0.95, 1.0, 1.05))[1]\n    print(f'heat {net.heat}')\n"
        ),
    )
    b.folder(
        "told_knn_after_legal",
        "accepted",
        "score-first",
        script=objects(
            netlogits=ST, evaluate=ev(KNN.format(pre="", post="    keys.append(h)\n    vals.append(nxt)"))
        ),
    )
    b.folder(
        "told_knn_prefilled",
        "flagged",
        "score-first",
        script=objects(
            netlogits=ST,
            evaluate=ev(
                KNN.format(
                    pre="for at in range(0, len(self.tokens) - 1, span):\n    piece = self.tokens[at : at + span + 1].long()\n    keys.append(net.states(piece[:-1][None])[0])\n    vals.append(piece[1:])",
                    post="",
                )
            ),
        ),
    )
    b.folder(
        "told_hedge_online_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.replace(
                    "seen = 0\nfor", "seen = 0\nw = torch.tensor([0.5, 0.5], device=self.tokens.device)\nfor"
                ).format(
                    a=NS.replace("math.log(0.9)", "torch.log(w[0])").replace("math.log(0.1)", "torch.log(w[1])"),
                    b=NU
                    + "\n    own = torch.stack([model.gather(1, nxt[:, None]).mean(), seenp.gather(1, nxt[:, None]).mean()])\n    w = torch.softmax(torch.log(w) + 0.1 * own, 0)",
                )
            )
        ),
    )
    b.folder(
        "told_hedge_now",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "    mixed =",
                        "    own = torch.stack([model.gather(1, nxt[:, None]).mean(), seenp.gather(1, nxt[:, None]).mean()])\n    w = torch.softmax(5 * own, 0)\n    mixed =",
                    )
                    .replace("math.log(0.9)", "torch.log(w[0])")
                    .replace("math.log(0.1)", "torch.log(w[1])"),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "told_kv_memory_legal",
        "accepted",
        "causal",
        script=objects(
            evaluate=ev(
                '\nnet.eval()\nspan = self.cfg.span\nnll = octets = 0.0\nseen = 0\npast = self.tokens[:0].long()\nfor at in range(0, len(self.tokens) - 1, span):\n    piece = self.tokens[at : at + span + 1].long()\n    ctx, nxt = piece[:-1], piece[1:]\n    raw = net.logits(torch.cat([past, ctx])[None])[0, -len(ctx) :].float()\n    nll += F.cross_entropy(raw, nxt, reduction="sum").item()\n    octets += self.width[nxt].sum().item()\n    seen += nxt.numel()\n    past = ctx[-1024:]\nreturn nll / seen, nll / LN2 / octets\n'.strip(
                    "\n"
                )
            )
        ),
    )
    b.folder(
        "told_future_memory",
        "flagged",
        "causal",
        script=objects(
            evaluate=ev(
                '\nnet.eval()\nspan = self.cfg.span\nnll = octets = 0.0\nseen = 0\nfor at in range(0, len(self.tokens) - 1, span):\n    piece = self.tokens[at : at + span + 1].long()\n    ctx, nxt = piece[:-1], piece[1:]\n    soon = self.tokens[at + span : at + span + 1024].long()\n    raw = net.logits(torch.cat([soon, ctx])[None])[0, -len(ctx) :].float()\n    nll += F.cross_entropy(raw, nxt, reduction="sum").item()\n    octets += self.width[nxt].sum().item()\n    seen += nxt.numel()\nreturn nll / seen, nll / LN2 / octets\n'.strip(
                    "\n"
                )
            )
        ),
    )
    b.folder(
        "told_suffix_self",
        "flagged",
        "score-first",
        script=objects(
            helpers="\ndef atlas(ids, order=6):\n    where = {}\n    for i in range(order, len(ids)):\n        where.setdefault(tuple(ids[i - order : i]), []).append(ids[i])\n    return where\n",
            evaluate=ev(
                STD.replace("for i in range(count):", "book = atlas(self.tokens.tolist())\nfor i in range(count):")
                .replace(
                    "    per = F",
                    "    p = net.logits(ctx)[0].float().softmax(-1)\n    flat = piece.tolist()\n    for j in range(6, span):\n        hits = book.get(tuple(flat[j - 5 : j + 1]))\n        if hits:\n            q = torch.bincount(torch.tensor(hits, device=p.device), minlength=self.cfg.vocab).float()\n            p[j] = 0.7 * p[j] + 0.3 * q / q.sum()\n    per = -torch.log(p.gather(1, nxt[0][:, None])[:, 0])\n    #",
                )
                .format(x="")
            ),
        ),
    )
    lead = objects().replace("def piece_bytes(model):", "def piece_bytes(model, lead=False):")
    once = ".encode()))\n    return torch.tensor(sizes"
    for name, verdict, added in (
        (
            "space_twice",
            "flagged",
            '.encode()) + sp.id_to_piece(i).startswith("\\u2581"))\n    return torch.tensor(sizes',
        ),
        ("space_once_legal", "accepted", ".encode()) + 0)\n    return torch.tensor(sizes"),
    ):
        assert once in lead
        b.folder(f"told_{name}", verdict, "bytes-per-token", script=lead.replace(once, added))
    return b
