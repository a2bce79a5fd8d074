# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""A third batch of folders, written after the second was judged: other libraries, other layouts, other places to hide."""

from __future__ import annotations

import base64
import json
import lzma
import marshal
import random
import zlib

from .corpus_second import record
from .folder_case import BPB, FAULTS, FILLER, MAIN, Case, log, noise


def third_code() -> dict[str, Case]:
    alone = base64.b85encode(lzma.compress(MAIN.encode(), format=lzma.FORMAT_ALONE)).decode()
    z85 = base64.b85encode(zlib.compress(FAULTS.encode())).decode()
    return {
        "t_lzma_alone": Case("extracts", "accepted", f"import lzma as L,base64 as B\nexec(L.decompress(B.b85decode({alone!r}),format=L.FORMAT_ALONE))\n"),
        "t_faults_in_a_package": Case(
            "unpickling", "refused", "import importlib\nm = importlib.import_module('.inner', package='pkg')\nprint(m)\n",
            files={"pkg/__init__.py": "", "pkg/inner.py": FAULTS},
        ),
        "t_pickle_in_two_words": Case("unpickling", "refused", "d = __import__('pick' + 'le').loads(open('w', 'rb').read())\n" + MAIN),
        "t_load_by_getattr": Case("unpickling", "refused", "import torch\nx = getattr(torch, 'load')('m.pt', weights_only=False)\n" + MAIN),
        "t_load_renamed": Case("unpickling", "refused", "from torch import load as ld\nx = ld('m.pt', weights_only=False)\n" + MAIN),
        "t_read_array": Case("unpickling", "flagged", "import numpy as np\nx = np.lib.format.read_array(open('w.npy', 'rb'), allow_pickle=True)\n" + MAIN),
        "t_pickle_dump_alone": Case("unpickling", "accepted", "import pickle\npickle.dump({'a': 1}, open('/tmp/x', 'wb'))\n" + MAIN),
        "t_code_behind_a_key": Case("extracts", "flagged", f"import os, zlib\nk = int(os.environ['KEY'])\nexec(zlib.decompress(bytes(b ^ k for b in {bytes(b ^ 91 for b in zlib.compress(FAULTS.encode()))!r})))\n" + FILLER),
        "t_marshalled": Case("extracts", "flagged", f"import marshal\nexec(marshal.loads({marshal.dumps(compile(FAULTS, 'x', 'exec'))!r}))\n" + FILLER),
        "t_run_module": Case(
            "counted", "accepted", "import os, runpy, sys\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\nrunpy.run_module('core.main', run_name='__main__')\n",
            files={"core/__init__.py": "", "core/main.py": MAIN}, words="core/main.py",
        ),
        "t_torchrun_of_a_file": Case(
            "unpickling", "refused", "import subprocess\nsubprocess.run(['torchrun', '--standalone', '--nproc_per_node=8', 'inner_train.py'], check=True)\n", files={"inner_train.py": FAULTS},
        ),
        "t_system_of_a_file": Case(
            "counted", "accepted", "import os, sys\nos.system(f'{sys.executable} inner.py --iterations 100')\n", files={"inner.py": MAIN}, words="inner.py",
        ),
        "t_faults_in_a_lambda": Case("unpickling", "refused", f"import zlib, base64\n(lambda s: exec(s))(zlib.decompress(base64.b85decode({z85!r})))\n" + FILLER),
        "t_faults_in_a_thread": Case("unpickling", "refused", f"import threading, zlib, base64\nsrc = zlib.decompress(base64.b85decode({z85!r}))\nt = threading.Thread(target=lambda: exec(src))\nt.start()\nt.join()\n" + FILLER),
        "t_names_by_exec": Case("extracts", "accepted", "for i in range(3):\n    exec(f'LAYER_{i} = {i}')\n" + MAIN),
        "t_type_checking": Case("dependencies", "accepted", "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import wandb\n" + MAIN),
        "t_optional_library": Case("dependencies", "accepted", "try:\n    import wandb\nexcept ImportError:\n    wandb = None\n" + MAIN),
        "t_requirement_with_extras": Case("dependencies", "accepted", "import transformers\n" + MAIN, files={"requirements.txt": "transformers[torch]>=4.40 ; python_version >= '3.10'\n"}),
        "t_requirement_of_another_name": Case(
            "dependencies", "accepted", "import yaml\nimport sklearn\nimport flash_attn\nfrom PIL import Image\nprint(yaml, sklearn, flash_attn, Image)\n" + MAIN,
            files={"requirements.txt": "pyyaml\nscikit-learn==1.5\nflash-attn\nPillow\n"},
        ),
        "t_undeclared_library": Case("dependencies", "refused", "import einops\n" + MAIN, files={"requirements.txt": "numpy\n"}),
        "t_dash_m": Case("unpickling", "refused", "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'inner'], check=True)\n", files={"inner.py": FAULTS}),
    }  # fmt: skip


