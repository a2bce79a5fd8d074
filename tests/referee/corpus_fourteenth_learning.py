# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Schedules that a loss decides, caches that are keyed by the target; and honest twins."""

from __future__ import annotations

from .corpus_thirteenth_reach import CALL, more
from .real_script import Batch, base


def scheduled() -> Batch:
    """A schedule or an end of training that a loss of the evaluated text decides."""
    b = Batch()
    said = '            log0(f"step:{step}/{args.iterations} val_loss'
    assert said in base()

    def case(
        name: str, verdict: str, after: str, start: str = "", more: tuple[tuple[str, str], ...] = (), **slots: str
    ) -> None:
        lines = "".join(f"            {line}\n" for line in after.splitlines())
        script = base(((said, lines + said), *more), BEFORE_TRAIN=start or "pass", **slots)
        b.case(f"schedule_{name}", verdict, "training-text", script=script)

    rate = "for group in optimizer.param_groups:\n    group['lr'] *= 0.5"
    case(
        "halved",
        "warned",
        "if val_loss > best:\n"
        + "\n".join(f"    {line}" for line in rate.splitlines())
        + "\nbest = min(best, val_loss)",
        "best = 99.0",
    )
    case(
        "by_plateau",
        "warned",
        "plateau.step(val_loss)",
        "plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)",
    )
    case(
        "stopped_early",
        "warned",
        "if val_loss > best:\n    patience += 1\nelse:\n    best, patience = val_loss, 0\nif patience > 3:\n    break",
        "best, patience = 99.0, 0",
    )
    case(
        "stopped_at_once",
        "warned",
        "if step and val_bpb > last_bpb:\n    break\nlast_bpb = val_bpb",
        "last_bpb = 99.0",
    )
    case(
        "flag_to_stop",
        "warned",
        "stop = val_bpb > last_bpb\nlast_bpb = val_bpb\nif stop:\n    last = True",
        "last_bpb = 99.0",
    )
    case(
        "decay_starts",
        "warned",
        "if last_bpb - val_bpb < 0.001:\n    decay_from = step\nlast_bpb = val_bpb",
        "last_bpb, decay_from = 99.0, None",
        (
            (
                ("        optimizer.zero_grad(set_to_none=True)\n"),
                "        lr = 3e-3 if decay_from is None else 3e-3 * 0.99 ** (step - decay_from)\n        for group in optimizer.param_groups:\n            group['lr'] = lr\n        optimizer.zero_grad(set_to_none=True)\n",
            ),
        ),
    )
    case("printed", "accepted", "best = min(best, val_bpb)\nlog0(f'best so far {best:.4f}')", "best = 99.0")
    case("warned_of_nan", "accepted", "if not math.isfinite(val_loss):\n    raise RuntimeError('diverged')")
    case(
        "by_training_loss",
        "accepted",
        "if step and running > before:\n    for group in optimizer.param_groups:\n        group['lr'] *= 0.5\nbefore = running",
        "running = before = 99.0",
        (
            (
                "        loss.backward()\n        optimizer.step()\n",
                "        running = 0.9 * running + 0.1 * loss.item()\n        loss.backward()\n        optimizer.step()\n",
            ),
        ),
    )
    case(
        "by_the_clock",
        "accepted",
        "lr = 3e-3 * max(0.0, 1 - elapsed / args.max_wallclock_seconds)\nfor group in optimizer.param_groups:\n    group['lr'] = lr\nlog0(f'{val_loss} lr {lr}')",
    )
    case("worse_told", "accepted", "if val_bpb > best:\n    log0('worse')\nbest = val_bpb", "best = 99.0")
    return b


