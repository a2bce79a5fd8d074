# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""The second half of `corpus_tenth`: learning from what is scored."""

from __future__ import annotations

from .corpus_tenth import b, ttt
from .real_script import Batch, run_log

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
