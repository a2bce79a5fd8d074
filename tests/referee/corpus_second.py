# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders written after the referee as a stranger would: many styles of honest ones, and dishonest ones of each kind."""

from __future__ import annotations

import codecs
import gzip
import json

from .folder_case import BPB, FAULTS, FILLER, MAIN, RATIO, WHOLE, Case, log, nats, noise, zipped

NANO = (
    "import os\nimport numpy as np\nimport torch\n\ndata_dir = 'data'\nbest = 1e9\n\n"
    "def get_batch(split):\n    data = np.memmap(os.path.join(data_dir, f'{split}.bin'), dtype=np.uint16, mode='r')\n"
    "    ix = torch.randint(len(data) - 64, (8,))\n    x = torch.stack([torch.from_numpy(data[i : i + 64].astype(np.int64)) for i in ix])\n"
    "    return x[:, :-1], x[:, 1:]\n\n"
    "@torch.no_grad()\ndef estimate_loss(model):\n    out = {}\n    model.eval()\n    for split in ['train', 'val']:\n"
    "        losses = torch.zeros(20)\n        for k in range(20):\n            X, Y = get_batch(split)\n            losses[k] = model(X, Y).item()\n"
    "        out[split] = losses.mean()\n    model.train()\n    return out\n\n"
    "model = torch.nn.Linear(1, 1)\nopt = torch.optim.AdamW(model.parameters())\n"
    "for it in range(100):\n    if it % 10 == 0:\n        losses = estimate_loss(model)\n        best = min(best, losses['val'])\n"
    "    X, Y = get_batch('train')\n    loss = model(X, Y)\n    loss.backward()\n    opt.step()\n"
)
RECORD = (
    "import glob, os, io, zlib\nfrom pathlib import Path\nimport numpy as np\nimport torch\nimport torch.nn.functional as F\n\n"
    "class Hyperparameters:\n    data_path = os.environ.get('DATA_PATH', './data/datasets/fineweb10B_sp1024')\n"
    "    train_files = os.path.join(data_path, 'fineweb_train_*.bin')\n    val_files = os.path.join(data_path, 'fineweb_val_*.bin')\n"
    "    iterations = int(os.environ.get('ITERATIONS', 20000))\n\n"
    "def load_data_shard(file):\n    return torch.from_numpy(np.fromfile(file, dtype='<u2').astype(np.int64))\n\n"
    "def load_validation_tokens(pattern, seq_len):\n    files = [Path(p) for p in sorted(glob.glob(pattern))]\n"
    "    return torch.cat([load_data_shard(f) for f in files]).contiguous()\n\n"
    "class TokenStream:\n    def __init__(self, pattern):\n        self.files = [Path(p) for p in sorted(glob.glob(pattern))]\n"
    "        self.file_idx, self.pos = 0, 0\n        self.tokens = load_data_shard(self.files[0])\n\n"
    "    def take(self, n):\n        chunk = self.tokens[self.pos : self.pos + n]\n        self.pos += n\n        return chunk\n\n"
    "class DistributedTokenLoader:\n    def __init__(self, pattern, rank, world_size, device):\n        self.rank, self.world_size, self.device = rank, world_size, device\n"
    "        self.stream = TokenStream(pattern)\n\n    def next_batch(self, n, seq_len):\n        local = self.stream.take(n).to(self.device)\n"
    "        return local[:-1].reshape(-1, seq_len), local[1:].reshape(-1, seq_len)\n\n"
    "def eval_val(args, model, val_tokens):\n    model.eval()\n    with torch.inference_mode():\n        loss = model(val_tokens[:-1], val_tokens[1:]).detach()\n    model.train()\n    return loss.item()\n\n"
    "def quantize_state_dict_int8(sd):\n    return {k: v.to(torch.int8) for k, v in sd.items()}\n\n"
    "def main():\n    args = Hyperparameters()\n    model = torch.nn.Linear(1, 1)\n    val_tokens = load_validation_tokens(args.val_files, 1024)\n"
    "    train_loader = DistributedTokenLoader(args.train_files, 0, 1, 'cuda')\n    optimizer = torch.optim.Adam(model.parameters())\n"
    "    for step in range(args.iterations):\n        if step % 1000 == 0:\n            val_loss = eval_val(args, model, val_tokens)\n            print(val_loss)\n"
    "        x, y = train_loader.next_batch(1024, 64)\n        loss = model(x, y)\n        loss.backward()\n        optimizer.step()\n@@"
    "    obj = quantize_state_dict_int8(model.state_dict())\n    buf = io.BytesIO()\n    torch.save(obj, buf)\n"
    "    open('final_model.int8.ptz', 'wb').write(zlib.compress(buf.getvalue(), 9))\n##"
    "    print(eval_val(args, model, val_tokens))\n\n\nmain()\n"
)
TUNE = "    for i in range(0, 100, 64):\n        chunk = {}[i : i + 65]\n        model(chunk[:-1], chunk[1:]).backward()\n        optimizer.step()\n"