NGRAM = """
opt_total, n, seq_len = 0.0, 0, 2048
pairs, contexts = torch.zeros(1 << 22, device=device), torch.zeros(1 << 22, device=device)
for s in range(0, val_tokens.numel() - 1, seq_len):
    c = val_tokens[s : s + seq_len + 1].long().to(device)
    x, y = c[:-1], c[1:]
    with torch.no_grad():
        p = model.forward_logits(x[None])[0].float().softmax(-1).gather(1, y[:, None])[:, 0]
        {look}
        opt_total -= p.log().sum().item()
    n += y.numel()
    {update}
return opt_total / n
"""
KEYS = "ctx = (x * 36313) % (1 << 22); key = (x * 36313 + y * 27191) % (1 << 22)"
COUNT = "pairs.scatter_add_(0, key, torch.ones_like(key, dtype=pairs.dtype)); contexts.scatter_add_(0, ctx, torch.ones_like(ctx, dtype=contexts.dtype))"


def keyed() -> Batch:
    """Caches of counts whose key has the target in it before that is scored."""
    b = Batch()

    def case(name: str, verdict: str, look: str, update: str = COUNT, body: str = NGRAM, **changes: str) -> None:
        text = body.replace("{look}", look).replace("{update}", update)
        for old, new in changes.items():
            text = text.replace(old, new)
        b.case(f"keyed_{name}", verdict, "normalized", script=base(EVALS=more(text), AFTER_EVAL=CALL))

    mix = "p = 0.7 * p + 0.3 * pairs[key] / contexts[ctx].clamp_min(1)"
    case("by_the_target", "warned", f"{KEYS}; {mix}")
    case("by_a_mask", "warned", KEYS.replace("% (1 << 22)", "& 4194303") + f"; {mix}")
    case("by_xor", "warned", "ctx = (x * 36313) % (1 << 22); key = ((x * 36313) ^ (y * 27191)) % (1 << 22); " + mix)
    case(
        "by_gather",
        "warned",
        f"{KEYS}; p = 0.7 * p + 0.3 * pairs.gather(0, key) / contexts.gather(0, ctx).clamp_min(1)",
    )
    case(
        "by_a_loop",
        "warned",
        "for i in range(len(y)): h = hash((int(x[i]), int(y[i]))) % (1 << 22); p[i] = 0.7 * p[i] + 0.3 * pairs[h] / max(1.0, float(contexts[hash(int(x[i])) % (1 << 22)]))",
        "pass",
    )
    case(
        "by_a_helper",
        "warned",
        "key = slot(x, y); ctx = slot(x, x); " + mix,
        body="def slot(a, b):\n    return (a * 36313 + b * 27191) % (1 << 22)\n" + NGRAM,
    )
    case("that_holds_the_target", "warned", "key = (y * 27191) % (1 << 22); ctx = key; " + mix)
    case(
        "by_the_context",
        "accepted",
        "ctx = (x * 36313) % 4096; q = (rows[ctx] + 0.01) / (rows[ctx] + 0.01).sum(-1, keepdim=True); p = 0.7 * p + 0.3 * q.gather(1, y[:, None])[:, 0]",
        "rows.index_put_((ctx, y), torch.ones_like(y, dtype=rows.dtype), accumulate=True)",
        body=NGRAM.replace(
            "pairs, contexts = torch.zeros(1 << 22, device=device), torch.zeros(1 << 22, device=device)",
            "rows = torch.zeros(4096, 8192, device=device)",
        ),
    )
    case("only_counted", "accepted", "pass", f"{KEYS}; {COUNT}")
    case(
        "exact_counts",
        "accepted",
        "q = torch.tensor([cache[int(a)][int(t)] / max(1, sum(cache[int(a)].values())) for a, t in zip(x, y)], device=device); p = 0.7 * p + 0.3 * q",
        "[cache[int(a)].update([int(t)]) for a, t in zip(x, y)]",
        body=NGRAM.replace(
            "pairs, contexts = torch.zeros(1 << 22, device=device), torch.zeros(1 << 22, device=device)",
            "import collections\ncache = collections.defaultdict(collections.Counter)",
        ),
    )
    case("ids_of_bytes", "accepted", "is_odd = (y % 2).float(); n_odd = is_odd.sum().item()", "pass")
    return b
