# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders written by somebody who had not read the referee: code, and what it fetches."""

from __future__ import annotations

import base64
import codecs
import json
import lzma
import zlib

from .folder_case import FAULTS, MAIN, Case, zipped

FETCH = "import urllib.request\nimport torch\nurllib.request.urlopen('http://example.org/w.bin')\n"
UNPICKLE = "import pickle\nimport torch\nx = pickle.load(open('w', 'rb'))\n"
PIP = "import subprocess, sys\nimport torch\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'brotli'])\n"


def b64(source: str) -> str:
    return base64.b64encode(zlib.compress(source.encode())).decode()


def b85(source: str) -> str:
    return base64.b85encode(lzma.compress(source.encode())).decode()


def twice(source: str) -> str:
    inner = f"import torch, base64, zlib\nexec(zlib.decompress(base64.b64decode('{b64(source)}')))\n"
    return f"import torch, numpy\nimport lzma, base64\nexec(lzma.decompress(base64.b85decode('{b85(inner)}')))\n"


def xored(source: str, key: int = 7) -> str:
    data = bytes(b ^ key for b in source.encode())
    return f"import torch\nDATA = {data!r}\nexec(bytes(b ^ {key} for b in DATA).decode())\n"


def finder(source: str) -> str:
    return (
        "import importlib.abc, importlib.util, sys\n"
        f"SOURCES = {{'engine': {source!r}}}\n\n\n"
        "class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        return importlib.util.spec_from_loader(name, self) if name in SOURCES else None\n\n"
        "    def exec_module(self, module):\n        exec(SOURCES[module.__name__], module.__dict__)\n\n\n"
        "sys.meta_path.insert(0, Finder())\nimport engine\n"
    )


