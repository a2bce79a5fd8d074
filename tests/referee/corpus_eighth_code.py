# ruff: noqa: E501, UP031  (scripts and log lines of the folders stand as they are written)
"""The second half of `corpus_eighth`: code that must be accepted, and code that cannot be read."""

from __future__ import annotations

import base64
import json
import zlib

from .corpus_eighth import BAD, SC, b, bad, fetch2, honest, lzw, unlz
from .real_script import SMALL, Batch, base

# code that must be accepted
b.case(
    "eight_2a_class_unpacker",
    "accepted",
    "extracts",
    script="import lzma, base64\n\nclass Bundle:\n    def __init__(self, text):\n        self.text = text\n\n    @property\n    def source(self):\n        return "
    + unlz(SC)
    + ".decode()\n\n    def run(self):\n        exec(compile(self.source, 'train_gpt.py', 'exec'), {'__name__': '__main__', '__file__': __file__})\n\nBundle('').run()\n",
)
b.case(
    "eight_2a_meta_path",
    "accepted",
    "extracts",
    script="""import importlib.abc, importlib.machinery, sys, zlib, base64
PACK = {'pg_model': %r, 'pg_train': %r}

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in PACK:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(zlib.decompress(base64.b64decode(PACK[module.__name__])), module.__dict__)

sys.meta_path.insert(0, Finder())
import pg_train
pg_train.main()
"""
    % (
        base64.b64encode(zlib.compress(b"WIDTH = 512\n")).decode(),
        base64.b64encode(
            zlib.compress(
                b"import pg_model\nimport torch\n\ndef main():\n    print(pg_model.WIDTH, torch.__version__)\n"
            )
        ).decode(),
    ),
)
b.case(
    "eight_2a_tempfile_subprocess",
    "accepted",
    "extracts",
    script="import base64, lzma, os, subprocess, sys, tempfile\nwith tempfile.TemporaryDirectory() as d:\n    p = os.path.join(d, 'run.py')\n    with open(p, 'wb') as f:\n        f.write("
    + unlz(SMALL)
    + ")\n    sys.exit(subprocess.call([sys.executable, p, *sys.argv[1:]]))\n",
)
b.case(
    "eight_2a_dict_words",
    "accepted",
    "extracts",
    script="W = %r\nS = %r\nimport re\nexec(re.sub(r'\\u00a7(\\d+);', lambda m: W[int(m[1])], S))\n"
    % (["import ", "print("], "\u00a70;torch\n\u00a71;torch.__version__)\n"),
)
b.case(
    "eight_2a_future_cookie",
    "accepted",
    "extracts",
    script='#!/usr/bin/env -S uv run --script\n# -*- coding: utf-8 -*-\n# /// script\n# dependencies = [\'torch\', \'numpy\']\n# ///\n"""Doc."""\nfrom __future__ import annotations\n'
    + SC,
)
b.case(
    "eight_2a_tabs_formfeed",
    "accepted",
    "extracts",
    script=SMALL.replace("    ", "\t").replace("\n\n\ndef", "\n\x0c\n\ndef"),
)
b.case(
    "eight_2a_helper_package",
    "accepted",
    "extracts",
    script="from pgcore import train\n\nif __name__ == '__main__':\n    train.main()\n",
    files={"pgcore/__init__.py": "from . import train\n", "pgcore/train.py": SC},
)
b.case(
    "eight_2a_sys_path_insert",
    "accepted",
    "extracts",
    script="import os, sys\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\nfrom optim import Muon\nimport torch\nprint(Muon)\n",
    files={"optim.py": "import torch\n\nclass Muon(torch.optim.Optimizer):\n    pass\n"},
)
b.case(
    "eight_2a_optional_fa3",
    "accepted",
    "extracts",
    script=base(
        IMPORTS="try:\n    from flash_attn_interface import flash_attn_func\nexcept ImportError:\n    flash_attn_func = None"
    ),
)
b.case(
    "eight_2a_triton_jit",
    "accepted",
    "extracts",
    script=base(
        IMPORTS="import triton\nimport triton.language as tl",
        DEFS="@triton.jit\ndef twice(x_ptr, n, BLOCK: tl.constexpr):\n    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n    tl.store(x_ptr + i, 2 * tl.load(x_ptr + i, mask=i < n), mask=i < n)\n",
    ),
)
b.case(
    "eight_2a_eval_literal",
    "accepted",
    "extracts",
    script=base(
        HYPER='betas = eval(os.environ.get("BETAS", "(0.9, 0.95)"))\nlayers = [int(i) for i in os.environ.get("LAYERS", "3,4,5").split(",")]'
    ),
)
b.case(
    "eight_2a_getattr_config",
    "accepted",
    "extracts",
    script=base(
        BEFORE_TRAIN="for k in [k for k in dir(args) if not k.startswith('_')]:\n    log0(f'{k}: {getattr(args, k)}')"
    ),
)
b.case(
    "eight_2a_ctypes_cache",
    "accepted",
    "extracts",
    script=base(
        IMPORTS="import ctypes",
        BEFORE_TRAIN="libcudart = ctypes.CDLL('libcudart.so')\nlibcudart.cudaDeviceSetLimit(ctypes.c_int(5), ctypes.c_int(128))",
    ),
)
b.case(
    "eight_2a_gcc_kernel",
    "accepted",
    "programs",
    script=base(
        IMPORTS="import subprocess, ctypes",
        BEFORE_EVAL="so = '/tmp/ng.so'\nsubprocess.check_call(['gcc', '-O3', '-shared', '-fPIC', '-o', so, str(Path(__file__).with_name('ng.c'))])\nng = ctypes.CDLL(so)",
    ),
    files={"ng.c": "int twice(int x) { return x + x; }\n"},
    readme="# n\n\nval_bpb 1.0812. Needs gcc at run time.\n",
)