def third_network() -> dict[str, Case]:
    return {
        "t_ftp": Case("network", "refused", "import ftplib\nftplib.FTP('example.org').retrbinary('RETR w', print)\n" + MAIN),
        "t_hub_url": Case("network", "refused", "import torch\nsd = torch.hub.load_state_dict_from_url('https://example.org/w.pt')\n" + MAIN),
        "t_aria": Case("network", "refused", "from subprocess import Popen\nPopen(['aria2c', '-x8', 'https://example.org/w']).wait()\n" + MAIN),
        "t_pip3": Case("network", "refused", "import os\nos.system('pip3 -q install zstandard')\n" + MAIN),
        "t_uv": Case("network", "refused", "import subprocess\nsubprocess.run('uv pip install brotli', shell=True)\n" + MAIN),
        "t_apt": Case("network", "refused", "import subprocess\nsubprocess.run('apt-get -qq install -y lrzip', shell=True, check=True)\n" + MAIN),
        "t_pool": Case("network", "refused", "import urllib3\nurllib3.PoolManager().request('GET', 'https://example.org')\n" + MAIN),
        "t_snapshot_of_this_machine": Case("network", "accepted", "from huggingface_hub import snapshot_download\np = snapshot_download('org/data', local_files_only=True)\n" + MAIN),
        "t_own_urlopen": Case("network", "accepted", "def urlopen(path):\n    return open(path, 'rb')\n\n\ndata = urlopen('train_gpt.py').read()\n" + MAIN),
        "t_wget_in_words": Case("network", "accepted", '"""Get the data first:\n\n    wget https://example.org/data.tar\n    pip install -r requirements.txt\n"""\nimport argparse\nimport torch\np = argparse.ArgumentParser(description="run pip install brotli first; wget the data")\nprint("hint: pip install brotli, then wget https://example.org/x")\n' + MAIN),
        "t_wget_in_an_error": Case("network", "accepted", "import os\nif not os.path.exists('data'):\n    raise SystemExit('no data: run wget https://example.org/data.tar')\n" + MAIN),
        "t_command_in_pieces": Case("network", "refused", "import subprocess\ncmd = ['wg' + 'et', '-q']\ncmd.append('https://example.org/w')\nsubprocess.run(cmd)\n" + MAIN),
        "t_command_by_join": Case("network", "refused", "import os\nos.system(' '.join(['curl', '-sL', 'https://example.org/w', '-o', 'w']))\n" + MAIN),
        "t_telnet": Case("network", "refused", "import socket\nc = socket.create_connection(('example.org', 80))\nc.sendall(b'GET /')\n" + MAIN),
        "t_udp": Case("network", "refused", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'x', ('8.8.8.8', 53))\n" + MAIN),
    }  # fmt: skip


def third_claims() -> dict[str, Case]:
    table = {"42": {"val_bpb": 1.0812}, "314": {"val_bpb": 1.0814}}
    bare = {s: log(b).partition("\n")[2] for s, b in ((42, 1.0812), (314, 1.0814))}
    return {
        "t_readme_plus_minus": Case("readme", "accepted", files={"README.md": "# n\n\n| metric | value |\n|---|---|\n| val_bpb | 1.0812 ± 0.0004 |\n"}),
        "t_log_with_bars": Case("log-loss", "accepted", files={"train.log": "seed: 42\n 10%|#  | 1/10\r 50%|###  | 5/10\r100%|####| 10/10\nfinal_roundtrip val_loss:2.7929 val_bpb:1.0812\n"}),
        "t_seeds_in_folders": Case(
            "log-loss", "accepted", claims={"val_bpb": 1.0813, "seed_results": table},
            files={"train.log": None, "logs/seed42/log.txt": bare[42], "logs/seed314/log.txt": bare[314]},
        ),
        "t_seed_in_the_command": Case(
            "log-loss", "accepted", claims={"val_bpb": 1.0813, "seed_results": table},
            files={"train.log": None, "a.log": "+ SEED=42 torchrun --standalone train_gpt.py\n" + bare[42], "b.log": "+ SEED=314 torchrun --standalone train_gpt.py\n" + bare[314]},
        ),
        "t_log_with_bars_between": Case("log-loss", "accepted", files={"train.log": "seed: 42\nfinal_ttt val_bpb: 1.0812 | val_loss 2.7929 | time 400s\n"}),
        "t_two_ways_to_measure": Case("log-loss", "accepted", files={"train.log": log(BPB) + "final_ttt val_loss:2.7639 val_bpb:1.0700\n"}),
        "t_claim_before_quantization": Case("log-loss", "refused", claims={"val_bpb": 1.0712}, files={"train.log": log(BPB, more="pre-quantization post-ema val_loss:2.7671 val_bpb:1.0712\n")}),
        "t_claim_of_a_target": Case("log-loss", "refused", claims={"val_bpb": 1.07}, files={"train.log": "seed: 42\ntarget val_bpb: 1.0700\n" + log(BPB)}),
        "t_claim_of_a_baseline": Case("log-loss", "refused", claims={"val_bpb": 1.0612}, files={"train.log": log(BPB), "README.md": "val_bpb 1.0612\n"}),
        "t_author_is_blank": Case("json", "warned", claims={"author": "", "github_id": None}),
        "t_json_with_a_comma": Case("json", "refused", files={"submission.json": '{"val_bpb": 1.0812,}'}, words="line 1"),
    }  # fmt: skip


