# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Evaluations that take the better of two losses or probabilities, which only the target tells; and honest mixtures."""

from __future__ import annotations

import textwrap
from typing import Any

from .real_script import Batch, base

CALL = "log0(f'mixed_exact {eval_mixed(args, model, other, val_tokens, byte_lut, device)}')"
OTHER = "other = GPT().to(device)\nother.load_state_dict(torch.load('other.pt', weights_only=True))"
EACH = "for s in range(0, val_tokens.numel() - 1, seq_len):\n    c = val_tokens[s : s + seq_len + 1].long().to(device)\n    x, y = c[None, :-1], c[1:]\n"
TWO = "    a, b = model.forward_logits(x)[0].float(), other.forward_logits(x)[0].float()\n"
LOSSES = TWO + "    nll_a, nll_b = F.cross_entropy(a, y, reduction='none'), F.cross_entropy(b, y, reduction='none')\n"
PROBS = TWO + "    pa, pb = a.softmax(-1), b.softmax(-1)\n"


def mixed(body: str, start: str = "total, n, seq_len = 0.0, 0, 2048\n", pre: str = "", graded: bool = False) -> str:
    """An evaluation by two models; `body` is what its loop does."""
    inside = (
        start
        + ("" if graded else "with torch.inference_mode():\n")
        + textwrap.indent(EACH + body + "    n += y.numel()\n", "" if graded else "    ")
        + "return total / n\n"
    )
    return f"{pre}\ndef eval_mixed(args, model, other, val_tokens, byte_lut, device):\n" + textwrap.indent(
        inside, "    "
    )


