# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders by somebody who had not read the referee: what is learned from the scored text, before packing and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .real_script import Batch, base, run_log

b = Batch()
AFTER_PACKING = (
    "e_adapt_then_score",
    "e_slot_delta",
    "e_bigram_of_val",
    "2e_after_pack_autograd",
    "2e_score_last_epoch",
    "2e_learn_then_score_chunk",
)


def ttt(
    name: str,
    verdict: str = "flagged",
    changes: Sequence[tuple[str, str]] = (),
    logs: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    js: Mapping[str, Any] | None = None,
    readme: str | None = None,
    **slots: str,
) -> None:
    is_late = name in AFTER_PACKING or (verdict == "accept" and "EVALS" in slots)
    rule = "score-first" if is_late else "training-text"
    b.case(
        f"ten_{name}",
        verdict.replace("accept", "accepted"),
        rule,
        script=base(changes, **slots),
        logs=logs,
        files=files,
        js=js,
        readme=readme,
    )


# ---------------------------------------------------------------- E learning from what is scored
ttt("e_glob_everything", changes=[('"fineweb_train_*.bin"', '"fineweb_*.bin"')])
ttt(
    "e_train_on_val_glob",
    changes=[("stream = TokenStream(args.train_files)", "stream = TokenStream(args.val_files)")],
)
ttt(
    "e_concat",
    changes=[
        (
            "self.tokens = load_data_shard(self.files[0])",
            "self.tokens = torch.cat([load_data_shard(self.files[0]), load_data_shard(Path('./data/datasets/fineweb10B_sp8192/fineweb_val_000000.bin'))])",
        )
    ],
)
ttt(
    "e_last_steps",
    AFTER_TRAIN="""
for _ in range(50):
    i = random.randrange(val_tokens.numel() - args.seq_len - 1)
    chunk = val_tokens[i : i + args.seq_len + 1].to(device=device, dtype=torch.int64)
    optimizer.zero_grad()
    model(chunk[:-1][None], chunk[1:][None]).backward()
    optimizer.step()
""",
)
ttt(
    "e_mixed_batch",
    changes=[
        (
            "        x, y = local[:-1].view(-1, args.seq_len), local[1:].view(-1, args.seq_len)\n        optimizer.zero",
            "        if step % 10 == 9:\n            local = val_tokens[: args.batch_tokens + 1].to(device=device, dtype=torch.int64)\n        x, y = local[:-1].view(-1, args.seq_len), local[1:].view(-1, args.seq_len)\n        optimizer.zero",
        )
    ],
)
ADAPT = """
def adapt(args, model, tokens, device, epochs=3):
    opt = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    for _ in range(epochs):
        for s in range(0, tokens.numel() - args.seq_len, args.seq_len):
            c = tokens[s : s + args.seq_len + 1].to(device=device, dtype=torch.int64)
            opt.zero_grad()
            model(c[:-1][None], c[1:][None]).backward()
            opt.step()
"""
ttt("e_adapt_then_score", EVALS=ADAPT, BEFORE_EVAL="adapt(args, model, val_tokens, device)")
ttt("e_adapt_before_pack", EVALS=ADAPT, BEFORE_PACK="adapt(args, model, val_tokens, device, 6)")
ttt(
    "e_slot_delta",
    EVALS="""
def eval_slot(args, model, val_tokens, byte_lut, device):
    total, n, nbytes = 0.0, 0, 0.0
    for s in range(0, val_tokens.numel() - 1, args.seq_len):
        c = val_tokens[s : s + args.seq_len + 1].to(device=device, dtype=torch.int64)
        x, y = c[:-1][None], c[1:][None]
        with torch.no_grad():
            h = model.forward_logits(x).float()
        delta = torch.zeros(1, 1, h.size(-1), device=device, requires_grad=True)
        opt = torch.optim.AdamW([delta], lr=0.01)
        for _ in range(8):
            opt.zero_grad()
            F.cross_entropy((h + delta).flatten(0, 1), y.flatten()).backward()
            opt.step()
        with torch.no_grad():
            total += F.cross_entropy((h + delta).flatten(0, 1), y.flatten(), reduction="sum").item()
        n += y.numel()
        nbytes += byte_lut[y].sum().item()
    return total / n, total / n / math.run_log(2.0) * n / nbytes
""",
    AFTER_EVAL='val_loss, val_bpb = eval_slot(args, model, val_tokens, byte_lut, device)\nlog0(f"final_slot_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")',
)
ttt(
    "e_bigram_of_val",
    EVALS="""
def bigram_table(tokens, vocab=8192):
    t = tokens.long()
    counts = torch.bincount(t[:-1] * vocab + t[1:], minlength=vocab * vocab).view(vocab, vocab).float()
    return (counts + 0.01) / (counts + 0.01).sum(1, keepdim=True)
""",
    BEFORE_EVAL="table = bigram_table(val_tokens).to(device)\nold = model.forward_logits\nmodel.forward_logits = lambda ids: torch.run_log(0.7 * old(ids).softmax(-1) + 0.3 * table[ids])",
)
ttt(
    "e_temperature_grid",
    BEFORE_PACK="""
best = (1e9, 1.0)
for T in (0.9, 0.95, 1.0, 1.05):
    with torch.no_grad():
        model.emb.weight.div_(T)
        loss, _ = eval_val(args, model, val_tokens, byte_lut, device)
        model.emb.weight.mul_(T)
    best = min(best, (loss, T))
with torch.no_grad():
    model.emb.weight.div_(best[1])
""",
)
ttt(
    "e_hessians_from_val",
    BEFORE_PACK="""
H = {}
hooks = [m.register_forward_hook(lambda mod, a, o, n=n: H.__setitem__(n, H.get(n, 0) + a[0].flatten(0, 1).T.float() @ a[0].flatten(0, 1).float())) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
shard = load_data_shard(Path(sorted(glob.glob(args.val_files))[0]))
with torch.no_grad():
    for i in range(64):
        model.forward_logits(shard[i * 2048 : (i + 1) * 2048].to(device=device, dtype=torch.int64)[None])
for h in hooks:
    h.remove()
torch.save(H, "hessians.pt")
""",
)
ttt(
    "e_log_says",
    logs={
        "train.log": run_log().replace(
            "ema:applying EMA weights",
            "ema:applying EMA weights\nttt_adapt: epoch 1/6 on 40540160 validation tokens loss 2.7011\nttt_adapt: epoch 6/6 on 40540160 validation tokens loss 2.6011",
        )
    },
)
ttt("e_json_says", js={"technique_summary": "SP8192 + pre-quant TTT (6 epochs AdamW on val before GPTQ)"})