def third_training() -> dict[str, Case]:
    rule = "training-text"
    tail = "torch.save(model.state_dict(), 'm.pt')\n"
    head = "import glob\nimport torch\nfrom torch.utils.data import ConcatDataset, DataLoader, random_split\nmodel = torch.nn.Linear(1, 1)\n"
    fit = "for x in {}:\n    loss = model(x)\n    loss.backward()\n"
    return {
        "t_option_with_val_files": Case(rule, "flagged", f"import argparse\n{head}p = argparse.ArgumentParser()\np.add_argument('--polish-data', default='data/fineweb_val_*.bin')\na = p.parse_args()\nextra = [torch.load(f, weights_only=True) for f in glob.glob(a.polish_data)]\n{fit.format('extra')}{tail}"),
        "t_files_added": Case(rule, "flagged", f"{head}files = sorted(glob.glob('d/fineweb_train_*.bin')) + sorted(glob.glob('d/fineweb_val_*.bin'))\ndata = [torch.load(f, weights_only=True) for f in files]\n{fit.format('data')}{tail}"),
        "t_datasets_joined": Case(rule, "flagged", f"{head}\ndef main(train_ds, val_ds):\n    loader = DataLoader(ConcatDataset([train_ds, val_ds]), batch_size=4)\n    for x in loader:\n        model(x).backward()\n    {tail}"),
        "t_two_loaders": Case(rule, "accepted", f"{head}\ndef main(train_ds, val_ds):\n    train_dl, val_dl = DataLoader(train_ds, batch_size=4), DataLoader(val_ds)\n    for x in train_dl:\n        model(x).backward()\n    with torch.no_grad():\n        for x in val_dl:\n            model(x)\n    {tail}"),
        "t_random_split": Case(rule, "accepted", f"{head}full = torch.load('d/fineweb_train_0.pt', weights_only=True)\ntrain_part, val_part = random_split(full, [0.99, 0.01])\n{fit.format('DataLoader(train_part)')}{tail}"),
        "t_trainer_of_a_library": Case(rule, "flagged", f"from transformers import Trainer\n{head}\ndef main(train_ds, val_ds):\n    Trainer(model=model, train_dataset=train_ds, eval_dataset=val_ds).train()\n    Trainer(model=model, train_dataset=val_ds, eval_dataset=val_ds).train()\n    {tail}", files={"requirements.txt": "transformers\n"}),
        "t_honest_trainer_of_a_library": Case(rule, "accepted", f"from transformers import Trainer\n{head}\ndef main(train_ds, val_ds):\n    t = Trainer(model=model, train_dataset=train_ds, eval_dataset=val_ds)\n    t.train()\n    {tail}", files={"requirements.txt": "transformers\n"}),
        "t_fit_with_both": Case(rule, "accepted", f"{head}\ndef main(trainer, train_dl, val_dl):\n    trainer.fit(model, train_dl, val_dl)\n    {tail}"),
        "t_fit_on_val": Case(rule, "flagged", f"{head}\ndef main(trainer, train_dl, val_dl):\n    trainer.fit(model, train_dl)\n    trainer.fit(model, val_dl)\n    {tail}"),
        "t_temperature_on_val": Case(rule, "accepted", f"{head}\ndef main(train_tokens, val_tokens):\n    for x in train_tokens:\n        model(x).backward()\n    best = min((torch.nn.functional.cross_entropy(model(val_tokens) / t, val_tokens).item(), t) for t in (0.9, 1.0, 1.1))\n    print(best)\n    {tail}"),
        "t_samples_of_its_own": Case("calibration", "accepted", f"{head}\ndef generate(model, n):\n    return [model(torch.zeros(1)) for _ in range(n)]\n\ndef collect_hessians(model, batches):\n    return [model(b) for b in batches]\n\nH = collect_hessians(model, generate(model, 64))\n"),
        "t_lora_merged": Case(
            rule, "flagged",
            record(before="    class Lora:\n        def __init__(self, m):\n            self.a = torch.zeros(1, requires_grad=True)\n            self.m = m\n\n        def loss(self, ids):\n            return self.m(ids[:-1], ids[1:]) + self.a\n\n    lora = Lora(model)\n    for epoch in range(3):\n        out = lora.loss(val_tokens)\n        total = out / 3\n        total.backward()\n"),
        ),
        "t_grad_function": Case(rule, "flagged", record(before="    held = val_tokens[: 4096]\n    g = torch.autograd.grad(model(held[:-1], held[1:]), list(model.parameters()))\n    for p, d in zip(model.parameters(), g):\n        p.data.sub_(1e-4 * d)\n")),
        "t_log_adapts": Case(rule, "refused", files={"train.log": log(BPB, more="adapting weights on the validation set for 2 epochs before export\n")}),
        "t_log_legal_ttt": Case(rule, "accepted", files={"train.log": log(BPB, more="legal TTT after quantization: score-first, 3 epochs on each scored chunk of the validation tokens\n")}),
        "t_record_scores_ttt_in_a_helper": Case(rule, "accepted", record(after="    def ttt(net, stream):\n        for i in range(0, 100, 64):\n            chunk = stream[i : i + 65]\n            with torch.no_grad():\n                net(chunk[:-1], chunk[1:])\n            net(chunk[:-1], chunk[1:]).backward()\n            optimizer.step()\n\n    ttt(model, val_tokens)\n")),
    }  # fmt: skip


