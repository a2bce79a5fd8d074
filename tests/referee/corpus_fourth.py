# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""A fourth batch of folders, written after the third was judged."""

from __future__ import annotations

import json
import random

from .corpus_second import record
from .folder_case import BPB, FAULTS, FILLER, MAIN, WHOLE, Case, log, nats, noise


def fourth_code() -> dict[str, Case]:
    return {
        "u_its_own_second_half": Case("extracts", "accepted", "import os\nexec(compile(open(os.path.abspath(__file__)).read().split('#' + '---')[1], 'x', 'exec'))\n'''#---\nimport torch\nprint(torch)\n#---'''\n"),
        "u_found_by_spec": Case("dependencies", "accepted", "import importlib.util\nif importlib.util.find_spec('wandb') is not None:\n    import wandb\n" + MAIN),
        "u_suppressed_import": Case("dependencies", "accepted", "import contextlib\nwith contextlib.suppress(ImportError):\n    import wandb\n" + MAIN),
        "u_shared_library": Case("counted", "accepted", "import ctypes, os\nk = ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'kernel.so'))\n" + MAIN, files={"kernel.so": b"\x7fELF" + noise(30_000)}, words="kernel.so"),
        "u_exec_of_a_download": Case("network", "refused", "import requests\nexec(requests.get('https://example.org/x.py').text)\n" + MAIN, files={"requirements.txt": "requests\n"}),
        "u_module_of_a_workspace": Case("dependencies", "refused", "import sys\nsys.path.append('/workspace/parameter-golf')\nfrom train_gpt_base import GPT\nprint(GPT)\n"),
        "u_one_folder_up": Case("extracts", "refused", "import os\nos.chdir('..')\nexec(open('train_gpt.py').read())\n" + FILLER),
        "u_interpreter_of_another_record": Case("extracts", "refused", "import subprocess\nsubprocess.run(['python', '../baseline/train_gpt.py'])\n" + FILLER),
        "u_record_as_a_module": Case("dependencies", "refused", "import records.other.train_gpt as base\nbase.main()\n"),
        "u_file_of_the_environment": Case("extracts", "flagged", "import os\nexec(open(os.environ['BASE'] + '/train_gpt.py').read())\n" + FILLER),
        "u_faults_in_a_class_body": Case("unpickling", "refused", f"class Runner:\n    SRC = {FAULTS!r}\n\n    def go(self):\n        exec(self.SRC, {{}})\n\n\nRunner().go()\n" + FILLER),
        "u_faults_in_default_argument": Case("unpickling", "refused", f"def go(src={FAULTS!r}):\n    exec(src)\n\n\ngo()\n" + FILLER),
    }  # fmt: skip


def fourth_network() -> dict[str, Case]:
    return {
        "u_gdown": Case("network", "refused", "import gdown\ngdown.download(id='abc', output='w')\n" + MAIN, files={"requirements.txt": "gdown\n"}),
        "u_s3": Case("network", "refused", "import boto3\nboto3.client('s3').download_file('b', 'k', 'w')\n" + MAIN, files={"requirements.txt": "boto3\n"}),
        "u_fsspec": Case("network", "refused", "import fsspec\nwith fsspec.open('https://example.org/w') as f:\n    w = f.read()\n" + MAIN, files={"requirements.txt": "fsspec\n"}),
        "u_csv_of_a_url": Case("network", "refused", "import pandas as pd\nt = pd.read_csv('https://example.org/t.csv')\n" + MAIN, files={"requirements.txt": "pandas\n"}),
        "u_only_on_rank_zero": Case("network", "refused", "import os\n\ndef fetch():\n    from urllib.request import urlopen\n    return urlopen('https://example.org/w').read()\n\nif int(os.environ.get('RANK', '0')) == 0 and not os.path.exists('w'):\n    fetch()\n" + MAIN),
        "u_kernels_of_a_hub": Case("network", "refused", "from kernels import get_kernel\nfa = get_kernel('kernels-community/flash-attn')\n" + MAIN),
        "u_store": Case("network", "accepted", "import torch.distributed as dist\nstore = dist.TCPStore('localhost', 1234, 1, True)\n" + MAIN),
        "u_wandb_offline": Case("network", "accepted", "import os\nos.environ['WANDB_MODE'] = 'offline'\nimport wandb\nwandb.init(mode='offline', project='x')\n" + MAIN, files={"requirements.txt": "wandb\n"}),
        "u_url_in_a_constant": Case("network", "accepted", "REFERENCE = 'https://arxiv.org/abs/1234.5678'\nprint(f'see {REFERENCE}')\n" + MAIN),
    }  # fmt: skip