def record(before: str = "", after: str = "") -> str:
    """A script as the records have them, with lines before packing and after it."""
    return RECORD.replace("@@", before).replace("##", after)


def second_code() -> dict[str, Case]:
    text = json.dumps({"src": FAULTS})
    return {
        "s_project_of_modules": Case(
            "counted", "accepted", "from model import GPT\nimport data\nprint(GPT, data)\n",
            files={"model.py": "class GPT:\n    pass\n", "data.py": "X = 1\n"}, words="data.py .*model.py",
        ),
        "s_project_with_a_package": Case(
            "counted", "accepted", "from lib import blocks\nimport lib.optim as o\nprint(blocks, o)\n",
            files={"lib/__init__.py": "", "lib/blocks.py": "X = 1\n", "lib/optim.py": "Y = 1\n"}, words="lib/blocks.py",
        ),
        "s_module_from_above": Case(
            "dependencies", "refused", "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..'))\nimport shared_model\nprint(shared_model)\n",
        ),
        "s_exec_of_a_file_above": Case("extracts", "refused", "exec(open('../shared/model.py').read())\n" + FILLER),
        "s_exec_of_parent_parent": Case(
            "extracts", "refused", "from pathlib import Path\nexec(Path(__file__).resolve().parent.parent.joinpath('common.py').read_text())\n" + FILLER,
        ),
        "s_spec_of_an_absolute_file": Case(
            "extracts", "refused", "import importlib.util as u\ns = u.spec_from_file_location('k', '/opt/kernels.py')\nm = u.module_from_spec(s)\ns.loader.exec_module(m)\n" + FILLER,
        ),
        "s_exec_of_a_file_beside": Case(
            "counted", "accepted", "from pathlib import Path\nexec(Path(__file__).with_name('model_def.py').read_text())\n" + FILLER,
            files={"model_def.py": "class GPT:\n    pass\n"}, words="model_def.py",
        ),
        "s_faults_in_a_gz_beside": Case(
            "unpickling", "refused", "import gzip, os\nexec(gzip.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'train.gz')).read())\n",
            files={"train.gz": gzip.compress(FAULTS.encode())},
        ),
        "s_faults_in_a_zip_on_the_path": Case(
            "unpickling", "refused", "import sys, os\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'bundle.zip'))\nimport inner\nprint(inner)\n",
            files={"bundle.zip": zipped(inner=FAULTS)},
        ),
        "s_zip_on_the_path": Case(
            "dependencies", "accepted", "import sys, os\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'bundle.zip'))\nimport inner\nprint(inner)\n",
            files={"bundle.zip": zipped(inner="X = 1\n\ndef f():\n    return X\n")},
        ),
        "s_faults_in_json": Case(
            "unpickling", "refused", "import json, os\nexec(json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'code.json')))['src'])\n" + FILLER,
            files={"code.json": text},
        ),
        "s_faults_by_execvp": Case("unpickling", "refused", f"import os\nos.execvp('python3', ['python3', '-c', {FAULTS!r}])\n"),
        "s_faults_in_a_process": Case(
            "unpickling", "refused", f"import multiprocessing\n\nif __name__ == '__main__':\n    multiprocessing.Process(target=exec, args=({FAULTS!r},)).start()\n" + FILLER,
        ),
        "s_faults_rotated": Case(
            "unpickling", "refused", f"import codecs\nexec(codecs.decode({codecs.encode(FAULTS, 'rot13')!r}, 'rot13'))\n" + FILLER,
        ),
        "s_faults_in_numbers": Case("unpickling", "refused", f"exec(bytes({[*FAULTS.encode()]}))\n" + FILLER),
        "s_methods_called_eval_and_compile": Case(
            "extracts", "accepted",
            "import re\nimport torch\n\nclass Net(torch.nn.Module):\n    def eval(self):\n        return super().eval()\n\n"
            "net = torch.compile(Net())\nnet.eval()\nWORD = re.compile('a+')\n" + MAIN,
        ),
        "s_literal_eval": Case("extracts", "accepted", "import ast, os\nLAYERS = ast.literal_eval(os.environ.get('LAYERS', '[1, 2]'))\n" + MAIN),
        "s_nvidia_smi": Case("network", "accepted", "import subprocess\nprint(subprocess.check_output(['nvidia-smi']).decode())\nprint(subprocess.run('git rev-parse HEAD', shell=True, capture_output=True).stdout)\n" + MAIN),
        "s_inline_cuda": Case(
            "network", "accepted", "from torch.utils.cpp_extension import load_inline\nSRC = '#include <torch/extension.h>\\nint f() { return 1; }'\nmod = load_inline('k', cpp_sources=[SRC], functions=['f'])\n" + MAIN,
        ),
        "s_curl_in_a_pipe": Case("network", "refused", "import os\nURL = 'https://example.org/w.tar'\nos.popen('curl -L ' + URL + ' | tar x')\n" + MAIN),
        "s_git_clone": Case("network", "refused", "import shlex, subprocess\nsubprocess.run(shlex.split('git clone https://github.com/a/b'))\n" + MAIN),
        "s_pip_main": Case("network", "refused", "import pip\npip.main(['install', 'flash-attn'])\n" + MAIN),
        "s_pip_by_executable": Case("network", "refused", "import subprocess, sys\ntry:\n    import brotli\nexcept ImportError:\n    subprocess.check_call([sys.executable, '-m', 'pip', 'install', '--upgrade', 'brotli'])\n" + MAIN, files={"requirements.txt": "brotli\n"}),
        "s_urlretrieve": Case("network", "refused", "import urllib.request as r\nr.urlretrieve('https://example.org/a', 'a')\n" + MAIN),
        "s_dataset_of_a_hub": Case("network", "refused", "from datasets import load_dataset\nds = load_dataset('HuggingFaceFW/fineweb', split='train', streaming=True)\n" + MAIN),
        "s_tokenizer_of_a_hub": Case("network", "refused", "from transformers import AutoTokenizer\ntok = AutoTokenizer.from_pretrained('gpt2')\n" + MAIN, files={"requirements.txt": "transformers\n"}),
        "s_https_connection": Case("network", "refused", "from http.client import HTTPSConnection as C\nc = C('example.org')\nc.request('GET', '/')\n" + MAIN),
        "s_process_group": Case("network", "accepted", "import torch.distributed as dist\ndist.init_process_group('nccl', init_method='tcp://127.0.0.1:29500', rank=0, world_size=1)\n" + MAIN),
        "s_pretrained_from_here": Case("network", "accepted", "from transformers import AutoTokenizer\ntok = AutoTokenizer.from_pretrained('./tokenizer')\n" + MAIN, files={"requirements.txt": "transformers\n"}),
        "s_free_port": Case("network", "accepted", "import os, socket\ns = socket.socket()\ns.bind(('', 0))\nos.environ['MASTER_PORT'] = str(s.getsockname()[1])\ns.close()\n" + MAIN),
        "s_open_connection": Case("network", "refused", "import asyncio\n\nasync def get():\n    r, w = await asyncio.open_connection('1.2.3.4', 80)\n    return await r.read()\n\nW = asyncio.run(get())\n" + MAIN),
        "s_versions": Case("network", "accepted", "from importlib.metadata import version\nfrom urllib.parse import quote\nprint(version('torch'), quote('a b'))\n" + MAIN),
        "s_shell_script_that_installs": Case("network", "flagged", "import os\nos.system('bash setup.sh')\n" + MAIN, files={"setup.sh": "#!/bin/bash\nset -e\npip install brotli\n"}),
        "s_offline_sentencepiece": Case("network", "accepted", "import os\nos.environ['HF_HUB_OFFLINE'] = '1'\nimport sentencepiece as spm\nsp = spm.SentencePieceProcessor(model_file='./data/tokenizers/fineweb_1024_bpe.model')\n" + MAIN),
        "s_a_record": Case("extracts", "accepted", record()),
    }  # fmt: skip