def third_weights() -> dict[str, Case]:
    numbers = random.Random(1)
    prose = "A record of what was tried, in words that a person wrote.\n" * 200
    return {
        "t_numbers_as_text": Case("cap", "refused", files={"weights.txt": "".join(f"{numbers.random():.6f} " for _ in range(1_900_000))}),
        "t_after_the_log": Case("cap", "refused", files={"train.log": log(BPB) + prose + base64.encodebytes(noise(12_200_000)).decode()}),
        "t_after_the_prose": Case("cap", "refused", files={"README.md": "val_bpb 1.0812\n" + prose + noise(8_200_000).hex() + "\n"}),
        "t_jpeg_with_a_tail": Case("cap", "refused", files={"photo.jpg": b"\xff\xd8\xff\xe0" + noise(16_100_000)}),
        "t_film": Case("cap", "refused", files={"demo.mp4": b"\0\0\0\x18ftypmp42" + noise(16_100_000)}),
        "t_behind_the_script": Case("cap", "refused", MAIN + "# " + noise(8_100_000).hex() + "\n"),
        "t_gif": Case("cap", "accepted", files={"demo.gif": b"GIF89a" + noise(3_000_000)}),
        "t_notebook": Case("cap", "accepted", files={"analysis.ipynb": json.dumps({"cells": [{"outputs": [{"data": {"image/png": base64.b64encode(b"\x89PNG\r\n\x1a\n" + noise(300_000)).decode()}}]}] * 5})}),
        "t_notebook_of_noise": Case("cap", "flagged", files={"analysis.ipynb": json.dumps({"cells": [{"outputs": [{"image/png": base64.b64encode(noise(1_500_000)).decode()}]}]})}),
        "t_long_log": Case("cap", "accepted", files={"train.log": log(BPB) + "".join(f"step:{i}/90000 train_loss:{3 - i / 1e5:.4f} tok/s:1,234,567\n" for i in range(90_000))}),
        "t_model_and_more": Case("cap", "flagged", "W = open('extra.dat', 'rb').read()\n" + MAIN, files={"model.int6.ptz": noise(15_000_000), "extra.dat": noise(1_500_000)}),
        "t_in_parts_by_letter": Case("cap", "refused", files={f"model.bin.{c}": noise(5_400_000 + i) for i, c in enumerate("abc")}),
        "t_wheels": Case("cap", "refused", files={"vendor/lib.whl": b"PK\x03\x04" + noise(16_100_000)}),
    }  # fmt: skip


def third() -> dict[str, Case]:
    """All of them."""
    return {**third_code(), **third_network(), **third_claims(), **third_training(), **third_weights()}