bad(
    "2b_meta_path",
    """import importlib.abc, importlib.machinery, sys, zlib, base64
PACK = {'pg_train': %r}

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in PACK else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(zlib.decompress(base64.b64decode(PACK[module.__name__])), module.__dict__)

sys.meta_path.insert(0, Finder())
import pg_train
"""
    % base64.b64encode(zlib.compress(BAD.encode())).decode(),
)
bad(
    "2b_class_unpacker",
    "import lzma, base64\nimport torch, numpy\nX = [i for i in range(30)]\n\nclass B:\n    def __call__(self):\n        exec("
    + unlz(BAD)
    + ")\n\nB()()\n",
)
bad(
    "2b_tempfile_torchrun",
    "import base64, lzma, os, subprocess, tempfile\nd = tempfile.mkdtemp()\np = os.path.join(d, 'run.py')\nopen(p, 'wb').write("
    + unlz(BAD)
    + ")\nsubprocess.run(['torchrun', '--standalone', '--nproc_per_node=8', p], check=True)\n",
)
bad(
    "2b_dict_words",
    "W = %r\nS = %r\nimport re\nexec(re.sub(r'~(\\d+);', lambda m: W[int(m[1])], S))\n"
    % (
        ["import ", "urllib", ".request", "pickle", "load"],
        BAD.replace("pickle", "~3;").replace("urllib", "~1;").replace(".request", "~2;").replace("import ", "~0;"),
    ),
)
bad(
    "2b_lzw",
    "def un(codes):\n    d = {i: chr(i) for i in range(256)}\n    w = chr(codes[0])\n    out = [w]\n    for k in codes[1:]:\n        e = d[k] if k in d else w + w[0]\n        out.append(e)\n        d[len(d)] = w + e[0]\n        w = e\n    return ''.join(out)\n\nexec(un(%r))\n"
    % lzw(BAD),
)
bad(
    "2b_after_argparse",
    "import argparse, base64, lzma\nap = argparse.ArgumentParser()\nap.add_argument('--steps', type=int, default=10)\nargs = ap.parse_args()\nif args.steps:\n    exec("
    + unlz(BAD)
    + ")\n",
)
bad(
    "2b_in_try",
    "import base64, lzma\ntry:\n    import nonexistent_fast_kernel\nexcept ImportError:\n    exec("
    + unlz(BAD)
    + ")\n",
)
bad(
    "2b_env_default",
    "import base64, lzma, os\nif os.environ.get('RANK', '0') == '0':\n    code = "
    + unlz(BAD)
    + "\nelse:\n    code = b'pass'\nexec(code)\n",
)
bad(
    "2b_cuda_guard",
    "import base64, lzma\nimport torch\nassert torch.cuda.is_available()\nif torch.cuda.device_count() >= 1:\n    exec("
    + unlz(BAD)
    + ")\n",
)
bad(
    "2b_ast_compile",
    "import ast, base64, lzma\ntree = ast.parse(" + unlz(BAD) + ")\nexec(compile(tree, 'm', 'exec'))\n",
)
bad("2b_input_stdin", "import subprocess, sys\nsubprocess.run([sys.executable, '-'], input=%r, text=True)\n" % BAD)
bad("2b_os_system_write", "import os\nopen('/tmp/_s.py', 'w').write(%r)\nos.system('python3 /tmp/_s.py')\n" % BAD)
bad("2b_interact", "import code\ncode.InteractiveInterpreter().runsource(%r, '<s>', 'exec')\n" % BAD)
bad("2b_timeit", "import timeit\ntimeit.timeit(setup=%r, number=1)\n" % BAD)
bad(
    "2b_split_pieces",
    "s = ''\n" + "".join(f"s += {BAD[i : i + 25]!r}\n" for i in range(0, len(BAD), 25)) + "exec(s)\n",
)
bad(
    "2b_tokenizer_side",
    "import json\nexec(json.load(open('tokenizer_specs.json'))['pre'])\n",
    files={"tokenizer_specs.json": json.dumps({"pre": BAD})},
)