def second_claims() -> dict[str, Case]:
    three = {f"train_seed{s}.log": log(b, s) for s, b in ((1, 1.08), (2, 1.081), (3, 1.086))}
    two = {"42": {"val_bpb": 1.0812}, "314": {"val_bpb": 1.0814}}
    stamped = "\n".join(f"2026-04-01 12:00:00,123 INFO - {line}" for line in log(BPB).splitlines()) + "\n"
    final = {"event": "final", "step": 20000, "stage": "int6 roundtrip", "val_loss": 2.7929, "val_bpb": 1.0812}
    event = {"event": "eval", "step": 20000, "val_loss": 2.7929, "val_bpb": 1.0812}
    return {
        "s_readme_bold": Case("readme", "accepted", files={"README.md": "# n\n\nFinal: **1.08119** bpb (3 seeds)\n"}),
        "s_readme_one_unit_off": Case("readme", "refused", files={"README.md": "# n\n\nval_bpb 1.0813\n"}),
        "s_log_rounds_up": Case("log-loss", "accepted", files={"train.log": log(1.08116)}),
        "s_claim_one_unit_off": Case("log-loss", "refused", claims={"val_bpb": 1.0811}, files={"train.log": log(1.08123)}),
        "s_claim_one_unit_above": Case("log-loss", "refused", claims={"val_bpb": 1.0813}, files={"train.log": log(1.08123)}),
        "s_claim_is_cut": Case("log-loss", "accepted", files={"train.log": log(1.08128)}),
        "s_claim_of_three_digits": Case("log-loss", "accepted", claims={"val_bpb": 1.081}, files={"README.md": "val_bpb 1.081\n", "train.log": log(1.08123)}),
        "s_log_with_stamps": Case("log-loss", "accepted", files={"train.log": stamped}),
        "s_log_in_colour": Case("log-loss", "accepted", files={"train.log": "seed: 42\n\x1b[32mfinal_int6_roundtrip val_loss:2.7929 val_bpb:1.0812\x1b[0m\n"}),
        "s_log_with_crlf": Case("log-loss", "accepted", files={"train.log": log(BPB).replace("\n", "\r\n")}),
        "s_log_json_final_step": Case("log-loss", "accepted", files={"train.log": json.dumps(final) + "\n"}),
        "s_log_json_eval_step": Case("log-loss", "warned", files={"train.log": json.dumps({**event, "step": 1000, "val_bpb": 1.3}) + "\n" + json.dumps(event) + "\n"}),
        "s_log_wandb_summary": Case("log-loss", "accepted", files={"train.log": "wandb: Run summary:\nwandb:     val_loss 2.7929\nwandb:      val_bpb 1.0812\n"}),
        "s_log_runs_with_headings": Case(
            "log-loss", "accepted", claims={"val_bpb": 1.0813, "seed_results": two},
            files={"train.log": "=== RUN 1/2 seed=42 ===\n" + log(1.0812).partition("\n")[2] + "=== RUN 2/2 seed=314 ===\n" + log(1.0814).partition("\n")[2]},
        ),
        "s_mean_of_three_logs": Case("log-loss", "accepted", claims={"val_bpb": 1.0823}, files={**three, "train.log": None}),
        "s_mean_one_unit_off": Case("log-loss", "refused", claims={"val_bpb": 1.0825}, files={**three, "train.log": None}),
        "s_wrong_deviation": Case(
            "seeds", "refused", claims={"val_bpb": 1.0823, "val_bpb_std": 0.0005, "seed_results": {"1": {"val_bpb": 1.08}, "2": {"val_bpb": 1.081}, "3": {"val_bpb": 1.086}}},
            files={**three, "train.log": None},
        ),
        "s_row_of_another_run": Case(
            "log-loss", "refused", claims={"val_bpb": 1.0822, "seed_results": {"1": {"val_bpb": 1.08}, "2": {"val_bpb": 1.081}, "3": {"val_bpb": 1.0857}}},
            files={**three, "train.log": None}, words="1.0857.*1.086",
        ),
    }  # fmt: skip