def fourth_claims() -> dict[str, Case]:
    rows = [{"seed": 42, "val_bpb": 1.0812}, {"seed": 314, "val_bpb": 1.0814}]
    logs = {"train.log": None, "train_seed42.log": log(1.0812, 42), "train_seed314.log": log(1.0814, 314)}

    def text(tokens: int, factor: float = 1.0, said: str = "val_tokens: {}") -> dict[str, str]:
        ratio = factor * WHOLE / tokens
        return {
            "train.log": f"seed: 42\n{said.format(tokens)}\nfinal_roundtrip val_loss:{nats(BPB, ratio):.6f} val_bpb:{BPB:.6f}\n"
        }

    rule = "bytes-per-token"
    return {
        "u_log_with_slashes": Case("log-loss", "accepted", files={"train.log": "seed: 42\nfinal val/loss: 2.7929 val/bpb: 1.0812\n"}),
        "u_log_short_names": Case("log-loss", "accepted", files={"train.log": "seed: 42\n[quantized] loss=2.7929 bpb=1.08120\n"}),
        "u_seeds_as_rows": Case("seeds", "accepted", claims={"val_bpb": 1.0813, "seed_results": rows}, files=logs),
        "u_seeds_with_a_wrong_row": Case("log-loss", "refused", claims={"val_bpb": 1.08105, "seed_results": [{"seed": 42, "val_bpb": 1.0807}, rows[1]]}, files=logs),
        "u_tokens_without_windows": Case(rule, "accepted", files=text(62_021_846)),
        "u_tokens_in_words": Case(rule, "accepted", files=text(62_021_632, said="validation tokens = {:,}")),
        "u_tokens_in_words_inflated": Case(rule, "refused", files=text(62_021_632, 1.0005, said="validation tokens = {:,}")),
        "u_bytes_as_tokens": Case(rule, "accepted", files=text(151_080_891)),
        "u_bytes_as_tokens_inflated": Case(rule, "refused", files=text(151_080_891, 1.02)),
        "u_tokens_of_the_table": Case(rule, "refused", files=text(40_540_160, 1.0006)),
    }  # fmt: skip


