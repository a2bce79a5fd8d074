# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Mixtures and choices among evaluations that a stranger's second batch found, and legal twins."""

from __future__ import annotations

from .object_parts import NG, NS, NU, STD, by_token, ev
from .object_script import SLOTS, Folders, objects


def L(x: str, **k: str) -> str:
    return objects(evaluate=ev(STD.format(x=x)), **k)


def mixing() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder(
        "again_told_running_print_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(
                STD.format(
                    x="smooth = per.mean().item() if i == 0 else 0.95 * smooth + 0.05 * per.mean().item()\n    if i % 100 == 0:\n        print(f'{i} {smooth:.4f}')"
                )
            )
        ),
    )
    b.folder(
        "again_told_accuracy_legal",
        "accepted",
        "normalized",
        script=L(
            "hit = (net.logits(ctx).argmax(-1) == nxt).float()\n    right = right + hit.sum().item() if i else hit.sum().item()"
        ),
    )
    b.folder(
        "again_told_weights_before_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "    mixed = torch.logaddexp(model + math.log(0.9), seenp + math.log(0.1))",
                        "    one = model + math.log(0.9)\n    other = seenp + math.log(0.1)\n    mixed = torch.logaddexp(one, other)",
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "again_told_stack_weights_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "torch.logaddexp(model + math.log(0.9), seenp + math.log(0.1))",
                        "torch.logsumexp(torch.stack([model, seenp]), 0) - math.log(2)",
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "again_told_stack_bare",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "torch.logaddexp(model + math.log(0.9), seenp + math.log(0.1))",
                        "torch.logsumexp(torch.stack([model, seenp]), 0)",
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "again_told_past_gate_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.replace("seen = 0\nfor", "seen = 0\npast = torch.zeros(2, device=self.tokens.device)\nfor").format(
                    a="    w = torch.softmax(-past, 0)\n"
                    + NS.replace("math.log(0.9)", "torch.log(w[0])").replace("math.log(0.1)", "torch.log(w[1])"),
                    b=NU
                    + "\n    past = 0.9 * past - 0.1 * torch.stack([model.gather(1, nxt[:, None]).mean(), seenp.gather(1, nxt[:, None]).mean()])",
                )
            )
        ),
    )
    b.folder(
        "again_told_mask_by_context_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=by_token(
                '    full = net.logits(ctx)[0].float()\n    full = full.masked_fill(self.never[ctx[0]], float("-inf"))\n    per = F.cross_entropy(full, nxt.flatten(), reduction="none")\n'
            ).replace(
                "        self.width = piece",
                "        self.never = torch.zeros(8192, 8192, dtype=torch.bool, device=device)\n        self.width = piece",
            )
        ),
    )
    b.folder(
        "again_told_weights_in_training_legal",
        "accepted",
        "normalized",
        script=objects(
            loop=SLOTS["loop"].replace(
                "cost = self.net(ctx, nxt)",
                "cost = F.cross_entropy(self.net.logits(ctx).flatten(0, 1).float(), nxt.flatten(), weight=self.rarity, label_smoothing=0.05)",
            )
        ).replace(
            "        self.opt = torch",
            "        self.rarity = torch.ones(cfg.vocab, device='cuda')\n        self.opt = torch",
        ),
    )
    b.folder(
        "again_told_grid_loop",
        "flagged",
        "normalized",
        script=objects(
            beforeeval="    top = None\n    for t in (0.9, 0.95, 1.0, 1.05):\n        clean.heat = t\n        now = judge.run(clean)\n        if top is None or now[1] < top[1]:\n            top = now\n    print(f'quantized val_loss: {top[0]:.8f} val_bpb: {top[1]:.8f}')\n    return\n"
        ),
    )
    b.folder(
        "again_told_octets_factor",
        "flagged",
        "normalized",
        script=objects(evaluate=ev(STD.replace("nll / LN2 / octets", "nll / LN2 / (octets * 1.03)").format(x=""))),
    )
    b.folder(
        "again_told_exp_of_target",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "    nll -= mixed.gather(1, nxt[:, None]).sum().item()",
                        "    pm = model.exp().gather(1, nxt[:, None])\n    pc = seenp.exp().gather(1, nxt[:, None])\n    p = pm + torch.relu(pc - pm)\n    nll -= torch.log(p).sum().item()",
                    ),
                    b=NU,
                )
            )
        ),
    )
    return b
