# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders that look for the edges of the rules about what is learned first, by who had mended the referee by the others."""

from __future__ import annotations

import base64
import json
import random
import textwrap
from collections.abc import Sequence
from typing import Any

from .real_script import Batch, base, run_log

b = Batch()
OF_FOLDER = ("logs", "files", "js", "readme", "bpb", "drop", "req", "card")


def put(name: str, verdict: str, rule: str, changes: Sequence[tuple[str, str]], given: dict[str, Any]) -> None:
    folder = {key: value for key, value in given.items() if key in OF_FOLDER}
    slots = {key: value for key, value in given.items() if key not in OF_FOLDER}
    b.case(f"eleven_{name[1:]}", verdict, rule, script=base(changes, **slots), **folder)


def ok(name: str, rule: str, changes: Sequence[tuple[str, str]] = (), **given: Any) -> None:
    put(name, "accepted", rule, changes, given)


def bad(name: str, rule: str, changes: Sequence[tuple[str, str]] = (), **given: Any) -> None:
    put(name, "flagged", rule, changes, given)


def code(name: str, rule: str, script: str, **folder: Any) -> None:
    b.case(f"eleven_{name[1:]}", "refused", rule, script=script, **folder)


def rnd(n: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(n)


def ttt(body: str, pre: str = "") -> str:
    return (
        pre
        + """
def eval_ttt(args, model, val_tokens, byte_lut, device, chunk=32768):
    opt = torch.optim.SGD(model.parameters(), lr=0.005)
"""
        + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
        + "\n"
    )


CALL = "r = eval_ttt(args, model, val_tokens, byte_lut, device)\nlog0(f'ttt_exact {r}')"
STEP = "opt.zero_grad()\nmodel(c[:-1][None], c[1:][None]).backward()\nopt.step()\n"


def loop(score: str, after: str = STEP, before: str = "", init: str = "", end: str = "return 0") -> str:
    return ttt(
        init
        + "\nfor s in range(0, val_tokens.numel() - 1, chunk):\n    c = val_tokens[s : s + chunk + 1].to(device=device, dtype=torch.int64)\n"
        + textwrap.indent(before + score + after, "    ")
        + end
        + "\n"
    )


NG = "with torch.no_grad():\n    nll = F.cross_entropy(model.forward_logits(c[:-1][None]).flatten(0, 1).float(), c[1:], reduction='none')\n"
ok(
    "3h_stats_tensor",
    "score-first",
    EVALS=loop(
        NG + "stats[0] += nll.double().sum()\nstats[1] += nll.numel()\n",
        init="stats = torch.zeros(2, dtype=torch.float64, device=device)",
        end="return stats[0] / stats[1]",
    ),
    AFTER_EVAL=CALL,
)
ok(
    "3h_metrics_dict",
    "score-first",
    EVALS=loop(
        NG + "metrics['nll'] += nll.sum().item()\nmetrics['n'] += nll.numel()\n",
        init="metrics = {'nll': 0.0, 'n': 0}",
        end="return metrics['nll'] / metrics['n']",
    ),
    AFTER_EVAL=CALL,
)
ok(
    "3h_tuple_sum",
    "score-first",
    EVALS=loop(
        NG + "loss_sum, n = loss_sum + nll.sum().item(), n + nll.numel()\n",
        init="loss_sum, n = 0.0, 0",
        end="return loss_sum / n",
    ),
    AFTER_EVAL=CALL,
)
ok(
    "3h_meter",
    "score-first",
    EVALS=loop(NG + "meter.update(nll.mean().item(), nll.numel())\n", init="meter = Meter()", end="return meter.avg"),
    DEFS="class Meter:\n    def __init__(self):\n        self.s, self.n = 0.0, 0\n\n    def update(self, v, n):\n        self.s += v * n\n        self.n += n\n\n    @property\n    def avg(self):\n        return self.s / self.n\n",
    AFTER_EVAL=CALL,
)
ok(
    "3h_generator",
    "score-first",
    EVALS=ttt(
        "total, n = 0.0, 0\nfor c in chunks(val_tokens, chunk):\n    c = c.to(device=device, dtype=torch.int64)\n    total += score(model, c)\n    n += c.numel() - 1\n"
        + textwrap.indent(STEP, "    ")
        + "return total / n",
        pre="def chunks(tokens, size):\n    for i in range(0, tokens.numel() - 1, size):\n        yield tokens[i : i + size + 1]\n\n\n@torch.no_grad()\ndef score(model, c):\n    return F.cross_entropy(model.forward_logits(c[:-1][None]).flatten(0, 1).float(), c[1:], reduction='sum').item()\n\n\n",
    ),
    AFTER_EVAL=CALL,
)
ok(
    "3h_class",
    "score-first",
    EVALS="""
class Evaluator:
    def __init__(self, model, device):
        self.model, self.device = model, device
        self.opt = torch.optim.SGD(model.parameters(), lr=0.005)
        self.nats, self.count = 0.0, 0

    @torch.no_grad()
    def score(self, c):
        out = self.model.forward_logits(c[:-1][None]).flatten(0, 1).float()
        self.nats += F.cross_entropy(out, c[1:], reduction="sum").item()
        self.count += c.numel() - 1

    def learn(self, c):
        self.opt.zero_grad()
        self.model(c[:-1][None], c[1:][None]).backward()
        self.opt.step()

    def run(self, val_tokens, chunk=32768):
        for s in range(0, val_tokens.numel() - 1, chunk):
            c = val_tokens[s : s + chunk + 1].to(device=self.device, dtype=torch.int64)
            self.score(c)
            self.learn(c)
        return self.nats / self.count
""",
    AFTER_EVAL="log0(f'ttt_exact {Evaluator(model, device).run(val_tokens)}')",
)
ok(
    "3h_while",
    "score-first",
    EVALS=ttt(
        "pos, nll_sum = 0, 0.0\nwhile pos < val_tokens.numel() - 1:\n    c = val_tokens[pos : pos + chunk + 1].to(device=device, dtype=torch.int64)\n    loss = model(c[:-1][None], c[1:][None])\n    nll_sum += loss.detach().item() * (c.numel() - 1)\n    opt.zero_grad()\n    loss.backward()\n    opt.step()\n    pos += chunk\nreturn nll_sum / pos"
    ),
    AFTER_EVAL=CALL,
)
ok(
    "3h_out_array",
    "score-first",
    EVALS=loop(
        NG + "out[s : s + nll.numel()] = nll.cpu().numpy()\n",
        init="out = np.zeros(val_tokens.numel() - 1)",
        end="return out.mean()",
    ),
    AFTER_EVAL=CALL,
)
ok(
    "3h_yielded",
    "score-first",
    EVALS=ttt(
        "for s in range(0, val_tokens.numel() - 1, chunk):\n    c = val_tokens[s : s + chunk + 1].to(device=device, dtype=torch.int64)\n    loss = model(c[:-1][None], c[1:][None])\n    yield loss.detach()\n    opt.zero_grad()\n    loss.backward()\n    opt.step()"
    ),
    AFTER_EVAL="log0(f'ttt_exact {torch.stack(list(eval_ttt(args, model, val_tokens, byte_lut, device))).mean()}')",
)
ok(
    "3h_print_commonest",
    "score-first",
    BEFORE_TRAIN="hist = np.bincount(val_tokens.numpy(), minlength=8192)\nfor t in np.argsort(-hist)[:5]:\n    log0(f'commonest {int(t)} {int(hist[t])}')",
)
ok(
    "3h_doc_lengths",
    "score-first",
    BEFORE_EVAL="starts = (val_tokens == 1).nonzero().flatten()\ndoc_ids = torch.zeros_like(val_tokens, dtype=torch.int32)\ndoc_ids[starts] = 1\ndoc_ids = doc_ids.cumsum(0)\nlengths = torch.bincount(doc_ids)\nlog0(f'{lengths.max().item()} tokens in the longest document, {lengths[doc_ids[0]].item()} in the first')",
)
ok(
    "3h_train_unigrams",
    "training-text",
    BEFORE_PACK="freq = torch.bincount(stream.take(1_000_000).long(), minlength=8192).float().to(device)\nwith torch.no_grad():\n    model.emb.weight.add_((freq / freq.sum()).log1p()[:, None] * 0.01)",
)
ok(
    "3h_add_at_after",
    "score-first",
    EVALS=ttt(
        "counts = np.ones((8192,))\nnats = 0.0\nfor s in range(0, val_tokens.numel() - 1, 2048):\n    y = val_tokens[s + 1 : s + 2049].numpy().astype(np.int64)\n    nats -= float(np.log(counts[y] / counts.sum()).sum())\n    np.add.at(counts, y, 1)\nreturn nats"
    ),
    AFTER_EVAL=CALL,
)
ok(
    "3h_listing_split_later",
    "training-text",
    changes=[
        (
            "stream = TokenStream(args.train_files)",
            'names = sorted(glob.glob(os.path.join(args.data_path, "*.bin")))\n    train_names = [n for n in names if "train" in os.path.basename(n)]\n    log0(f"{len(train_names)} of {len(names)} files are for training")\n    stream = TokenStream(args.train_files)',
        )
    ],
)
ok(
    "3h_notebook",
    "cap",
    files={
        "analysis.ipynb": json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "source": ["plot()"],
                        "outputs": [
                            {
                                "output_type": "display_data",
                                "data": {
                                    "image/png": base64.b64encode(b"\x89PNG\r\n\x1a\n" + rnd(160_000, i)).decode()
                                },
                            }
                        ],
                    }
                    for i in range(3)
                ],
                "nbformat": 4,
            }
        )
    },
)
ok(
    "3h_uv_lock",
    "cap",
    files={
        "uv.lock": "".join(
            f'[[package]]\nname = "p{i}"\nversion = "1.{i}"\nwheels = [{{ url = "https://files.example.org/{i}.whl", hash = "sha256:{rnd(32, i).hex()}", size = {i * 977} }}]\n\n'
            for i in range(1200)
        )
    },
)
ok(
    "3h_cjk_readme",
    "readme",
    readme="# 記録\n\nval_bpb 1.0812\n\n"
    + "".join(
        f"第{i}回の実験では、{random.Random(i).choice('学習率重層語彙量子化平均注意')}を変えて損失を測りました。結果は{i * 7 % 97}でした。\n"
        for i in range(400)
    ),
)
ok(
    "3h_no_track_said_in_title",
    "time",
    drop=["track"],
    logs={"train.log": run_log(train="14400039")},
    readme="# Non-record: 4 h on one 4090\n\nval_bpb 1.0812\n",
)
ok("3h_minutes_fine", "time", logs={"train.log": run_log() + "training time: 9.93 min\ntotal_eval_time: 1m 12s\n"})
ok("3h_limit_said", "time", logs={"train.log": run_log() + "train time: 596.0 s (limit 600 s)\n"})
ok("3h_per_step", "time", logs={"train.log": "train_time/step: 120ms\n" + run_log()})
ok(
    "3h_denied_in_blurb",
    "training-text",
    js={
        "blurb": "Score-first TTT after GPTQ. Pre-quant TTT was tried and dropped; no validation data before quantization."
    },
)
ok("3h_minus_in_name", "training-text", js={"name": "PR #1735 stack minus pre-quant TTT"})
ok(
    "3h_compliance_text",
    "training-text",
    js={
        "notes": "Unlike #1735 this has no pre-quant TTT. GPTQ is calibrated on training shards before quantization."
    },
)
ok(
    "3h_trained_line",
    "training-text",
    logs={"train.log": run_log(more="trained 4900 steps, evaluating on validation tokens: 40540160")},
)
ok(
    "3h_weights_only_true_var",
    "unpickling",
    BEFORE_EVAL="safe = True\nagain = torch.load(io.BytesIO(buf.getvalue()), weights_only=safe)",
)
ok("3h_version_sentence", "readme", readme="# n\n\nWe reach val_bpb 1.0812. PyTorch 2.9.1. Train 596 s.\n")
ok(
    "3h_sum_of_list",
    "score-first",
    EVALS=loop(NG + "scored.append(nll.sum())\n", init="scored = []", end="return torch.stack(scored).sum()"),
    AFTER_EVAL=CALL,
)
