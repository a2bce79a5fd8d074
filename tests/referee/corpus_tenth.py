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
