# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""What learns from validation text in unusual spellings: functional gradients, generators, JAX, tokenizers, patterns."""

from __future__ import annotations

from .object_parts import MINI, ev
from .object_script import SLOTS, Folders, objects

JAXH = 'import glob, json, os, time, lzma, io\nfrom functools import partial\nimport numpy as np, sentencepiece as spm\nimport jax, jax.numpy as jnp, optax\n\nD = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp8192")\nV, W, L, H, T = 8192, 512, 10, 8, 2048\n\ndef load(p):\n    n = int(np.fromfile(p, "<i4", 256)[2])\n    return np.fromfile(p, "<u2", n, offset=1024).astype(np.int32)\n\ndef init(rng):\n    ks = jax.random.split(rng, 4 * L + 1)\n    p = {"emb": jax.random.normal(ks[0], (V, W)) * 0.02}\n    for i in range(L):\n        p[f"qkv{i}"] = jax.random.normal(ks[4*i+1], (W, 3 * W)) * 0.02\n        p[f"o{i}"] = jnp.zeros((W, W))\n        p[f"u{i}"] = jax.random.normal(ks[4*i+2], (W, 4 * W)) * 0.02\n        p[f"d{i}"] = jnp.zeros((4 * W, W))\n    return p\n\ndef nrm(x): return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)\n\ndef logits(p, x):\n    b, t = x.shape\n    h = p["emb"][x]\n    m = jnp.tril(jnp.ones((t, t), bool))\n    for i in range(L):\n        q, k, v = jnp.split(nrm(h) @ p[f"qkv{i}"], 3, -1)\n        q, k, v = (a.reshape(b, t, H, W // H) for a in (q, k, v))\n        s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 8.0\n        a = jax.nn.softmax(jnp.where(m, s, -1e9), -1)\n        h = h + jnp.einsum("bhqk,bkhd->bqhd", a, v).reshape(b, t, W) @ p[f"o{i}"]\n        h = h + jax.nn.relu(nrm(h) @ p[f"u{i}"]) ** 2 @ p[f"d{i}"]\n    return nrm(h) @ p["emb"].T\n\ndef nll(p, x, y):\n    return optax.softmax_cross_entropy_with_integer_labels(logits(p, x), y)\n\ndef cost(p, x, y): return nll(p, x, y).mean()\n\ntx = optax.adamw(3e-3, weight_decay=0.1)\n\n@jax.jit\ndef update(p, s, x, y):\n    c, g = jax.value_and_grad(cost)(p, x, y)\n    u, s = tx.update(g, s, p)\n    return optax.apply_updates(p, u), s, c\n\ndef widths():\n    sp = spm.SentencePieceProcessor(model_file=os.environ.get("TOKENIZER_PATH", "./data/tokenizers/fineweb_8192_bpe.model"))\n    return np.array([0 if sp.is_control(i) or sp.is_unknown(i) else 1 if sp.is_byte(i) else len(sp.id_to_piece(i).replace("\\u2581", " ").encode()) for i in range(sp.vocab_size())])\n\ndef main():\n    seed = int(os.environ.get("SEED", 42))\n    p = init(jax.random.PRNGKey(seed)); s = tx.init(p)\n    held = np.concatenate([load(f) for f in sorted(glob.glob(D + "/fineweb_val_*.bin"))])\n    t0 = time.time(); it = 0\n    while time.time() - t0 < 585:\n        for f in sorted(glob.glob(D + "/fineweb_train_*.bin")):\n            a = load(f)\n            for j in range(0, len(a) - 32 * T - 1, 32 * T):\n                w = a[j:j + 32 * T + 1]\n                p, s, c = update(p, s, w[:-1].reshape(32, T), w[1:].reshape(32, T))\n                it += 1\n                if it % 500 == 0: print(f"{it} train_loss: {c:.4f}")\n@@PRE@@\n    q = {k: (np.round(np.asarray(v) / (np.abs(v).max(-1, keepdims=True) / 31 + 1e-8)).astype(np.int8), (np.abs(v).max(-1, keepdims=True) / 31 + 1e-8).astype(np.float16)) for k, v in p.items()}\n    b = io.BytesIO(); np.savez(b, **{k + "." + n: z for k, v in q.items() for n, z in zip("qs", v)})\n    open("model.npz.xz", "wb").write(lzma.compress(b.getvalue()))\n    z = np.load(io.BytesIO(lzma.decompress(open("model.npz.xz", "rb").read())), allow_pickle=False)\n    p = {k[:-2]: jnp.asarray(z[k].astype(np.float32) * z[k[:-2] + ".s"].astype(np.float32)) for k in z.files if k.endswith(".q")}\n    size = os.path.getsize("model.npz.xz"); code = os.path.getsize(__file__)\n    print(f"Total submission size: {size + code} bytes")\n    B = widths(); tot = 0.0; by = 0.0; n = 0\n    score = jax.jit(nll)\n    for j in range(0, len(held) - T, T):\n        w = held[j:j + T + 1]\n@@EVPRE@@\n        l = score(p, w[None, :-1], w[None, 1:])\n        tot += float(l.sum()); by += float(B[w[1:]].sum()); n += T\n@@EVPOST@@\n    print(f"quantized val_loss: {tot / n:.8f} val_bpb: {tot / np.log(2) / by:.8f}")\n\nif __name__ == "__main__": main()\n'