def fifth_code() -> dict[str, Case]:
    """Code behind layers, in other files, above the folder."""
    readme = "# n\n\nval_bpb 1.0812\n\n```python\n{}```\n"
    from_readme = (
        "import re\nfrom pathlib import Path\nimport torch\ntext = Path(__file__).with_name('README.md').read_text()\n"
        "exec(re.search(r'```python\\n(.*?)```', text, re.S).group(1))\n"
    )
    rot = codecs.encode(FETCH, "rot13")
    hexed = FETCH.encode().hex()
    return {
        "five_two_layers_pip": Case("network", "refused", twice(PIP)),
        "five_two_layers_good": Case("extracts", "accepted", twice(MAIN)),
        "five_codecs_zlib": Case(
            "unpickling",
            "refused",
            "import codecs\nimport torch\n"
            f"exec(codecs.decode(codecs.decode({base64.encodebytes(zlib.compress(UNPICKLE.encode()))!r}, 'base64'), 'zlib'))\n",
        ),
        "five_list_of_ints": Case("network", "refused", f"import torch\nexec(bytes({list(FETCH.encode())}).decode())\n"),
        "five_xored": Case("network", "refused", xored(FETCH)),
        "five_xored_good": Case("extracts", "accepted", xored(MAIN)),
        "five_rot13": Case("network", "refused", f"import codecs\nimport torch\nexec(codecs.decode({rot!r}, 'rot13'))\n"),
        "five_fromhex_compile": Case(
            "network",
            "refused",
            f"import torch\nrun = compile(bytes.fromhex('{hexed}'), 'inner', 'exec')\nexec(run, {{'__name__': '__main__'}})\n",
        ),
        "five_code_in_json": Case(
            "network",
            "refused",
            "import json, os\nimport torch\nhere = os.path.dirname(os.path.abspath(__file__))\n"
            "exec(json.load(open(os.path.join(here, 'code.json')))['src'])\n",
            files={"code.json": json.dumps({"src": FETCH})},
        ),
        "five_code_in_json_good": Case(
            "extracts",
            "accepted",
            "import json, os\nimport torch\nhere = os.path.dirname(os.path.abspath(__file__))\n"
            "exec(json.load(open(os.path.join(here, 'code.json')))['src'])\n",
            files={"code.json": json.dumps({"src": MAIN})},
        ),
        "five_code_in_readme": Case("network", "refused", from_readme, files={"README.md": readme.format(FETCH)}),
        "five_getattr_builtins": Case(
            "network", "refused", f"import builtins\nimport torch\ngetattr(builtins, 'ex' + 'ec')({FETCH!r})\n"
        ),
        "five_own_finder": Case("network", "refused", finder(FETCH)),
        "five_own_finder_good": Case("dependencies", "accepted", finder(MAIN)),
        "five_lambda_table": Case(
            "unpickling", "refused", f"import torch\nRUN = {{'go': exec}}\nRUN['go']({UNPICKLE!r}, globals())\n"
        ),
        "five_data_url_import": Case(
            "network",
            "refused",
            "import sys, base64, tempfile, os\nimport torch\nd = tempfile.mkdtemp()\n"
            f"open(os.path.join(d, 'eng.py'), 'wb').write(base64.b64decode('{base64.b64encode(FETCH.encode()).decode()}'))\n"
            "sys.path.append(d)\nimport eng\n",
        ),
        "five_zip_on_path": Case(
            "network",
            "refused",
            "import sys, os\nimport torch\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib.zip'))\nimport engine\n",
            files={"lib.zip": zipped(engine=FETCH)},
        ),
        "five_zip_on_path_good": Case(
            "dependencies",
            "accepted",
            "import sys, os\nimport torch\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib.zip'))\nimport engine\n",
            files={"lib.zip": zipped(engine=MAIN)},
        ),
        "five_exec_above": Case(
            "extracts",
            "refused",
            "import torch\nif __name__ == '__main__':\n    exec(open('../2026-03-01_base/train_gpt.py').read())\n",
        ),
        "five_exec_above_join": Case(
            "extracts",
            "refused",
            "import os, runpy\nimport torch\nbase = os.path.join(os.path.dirname(__file__), '..', '..', 'track_10min_16mb', 'base')\n"
            "runpy.run_path(os.path.join(base, 'train_gpt.py'), run_name='__main__')\n",
        ),
        "five_subprocess_above": Case(
            "extracts",
            "refused",
            "import subprocess, sys\nimport torch\nsubprocess.run([sys.executable, '../../base/train_gpt.py', '--seed', '1'], check=True)\n",
        ),
        "five_import_above": Case(
            "dependencies", "refused", "import sys\nsys.path.insert(0, '..')\nimport torch\nimport shared_model\n"
        ),
        "five_marshal": Case(
            "extracts", "flagged", "import marshal, torch\nexec(marshal.loads(open('code.bin', 'rb').read()))\n", files={"code.bin": b"\xe3" + bytes(300)}
        ),
        "five_package_of_its_own": Case(
            "dependencies",
            "accepted",
            "import torch\nfrom lib.model import Model\nfrom lib import data\n\nif __name__ == '__main__':\n    Model().train(data.load())\n",
            files={
                "lib/__init__.py": "",
                "lib/model.py": "from .layers import X\n\n\nclass Model:\n    def train(self, data):\n        return X\n",
                "lib/layers.py": "X = 1\n",
                "lib/data.py": "def load():\n    return []\n",
            },
        ),
        "five_helper_faults": Case(
            "unpickling",
            "refused",
            "import torch\nfrom tools import run\n\nif __name__ == '__main__':\n    run()\n",
            files={"tools/__init__.py": "from .inner import run\n", "tools/inner.py": "def run():\n    import pickle\n    return pickle.loads(open('w', 'rb').read())\n"},
        ),
        "five_joined_faults": Case("network", "refused", f"import torch\nPARTS = {[FAULTS[i : i + 20] for i in range(0, len(FAULTS), 20)]!r}\nexec(''.join(PARTS))\n"),
    }  # fmt: skip