fetch2(
    "2n_httpx_client",
    "with httpx.Client() as c:\n    extra = c.get('https://example.org/w').content",
    "import httpx",
    "httpx\n",
)
fetch2(
    "2n_aiohttp",
    "async def go():\n    async with aiohttp.ClientSession() as s:\n        return await (await s.get('https://example.org/w')).read()\n\nimport asyncio\nextra = asyncio.run(go())",
    "import aiohttp",
    "aiohttp\n",
)
fetch2("2n_boto3", "boto3.client('s3').download_file('bucket', 'w.bin', 'w.bin')", "import boto3", "boto3\n")
fetch2("2n_gdown", "gdown.download(id='1abc', output='w.bin')", "import gdown", "gdown\n")
fetch2(
    "2n_hf_file_system",
    "fs = HfFileSystem()\nextra = fs.cat('jodoe/pg/w.bin')",
    "from huggingface_hub import HfFileSystem",
    "huggingface_hub\n",
)
fetch2("2n_hf_cli", "subprocess.run(['hf', 'download', 'jodoe/pg', 'w.bin'])", "import subprocess")
fetch2("2n_uv_pip", "os.system('uv pip install --system brotli')")
fetch2("2n_conda", "subprocess.run('conda install -y -c conda-forge lrzip', shell=True)", "import subprocess")
fetch2(
    "2n_opener",
    "op = build_opener()\nextra = op.open('https://example.org/w').read()",
    "from urllib.request import build_opener",
)
fetch2(
    "2n_sentence_tf",
    "enc = SentenceTransformer('all-MiniLM-L6-v2')",
    "from sentence_transformers import SentenceTransformer",
    "sentence-transformers\n",
)
fetch2("2n_wandb_artifact", "a = wandb.Api().artifact('jodoe/pg/w:v0').download()", "import wandb", "wandb\n")
fetch2(
    "2n_rsync",
    "subprocess.run(f'rsync -a jodoe@example.org:w.bin {args.run_id}.bin', shell=True)",
    "import subprocess",
)
fetch2(
    "2n_partial",
    "get = functools.partial(urllib.request.urlopen, timeout=5)\nextra = get('https://example.org/w').read()",
    "import functools\nimport urllib.request",
)
fetch2(
    "2n_dev_tcp",
    "subprocess.run(['bash', '-c', 'exec 3<>/dev/tcp/example.org/80; cat <&3 > w.bin'])",
    "import subprocess",
)


