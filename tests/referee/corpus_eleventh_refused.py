# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""The second half of `corpus_eleventh`: folders to be refused or warned of."""

from __future__ import annotations

import base64
import random
import textwrap

from .corpus_eighth import BAD
from .corpus_eleventh import CALL, NG, STEP, b, bad, code, loop, rnd, ttt
from .folder_case import noise
from .real_script import Batch, base, run_log

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
