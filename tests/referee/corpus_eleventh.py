# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders that look for the edges of the rules about what is learned first, by who had mended the referee by the others."""

from __future__ import annotations

import base64
import json
import random
import textwrap
from collections.abc import Sequence
from typing import Any

from .corpus_eighth import BAD
from .folder_case import noise
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

# ---- to be refused or warned
bad(
    "3c_two_pass",
    "score-first",
    EVALS=ttt(
        "total = 0.0\nparts = [val_tokens[s : s + chunk + 1].to(device=device, dtype=torch.int64) for s in range(0, val_tokens.numel() - 1, chunk)]\nfor c in parts:\n    with torch.no_grad():\n        total += model(c[:-1][None], c[1:][None]).item()\nfor c in parts:\n"
        + textwrap.indent(STEP, "    ")
        + "total = 0.0\nfor c in parts:\n    with torch.no_grad():\n        total += model(c[:-1][None], c[1:][None]).item()\nreturn total / len(parts)"
    ),
    AFTER_EVAL=CALL,
)
bad(
    "3c_lbfgs_closure",
    "score-first",
    EVALS=loop(
        "",
        after="",
        before="bias = torch.zeros(8192, device=device, requires_grad=True)\nlb = torch.optim.LBFGS([bias], max_iter=10)\nwith torch.no_grad():\n    h = model.forward_logits(c[:-1][None])[0].float()\ndef closure():\n    lb.zero_grad()\n    loss = F.cross_entropy(h + bias, c[1:])\n    loss.backward()\n    return loss\nlb.step(closure)\ntotal += F.cross_entropy(h + bias.detach(), c[1:], reduction='sum').item()\n",
        init="total = 0.0",
        end="return total",
    ),
    AFTER_EVAL=CALL,
)
bad(
    "3c_func_grad",
    "score-first",
    EVALS="""
def warm_start(model, val_tokens, device):
    from torch.func import functional_call, grad
    params = {k: v.detach() for k, v in model.named_parameters()}
    def loss_fn(p, x, y):
        return functional_call(model, p, (x, y))
    for s in range(0, val_tokens.numel() - 2048, 2048):
        c = val_tokens[s : s + 2049].to(device=device, dtype=torch.int64)
        g = grad(loss_fn)(params, c[:-1][None], c[1:][None])
        params = {k: v - 1e-3 * g[k] for k, v in params.items()}
    model.load_state_dict(params, strict=True)
""",
    BEFORE_EVAL="warm_start(model, val_tokens, device)",
)
bad(
    "3c_lstsq_head",
    "score-first",
    BEFORE_EVAL="with torch.no_grad():\n    ids = val_tokens[:200_000].to(device=device, dtype=torch.int64)\n    X = model.emb(ids[:-1])\n    Y = F.one_hot(ids[1:], 8192).float()\n    W = torch.linalg.lstsq(X, Y).solution\n    model.emb.weight.add_(0.1 * W.T)",
)
bad(
    "3c_dict_counts",
    "score-first",
    EVALS="def pairs_of(tokens):\n    table = np.zeros((8192, 8192), dtype=np.int32)\n    for a, b in zip(tokens[:-1].tolist(), tokens[1:].tolist()):\n        table[a, b] += 1\n    return torch.from_numpy(table)\n",
    BEFORE_EVAL="table = pairs_of(val_tokens).float().to(device)\nold = model.forward_logits\nmodel.forward_logits = lambda ids: old(ids) + table[ids].log1p()",
)
bad(
    "3c_heldout_chain",
    "training-text",
    IMPORTS="import itertools",
    changes=[
        (
            "        local = stream.take(args.batch_tokens + 1)",
            "        if step % 50 == 49:\n            stream = heldout\n        local = stream.take(args.batch_tokens + 1)",
        )
    ],
    BEFORE_TRAIN="heldout = TokenStream(args.val_files)",
)
bad(
    "3c_replace_path",
    "training-text",
    AFTER_TRAIN="extra = TokenStream(args.train_files.replace('train', 'val'))\nfor _ in range(100):\n    c = extra.take(2049).to(device=device, dtype=torch.int64)\n    optimizer.zero_grad()\n    model(c[:-1][None], c[1:][None]).backward()\n    optimizer.step()",
)
bad(
    "3c_env_extra_shard",
    "training-text",
    HYPER='extra_shard = os.environ.get("EXTRA_SHARD", "./data/datasets/fineweb10B_sp8192/fineweb_val_000000.bin")',
    changes=[
        (
            "        self.tokens = load_data_shard(self.files[0])",
            "        self.files.append(Path(Hyperparameters.extra_shard))\n        self.tokens = load_data_shard(self.files[0])",
        )
    ],
)
bad("3c_char_class", "training-text", changes=[('"fineweb_train_*.bin"', '"fineweb_[tv]*_*.bin"')])
bad(
    "3c_distill",
    "training-text",
    BEFORE_PACK="teacher = copy.deepcopy(model).eval()\nfor s in range(0, 2048 * 50, 2048):\n    ids = val_tokens[s : s + 2048].to(device=device, dtype=torch.int64)[None]\n    with torch.no_grad():\n        t = teacher.forward_logits(ids).log_softmax(-1)\n    kl = F.kl_div(model.forward_logits(ids).log_softmax(-1), t, log_target=True)\n    optimizer.zero_grad()\n    kl.backward()\n    optimizer.step()",
)
bad(
    "3c_helper_swapped",
    "score-first",
    EVALS=ttt(
        "total = 0.0\nfor s in range(0, val_tokens.numel() - 1, chunk):\n    c = val_tokens[s : s + chunk + 1].to(device=device, dtype=torch.int64)\n    learn(model, opt, c)\n    total += score(model, c)\nreturn total",
        pre="def learn(model, opt, c):\n    opt.zero_grad()\n    model(c[:-1][None], c[1:][None]).backward()\n    opt.step()\n\n\n@torch.no_grad()\ndef score(model, c):\n    return model(c[:-1][None], c[1:][None]).item()\n\n\n",
    ),
    AFTER_EVAL=CALL,
)
bad(
    "3c_learn_ahead",
    "score-first",
    EVALS=loop(
        NG + "total += nll.sum().item()\n",
        init="total = 0.0\nfor s in range(0, 10 * chunk, chunk):\n    c = val_tokens[s : s + chunk + 1].to(device=device, dtype=torch.int64)\n    model(c[:-1][None], c[1:][None]).backward()\n    opt.step()",
        end="return total",
    ),
    AFTER_EVAL=CALL,
)
bad(
    "3c_desc_readme",
    "training-text",
    readme="# Record: pre-quant AdamW TTT (21 epochs on val) + GPTQ\n\nval_bpb 1.0812\n",
)
bad(
    "3c_desc_list",
    "training-text",
    js={"technique_summary": "depth recurrence; 10 epochs of fine-tuning on validation tokens before quantization"},
)
code(
    "3d_in_submission_json",
    "network",
    "import json\nexec(json.load(open('submission.json'))['notes'])\n",
    js={"notes": BAD},
)
code(
    "3d_in_readme",
    "network",
    "import re\nexec(re.search(r'```python\\n(.*?)```', open('README.md').read(), re.S)[1])\n",
    readme="# n\n\nval_bpb 1.0812\n\n```python\n" + BAD + "```\n",
)
code(
    "3d_in_log",
    "network",
    "src = open('train.log').read().split('=' * 20)[1]\nexec(src)\n",
    logs={"train.log": run_log() + "=" * 20 + "\n" + BAD},
)
code(
    "3d_toml",
    "network",
    "import tomllib\nexec(tomllib.load(open('c.toml', 'rb'))['boot'])\n",
    files={"c.toml": "boot = '''\n" + BAD + "'''\n"},
)
code(
    "3d_execlp",
    "network",
    base(BEFORE_EVAL="os.spawnlp(os.P_WAIT, 'wget', 'wget', '-q', 'https://example.org/w.bin')"),
)
code(
    "3d_fetch_sh",
    "network",
    base(
        IMPORTS="import subprocess", BEFORE_EVAL="subprocess.run(['bash', str(Path(__file__).with_name('fetch.sh'))])"
    ),
    files={"fetch.sh": "#!/bin/bash\ncurl -sLO https://example.org/w.bin\n"},
)
code(
    "3d_fromlist",
    "network",
    base(
        BEFORE_EVAL="u = __import__('urllib.request', fromlist=['urlopen'])\nextra = u.urlopen('https://example.org/w').read()"
    ),
)
code("3d_not_true", "unpickling", base(BEFORE_EVAL="s = torch.load('x.pt', weights_only=not True)"))
code(
    "3d_var_false",
    "unpickling",
    base(HYPER="safe = False", BEFORE_EVAL="s = torch.load('x.pt', weights_only=args.safe)"),
)
code(
    "3d_read_array",
    "unpickling",
    base(BEFORE_EVAL="with open('x.npy', 'rb') as f:\n    t = np.lib.format.read_array(f, allow_pickle=1)"),
)


def eleventh() -> Batch:
    found = Batch(b)
    art = b"x\x9c" + noise(15_958_000)
    found.case(
        "eleven_w_requirements_comments",
        "flagged",
        "cap",
        files={
            "final_model.int6.ptz": art,
            "requirements.txt": "torch\n"
            + "".join(f"# {base64.b64encode(rnd(54, i)).decode()}\n" for i in range(1500)),
        },
        logs={"train.log": run_log(model=15_958_002, code=7_000)},
    )
    found.case(
        "eleven_w_numbers_py",
        "flagged",
        "cap",
        files={
            "final_model.int6.ptz": art,
            "lut.py": "L = " + repr([random.Random(i).randint(-31, 31) for i in range(30_000)]) + "\n",
        },
        logs={"train.log": run_log(model=15_958_002, code=7_000)},
    )
    return found