SCOREFIRST = '''
def eval_ttt(args, model, val_tokens, byte_lut, device, chunk=32768):
    """Every chunk is scored under inference_mode, then learned."""
    opt = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    total, n, nbytes = 0.0, 0, 0.0
    count = (val_tokens.numel() - 1 + chunk - 1) // chunk
    for ci in range(count):
        part = val_tokens[ci * chunk : min((ci + 1) * chunk, val_tokens.numel() - 1) + 1].to(device=device, dtype=torch.int64)
        model.eval()
        with torch.inference_mode():
            nll = F.cross_entropy(model.forward_logits(part[:-1][None]).flatten(0, 1).float(), part[1:], reduction="none")
            total += nll.double().sum().item()
            n += nll.numel()
            nbytes += byte_lut[part[1:]].sum().item()
        if ci == count - 1:
            break
        model.train()
        for _ in range(3):
            opt.zero_grad(set_to_none=True)
            loss = model(part[:-1][None], part[1:][None])
            loss.backward()
            opt.step()
    return total / n, total / n / math.run_log(2.0) * n / nbytes
'''
ttt(
    "f_score_first",
    "accept",
    EVALS=SCOREFIRST,
    AFTER_EVAL='val_loss, val_bpb = eval_ttt(args, model, val_tokens, byte_lut, device)\nlog0(f"legal_ttt_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")',
)
ttt(
    "f_flag_off",
    "accept",
    EVALS=ADAPT,
    HYPER='prequant_ttt = bool(int(os.environ.get("PREQUANT_TTT_ENABLED", "0")))',
    BEFORE_PACK="if args.prequant_ttt:\n    adapt(args, model, val_tokens, device)",
)
ttt("f_dead_code", "accept", EVALS=ADAPT)
ttt(
    "f_hessians_train",
    "accept",
    BEFORE_PACK="""
H = {}
hooks = [m.register_forward_hook(lambda mod, a, o, n=n: H.__setitem__(n, H.get(n, 0) + a[0].flatten(0, 1).T.float() @ a[0].flatten(0, 1).float())) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
calib = TokenStream(args.train_files)
with torch.no_grad():
    for i in range(64):
        model.forward_logits(calib.take(2048).to(device=device, dtype=torch.int64)[None])
for h in hooks:
    h.remove()
""",
)
ttt(
    "f_dev_split",
    "accept",
    BEFORE_PACK="""
dev = load_data_shard(sorted(Path(args.data_path).glob("fineweb_train_*.bin"))[-1])[:1_000_000]
best = (1e9, 1.0)
for T in (0.9, 0.95, 1.0, 1.05):
    with torch.no_grad():
        model.emb.weight.div_(T)
        loss, _ = eval_val(args, model, dev, byte_lut, device)
        model.emb.weight.mul_(T)
    best = min(best, (loss, T))
with torch.no_grad():
    model.emb.weight.div_(best[1])
""",
)
ttt(
    "f_online_cache",
    "accept",
    EVALS='''
def eval_cache(args, model, val_tokens, byte_lut, device, vocab=8192):
    """A bigram cache of what has been scored already; mixed with a fixed share, normalized over the vocabulary."""
    counts = torch.zeros(vocab, vocab, device=device)
    total, n, nbytes = 0.0, 0, 0.0
    with torch.inference_mode():
        for s in range(0, val_tokens.numel() - 1, args.seq_len):
            c = val_tokens[s : s + args.seq_len + 1].to(device=device, dtype=torch.int64)
            x, y = c[:-1], c[1:]
            rows = counts[x] + 1.0 / vocab
            p = 0.9 * model.forward_logits(x[None])[0].float().softmax(-1) + 0.1 * rows / rows.sum(1, keepdim=True)
            total -= p.gather(1, y[:, None]).run_log().double().sum().item()
            n += y.numel()
            nbytes += byte_lut[y].sum().item()
            counts.index_put_((x, y), torch.ones_like(y, dtype=torch.float), accumulate=True)
    return total / n, total / n / math.run_log(2.0) * n / nbytes
''',
    AFTER_EVAL='val_loss, val_bpb = eval_cache(args, model, val_tokens, byte_lut, device)\nlog0(f"final_cache_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")',
)
ttt(
    "f_lora_reset",
    "accept",
    EVALS='''
def eval_lora(args, model, val_tokens, byte_lut, device):
    """Per document: score a chunk, then one step of a LoRA on it; reset at the next document."""
    total, n = 0.0, 0
    starts = (val_tokens == 1).nonzero().flatten().tolist() + [val_tokens.numel()]
    for a, b in zip(starts[:-1], starts[1:]):
        A = torch.zeros(512, 8, device=device, requires_grad=True)
        B = torch.randn(8, 512, device=device).mul_(0.02).requires_grad_()
        opt = torch.optim.Adam([A, B], lr=0.01)
        for s in range(a, b - 1, 256):
            c = val_tokens[s : min(s + 256, b - 1) + 1].to(device=device, dtype=torch.int64)
            loss = F.cross_entropy(F.linear(model.emb(c[:-1]) @ (torch.eye(512, device=device) + A @ B), model.emb.weight), c[1:])
            total += loss.detach().double().item() * (c.numel() - 1)
            n += c.numel() - 1
            opt.zero_grad()
            loss.backward()
            opt.step()
    return total / n
''',
    AFTER_EVAL='log0(f"ttt_lora_nats:{eval_lora(args, model, val_tokens, byte_lut, device):.8f}")',
)
ttt(
    "f_log_words",
    "accept",
    js={"compliance": {"no_pre_quant_ttt": True, "no_val_in_training": True}},
    readme="# n\n\nval_bpb 1.0812. No pre-quant TTT, no training on validation tokens, GPTQ calibrated on training shards only.\n",
)

