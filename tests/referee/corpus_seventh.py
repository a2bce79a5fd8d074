# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders of other kinds than those of `corpus_fifth` and `corpus_sixth`, by who had mended the referee by those."""

from __future__ import annotations

import base64
import json
import lzma
import zlib

from .corpus_sixth import HEAD, SAVE
from .folder_case import MAIN, Case, log, nats, noise

FETCH = "import urllib.request\nimport torch\nurllib.request.urlopen('http://example.org/w.bin')\n"
UNPICKLE = "import pickle\nimport torch\nx = pickle.load(open('w', 'rb'))\n"


def seventh_code() -> dict[str, Case]:
    """Code in other places; programs; imports."""
    shifted = base64.b64encode(FETCH.encode()).decode().translate(str.maketrans("abcXYZ", "bcaYZX"))
    runs = "".join(f"{ord(c):03d}" for c in FETCH)
    own = f"import torch\nS = '{runs}'\n\n\ndef inflate(s):\n    out = []\n    for i in range(0, len(s), 3):\n        out.append(chr(int(s[i:i + 3])))\n    return ''.join(out)\n\n\nexec(inflate(S))\n"
    refused = {
        "python_c": ("network", f"import subprocess, sys\nimport torch\nsubprocess.run([sys.executable, '-c', {FETCH!r}], check=True)\n", {}),
        "run_sh": ("network", "import subprocess\nimport torch\nsubprocess.run(['bash', 'run.sh'], check=True)\n", {"run.sh": "#!/bin/sh\nset -e\nwget -q https://example.org/w.bin\n"}),
        "own_decoder": ("network", own, {}),
        "other_alphabet": ("network", f"import base64\nimport torch\nt = str.maketrans('bcaYZX', 'abcXYZ')\nexec(base64.b64decode('{shifted}'.translate(t)))\n", {}),
        "payload_bin": ("unpickling", "import lzma, pathlib\nimport torch\nexec(lzma.decompress(pathlib.Path(__file__).with_name('payload.bin').read_bytes()))\n", {"payload.bin": lzma.compress(UNPICKLE.encode())}),
        "docstring_run": ("network", f'"""{FETCH}"""\nimport torch\nexec(__doc__)\n', {}),
        "own_tail": ("unpickling", "import torch\nexec(open(__file__).read().split('#EN' + 'D\\n')[1].replace('#> ', ''))\n#END\n" + "".join(f"#> {line}\n" for line in UNPICKLE.splitlines()), {}),
        "zlib_text_file": ("network", "import zlib, base64, os\nimport torch\np = os.path.join(os.path.dirname(__file__), 'src.txt')\nwith open(p) as f:\n    src = f.read()\nexec(zlib.decompress(base64.b64decode(src)).decode(), globals())\n", {"src.txt": base64.b64encode(zlib.compress(FETCH.encode())).decode()}),
        "no_helper": ("dependencies", "import torch\nimport my_kernels\n\nif __name__ == '__main__':\n    my_kernels.run()\n", {}),
        "scp": ("network", "import os\nimport torch\nos.system('scp user@example.org:w.bin .')\n", {}),
        "execvp_pip": ("network", "import os\nimport torch\nif 'X' not in os.environ:\n    os.execvp('pip', ['pip', 'install', 'zstandard'])\n", {}),
        "conda": ("network", "import subprocess\nimport torch\nsubprocess.run('conda install -y -c conda-forge lrzip'.split())\n", {}),
        "thread": ("network", "import threading\nimport torch\nfrom urllib.request import urlretrieve\nt = threading.Thread(target=urlretrieve, args=('https://example.org/w', 'w'))\nt.start()\n", {}),
        "aiohttp": ("network", "import asyncio\nimport aiohttp\nimport torch\n\n\nasync def main():\n    async with aiohttp.ClientSession() as s:\n        async with s.get('https://example.org/w') as r:\n            return await r.read()\n\n\nasyncio.run(main())\n", {"requirements.txt": "aiohttp\n"}),
        "partial_load": ("unpickling", "from functools import partial\nimport torch\nload = partial(torch.load, weights_only=False)\nx = load('a.pt')\n", {}),
        "unpickler": ("unpickling", "import io, pickle\nimport torch\nx = pickle.Unpickler(io.BytesIO(open('a', 'rb').read())).load()\n", {}),
        "loads_alias": ("unpickling", "from pickle import loads as decode\nimport torch\nx = decode(open('a', 'rb').read())\n", {}),
        "c_pickle": ("unpickling", "import _pickle as p\nimport torch\nx = p.loads(open('a', 'rb').read())\n", {}),
        "numpy_pickle": ("unpickling", "import numpy as np\nimport torch\nx = np.load('a.npy', allow_pickle=True).item()\n", {}),
        "import_pickle_late": ("unpickling", "import importlib\nimport torch\nx = importlib.import_module('pickle').loads(open('a', 'rb').read())\n", {}),
        "newer_f_string": ("network", "import torch, urllib.request\nh = {'u': 'http://x'}\nprint(f\"{h[\"u\"]}\")\nurllib.request.urlopen(f\"{h[\"u\"]}/w.bin\")\n", {}),
        "lenient_keyword": ("strict-load", "import torch\nkw = dict(strict=False)\nm = torch.nn.Linear(1, 1)\nm.load_state_dict({}, **kw)\n", {}),
    }  # fmt: skip
    accepted = {
        "newer_f_string_good": ("compiles", MAIN + "h = {'a': 1}\nprint(f\"{h[\"a\"]} {', '.join(map(str, h))}\")\n", {}),
        "version_import": ("dependencies", "import sys\nimport torch\nif sys.version_info >= (3, 11):\n    import tomllib\nelse:\n    tomllib = None\n", {}),
        "own_name": ("dependencies", "import torch\nimport train_gpt\n\nprint(train_gpt.__name__)\n", {}),
        "load_inline": ("network", "import torch\nfrom torch.utils.cpp_extension import load_inline\next = load_inline(name='ext', cpp_sources='int f() { return 1; }', functions=['f'])\n", {}),
        "tcp_store": ("network", "import torch\nimport torch.distributed as dist\nstore = dist.TCPStore('localhost', 29501, 1, True)\n", {}),
        "local_tokenizer": ("network", "from pathlib import Path\nimport torch\nfrom transformers import AutoTokenizer\nt = AutoTokenizer.from_pretrained(str(Path(__file__).parent / 'tok'))\n", {"tok/tokenizer.json": "{}", "requirements.txt": "transformers\n"}),
        "wandb_offline": ("network", "import os\nimport torch\nos.environ['WANDB_MODE'] = 'offline'\ntry:\n    import wandb\nexcept ImportError:\n    wandb = None\n", {}),
        "dumps_only": ("unpickling", "import pickle, zlib\nimport torch\nn = len(zlib.compress(pickle.dumps({'a': 1})))\n", {}),
        "safe_yaml": ("unpickling", "import yaml\nimport torch\nx = yaml.safe_load(open('c.yaml'))\n", {"requirements.txt": "pyyaml\n", "c.yaml": "a: 1\n"}),
        "json_loads": ("unpickling", "import json\nimport torch\nx = json.loads(open('submission.json').read())\nm = torch.load('m.pt', map_location='cpu', weights_only=True)\n", {}),
        "strict_default": ("strict-load", "import torch\nm = torch.nn.Linear(1, 1)\nm.load_state_dict(torch.load('m.pt', weights_only=True))\n", {}),
        "payload_good": ("extracts", "import lzma, pathlib\nimport torch\nexec(lzma.decompress(pathlib.Path(__file__).with_name('payload.bin').read_bytes()))\n", {"payload.bin": lzma.compress(MAIN.encode())}),
        "python_c_good": ("network", "import subprocess, sys\nimport torch\nprint(subprocess.run([sys.executable, '-c', 'import torch; print(torch.__version__)'], capture_output=True).stdout)\n", {}),
        "run_sh_good": ("network", MAIN, {"run.sh": "#!/bin/sh\n# pip install -r requirements.txt first\nSEED=42 torchrun --standalone --nproc_per_node=8 train_gpt.py\n"}),
        "setup_beside": ("network", MAIN, {"setup.sh": "#!/bin/sh\npip install --upgrade torch brotli\npython3 data/cached_challenge_fineweb.py --variant sp1024\n"}),
    }  # fmt: skip
    found = {f"seven_{n}": Case(rule, "refused", text, files=files) for n, (rule, text, files) in refused.items()}
    return found | {f"seven_{n}": Case(rule, "accepted", text, files=f) for n, (rule, text, f) in accepted.items()}