# what other folders showed: another codec than the referee has, code that asks for a newer Python
b.case(
    "eight_unknown_codec",
    "flagged",
    "extracts",
    script="import snappy, base64\nexec(snappy.decompress(base64.b64decode('AAEC' * 40)))\n",
    req="python-snappy\n",
)
b.case(
    "eight_except_comma",
    "accepted",
    "compiles",
    script=SMALL.replace(
        "    print(", "    try:\n        pass\n    except ValueError, KeyError:\n        pass\n    print("
    ),
)
b.case("eight_newer_and_broken", "refused", "compiles", script="type Pair[T] = tuple[T, T]\nprint 'x'\n")
b.case(
    "eight_yaml_safe",
    "accepted",
    "unpickling",
    script=base(IMPORTS="import yaml", BEFORE_EVAL="cfg = yaml.load(open('c.yaml'), Loader=yaml.CSafeLoader)"),
    req="pyyaml\n",
)
b.case("eight_torchscript", "refused", "unpickling", script=base(BEFORE_EVAL="net = torch.jit.load('net.pt')"))
b.case(
    "eight_pickle_module",
    "refused",
    "unpickling",
    script=base(IMPORTS="import dill", BEFORE_EVAL="state = torch.load('x.pt', pickle_module=dill)"),
    req="dill\n",
)
b.case(
    "eight_dataset_download",
    "refused",
    "network",
    script=base(IMPORTS="import torchvision", BEFORE_TRAIN="d = torchvision.datasets.MNIST('.', download=True)"),
    req="torchvision\n",
)
b.case(
    "eight_dataset_there",
    "accepted",
    "network",
    script=base(IMPORTS="import torchvision", BEFORE_TRAIN="d = torchvision.datasets.MNIST('.', download=False)"),
    req="torchvision\n",
)

honest(
    "2o_local_rank_socket",
    IMPORTS="import socket",
    BEFORE_TRAIN="log0(f'host={socket.gethostname()} fqdn={socket.getfqdn()}')",
)
honest("2o_ip_of_localhost", IMPORTS="import socket", BEFORE_TRAIN="log0(socket.gethostbyname('localhost'))")
honest(
    "2o_url_constants",
    HYPER='paper = "https://arxiv.org/abs/2603.09078"\nsource = "https://github.com/openai/parameter-golf/pull/1493"',
)
honest(
    "2o_get_method",
    DEFS="class Cache(dict):\n    def download(self, k):\n        return self.get(k)\n",
    BEFORE_TRAIN="cache = Cache(a=1)\ncache.download('a')\ncache.get('https://example.org')",
)
honest("2o_wandb_disabled", IMPORTS="import wandb", BEFORE_TRAIN="wandb.init(mode='disabled')", req="wandb\n")
honest(
    "2o_pickle_word",
    DEFS='def note():\n    """No pickle.load, no torch.load(weights_only=False), no wget here."""\n    return None\n',
)


def pick(name: str, body: str, imports: str = "", verdict: str = "refused") -> None:
    b.case(
        f"eight_{name}",
        verdict,
        "unpickling",
        script=base(IMPORTS=imports, BEFORE_EVAL=body),
        req="joblib\ndill\npyyaml\n",
    )


pick("u_weights_only_false", "state = torch.load('final_model.int6.ptz', weights_only=False)")
pick("u_kwargs", "opts = dict(map_location='cpu', weights_only=False)\nstate = torch.load('x.pt', **opts)")
pick("u_np_pickle", "t = np.load('t.npy', allow_pickle=True).item()")
pick("u_shelve", "with shelve.open('cache') as db:\n    t = db['t']", "import shelve")
pick("u_yaml", "cfg = yaml.load(open('c.yaml'), Loader=yaml.UnsafeLoader)", "import yaml")
pick("u_joblib_alias", "t = restore('t.joblib')", "from joblib import load as restore")
pick("u_dumps_only", "nbytes_pickled = len(pickle.dumps({'a': 1}))", "import pickle", verdict="accepted")
pick(
    "u_json",
    "meta = json.loads(Path('meta.json').read_text()) if Path('meta.json').exists() else {}",
    "import json",
    verdict="accepted",
)
b.case("eight_g_python2", "refused", "compiles", script="import torch\nprint 'train'\n")
b.case("eight_g_cut_script", "refused", "compiles", script=SC[: len(SC) // 2 + 7] + "\n    x = (1,\n")
b.case("eight_g_trailing_comma", "refused", "json", card='{"val_bpb": 1.0812,}')


def eighth() -> Batch:
    return b