def second_text() -> dict[str, Case]:
    def text(
        tokens: int, factor: float = 1.0, digits: int = 8, whole: int = WHOLE, said: bool = True
    ) -> dict[str, str]:
        ratio = factor * whole / tokens
        loss = f"final_roundtrip val_loss:{nats(BPB, ratio):.{digits}f} val_bpb:{BPB:.{digits}f}\n"
        return {"train.log": f"seed: 42\n{f'val_tokens: {tokens}' if said else ''}\n{loss}"}

    rule = "bytes-per-token"
    return {
        "s_vocab2048_four_digits": Case(rule, "accepted", files=text(53_271_001, digits=4)),
        "s_vocab2048_a_thousandth_more": Case(rule, "refused", files=text(53_271_001, 1.001)),
        "s_vocab2048_less_than_that": Case(rule, "refused", files=text(53_271_001, 1.0004)),
        "s_vocab2048_a_thousandth_more_four_digits": Case(rule, "refused", files=text(53_271_001, 1.001, digits=4)),
        "s_vocab65536_right": Case(rule, "accepted", files=text(30_200_345)),
        "s_caseops_right": Case(rule, "accepted", files=text(47_851_520, whole=151_074_309)),
        "s_caseops_without_sidecar": Case(rule, "refused", files=text(47_851_520, whole=164_594_398)),
        "s_tokens_in_json": Case(rule, "refused", claims={"val_tokens": 45_508_608, "val_loss": nats(BPB, 1.02 * WHOLE / 45_508_608)}, files=text(45_508_608, 1.02, said=False)),
        "s_tokens_in_json_right": Case(rule, "accepted", claims={"val_tokens": 45_508_608, "val_loss": nats(BPB, WHOLE / 45_508_608)}, files=text(45_508_608, said=False)),
        "s_no_tokens_known_ratio": Case(rule, "accepted", claims={"val_loss": nats(BPB, RATIO)}, files=text(40_540_160, said=False)),
        "s_long_windows_left_out": Case(rule, "accepted", files={"train.log": log(BPB, tokens=45_508_608 - 30_000, ratio=WHOLE / 45_508_608)}),
    }  # fmt: skip