def better() -> Batch:
    b = Batch()

    def case(name: str, verdict: str, body: str, **given: Any) -> None:
        script = base(EVALS=mixed(body, **given), BEFORE_EVAL=OTHER, AFTER_EVAL=CALL)
        b.case(f"better_{name}", verdict, "normalized", script=script)

    for name, body in (
        ("minimum", LOSSES + "    total += torch.minimum(nll_a, nll_b).sum().item()\n"),
        ("maximum_of_gathered", PROBS + "    p = torch.maximum(pa.gather(1, y[:, None]), pb.gather(1, y[:, None]))\n    total -= p.log().sum().item()\n"),
        ("maximum_before_gather", PROBS + "    p = torch.maximum(pa, pb)\n    total -= p.gather(1, y[:, None]).log().sum().item()\n"),
        ("indexed", PROBS + "    rows = torch.arange(len(y), device=device)\n    best = torch.max(pa[rows, y], pb[rows, y])\n    total -= best.log().sum().item()\n"),
        ("where", LOSSES + "    total += torch.where(nll_b < nll_a, nll_b, nll_a).sum().item()\n"),
        ("where_by_mask", LOSSES + "    take = nll_b < nll_a\n    total += torch.where(take, nll_b, nll_a).sum().item()\n"),
        ("mask_times", LOSSES + "    take = (nll_b < nll_a).float()\n    total += (take * nll_b + (1 - take) * nll_a).sum().item()\n"),
        ("put_by_mask", LOSSES + "    take = nll_b.lt(nll_a)\n    nll_a[take] = nll_b[take]\n    total += nll_a.sum().item()\n"),
        ("stacked", LOSSES + "    total += torch.stack([nll_a, nll_b]).min(0).values.sum().item()\n"),
        ("stacked_amin", LOSSES + "    both = torch.stack((nll_a, nll_b), dim=-1)\n    total += both.amin(-1).sum().item()\n"),
        ("argmin", LOSSES + "    both = torch.stack((nll_a, nll_b))\n    pick = both.argmin(0, keepdim=True)\n    total += both.gather(0, pick).sum().item()\n"),
        ("sorted", LOSSES + "    total += torch.stack((nll_a, nll_b)).sort(0).values[0].sum().item()\n"),
        ("by_model", "    each = [F.cross_entropy(m.forward_logits(x)[0].float(), y, reduction='none') for m in (model, other)]\n    total += torch.stack(each).min(dim=0)[0].sum().item()\n"),
        ("appended", "    each = []\n    for m in (model, other):\n        each.append(F.cross_entropy(m.forward_logits(x)[0].float(), y, reduction='none'))\n    total += torch.stack(each).min(dim=0)[0].sum().item()\n"),
        ("by_temperature", "    logits = model.forward_logits(x)[0].float()\n    each = torch.stack([F.cross_entropy(logits / temp, y, reduction='none') for temp in (0.8, 1.0, 1.2)])\n    total += each.amin(0).sum().item()\n"),
        ("token_by_token", LOSSES + "    for u, v in zip(nll_a.tolist(), nll_b.tolist()):\n        total += min(u, v)\n"),
        ("if_else", LOSSES + "    for i in range(len(y)):\n        if nll_b[i] < nll_a[i]:\n            total += nll_b[i].item()\n        else:\n            total += nll_a[i].item()\n"),
        ("of_window", LOSSES + "    total += min(nll_a.sum().item(), nll_b.sum().item())\n"),
        ("of_window_ternary", LOSSES + "    sum_a, sum_b = nll_a.sum().item(), nll_b.sum().item()\n    total += sum_a if sum_a < sum_b else sum_b\n"),
        ("clamped", LOSSES + "    total += nll_a.clamp(max=nll_b).sum().item()\n"),
        ("numpy", LOSSES + "    total += float(np.minimum(nll_a.cpu().numpy(), nll_b.cpu().numpy()).sum())\n"),
        ("reduced_model", "    loss_a = model(x, y[None])\n    loss_b = other(x, y[None])\n    total += torch.minimum(loss_a, loss_b).item() * y.numel()\n"),
    ):  # fmt: skip
        case(name, "warned", body)
    for name, body in (
        ("into_its_own_name", LOSSES + "    nll_a = torch.minimum(nll_a, nll_b)\n    total += nll_a.sum().item()\n"),
        ("dropped_by_target", LOSSES + "    nll = torch.where(byte_lut[y] <= 1, torch.zeros_like(nll_a), nll_a)\n    total += nll.sum().item()\n"),
        ("more_than_one", PROBS + "    p, q = pa.gather(1, y[:, None]), pb.gather(1, y[:, None])\n    total -= torch.log((p + 0.3 * q).clamp(max=1.0)).sum().item()\n"),
    ):  # fmt: skip
        case(name, "warned", body)
    best = "val_loss, val_bpb = min((eval_val(args, model, val_tokens, byte_lut, device, t) for t in (0.9, 1.0, 1.1)), key=lambda r: r[1])"
    b.case("better_of_settings", "warned", "normalized", script=base(AFTER_EVAL=best))
    helper = "def token_nll(model, other, x, y):\n    nll_a = F.cross_entropy(model.forward_logits(x)[0].float(), y, reduction='none')\n    nll_b = F.cross_entropy(other.forward_logits(x)[0].float(), y, reduction='none')\n    return torch.minimum(nll_a, nll_b)\n"
    case("in_a_helper", "warned", "    total += token_nll(model, other, x, y).sum().item()\n", pre=helper)
    losses = "def token_nll(model, x, y):\n    return F.cross_entropy(model.forward_logits(x)[0].float(), y, reduction='none')\n"
    case(
        "of_a_helper",
        "warned",
        "    total += torch.minimum(token_nll(model, x, y), token_nll(other, x, y)).sum().item()\n",
        pre=losses,
    )
    cache = "class Cache:\n    def __init__(self):\n        self.table = {}\n\n    def prob(self, context, token):\n        seen = self.table.get(context, {})\n        return (seen.get(token, 0) + 0.5) / (sum(seen.values()) + 4096)\n\n    def learn(self, ids):\n        for i in range(3, len(ids)):\n            seen = self.table.setdefault(tuple(ids[i - 3 : i]), {})\n            seen[ids[i]] = seen.get(ids[i], 0) + 1\n\n"
    each = "    ids, probs = c.tolist(), model.forward_logits(x)[0].float().softmax(-1)\n    for i in range(3, len(ids) - 1):\n        token = ids[i + 1]\n        p, q = probs[i, token].item(), cache.prob(tuple(ids[i - 2 : i + 1]), token)\n        total -= math.log({})\n    cache.learn(ids)\n"
    start = "total, n, seq_len, cache = 0.0, 0, 2048, Cache()\n"
    case("of_cache", "warned", each.format("max(p, q)"), pre=cache, start=start)
    case("of_cache_mixed", "accepted", each.format("0.9 * p + 0.1 * q"), pre=cache, start=start)
    case("of_cache_bounded", "accepted", each.format("max(0.9 * p + 0.1 * q, 1e-9)"), pre=cache, start=start)

    for name, body in (
        ("mixture", PROBS + "    p = 0.5 * pa + 0.5 * pb\n    total -= p.gather(1, y[:, None]).clamp_min(1e-9).log().sum().item()\n"),
        ("shares_of_one", PROBS + "    p, q = pa.gather(1, y[:, None]), pb.gather(1, y[:, None])\n    total -= torch.log(0.7 * p + 0.3 * q).sum().item()\n"),
        ("padding", LOSSES + "    valid = torch.arange(len(y), device=device) < len(y)\n    total += torch.where(valid, nll_a, torch.zeros_like(nll_a)).sum().item()\n"),
        ("logaddexp", LOSSES + "    mix = -torch.logaddexp(math.log(0.5) - nll_a, math.log(0.5) - nll_b)\n    total += mix.sum().item()\n"),
        ("by_confidence", PROBS + "    sure = pb.amax(-1, keepdim=True) > pa.amax(-1, keepdim=True)\n    p = torch.where(sure, pb, pa)\n    total -= p.gather(1, y[:, None]).log().sum().item()\n"),
        ("by_entropy", LOSSES + "    ent = lambda z: -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)\n    total += torch.where(ent(b) < ent(a), nll_b, nll_a).sum().item()\n"),
        ("maximum_normalized", PROBS + "    p = torch.maximum(pa, pb)\n    p = p / p.sum(-1, keepdim=True)\n    total -= p.gather(1, y[:, None]).log().sum().item()\n"),
        ("maximum_of_logits", TWO + "    total += F.cross_entropy(torch.maximum(a, b), y, reduction='sum').item()\n"),
        ("bounded", LOSSES + "    total += torch.minimum(nll_a, torch.full_like(nll_a, 20.0)).sum().item()\n    n_bad = (nll_b < nll_a).sum().item()\n"),
        ("reports_wins", LOSSES + "    wins = (nll_b < nll_a).float().mean().item()\n    log = {'wins': wins, 'worst': max(nll_a.max().item(), 0.0)}\n    total += nll_a.sum().item()\n"),
        ("by_position", LOSSES + "    early = torch.arange(len(y), device=device) < 64\n    total += torch.where(early, nll_b, nll_a).sum().item()\n"),
    ):  # fmt: skip
        case(name, "accepted", body)
    past = (
        LOSSES
        + "    total += (nll_b if past_b < past_a else nll_a).sum().item()\n    past_a += nll_a.sum().item()\n    past_b += nll_b.sum().item()\n"
    )
    case("by_the_past", "accepted", past, start="total, n, seq_len, past_a, past_b = 0.0, 0, 2048, 0.0, 0.0\n")
    least = (
        LOSSES
        + "    low = min(low, nll_a.mean().item())\n    high = max(high, nll_a.max().item())\n    total += nll_a.sum().item()\n"
    )
    case("least_so_far", "accepted", least, start="total, n, seq_len, low, high = 0.0, 0, 2048, 9.0, 0.0\n")
    return b