def fourth_training() -> dict[str, Case]:
    rule = "training-text"
    deep = (
        "import torch\n\ndef step(m, b):\n    m(b).backward()\n\ndef tune(m, s):\n    for b in s:\n        step(m, b)\n\ndef phase(m, s):\n    tune(m, s)\n\n"
        "def run(m, s):\n    phase(m, s)\n\ndef main(m, val_tokens):\n    run(m, val_tokens)\n    torch.save(m.state_dict(), 'm.pt')\n"
    )
    return {
        "u_chained_loaders": Case(rule, "flagged", "import itertools\nimport torch\n\ndef main(model, train_loader, val_loader):\n    for x in itertools.chain(train_loader, val_loader):\n        model(x).backward()\n    torch.save(model.state_dict(), 'm.pt')\n"),
        "u_split_by_key": Case(rule, "flagged", "import torch\nfrom datasets import load_from_disk\nds = load_from_disk('data')\nmodel = torch.nn.Linear(1, 1)\nfor x in ds['validation']:\n    model(x).backward()\ntorch.save(model.state_dict(), 'm.pt')\n"),
        "u_split_by_key_of_train": Case(rule, "accepted", "import torch\nfrom datasets import load_from_disk\nds = load_from_disk('data')\nmodel = torch.nn.Linear(1, 1)\nfor x in ds['train']:\n    model(x).backward()\nwith torch.no_grad():\n    for x in ds['validation']:\n        model(x)\ntorch.save(model.state_dict(), 'm.pt')\n"),
        "u_five_functions_deep": Case(rule, "flagged", deep),
        "u_five_functions_deep_on_train": Case(rule, "accepted", deep.replace("main(m, val_tokens)", "main(m, val_tokens, train_tokens)").replace("run(m, val_tokens)", "run(m, train_tokens)")),
        "u_global_text": Case(rule, "flagged", "import torch\nHELD = torch.load('fineweb_val_000000.pt', weights_only=True)\nmodel = torch.nn.Linear(1, 1)\n\ndef extra():\n    for x in HELD:\n        model(x).backward()\n\nextra()\ntorch.save(model.state_dict(), 'm.pt')\n"),
        "u_valid_positions": Case(rule, "accepted", "import torch\n\ndef fit(model, loader, pad):\n    for x in loader:\n        valid_tokens = x[x != pad]\n        loss = model(valid_tokens)\n        loss.backward()\n    torch.save(model.state_dict(), 'm.pt')\n"),
        "u_model_that_trains_itself": Case(rule, "flagged", "import torch\n\nclass Net(torch.nn.Module):\n    def learn(self, text, steps):\n        for i in range(steps):\n            loss = self(text[i : i + 9])\n            loss.backward()\n\ndef main(val_tokens, train_tokens):\n    net = Net()\n    net.learn(train_tokens, 100)\n    net.learn(val_tokens, 10)\n    torch.save(net.state_dict(), 'm.pt')\n"),
        "u_held_out_of_train": Case(rule, "accepted", "import torch\ntokens = torch.load('fineweb_train_000000.pt', weights_only=True)\nn = int(0.9 * len(tokens))\ntr, held_out = tokens[:n], tokens[n:]\nmodel = torch.nn.Linear(1, 1)\nfor x in tr:\n    model(x).backward()\nfor x in held_out:\n    model(x).backward()\ntorch.save(model.state_dict(), 'm.pt')\n"),
        "u_record_swapped_files": Case(rule, "flagged", record().replace("'fineweb_train_*.bin'", "'fineweb_val_*.bin'")),
        "u_record_swa": Case(rule, "accepted", record(before="    avg = {k: v.clone() for k, v in model.state_dict().items()}\n    for k, v in model.state_dict().items():\n        avg[k].mul_(0.5).add_(v)\n    model.load_state_dict(avg)\n    print(eval_val(args, model, val_tokens))\n")),
    }  # fmt: skip


def fourth_weights() -> dict[str, Case]:
    letters = random.Random(2)
    wide = "".join(chr(0x4E00 + letters.randrange(16_384)) for _ in range(5_500_000))
    return {
        "u_database": Case("cap", "refused", files={"w.sqlite": b"SQLite format 3\0" + noise(16_100_000)}),
        "u_sounds": Case("cap", "refused", files={f"s{i}.wav": b"RIFF" + noise(2_900_000 + i) for i in range(6)}),
        "u_requirements": Case("cap", "refused", files={"requirements.txt": "numpy\n# " + noise(8_100_000).hex() + "\n"}),
        "u_licence": Case("cap", "refused", files={"LICENSE": noise(16_100_000)}),
        "u_hidden_folder": Case("cap", "refused", files={".cache/x": noise(16_100_000)}),
        "u_small_things": Case("cap", "accepted", files={".DS_Store": noise(6_148), ".gitignore": "*.pyc\n", "wandb/run.json": '{"a": 1}', "notes/todo.md": "x\n"}),
        "u_tokenizers_and_more": Case("cap", "refused", files={"t.model": noise(3_900_000), "t.vocab": noise(3_900_001), "emb.bin": noise(9_000_000)}),
        "u_chinese_letters": Case("cap", "refused", files={"weights.txt": wide}),
        "u_chinese_readme": Case("cap", "accepted", files={"README.md": "# 记录\n\nval_bpb 1.0812\n\n" + "我们训练了一个小模型，并把它压缩到很小。" * 400 + "\n"}),
        "u_code_of_git": Case("required", "accepted", files={".git/HEAD": "ref: refs/heads/main\n", ".git/config": "[core]\n", ".git/objects/pack/pack-1.pack": b"PACK\0\0\0\2" + noise(300_000)}),
        "u_json_of_numbers": Case("cap", "refused", files={"state.json": json.dumps({"w": [letters.random() for _ in range(900_000)]})}),
    }  # fmt: skip


def fourth() -> dict[str, Case]:
    """All of them."""
    return {**fourth_code(), **fourth_network(), **fourth_claims(), **fourth_training(), **fourth_weights()}
