# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""What a loss of the scored text chooses, tables and neighbours of it, and files that take it in: by a stranger."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .real_script import Batch, base

LOSS = "eval_val(args, model, val_tokens, byte_lut, device)[0]"
CALL = "log0(f'ttt_exact {eval_more(args, model, val_tokens, byte_lut, device)}')"


def more(body: str, pre: str = "") -> str:
    """A second evaluation, of which `body` is the function's."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return f"{pre}\ndef eval_more(args, model, val_tokens, byte_lut, device, chunk=32768):\n{lines}\n"


def learning() -> Batch:
    b = Batch()

    def flagged(name: str, rule: str, changes: Sequence[tuple[str, str]] = (), **slots: Any) -> None:
        b.case(f"twelve_{name}", "flagged", rule, script=base(changes, **slots))

    def accepted(name: str, rule: str, changes: Sequence[tuple[str, str]] = (), **slots: Any) -> None:
        b.case(f"twelve_{name}", "accepted", rule, script=base(changes, **slots))

    # shares, settings and weights that a loss of the validation text has chosen
    flagged(
        "soup_by_loss",
        "training-text",
        BEFORE_PACK=f"losses, states = [], [ema_state, model.state_dict()]\nfor state in states:\n    model.load_state_dict(state)\n    losses.append({LOSS})\nshare = torch.softmax(-100 * torch.tensor(losses), 0).tolist()\nmodel.load_state_dict({{k: sum(w * s[k] for w, s in zip(share, states)) for k in ema_state}})",
    )
    flagged(
        "soup_by_loss_after_packing",
        "score-first",
        BEFORE_EVAL=f"states = [copy.deepcopy(model.state_dict()), ema_state]\nlosses = np.array([{LOSS} for _ in states])\nw = np.exp(losses.min() - losses)\nw = w / w.sum()\nmodel.load_state_dict({{k: w[0] * states[0][k] + w[1] * states[1][k] for k in ema_state}}, strict=True)",
    )
    flagged(
        "greedy_soup",
        "training-text",
        BEFORE_PACK=f"kept = [ema_state]\nbest = {LOSS}\nfor path in sorted(glob.glob('ckpt_*.pt')):\n    trial = kept + [torch.load(path, weights_only=True)]\n    model.load_state_dict({{k: torch.stack([s[k] for s in trial]).mean(0) for k in ema_state}})\n    loss = {LOSS}\n    if loss < best:\n        best, kept = loss, trial\nmodel.load_state_dict({{k: torch.stack([s[k] for s in kept]).mean(0) for k in ema_state}})",
    )
    flagged(
        "random_search",
        "training-text",
        BEFORE_PACK=f"best = {LOSS}\nfor _ in range(50):\n    noise = [1e-4 * torch.randn_like(p) for p in model.parameters()]\n    for p, n in zip(model.parameters(), noise):\n        p.data.add_(n)\n    loss = {LOSS}\n    if loss >= best:\n        for p, n in zip(model.parameters(), noise):\n            p.data.sub_(n)\n    else:\n        best = loss",
    )
    flagged(
        "evolution_by_reward",
        "training-text",
        BEFORE_PACK=f"for _ in range(20):\n    noise = {{k: torch.randn_like(v) for k, v in model.named_parameters()}}\n    with torch.no_grad():\n        for k, p in model.named_parameters():\n            p.add_(1e-3 * noise[k])\n        reward = -{LOSS}\n        for k, p in model.named_parameters():\n            p.add_((reward - 1.0) * 1e-4 * noise[k])",
    )
    flagged(
        "clip_by_loss",
        "training-text",
        BEFORE_PACK=f"tried = []\nfor sigmas in (10.0, 12.0, 14.0):\n    args.clip_sigmas = sigmas\n    tried.append(({LOSS}, sigmas))\nargs.clip_sigmas = min(tried)[1]",
    )
    flagged(
        "temperature_of_val",
        "score-first",
        HYPER="    softcap = 30.0",
        BEFORE_EVAL="x = val_tokens[:65536].view(32, 2048).long().to(device)\nwith torch.no_grad():\n    logits = model.forward_logits(x[:, :-1]).float()\nlosses = {t: F.cross_entropy(logits.flatten(0, 1) / t, x[:, 1:].flatten()).item() for t in (0.9, 1.0, 1.1)}\nmodel.softcap = 30.0 / min(losses, key=losses.get)",
    )
    accepted(
        "temperature_of_train",
        "training-text",
        BEFORE_PACK="x = stream.take(65536).view(32, 2048).long().to(device)\nwith torch.no_grad():\n    logits = model.forward_logits(x[:, :-1]).float()\nlosses = {t: F.cross_entropy(logits.flatten(0, 1) / t, x[:, 1:].flatten()).item() for t in (0.9, 1.0, 1.1)}\nmodel.temperature = nn.Parameter(torch.tensor(min(losses, key=losses.get)))",
    )
    flagged(
        "average_by_loss",
        "training-text",
        BEFORE_PACK=f"states, found = {{'ema': ema_state, 'raw': model.state_dict()}}, {{}}\nfor name, state in states.items():\n    model.load_state_dict(state)\n    found[name] = {LOSS}\nmodel.load_state_dict(states[sorted(found.items(), key=lambda pair: pair[1])[0][0]])",
    )
    flagged(
        "softcap_by_a_searcher",
        "training-text",
        BEFORE_PACK=f"from scipy.optimize import minimize_scalar\ndef objective(t):\n    model.cap = t\n    return {LOSS}\nmodel.softcap = minimize_scalar(objective, bounds=(20, 40)).x",
    )
    accepted(
        "smallest_of_codecs",
        "training-text",
        [
            (
                "    blob = lzma.compress(buf.getvalue(), preset=9)",
                "    blob = None\n    for preset in (6, 9):\n        tried = lzma.compress(buf.getvalue(), preset=preset)\n        if blob is None or len(tried) < len(blob):\n            blob, args.scale = tried, preset",
            )
        ],
    )
    accepted(
        "losses_are_only_kept",
        "training-text",
        [
            (
                '            log0(f"step:',
                '            history.append((step, val_loss))\n            low = min(low, val_loss)\n            args.last_loss = val_loss\n            log0(f"step:',
            )
        ],
        BEFORE_TRAIN="history, low = [], float('inf')",
        AFTER_PACK="torch.save({'history': history, 'val_loss': low}, 'history.pt')",
    )
    accepted(
        "warns_of_a_bad_loss",
        "training-text",
        AFTER_TRAIN="if val_loss > 4.0:\n    log0('diverged')\n    args.note = 'diverged'",
    )
    accepted(
        "share_learned_online",
        "score-first",
        EVALS=more(
            "share = torch.zeros((), device=device, requires_grad=True)\nopt = torch.optim.SGD([share], lr=0.1)\ntotal, n = 0.0, 0\nfor s in range(0, val_tokens.numel() - 1, chunk):\n    c = val_tokens[s : s + chunk + 1].long().to(device)\n    with torch.no_grad():\n        logits = model.forward_logits(c[None, :-1])[0].float()\n    w = torch.sigmoid(share)\n    nll = F.cross_entropy(logits * (1 + w), c[1:])\n    total += nll.item() * (c.numel() - 1)\n    n += c.numel() - 1\n    opt.zero_grad()\n    nll.backward()\n    opt.step()\nreturn total / n"
        ),
        AFTER_EVAL=CALL,
    )

    # tables of tokens in a class of its own, in a script that has a function called log
    table = "class Backoff:\n    def __init__(self):\n        self.table = {}\n\n    def prob(self, context, token):\n        seen = self.table.get(context, {})\n        return (seen.get(token, 0) + 0.5) / (sum(seen.values()) + 4096)\n\n    def learn(self, ids):\n        for i in range(3, len(ids)):\n            self.table.setdefault(tuple(ids[i - 3 : i]), {})\n            self.table[tuple(ids[i - 3 : i])][ids[i]] += 1\n\n\ndef log(text):\n    print(text)\n"
    each = "for s in range(0, val_tokens.numel() - 1, chunk):\n    ids = val_tokens[s : s + chunk + 1].tolist()\n{before}    for i in range(3, len(ids)):\n        nats -= math.log(cache.prob(tuple(ids[i - 3 : i]), ids[i]))\n{after}"
    learn = "    cache.learn(ids)\n"
    start = "cache, nats = Backoff(), 0.0\n"
    accepted(
        "table_after_chunk",
        "score-first",
        DEFS=table,
        EVALS=more(start + each.format(before="", after=learn) + "return nats"),
        AFTER_EVAL=CALL,
    )
    flagged(
        "table_before_chunk",
        "score-first",
        DEFS=table,
        EVALS=more(start + each.format(before=learn, after="") + "return nats"),
        AFTER_EVAL=CALL,
    )
    flagged(
        "table_of_all_first",
        "score-first",
        DEFS=table,
        EVALS=more(start + "cache.learn(val_tokens.tolist())\n" + each.format(before="", after="") + "return nats"),
        AFTER_EVAL=CALL,
    )
    flagged(
        "table_two_sweeps",
        "score-first",
        DEFS=table,
        EVALS=more(
            start
            + "for sweep in range(2):\n    nats = 0.0\n"
            + textwrap.indent(each.format(before="", after=learn), "    ")
            + "return nats"
        ),
        AFTER_EVAL=CALL,
    )
    flagged(
        "unigram_outside_loops",
        "score-first",
        EVALS=more(
            "n = torch.bincount(val_tokens.long(), minlength=8192).float() + 1\nbias = (n / n.sum()).log().to(device)\ntotal = 0.0\nfor s in range(0, val_tokens.numel() - 1, chunk):\n    c = val_tokens[s : s + chunk + 1].long().to(device)\n    with torch.no_grad():\n        total += F.cross_entropy(model.forward_logits(c[None, :-1])[0] + bias, c[1:], reduction='sum').item()\nreturn total"
        ),
        AFTER_EVAL=CALL,
    )
    counts = "        np.add.at(counts, key, 1)\n"
    scored = "        nats += -np.log(np.where(seen > 0, seen / seen.sum(), p)).sum()\n"
    hashed = "counts = np.zeros(1 << 20)\nnats = 0.0\nids = val_tokens.numpy().astype(np.int64)\nwith torch.no_grad():\n    for lo in range(2, len(ids), chunk):\n        key = (ids[lo - 2 : lo + chunk - 1] * 36313) % (1 << 20)\n        p = model.forward_logits(torch.from_numpy(ids[lo - 1 : lo + chunk - 1])[None])[0].softmax(-1).max(-1).values.numpy()\n        seen = counts[key]\n{}return nats"
    accepted(
        "hashed_after_chunk", "score-first", DEFS=table, EVALS=more(hashed.format(scored + counts)), AFTER_EVAL=CALL
    )
    flagged(
        "hashed_before_chunk", "score-first", DEFS=table, EVALS=more(hashed.format(counts + scored)), AFTER_EVAL=CALL
    )

    # a second pass, and what the targets of a window say of themselves
    score = "    with torch.no_grad():\n        total += model(c[None, :-1], c[None, 1:]).item()\n"
    adapt = "    opt.zero_grad()\n    model(c[None, :-1], c[None, 1:]).backward()\n    opt.step()\n"
    go = (
        "for s in range(0, val_tokens.numel() - 1, chunk):\n    c = val_tokens[s : s + chunk + 1].long().to(device)\n"
    )
    first = "opt = torch.optim.SGD(model.parameters(), lr=1e-3)\ntotal = 0.0\n"
    accepted("one_pass", "score-first", EVALS=more(first + go + score + adapt + "return total"), AFTER_EVAL=CALL)
    flagged(
        "second_pass",
        "score-first",
        EVALS=more(first + go + score + adapt + "total = 0.0\n" + go + score + "return total"),
        AFTER_EVAL=CALL,
    )
    of_window = "    wanted = F.one_hot(c[1:], 8192).float().mean(0)\n"
    biased = "    with torch.no_grad():\n        logits = model.forward_logits(c[None, :-1])[0] + (bias + 1e-6).log()\n        total += F.cross_entropy(logits, c[1:], reduction='sum').item()\n"
    bias = "bias, total = torch.ones(8192, device=device), 0.0\n"
    flagged(
        "bias_of_own_targets",
        "score-first",
        EVALS=more(bias + go + of_window + "    bias = wanted\n" + biased + "return total"),
        AFTER_EVAL=CALL,
    )
    accepted(
        "bias_of_the_window_before",
        "score-first",
        EVALS=more(bias + go + biased + of_window + "    bias = wanted\nreturn total"),
        AFTER_EVAL=CALL,
    )

    # neighbours in a store
    keep = "keys.append(h)\nwords.append(c[1:])\n"
    look = "near = torch.cdist(h, torch.cat(keys)).topk(8, largest=False).indices\ntotal -= F.one_hot(torch.cat(words)[near], 8192).float().mean(1).gather(1, c[1:, None]).log().sum().item()\n"
    step = "for s in range(0, val_tokens.numel() - 1, chunk):\n    c = val_tokens[s : s + chunk + 1].long().to(device)\n    h = model.forward_logits(c[None, :-1])[0]\n"
    inside = "keys, words, total = [torch.zeros(1, 8192)], [torch.zeros(1)], 0.0\nwith torch.no_grad():\n"

    def store(*bodies: str) -> str:
        return more(
            inside
            + textwrap.indent("".join(step + textwrap.indent(body, "    ") for body in bodies), "    ")
            + "return total"
        )

    accepted("neighbours_scored_first", "score-first", EVALS=store(look + keep), AFTER_EVAL=CALL)
    flagged("neighbours_of_all", "score-first", EVALS=store(keep, look), AFTER_EVAL=CALL)

    # the text itself in what is packed
    flagged(
        "text_in_a_buffer",
        "training-text",
        BEFORE_PACK="model.register_buffer('hints', val_tokens[:131072:7].to(torch.int16))",
    )
    accepted(
        "bytes_in_a_buffer",
        "training-text",
        BEFORE_PACK="model.register_buffer('byte_lut', byte_lut.to(torch.int16))",
    )

    # which files are trained on
    anchor = "        self.files = [Path(p) for p in sorted(glob.glob(pattern))]\n"
    folder = "sorted(Path(pattern).parent.iterdir())"
    for name, found, verdict in (
        ("every_shard_of_a_folder", f"[p for p in {folder} if p.suffix == '.bin']", flagged),
        (
            "every_name_of_a_folder",
            "[Path(n) for n in os.listdir(os.path.dirname(pattern)) if n.endswith('.bin')]",
            flagged,
        ),
        (
            "every_shard_below",
            "[Path(r, n) for r, _, names in os.walk('data') for n in names if n.endswith('.bin')]",
            flagged,
        ),
        (
            "appended_of_a_folder",
            "[]\n        for p in Path('data').iterdir():\n            if p.suffix == '.bin':\n                self.files.append(p)",
            flagged,
        ),
        (
            "appended_but_of_val",
            "[]\n        for p in Path('data').iterdir():\n            if 'val' in p.name:\n                continue\n            if p.suffix == '.bin':\n                self.files.append(p)",
            accepted,
        ),
        (
            "both_splits",
            "[Path('data', f'fineweb_{split}_{i:06d}.bin') for split in ('train', 'val') for i in range(1)]",
            flagged,
        ),
        (
            "numbered_shards",
            "[Path('data', f'fineweb_train_{i:06d}.bin') for kind in ('sp', 'bpe') for i in range(80)]",
            accepted,
        ),
        (
            "path_of_parts",
            "[Path(p) for p in glob.glob(pattern)]\n        self.files[-1] = Path('data', 'fineweb_val_000000.bin')",
            flagged,
        ),
        ("train_shards_of_a_folder", f"[p for p in {folder} if p.suffix == '.bin' and 'train' in p.name]", accepted),
        (
            "shards_but_of_val",
            "[Path(p) for p in glob.glob('data/fineweb_*.bin') if 'val' not in os.path.basename(p)]",
            accepted,
        ),
        (
            "shards_that_start_otherwise",
            "[Path(p) for p in glob.glob('data/fineweb_*.bin') if not os.path.basename(p).startswith('fineweb_val')]",
            accepted,
        ),
        (
            "linked_to_train",
            "[Path(p) for p in glob.glob(pattern)]\n        Path('data/fineweb_train_999999.bin').symlink_to(glob.glob('data/*val*')[0])",
            flagged,
        ),
        (
            "copied_to_train",
            "[Path(p) for p in glob.glob(pattern)]\n        shutil.copyfile('data/fineweb_val_000000.bin', 'data/fineweb_train_999999.bin')",
            flagged,
        ),
        (
            "copied_from_train",
            "[Path(p) for p in glob.glob(pattern)]\n        shutil.copyfile('data/fineweb_train_000000.bin', '/dev/shm/fineweb_train_000000.bin')",
            accepted,
        ),
    ):
        verdict(name, "training-text", [(anchor, f"        self.files = {found}\n")], IMPORTS="import shutil")
    return b