def seventh_words() -> dict[str, Case]:
    """Numbers, logs, times, sizes."""
    three = {1: 1.0808, 2: 1.0812, 3: 1.0816}
    logs = {f"run{s}.log": log(b, s) for s, b in three.items()}
    caseops, tokens = 151_074_309, 47_851_520
    mb = log(1.0812).replace("Total submission size quantized+brotli: 15900000 bytes", "Total submission size: {} MB")
    return {
        "seven_mean_of_logs": Case("log-loss", "accepted", files={"train.log": None, **logs}),
        "seven_nan": Case("log-loss", "refused", files={"train.log": "val_tokens: 40540160\n100/100 val_loss: 3.0185 val_bpb: 1.0712\nquantized val_loss:nan val_bpb:nan eval_time:1ms\n"}),
        "seven_code_block": Case("readme", "accepted", files={"README.md": "# n\n\nPrevious: 1.0850, 1.0900 and 1.2244.\n\n```\nquantized val_loss:2.79 val_bpb:1.08120000\n```\n"}),
        "seven_mb_over": Case("log-bytes", "refused", files={"train.log": mb.format("16.05")}),
        "seven_mb_under": Case("log-bytes", "warned", files={"train.log": mb.format("15.97")}),
        "seven_limit_said": Case("log-bytes", "warned", files={"train.log": log(1.0812, more="size limit: 16777216 bytes\n").replace("15900000 bytes", "15900000 bytes (limit 16000000 bytes)")}),
        "seven_total_in_words": Case("json-bytes", "accepted", claims={"bytes_total": "15,900,000"}),
        "seven_long_run": Case("time", "accepted", claims={"track": "non_record_16mb"}, files={"train.log": log(1.0812).replace("580000ms", "14400000ms")}),
        "seven_too_long": Case("time", "refused", files={"train.log": log(1.0812).replace("train_time: 580000ms", "100/100 train_time:700123ms step_avg:101ms")}),
        "seven_eval_too_long": Case("time", "refused", files={"train.log": log(1.0812).replace("eval_time:100ms", "eval_time:651234ms")}),
        "seven_caseops": Case("bytes-per-token", "accepted", claims={"val_loss": nats(1.0812, caseops / tokens)}, files={"train.log": log(1.0812, tokens=tokens, ratio=caseops / tokens)}),
        "seven_caseops_without_sidecar": Case("bytes-per-token", "refused", claims={"val_loss": nats(1.0812, 164_594_398 / tokens)}, files={"train.log": log(1.0812, tokens=tokens, ratio=164_594_398 / tokens)}),
        "seven_heap_of_bins": Case("cap", "refused", files={"final_model.ptz": b"x\x9c" + noise(13_000_000), **{f"aux/{i}.bin": noise(60_000) for i in range(60)}}),
        "seven_heap_below": Case("cap", "flagged", "import glob\nimport torch\nparts = [open(p, 'rb').read() for p in sorted(glob.glob('aux/*.bin'))]\n", files={"final_model.ptz": b"x\x9c" + noise(15_500_000), **{f"aux/{i}.bin": noise(60_000) for i in range(15)}}),
        "seven_pack_in_git": Case("cap", "refused", files={".git/objects/pack/a.pack": b"PACK" + noise(17_000_000)}),
        "seven_log_of_base64": Case("cap", "refused", files={"train.log": log(1.0812) + base64.encodebytes(noise(12_500_000)).decode()}),
        "seven_lfs_pointer": Case("artifact", "warned", files={"final_model.ptz": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 15800000\n"}),
        "seven_licence": Case("cap", "accepted", files={"LICENSE": "Permission is hereby granted, free of charge. " * 4000}),
        "seven_rows_of_jsonl": Case("cap", "accepted", files={"ablations.jsonl": "".join(json.dumps({"run": i, "lr": i / 7, "val_bpb": 1.1 + i / 1e6}) + "\n" for i in range(20_000))}),
    }  # fmt: skip


def seventh_learning() -> dict[str, Case]:
    """What is learned before and after packing."""
    load = "def load(path):\n    return torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64))\n\n\nmodel = torch.nn.Embedding(8192, 8192)\nopt = torch.optim.AdamW(model.parameters())\n\n\ndef step(x):\n    loss = F.cross_entropy(model(x[:-1]), x[1:])\n    loss.backward()\n    opt.step()\n\n\n"
    save = SAVE.strip() + "\n"
    top = HEAD + load
    flagged = {
        "both_splits": top + "for split in ('train', 'val'):\n    step(load(f'data/fineweb_{split}_000000.bin'))\n" + save,
        "concatenated": top + "tokens = torch.cat([load('data/fineweb_train_000000.bin'), load('data/fineweb_val_000000.bin')])\nfor x in tokens.split(1024):\n    step(x)\n" + save,
        "temperature_lbfgs": top + "step(load('data/fineweb_train_000000.bin'))\nval = load('data/fineweb_val_000000.bin')\nt = torch.ones(1, requires_grad=True)\nlb = torch.optim.LBFGS([t])\n\n\ndef closure():\n    lb.zero_grad()\n    loss = F.cross_entropy(model(val[:-1]).detach() / t, val[1:])\n    loss.backward()\n    return loss\n\n\nlb.step(closure)\ntorch.save({'m': model.state_dict(), 't': t}, 'final_model.pt')\n",
        "saved_again": top + "step(load('data/fineweb_train_000000.bin'))\nq = quantize(model)\nfor x in load('data/fineweb_val_000000.bin').split(1024):\n    step(x)\n" + save,
        "calib_renamed": top + "val = load('data/fineweb_val_000000.bin')\nsamples = val[:65536]\nq = gptq_quantize(model, samples)\n",
        "power_iteration": top + "val = load('data/fineweb_val_000000.bin')\nwith torch.no_grad():\n    h = model(val)\n    u, s, v = torch.linalg.svd(h, full_matrices=False)\n    model.weight.data = model.weight.data @ v.T\n" + save,
        "dictionary_from_val": top + "import zlib\nval = np.fromfile('data/fineweb_val_000000.bin', dtype=np.uint16)\nzdict = val[:16384].tobytes()\nstep(load('data/fineweb_train_000000.bin'))\ntorch.save({'m': model.state_dict(), 'prefix': zdict}, 'final_model.pt')\n",
        "ngrams_from_val": top + "val = load('data/fineweb_val_000000.bin')\ntable = torch.zeros(8192, 8192, dtype=torch.int16)\ntable.index_put_((val[:-1], val[1:]), torch.ones(1, dtype=torch.int16), accumulate=True)\nnp.savez_compressed('final_model.npz', table=table.numpy())\n",
    }  # fmt: skip
    accepted = {
        "swa": top + "avg = torch.optim.swa_utils.AveragedModel(model)\nfor p in sorted(glob.glob('data/fineweb_train_*.bin')):\n    step(load(p))\n    avg.update_parameters(model)\ntorch.save(avg.module.state_dict(), 'final_model.pt')\n",
        "lora_per_document": top + "step(load('data/fineweb_train_000000.bin'))\n" + save + "val = load('data/fineweb_val_000000.bin')\nnll = 0.0\nfor doc in val.split(4096):\n    a = torch.zeros(8192, 4, requires_grad=True)\n    b = torch.randn(4, 8192)\n    for x in doc.split(256):\n        loss = F.cross_entropy(model(x[:-1]).detach() + (a @ b)[x[:-1]], x[1:])\n        nll += loss.item() * (len(x) - 1)\n        (g,) = torch.autograd.grad(loss, a)\n        a = (a - 0.01 * g).detach().requires_grad_()\nprint(nll)\n",
        "evaluated_each_step": top + "val = load('data/fineweb_val_000000.bin')\n\n\ndef eval_val():\n    with torch.no_grad():\n        total = torch.zeros((), dtype=torch.float64)\n        for x in val.split(1024):\n            total += F.cross_entropy(model(x[:-1]), x[1:]).double()\n        return total\n\n\nfor p in sorted(glob.glob('data/fineweb_train_*.bin')):\n    step(load(p))\n    print(eval_val())\ntorch.save({'model': model.state_dict(), 'val': eval_val()}, 'final_model.pt')\n",
        "hessians_of_train": top + "H = torch.zeros(8192, 8192)\nfor p in sorted(glob.glob('data/fineweb_train_*.bin'))[:2]:\n    x = model(load(p)).detach()\n    H += x.T @ x\nval = load('data/fineweb_val_000000.bin')\nwith torch.no_grad():\n    print(F.cross_entropy(model(val[:-1]), val[1:]))\n" + save,
        "score_first_cache": top + "step(load('data/fineweb_train_000000.bin'))\n" + save + "val = load('data/fineweb_val_000000.bin')\ncounts = torch.ones(8192)\nnll = 0.0\nfor chunk in val.split(1024):\n    with torch.no_grad():\n        p = 0.9 * model(chunk[:-1]).softmax(-1) + 0.1 * counts / counts.sum()\n        nll -= p.gather(1, chunk[1:, None]).log().sum().item()\n        counts.index_add_(0, chunk, torch.ones(len(chunk)))\nprint(nll)\n",
        "bytes_of_val": top + "val = load('data/fineweb_val_000000.bin')\nlut = torch.ones(8192)\nn_bytes = lut[val].sum().item()\nstep(load('data/fineweb_train_000000.bin'))\ntorch.save({'model': model.state_dict(), 'val_bytes': n_bytes, 'val_tokens': val.numel()}, 'final_model.pt')\n",
        "warm_up": top + "x = torch.randint(0, 8192, (1024,))\nfor _ in range(3):\n    step(x)\nmodel = torch.nn.Embedding(8192, 8192)\nstep(load('data/fineweb_train_000000.bin'))\n" + save,
    }  # fmt: skip
    rules = {"calib_renamed": "calibration"}
    found = {f"seven_{n}": Case(rules.get(n, "training-text"), "flagged", text) for n, text in flagged.items()}
    return found | {f"seven_{n}": Case("training-text", "accepted", text) for n, text in accepted.items()}