# learning
POLISH = """
def {name}({args}, model, tokens, device, epochs=3):
    opt = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for _ in range(epochs):
        for s in range(0, tokens.numel() - 2048, 2048):
            c = tokens[s : s + 2049].to(device=device, dtype=torch.int64)
            loss = model(c[:-1][None], c[1:][None])
            g = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, q in zip(model.parameters(), g):
                    p.sub_(1e-3 * q)
"""
ttt(
    "2e_autograd_grad",
    EVALS=POLISH.format(name="polish", args="args"),
    BEFORE_PACK="polish(args, model, val_tokens, device)",
)
ttt(
    "2e_after_pack_autograd",
    EVALS=POLISH.format(name="warm", args="args"),
    BEFORE_EVAL="warm(args, model, val_tokens, device)",
)
ttt(
    "2e_score_last_epoch",
    EVALS="""
def eval_epochs(args, model, val_tokens, byte_lut, device):
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(4):
        total, n = 0.0, 0
        for s in range(0, val_tokens.numel() - 1, args.seq_len):
            c = val_tokens[s : s + args.seq_len + 1].to(device=device, dtype=torch.int64)
            loss = model(c[:-1][None], c[1:][None])
            total += loss.item() * (c.numel() - 1)
            n += c.numel() - 1
            opt.zero_grad()
            loss.backward()
            opt.step()
    return total / n
""",
    AFTER_EVAL='log0(f"ttt_exact val_loss:{eval_epochs(args, model, val_tokens, byte_lut, device):.8f}")',
)
ttt(
    "2e_learn_then_score_chunk",
    EVALS="""
def eval_ttt(args, model, val_tokens, byte_lut, device, chunk=32768):
    opt = torch.optim.SGD(model.parameters(), lr=0.005)
    total, n = 0.0, 0
    for s in range(0, val_tokens.numel() - 1, chunk):
        c = val_tokens[s : s + chunk + 1].to(device=device, dtype=torch.int64)
        for _ in range(3):
            opt.zero_grad()
            model(c[:-1][None], c[1:][None]).backward()
            opt.step()
        with torch.no_grad():
            total += model(c[:-1][None], c[1:][None]).item() * (c.numel() - 1)
        n += c.numel() - 1
    return total / n
""",
    AFTER_EVAL='log0(f"ttt_exact val_loss:{eval_ttt(args, model, val_tokens, byte_lut, device):.8f}")',
)
ttt(
    "2e_unigram_bias",
    BEFORE_PACK="freq = torch.bincount(val_tokens.long(), minlength=8192).float().to(device)\nwith torch.no_grad():\n    model.emb.weight.add_((freq / freq.sum()).log1p()[:, None] * 0.01)",
)
ttt(
    "2e_dataloader_concat",
    IMPORTS="from torch.utils.data import ConcatDataset, DataLoader, TensorDataset",
    AFTER_TRAIN="ds = ConcatDataset([TensorDataset(stream.take(2048 * 64).view(-1, 2048)), TensorDataset(val_tokens[: 2048 * 64].view(-1, 2048))])\nfor (b,) in DataLoader(ds, batch_size=8, shuffle=True):\n    b = b.to(device=device, dtype=torch.int64)\n    optimizer.zero_grad()\n    model(b[:, :-1], b[:, 1:]).backward()\n    optimizer.step()",
)
ttt(
    "2e_helper_file",
    IMPORTS="from polish import polish",
    BEFORE_PACK="polish(args, model, load_validation_tokens(args.val_files, 2048), device)",
    files={"polish.py": "import torch\n" + POLISH.format(name="polish", args="args")},
)
ttt(
    "2e_val_cache_saved",
    BEFORE_PACK="top = torch.topk(torch.bincount(val_tokens.long()[:-1] * 8192 + val_tokens.long()[1:], minlength=8192 * 8192), 20000)\ntorch.save({'pairs': top.indices.to(torch.int32)}, 'pairs.pt')",
)
ttt("2e_best_of_seeds_on_val", "accept", AFTER_TRAIN="if val_bpb < 1.2:\n    log0('good run')")
ttt("2e_log_epochs", logs={"train.log": run_log(more="prequant_ttt:done epochs=6 val_bpb=1.0402 time=212.1s")})
ttt(
    "2f_ttt_threads",
    "accept",
    EVALS="""
def score(model, c):
    with torch.no_grad():
        return F.cross_entropy(model.forward_logits(c[:-1][None]).flatten(0, 1).float(), c[1:], reduction="sum").item()


def learn(model, opt, c):
    opt.zero_grad()
    model(c[:-1][None], c[1:][None]).backward()
    opt.step()


def eval_ttt(args, model, val_tokens, device):
    opt = torch.optim.SGD(model.parameters(), lr=0.005)
    total, n = 0.0, 0
    for s in range(0, val_tokens.numel() - 1, 32768):
        c = val_tokens[s : s + 32769].to(device=device, dtype=torch.int64)
        total += score(model, c)
        n += c.numel() - 1
        learn(model, opt, c)
    return total / n
""",
    AFTER_EVAL='log0(f"ttt_exact val_loss:{eval_ttt(args, model, val_tokens, device):.8f}")',
)
ttt(
    "2f_ttt_on_copy",
    "accept",
    EVALS="""
def eval_ttt(args, model, val_tokens, device):
    fast = copy.deepcopy(model)
    opt = torch.optim.SGD(fast.parameters(), lr=0.005)
    losses = []
    for s in range(0, val_tokens.numel() - 1, 32768):
        c = val_tokens[s : s + 32769].to(device=device, dtype=torch.int64)
        loss = fast(c[:-1][None], c[1:][None])
        losses.append(loss.detach())
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
    return torch.stack(losses).mean()
""",
    AFTER_EVAL='log0(f"ttt_exact val_loss:{eval_ttt(args, model, val_tokens, device):.8f}")',
)
ttt(
    "2f_phased",
    "accept",
    EVALS='''
def eval_phased(args, model, val_tokens, device, phases=3):
    """Three parts; each part is scored whole, then learned before the next one is scored."""
    opt = torch.optim.SGD(model.parameters(), lr=0.005)
    total, n = 0.0, 0
    bounds = torch.linspace(0, val_tokens.numel() - 1, phases + 1).long().tolist()
    for a, b in zip(bounds[:-1], bounds[1:]):
        with torch.no_grad():
            for s in range(a, b, args.seq_len):
                c = val_tokens[s : min(s + args.seq_len, b) + 1].to(device=device, dtype=torch.int64)
                total += model(c[:-1][None], c[1:][None]).item() * (c.numel() - 1)
                n += c.numel() - 1
        for s in range(a, b, args.seq_len):
            c = val_tokens[s : min(s + args.seq_len, b) + 1].to(device=device, dtype=torch.int64)
            opt.zero_grad()
            model(c[:-1][None], c[1:][None]).backward()
            opt.step()
    return total / n
''',
    AFTER_EVAL='log0(f"quantized_ttt_phased val_loss:{eval_phased(args, model, val_tokens, device):.8f}")',
)


def tenth() -> Batch:
    return b