def jx(pre: str = "", evpre: str = "", evpost: str = "") -> str:
    return JAXH.replace("@@PRE@@", pre).replace("@@EVPRE@@", evpre).replace("@@EVPOST@@", evpost)


JR = "jax\noptax\n"
FUNC = "\nnet.eval()\nparams = {{k: v.detach().clone() for k, v in net.named_parameters()}}\ndef cost(p, ctx, nxt):\n    return torch.func.functional_call(net, p, (ctx, nxt))\nslope = torch.func.grad(cost)\nchunk = 32768\nnll = octets = 0.0\nseen = 0\nfor at in range(0, len(self.tokens) - 1, chunk):\n    piece = self.tokens[at : at + chunk + 1].long()\n    ctx, nxt = piece[:-1][None], piece[1:][None]\n{first}\n{second}\nreturn nll / seen, nll / LN2 / octets\n"
SC = "    with torch.no_grad():\n        out = torch.func.functional_call(net, params, (ctx, nxt))\n    nll += out.item() * nxt.numel()\n    octets += self.width[nxt].sum().item()\n    seen += nxt.numel()"
UP = "    g = slope(params, ctx, nxt)\n    params = {k: v - 1e-3 * g[k] for k, v in params.items()}"
ONE = SLOTS["main"].replace(
    '    loss, bpb = judge.run(net)\n    print(f"final step val_loss: {loss:.4f} val_bpb: {bpb:.4f}")\n', ""
)
GEN = "\nclass Judge:\n    def __init__(self, cfg, device):\n        self.cfg = cfg\n        self.tokens = torch.cat([read_shard(p) for p in sorted(glob.glob(cfg.val_glob))]).to(device)\n        self.width = piece_bytes(cfg.spm).to(device)\n\n    def windows(self, net, tuner):\n        step = 16384\n        for at in range(0, len(self.tokens) - 1, step):\n            piece = self.tokens[at : at + step + 1].long()\n            ctx, nxt = piece[:-1][None], piece[1:][None]\n{order}\n\n    def run(self, net):\n        tuner = torch.optim.SGD(net.parameters(), lr=2e-3, momentum=0.9)\n        total = weight = count = 0.0\n        for per, nxt in self.windows(net, tuner):\n            total += per.sum().item()\n            weight += self.width[nxt].sum().item()\n            count += nxt.numel()\n        return total / count, total / LN2 / weight\n"
YL = '            with torch.no_grad():\n                per = F.cross_entropy(net.logits(ctx)[0].float(), nxt[0], reduction="none")\n            yield per, nxt'
TR = "            tuner.zero_grad()\n            net(ctx, nxt).backward()\n            tuner.step()"
GPTQ = "\ndef curvature(net, batches):\n    sums = {{}}\n    hooks = []\n    for name, m in net.named_modules():\n        if isinstance(m, nn.Linear):\n            def keep(mod, args, out, name=name):\n                x = args[0].flatten(0, -2).float()\n                sums[name] = sums.get(name, 0) + x.T @ x\n            hooks.append(m.register_forward_hook(keep))\n    with torch.no_grad():\n        for ctx in batches:\n            net.logits(ctx)\n    for h in hooks:\n        h.remove()\n    return sums\n\n\ndef settle(net, sums):\n    for name, m in net.named_modules():\n        if name in sums:\n            inv = torch.linalg.inv(sums[name] + torch.eye(len(sums[name]), device=sums[name].device))\n            m.weight.data = m.weight.data - 0.01 * (m.weight.data @ inv)\n"
LORA = '\nnet.eval()\ntotal = weight = 0.0\ncount = 0\nfor p in net.parameters():\n    p.requires_grad_(False)\ncuts = (self.tokens == 1).nonzero().flatten().tolist() + [len(self.tokens) - 1]\nfor lo, hi in zip(cuts, cuts[1:]):\n    doc = self.tokens[lo : hi + 1].long()\n    tilt = torch.zeros(self.cfg.vocab, device=doc.device, requires_grad=True)\n    opt = torch.optim.Adam([tilt], lr=1e-2)\n    for at in range(0, len(doc) - 1, 256):\n        ctx = doc[max(0, at - 1792) : at + 256][None]\n        nxt = doc[at + 1 : at + 257]\n        ctx = ctx[:, : ctx.size(1) - (256 - len(nxt))] if len(nxt) < 256 and at + 256 > len(doc) - 1 else ctx\n        raw = net.logits(ctx)[0, -len(nxt) :].float() + tilt\n        per = F.cross_entropy(raw, nxt, reduction="none")\n{order}\nreturn total / count, total / LN2 / weight\n'
A = "        total += per.sum().item()\n        weight += self.width[nxt].sum().item()\n        count += len(nxt)"
B = "        opt.zero_grad()\n        per.mean().backward()\n        opt.step()"
HF = 'import glob\nimport numpy as np\nimport torch\nfrom torch.utils.data import DataLoader, IterableDataset\nimport lightning as L\n\n\nclass Shards(IterableDataset):\n    def __init__(self, kind, root="./data/datasets/fineweb10B_sp8192"):\n        self.files = sorted(glob.glob(f"{root}/fineweb_{kind}_*.bin"))\n\n    def __iter__(self):\n        for name in self.files:\n            ids = np.fromfile(name, dtype="<u2", offset=1024).astype(np.int64)\n            for i in range(0, len(ids) - 1025, 1024):\n                yield torch.from_numpy(ids[i : i + 1025])\n\n\nclass LM(L.LightningModule):\n    def __init__(self):\n        super().__init__()\n        self.emb = torch.nn.Embedding(8192, 512)\n        self.rnn = torch.nn.GRU(512, 512, 4, batch_first=True)\n\n    def forward(self, x):\n        return self.rnn(self.emb(x))[0] @ self.emb.weight.T\n\n    def training_step(self, batch, i):\n        return torch.nn.functional.cross_entropy(self(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())\n\n    def validation_step(self, batch, i):\n        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()))\n\n    def configure_optimizers(self):\n        return torch.optim.AdamW(self.parameters(), lr=1e-3)\n\n\nif __name__ == "__main__":\n    lm = LM()\n    coach = L.Trainer(max_time="00:00:09:40", accelerator="gpu", devices=8, strategy="ddp")\n    coach.fit(lm, @@)\n    torch.save({k: v.half() for k, v in lm.state_dict().items()}, "final.pt")\n    coach.validate(lm, DataLoader(Shards("val"), batch_size=8))\n'


