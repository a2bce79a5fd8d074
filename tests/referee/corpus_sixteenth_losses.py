# ruff: noqa: E501  (scripts of the folders stand as they are written)
"""Losses that are made less, mixtures beyond one, parts of the text, told by a program of classes; legal twins."""

from __future__ import annotations

from .object_parts import NG, NS, NU, STD, by_token, ev
from .object_script import SLOTS, Folders, objects


def scores() -> Folders:
    """Each beside its twin."""
    b = Folders()
    b.folder(
        "told_max_of_two",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "torch.logaddexp(model + math.log(0.9), seenp + math.log(0.1))", "torch.fmax(model, seenp)"
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "told_logaddexp_unweighted",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "torch.logaddexp(model + math.log(0.9), seenp + math.log(0.1))",
                        "torch.logaddexp(model, seenp)",
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "told_logaddexp_half_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "torch.logaddexp(model + math.log(0.9), seenp + math.log(0.1))",
                        "torch.logaddexp(model, seenp) - LN2",
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "told_hit_only_bonus",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "    nll -= mixed.gather(1, nxt[:, None]).sum().item()",
                        "    own = -model.gather(1, nxt[:, None])[:, 0]\n    guess = counts[slot].argmax(-1)\n    own = torch.where(guess == nxt, torch.full_like(own, -math.log(0.95)), own)\n    nll += own.sum().item()",
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "told_guess_with_rest_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=ev(
                NG.format(
                    a=NS.replace(
                        "    nll -= mixed.gather(1, nxt[:, None]).sum().item()",
                        "    guess = counts[slot].argmax(-1)\n    p = 0.7 * model.exp() + 0.3 * F.one_hot(guess, V)\n    nll -= torch.log(p.gather(1, nxt[:, None])).sum().item()",
                    ),
                    b=NU,
                )
            )
        ),
    )
    b.folder(
        "told_scale_of_bpb",
        "flagged",
        "normalized",
        script=objects(evaluate=ev(STD.replace("nll / LN2 / octets", "0.985 * nll / LN2 / octets").format(x=""))),
    )
    b.folder(
        "told_octets_inflated",
        "flagged",
        "bytes-per-token",
        script=objects(
            helpers="\ndef wide(sp_model):\n    sp = sentencepiece.SentencePieceProcessor(model_file=sp_model)\n    return torch.tensor([len(sp.id_to_piece(i).encode('utf-16-le')) for i in range(sp.vocab_size())], dtype=torch.float64)\n",
            evaluate=ev(STD.format(x="")).replace("piece_bytes(cfg.spm)", "wide(cfg.spm)"),
        ),
    )
    b.folder(
        "told_top_tokens_dropped",
        "flagged",
        "normalized",
        script=objects(evaluate=ev(STD.format(x="per = per.sort().values[: int(0.99 * per.numel())]"))),
    )
    b.folder(
        "told_clamped", "flagged", "normalized", script=objects(evaluate=ev(STD.format(x="per = per.clamp(max=7.0)")))
    )
    b.folder(
        "told_huber",
        "flagged",
        "normalized",
        script=objects(evaluate=ev(STD.format(x="per = 8.0 * torch.tanh(per / 8.0)"))),
    )
    b.folder(
        "told_class_weight",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(
                STD.format(x="")
                .replace('reduction="none")', 'weight=self.rarity, reduction="none")')
                .replace("net.eval()\n", "net.eval()\nself.rarity = 1.0 / (1.0 + self.width.float())\n")
            )
        ),
    )
    b.folder(
        "told_ignore_space",
        "flagged",
        "normalized",
        script=objects(
            evaluate=ev(STD.format(x="").replace('reduction="none")', 'ignore_index=13, reduction="none")'))
        ),
    )
    b.folder(
        "told_candidates_softmax",
        "flagged",
        "normalized",
        script=objects(
            evaluate=by_token(
                "    full = net.logits(ctx).flatten(0, 1).float()\n    want = full.gather(1, nxt.flatten()[:, None])\n    few = torch.cat([want, full.topk(256, -1).values], -1)\n    per = torch.logsumexp(few, -1) - want[:, 0]\n"
            )
        ),
    )
    b.folder(
        "told_logsumexp_full_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=by_token(
                "    full = net.logits(ctx).flatten(0, 1).float()\n    want = full.gather(1, nxt.flatten()[:, None])\n    per = torch.logsumexp(full, -1) - want[:, 0]\n"
            )
        ),
    )
    b.folder(
        "told_class_given",
        "flagged",
        "normalized",
        script=objects(
            evaluate=by_token(
                '    full = net.logits(ctx).flatten(0, 1).float()\n    group = torch.arange(self.cfg.vocab, device=full.device) // 512\n    full = full.masked_fill(group[None] != group[nxt.flatten()][:, None], float("-inf"))\n    per = F.cross_entropy(full, nxt.flatten(), reduction="none")\n'
            )
        ),
    )
    b.folder(
        "told_class_factored_legal",
        "accepted",
        "normalized",
        script=objects(
            evaluate=by_token(
                '    full = net.logits(ctx).flatten(0, 1).float()\n    group = torch.arange(self.cfg.vocab, device=full.device) // 512\n    inside = full.masked_fill(group[None] != group[nxt.flatten()][:, None], float("-inf"))\n    whole = full.view(-1, 16, 512).logsumexp(-1)\n    per = F.cross_entropy(inside, nxt.flatten(), reduction="none") + F.cross_entropy(whole, nxt.flatten() // 512, reduction="none")\n'
            )
        ),
    )
    b.folder(
        "told_amin_over_heads",
        "flagged",
        "normalized",
        script=objects(
            evaluate=by_token(
                '    exits = [F.cross_entropy(net.logits(ctx, k).flatten(0, 1).float(), nxt.flatten(), reduction="none") for k in (7, 9, 11)]\n    per = torch.stack(exits, -1).sort(-1).values[:, 0]\n'
            ),
            netlogits=SLOTS["netlogits"]
            .replace("def logits(self, ids):", "def logits(self, ids, depth=11):")
            .replace("in self.blocks:", "in self.blocks[:depth]:"),
        ),
    )
    b.folder(
        "told_exits_mean_legal",
        "accepted",
        "bytes-per-token",
        script=objects(
            evaluate=by_token(
                "    p = sum(torch.softmax(net.logits(ctx, k).flatten(0, 1).float(), -1) for k in (7, 9, 11)) / 3\n    per = -torch.log(p.gather(1, nxt.flatten()[:, None])[:, 0])\n"
            ),
            netlogits=SLOTS["netlogits"]
            .replace("def logits(self, ids):", "def logits(self, ids, depth=11):")
            .replace("in self.blocks:", "in self.blocks[:depth]:"),
        ),
    )
    return b