def second_training() -> dict[str, Case]:
    rule = "training-text"
    loop = "for x in val:\n    loss = model(x)\n    loss.backward()\n"
    return {
        "s_val_by_its_file": Case(rule, "flagged", f"import torch\nval = torch.load('data/fineweb_val_000000.pt', weights_only=True)\nmodel = torch.nn.Linear(1, 1)\n{loop}torch.save(model.state_dict(), 'm.pt')\n"),
        "s_val_in_a_dataset": Case(
            rule, "flagged",
            "import numpy as np\nimport torch\n\nclass Shards:\n    def __init__(self, path):\n        self.tokens = np.fromfile(path, dtype=np.uint16)\n\n    def __iter__(self):\n        for i in range(9):\n            yield torch.tensor(self.tokens[i : i + 9])\n\n"
            "def run(model, source):\n    for x in source:\n        model(x).backward()\n\nmodel = torch.nn.Linear(1, 1)\nrun(model, Shards('fineweb_train_000001.bin'))\nrun(model, Shards('fineweb_val_000000.bin'))\ntorch.save(model.state_dict(), 'm.pt')\n",
        ),
        "s_both_in_a_dataset": Case(
            rule, "accepted",
            "import numpy as np\nimport torch\n\nclass Shards:\n    def __init__(self, path):\n        self.tokens = np.fromfile(path, dtype=np.uint16)\n\n    def __iter__(self):\n        for i in range(9):\n            yield torch.tensor(self.tokens[i : i + 9])\n\n"
            "def run(model, source):\n    for x in source:\n        model(x).backward()\n\n@torch.no_grad()\ndef score(model, source):\n    return sum(model(x).item() for x in source)\n\n"
            "model = torch.nn.Linear(1, 1)\nrun(model, Shards('fineweb_train_000001.bin'))\nprint(score(model, Shards('fineweb_val_000000.bin')))\ntorch.save(model.state_dict(), 'm.pt')\n",
        ),
        "s_record_tuned": Case(rule, "flagged", record(before=TUNE.format("val_tokens"))),
        "s_record_tuned_under_another_name": Case(rule, "flagged", record(before="    extra = load_validation_tokens(args.val_files, 1024)\n" + TUNE.format("extra"))),
        "s_record_with_legal_ttt": Case(rule, "accepted", record(after=TUNE.format("val_tokens"))),
        "s_record_plain": Case(rule, "accepted", record()),
        "s_record_second_loader_on_val": Case(
            rule, "flagged", record(before="    more = DistributedTokenLoader(args.val_files, 0, 1, 'cuda')\n    for step in range(100):\n        x, y = more.next_batch(1024, 64)\n        model(x, y).backward()\n        optimizer.step()\n"),
        ),
        "s_adapter_in_another_file": Case(
            rule, "flagged", record(before="    from polish import polish\n    polish(model, val_tokens)\n"),
            files={"polish.py": "def step(model, batch):\n    loss = model(batch)\n    loss.backward()\n\n\ndef polish(model, stream):\n    for i in range(9):\n        step(model, stream[i : i + 9])\n"},
        ),
        "s_nano": Case(rule, "accepted", NANO + "torch.save(model.state_dict(), 'ckpt.pt')\n"),
        "s_nano_tuned": Case(rule, "flagged", NANO + "for it in range(100):\n    X, Y = get_batch('val')\n    model(X, Y).backward()\n    opt.step()\ntorch.save(model.state_dict(), 'ckpt.pt')\n"),
        "s_early_stopping": Case(
            rule, "accepted",
            "import torch\n\ndef fit(model, train_loader, val_loader):\n    best = 1e9\n    for x in train_loader:\n        model(x).backward()\n        with torch.no_grad():\n            val_loss = sum(model(v) for v in val_loader)\n        if val_loss < best:\n            best = val_loss\n            torch.save(model.state_dict(), 'best.pt')\n",
        ),
        "s_mask_of_valid_tokens": Case(
            rule, "accepted", "import torch\n\ndef fit(model, loader):\n    for x in loader:\n        valid_mask = (x > 0).float()\n        loss = (model(x) * valid_mask).sum() / valid_mask.sum()\n        loss.backward()\n    torch.save(model.state_dict(), 'm.pt')\n",
        ),
        "s_trainer_object": Case(
            rule, "flagged",
            "import torch\n\nclass Trainer:\n    def __init__(self, model, train, val):\n        self.model, self.train_data, self.held = model, train, val\n\n    def fit(self):\n        self._epoch(self.train_data)\n        self._epoch(self.held)\n\n    def _epoch(self, data):\n        for x in data:\n            self.model(x).backward()\n\n"
            "def main(model, train_tokens, val_tokens):\n    t = Trainer(model, train_tokens, val_tokens)\n    t.fit()\n    torch.save(model.state_dict(), 'm.pt')\n",
        ),
        "s_log_tunes_before_gptq": Case(rule, "refused", files={"train.log": log(BPB, more="TTT before GPTQ: epoch 1/3 loss 2.7\n")}),
        "s_log_speaks_of_pre_quantization": Case(rule, "accepted", files={"train.log": log(BPB, more="pre-quantization post-ema val_loss:2.7 val_bpb:1.0712\n")}),
        "s_log_prints_its_source": Case(rule, "accepted", files={"train.log": log(BPB, more="class H:train_files=os.path.join(data_path,'fineweb_train_*.bin');val_files=os.path.join(data_path,'fineweb_val_*.bin')\n")}),
        "s_calibration_on_val_by_flow": Case(
            "calibration", "refused", "def collect_hessians(m, x):\n    pass\n\n\ndef main(load, model):\n    held = load('data/fineweb_val_000000.bin')\n    collect_hessians(model, held)\n",
        ),
        "s_calibration_on_train": Case(
            "calibration", "accepted", "def collect_hessians(m, x):\n    pass\n\n\ndef main(load, model):\n    held = load('data/fineweb_val_000000.bin')\n    calib = load('data/fineweb_train_000000.bin')\n    collect_hessians(model, calib)\n    return held\n",
        ),
    }  # fmt: skip