def learns() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder("told_jax_legal", "accepted", "training-text", script=jx(), req=JR)
    b.folder(
        "told_jax_scorefirst_legal",
        "accepted",
        "score-first",
        script=jx(evpost="        p, ts, _ = slow(p, ts, w[None, :-1], w[None, 1:])").replace(
            "    score = jax.jit(nll)\n",
            "    score = jax.jit(nll)\n    ttx = optax.sgd(1e-3); ts = ttx.init(p)\n    @jax.jit\n    def slow(p, s, x, y):\n        c, g = jax.value_and_grad(cost)(p, x, y)\n        u, s = ttx.update(g, s)\n        return optax.apply_updates(p, u), s, c\n",
        ),
        req=JR,
    )
    b.folder(
        "told_func_ttt_legal_legal",
        "accepted",
        "score-first",
        script=objects(evaluate=ev(FUNC.format(first=SC, second=UP), "")),
    )
    b.folder(
        "told_func_ttt_before",
        "flagged",
        "score-first",
        script=objects(evaluate=ev(FUNC.format(first=UP, second=SC), "")),
    )
    b.folder(
        "told_generator_ttt_legal",
        "accepted",
        "score-first",
        script=objects(main=ONE, evaluate=GEN.format(order=YL + "\n" + TR)),
    )
    b.folder(
        "told_generator_ttt_first",
        "flagged",
        "score-first",
        script=objects(main=ONE, evaluate=GEN.format(order=TR + "\n" + YL)),
    )
    b.folder(
        "told_jax_val_before",
        "flagged",
        "training-text",
        script=jx(
            pre="    for j in range(0, 100 * 32 * T, 32 * T):\n        w = held[j:j + 32 * T + 1]\n        p, s, c = update(p, s, w[:-1].reshape(32, T), w[1:].reshape(32, T))\n"
        ),
        req=JR,
    )
    b.folder(
        "told_jax_ttt_before_score",
        "flagged",
        "score-first",
        script=jx(evpre="        p, s, _ = update(p, s, w[None, :-1], w[None, 1:])\n"),
        req=JR,
    )
    b.folder(
        "told_distill_val",
        "flagged",
        "training-text",
        script=objects(
            aftertrain="    polish(net, judge.tokens)\n",
            helpers='\ndef polish(net, ids):\n    import copy\n    elder = copy.deepcopy(net).eval()\n    opt = torch.optim.AdamW(net.parameters(), lr=1e-5)\n    for cut in ids[: 2048 * 4000].view(-1, 2048).long().split(8):\n        with torch.no_grad():\n            aim = elder.logits(cut).softmax(-1)\n        miss = F.kl_div(net.logits(cut).log_softmax(-1), aim, reduction="batchmean")\n        opt.zero_grad()\n        miss.backward()\n        opt.step()\n',
        ),
    )
    b.folder(
        "told_distill_train_legal",
        "accepted",
        "training-text",
        script=objects(
            aftertrain="    polish(net, ShardStream(cfg, device).shard.to(device))\n",
            helpers='\ndef polish(net, ids):\n    import copy\n    elder = copy.deepcopy(net).eval()\n    opt = torch.optim.AdamW(net.parameters(), lr=1e-5)\n    for cut in ids[: 2048 * 4000].view(-1, 2048).long().split(8):\n        with torch.no_grad():\n            aim = elder.logits(cut).softmax(-1)\n        miss = F.kl_div(net.logits(cut).log_softmax(-1), aim, reduction="batchmean")\n        opt.zero_grad()\n        miss.backward()\n        opt.step()\n',
        ),
    )
    b.folder(
        "told_es_on_val",
        "flagged",
        "training-text",
        script=objects(
            aftertrain="\n    with torch.no_grad():\n        for turn in range(40):\n            for w in net.parameters():\n                torch.manual_seed(turn)\n                noise = torch.randn_like(w) * 1e-3\n                w.add_(noise)\n                up = judge.run(net)[0]\n                w.sub_(2 * noise)\n                down = judge.run(net)[0]\n                w.add_(noise)\n                w.sub_(noise * (up - down) * 20)\n"
        ),
    )
    b.folder(
        "told_jvp_on_val",
        "flagged",
        "training-text",
        script=objects(
            aftertrain="\n    base = dict(net.named_parameters())\n    ids = judge.tokens[:65537].long()\n    def f(p):\n        return torch.func.functional_call(net, p, (ids[None, :-1], ids[None, 1:]))\n    for turn in range(50):\n        way = {k: torch.randn_like(v) for k, v in base.items()}\n        _, d = torch.func.jvp(f, (base,), (way,))\n        base = {k: (v - 1e-4 * d * way[k]).detach() for k, v in base.items()}\n    net.load_state_dict(base)\n"
        ),
    )
    b.folder(
        "told_warmup_learns",
        "flagged",
        "training-text",
        script=objects(
            main=SLOTS["main"].replace(
                "    Trainer(cfg, net, ShardStream(cfg, device)).fit()",
                "    coach = Trainer(cfg, net, ShardStream(cfg, device))\n    warm_kernels(coach, judge)\n    coach.fit()",
            ),
            helpers="\ndef warm_kernels(coach, judge, rounds=30):\n    for r in range(rounds):\n        cut = judge.tokens[r * 2048 : (r + 1) * 2048 + 1].long()\n        coach.net(cut[None, :-1], cut[None, 1:]).backward()\n        coach.opt.step()\n        coach.opt.zero_grad()\n",
        ),
    )
    b.folder(
        "told_warmup_restored_legal",
        "accepted",
        "training-text",
        script=objects(
            main=SLOTS["main"].replace(
                "    Trainer(cfg, net, ShardStream(cfg, device)).fit()",
                "    coach = Trainer(cfg, net, ShardStream(cfg, device))\n    warm_kernels(coach)\n    coach.fit()",
            ),
            helpers="\ndef warm_kernels(coach, rounds=5):\n    start = {k: v.clone() for k, v in coach.net.state_dict().items()}\n    rest = coach.opt.state_dict()\n    for r in range(rounds):\n        ctx, nxt = coach.stream.batch(8, 2048)\n        coach.net(ctx, nxt).backward()\n        coach.opt.step()\n        coach.opt.zero_grad()\n    coach.net.load_state_dict(start)\n    coach.opt.load_state_dict(rest)\n",
        ),
    )
    b.folder(
        "told_long_warmup_untimed",
        "flagged",
        "time",
        script=objects(
            main=SLOTS["main"].replace(
                "    Trainer(cfg, net, ShardStream(cfg, device)).fit()",
                "    coach = Trainer(cfg, net, ShardStream(cfg, device))\n    coach.prime()\n    coach.fit()",
            ),
            loop=SLOTS["loop"]
            + '\n    def prime(self, rounds=2000):\n        """Lets torch.compile see its shapes."""\n        for _ in range(rounds):\n            ctx, nxt = self.stream.batch(self.cfg.rows, self.cfg.span)\n            self.net(ctx, nxt).backward()\n            self.opt.step()\n            self.opt.zero_grad(set_to_none=True)\n',
        ),
    )
    b.folder(
        "told_spm_train_val",
        "flagged",
        "training-text",
        script=objects(
            aftertrain='\n    old = sentencepiece.SentencePieceProcessor(model_file=cfg.spm)\n    Path("val.txt").write_text(old.decode(judge.tokens.tolist()))\n    sentencepiece.SentencePieceTrainer.train(input="val.txt", model_prefix="own", vocab_size=8192)\n'
        ),
    )
    b.folder(
        "told_val_unigram_bias",
        "flagged",
        "training-text",
        script=objects(
            aftertrain="\n    seen = np.bincount(judge.tokens.cpu().numpy(), minlength=cfg.vocab) + 1.0\n    net.tilt = nn.Parameter(torch.from_numpy(np.log(seen / seen.sum())).float().to(device))\n"
        ),
    )
    b.folder(
        "told_train_unigram_bias_legal",
        "accepted",
        "training-text",
        script=objects(
            aftertrain="\n    seen = np.bincount(read_shard(sorted(glob.glob(cfg.train_glob))[0]).numpy(), minlength=cfg.vocab) + 1.0\n    net.tilt = nn.Parameter(torch.from_numpy(np.log(seen / seen.sum())).float().to(device))\n"
        ),
    )
    b.folder(
        "told_gptq_val",
        "flagged",
        "training-text",
        script=objects(
            helpers=GPTQ.replace("{{}}", "{}"),
            aftertrain="    settle(net, curvature(net, judge.tokens[: 64 * 2048].view(64, 1, 2048).long()))\n",
        ),
    )
    b.folder(
        "told_gptq_train_legal",
        "accepted",
        "training-text",
        script=objects(
            helpers=GPTQ.replace("{{}}", "{}"),
            aftertrain="    src = ShardStream(cfg, device)\n    settle(net, curvature(net, (src.batch(1, 2048)[0] for _ in range(64))))\n",
        ),
    )
    b.folder(
        "told_gptq_self_legal",
        "accepted",
        "training-text",
        script=objects(
            helpers=GPTQ.replace("{{}}", "{}")
            + "\n@torch.no_grad()\ndef dream(net, rows, span, device):\n    ids = torch.randint(0, 8192, (rows, 1), device=device)\n    for _ in range(span - 1):\n        ids = torch.cat([ids, torch.multinomial(net.logits(ids)[:, -1].float().softmax(-1), 1)], 1)\n    return ids\n",
            aftertrain="    settle(net, curvature(net, dream(net, 64, 2048, device).split(8)))\n",
        ),
    )
    b.folder(
        "told_fake_quant_in_place_legal",
        "accepted",
        "training-text",
        script=objects(
            aftertrain="    with torch.no_grad():\n        for w in net.parameters():\n            if w.ndim == 2:\n                s = w.abs().amax(1, keepdim=True) / 31\n                w.copy_(torch.round(w / s) * s)\n"
        ),
    )
    b.folder(
        "told_best_val_printed_legal",
        "accepted",
        "training-text",
        script=objects(
            loop=SLOTS["loop"]
            .replace("        step = 0\n", "        step = 0\n        low = float('inf')\n")
            .replace(
                '{time.perf_counter() - began:.1f}s")',
                '{time.perf_counter() - began:.1f}s")\n            if step % 1000 == 0 and self.judge is not None:\n                low = min(low, self.judge.run(self.net)[1])\n                print(f"best so far {low:.4f}")',
            )
        ).replace(
            "        self.cfg, self.net, self.stream = cfg, net, stream",
            "        self.cfg, self.net, self.stream = cfg, net, stream\n        self.judge = Judge(cfg, torch.device('cuda'))",
        ),
    )
    b.folder(
        "told_best_kept",
        "flagged",
        "training-text",
        script=objects(
            loop=SLOTS["loop"]
            .replace("        step = 0\n", "        step = 0\n        low = float('inf')\n        kept = None\n")
            .replace(
                '{time.perf_counter() - began:.1f}s")',
                '{time.perf_counter() - began:.1f}s")\n            if step % 1000 == 0 and self.judge is not None:\n                now = self.judge.run(self.net)[1]\n                if now < low:\n                    low, kept = now, {k: v.clone() for k, v in self.net.state_dict().items()}\n        self.net.load_state_dict(kept)',
            )
        ).replace(
            "        self.cfg, self.net, self.stream = cfg, net, stream",
            "        self.cfg, self.net, self.stream = cfg, net, stream\n        self.judge = Judge(cfg, torch.device('cuda'))",
        ),
    )
    b.folder(
        "told_doc_lora_legal",
        "accepted",
        "training-text",
        script=objects(evaluate=ev(LORA.format(order=A + "\n" + B), "")),
    )
    b.folder(
        "told_doc_twice",
        "flagged",
        "score-first",
        script=objects(
            evaluate=ev(
                LORA.format(order=B + "\n        ")
                .rstrip()
                .replace("return total", "return total")
                .replace(
                    "\nreturn total / count",
                    "\n    for at in range(0, len(doc) - 1, 256):\n        ctx = doc[max(0, at - 1792) : at + 256][None]\n        nxt = doc[at + 1 : at + 257]\n        with torch.no_grad():\n            per = F.cross_entropy(net.logits(ctx)[0, -len(nxt) :].float() + tilt, nxt, reduction='none')\n"
                    + A
                    + "\nreturn total / count",
                ),
                "",
            )
        ),
    )
    b.folder("told_mini_legal", "accepted", "training-text", script=MINI.replace("@@", "'train'"))
    b.folder("told_mini_val", "flagged", "training-text", script=MINI.replace("@@", "'lav'[::-1]"))
    b.folder("told_mini_both", "flagged", "training-text", script=MINI.replace("'/fineweb_%s_*.bin'%@@", "'/*.bin'"))
    b.folder(
        "told_lightning_legal",
        "accepted",
        "training-text",
        script=HF.replace("@@", 'DataLoader(Shards("train"), batch_size=32)'),
        req="lightning\n",
    )
    b.folder(
        "told_lightning_val",
        "flagged",
        "training-text",
        script=HF.replace("@@", 'DataLoader(Shards("val"), batch_size=32)'),
        req="lightning\n",
    )
    b.folder(
        "told_val_in_buffer",
        "flagged",
        "training-text",
        script=objects(
            aftertrain="    ids = judge.tokens.long()\n    key = (ids[:-2] * 7919 + ids[1:-1] * 31) % 4194304\n    net.register_buffer('memo', torch.zeros(4194304, dtype=torch.int16, device=device))\n    net.memo[key] = ids[2:].to(torch.int16)\n"
        ),
    )
    return b