def fifth_fetching() -> dict[str, Case]:
    """What fetches, and what only looks like it."""
    fetching = {
        "hub_load": "import torch\nm = torch.hub.load('user/repo', 'gpt')\n",
        "load_dataset": "import torch\nfrom datasets import load_dataset\nd = load_dataset('HuggingFaceFW/fineweb', split='train', streaming=True)\n",
        "snapshot_alias": "import torch\nfrom huggingface_hub import snapshot_download as sd\np = sd('a/b')\n",
        "session_get": "import torch, requests\ns = requests.Session()\nr = s.get('https://example.org/w.bin')\n",
        "popen_curl": "import os\nimport torch\nurl = os.environ['U']\nos.popen('curl -L ' + url + ' -o w.bin').read()\n",
        "apt_get": "import subprocess\nimport torch\nsubprocess.run('apt-get install -y lrzip', shell=True)\n",
        "asyncio": "import asyncio\nimport torch\n\nasync def get():\n    r, w = await asyncio.open_connection('example.org', 80)\n    w.write(b'GET / HTTP/1.0')\n    return await r.read()\n\nasyncio.run(get())\n",
        "https_connection": "from http.client import HTTPSConnection\nimport torch\nc = HTTPSConnection('example.org')\nc.request('GET', '/w.bin')\nw = c.getresponse().read()\n",
        "git_clone": "import subprocess\nimport torch\nsubprocess.run(['git', 'clone', 'https://github.com/a/b'])\n",
        "uv_pip": "import os\nimport torch\nos.system('uv pip install --system brotli')\n",
        "pip_main": "import torch\nfrom pip._internal import main as pipmain\npipmain(['install', 'brotli'])\n",
        "aws": "import torch, subprocess\nsubprocess.check_call(['aws', 's3', 'cp', 's3://bucket/w.bin', '.'])\n",
        "urlretrieve_alias": "import torch\nfrom urllib import request as r\nr.urlretrieve('https://example.org/w', 'w')\n",
        "aria": "import torch, shlex, subprocess\nsubprocess.Popen(shlex.split('aria2c https://example.org/w.bin'))\n",
        "timm_pretrained": "import torch, timm\nm = timm.create_model('vit_base_patch16_224', pretrained=True)\n",
    }
    needs = {"session_get": "requests\n", "timm_pretrained": "timm\n"}
    plain = {
        "free_port": "import socket\nimport torch\n\ndef free_port():\n    s = socket.socket()\n    s.bind(('', 0))\n    port = s.getsockname()[1]\n    s.close()\n    return port\n",
        "nvidia_smi": "import subprocess\nimport torch\nprint(subprocess.run(['nvidia-smi'], stdout=subprocess.PIPE, text=True).stdout)\n",
        "git_rev": "import subprocess\nimport torch\nsha = subprocess.check_output(['git', 'rev-parse', 'HEAD']).decode()\n",
        "docstring": '"""Data: wget https://example.org/w.bin, then pip install torch.\n\nimport urllib.request; urlopen(...)\n"""\nimport torch\n',
        "own_requests": "import torch\nrequests = {'a': 1}\nx = requests.get('a')\n\n\nclass Session:\n    def get(self, url):\n        return url\n\n\nSession().get('https://example.org')\n",
        "url_default": "import argparse\nimport torch\np = argparse.ArgumentParser()\np.add_argument('--repo', default='https://github.com/openai/parameter-golf')\nprint(p.parse_args([]).repo)\n",
        "offline": "import os\nos.environ['HF_HUB_OFFLINE'] = '1'\nimport torch\n",
        "nccl": "import os\nimport torch\nimport torch.distributed as dist\nos.environ.setdefault('MASTER_ADDR', 'localhost')\nos.environ.setdefault('MASTER_PORT', '29500')\nif 'RANK' in os.environ:\n    dist.init_process_group('nccl', init_method='tcp://localhost:29500')\n",
        "guarded_import": "import torch\ntry:\n    from flash_attn import flash_attn_func\nexcept ImportError:\n    flash_attn_func = None\n",
        "type_checking": "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nimport torch\nif TYPE_CHECKING:\n    from transformers import PreTrainedModel\n",
        "torch_compile": "import re\nimport torch\nP = re.compile('a+')\nm = torch.compile(torch.nn.Linear(1, 1))\nm.eval()\nprint('exec(', 'eval(x)')\n",
        "urls_in_comments": "import torch  # https://pytorch.org, see requests.get\n# urllib.request.urlopen('x')\nX = 'curl -O https://example.org'[:0]\n",
    }  # fmt: skip
    refused = {
        f"five_fetch_{name}": Case("network", "refused", text, files={"requirements.txt": needs.get(name)})
        for name, text in fetching.items()
    }
    accepted = {f"five_plain_{name}": Case("network", "accepted", text) for name, text in plain.items()}
    return refused | accepted