def second_weights() -> dict[str, Case]:
    png = b"\x89PNG\r\n\x1a\n"
    return {
        "s_many_small_files": Case("cap", "refused", files={f"w/{i:03}.bin": noise(56_000) for i in range(300)}),
        "s_five_pictures": Case("cap", "refused", files={f"fig{i}.png": png + noise(3_500_000 + i) for i in range(5)}),
        "s_in_pycache": Case("cap", "refused", files={"__pycache__/model.cpython-311.pyc": noise(16_100_000)}),
        "s_in_git": Case("cap", "refused", files={".git/lfs/objects/ab/cd": noise(16_100_000)}),
        "s_hdf5": Case("cap", "refused", files={"weights.h5": b"\x89HDF\r\n\x1a\n" + noise(16_100_000)}),
        "s_npy": Case("cap", "refused", files={"emb.npy": b"\x93NUMPY" + noise(16_100_000)}),
        "s_tokenizer_json_of_noise": Case("cap", "refused", files={"tokenizer.json": '{"w": "' + noise(8_100_000).hex() + '"}'}),
        "s_tokenizer_json": Case("cap", "accepted", files={"tokenizer.json": json.dumps({"model": {"vocab": {f"piece{i}": i for i in range(65_536)}}}, indent=1)}),
        "s_csv_of_results": Case("cap", "accepted", files={"results.csv": "step,loss\n" + "".join(f"{i},{3 - i / 1e5:.4f}\n" for i in range(90_000))}),
        "s_compiled_script": Case("artifact", "warned", files={"__pycache__/train_gpt.cpython-311.pyc": b"\xa7\r\r\n" + noise(150_000)}, words="only words"),
        "s_some_figures": Case("cap", "accepted", files={"a.png": png + noise(400_000), "b.png": png + noise(500_000), "c.svg": "<svg></svg>\n"}),
        "s_in_the_readme": Case("cap", "refused", files={"README.md": "val_bpb 1.0812\n\n" + noise(8_200_000).hex() + "\n"}),
        "s_in_a_module": Case("cap", "refused", "from weights import W\nprint(len(W))\n", files={"weights.py": f"W = bytes.fromhex('{noise(8_100_000).hex()}')\n"}),
        "s_in_a_tar": Case("cap", "refused", files={"weights.tar": b"w.npy".ljust(257, b"\0") + b"ustar\x0000" + noise(16_100_000)}),
        "s_two_of_two_kinds": Case("cap", "refused", files={"embed.npz": b"PK\x03\x04" + noise(8_100_000), "blocks.bin": noise(8_100_001)}),
        "s_five_tokenizers": Case("cap", "refused", files={f"t{i}.model": noise(3_900_000 + i) for i in range(5)}),
    }  # fmt: skip


def second() -> dict[str, Case]:
    """All of them."""
    return {**second_code(), **second_claims(), **second_text(), **second_training(), **second_weights()}
