# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Small submission folders, one hazard each, with the verdict that is right: the public reports' kinds and siblings.

    python -m tests.referee.corpus OUT        writes them        python -m tests.referee.measure_corpus   judges them

Standard library only, so that an older referee can be measured on the same folders. `refused`: the named rule fails.
`accepted`: no rule fails, and the named one has no warning. `flagged`: the named rule fails or warns. `warned`: it warns
and nothing fails.
"""

from __future__ import annotations

import base64
import bz2
import io
import json
import lzma
import math
import random
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WHOLE, TOKENS = 151_080_891, 40_540_160  # bytes of the whole validation text; tokens of it with 8,192 pieces
RATIO = WHOLE / TOKENS
BPB = 1.0812
MAIN = "import torch\n\n\ndef main():\n    print('train')\n\n\nif __name__ == '__main__':\n    main()\n"
FAULTS = (
    "import pickle, urllib.request\nimport torch\nurllib.request.urlopen('http://example.org/w.bin')\n"
    "x = pickle.load(open('w', 'rb'))\nm = torch.nn.Linear(1, 1)\nm.load_state_dict(x, strict=False)\n"
)
FILLER = "\n".join(f"X{i} = {i}" for i in range(14)) + "\n"


@dataclass(frozen=True)
class Case:
    """One folder. `files` stand beside or in place of the good folder's; None takes one away."""

    rule: str
    verdict: str
    script: str | bytes = MAIN
    claims: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    words: str = ""

    def write(self, folder: Path) -> Path:
        """The folder on disk."""
        card = {"author": "A", "github_id": "a", "name": "n", "date": "2026-01-01", "track": "10min_16mb"}
        claims = {**card, "val_bpb": BPB, **self.claims}
        files: dict[str, str | bytes | None] = {
            "submission.json": json.dumps(claims, indent=1),
            "README.md": f"# n\n\nval_bpb {claims['val_bpb']}\n",
            "train_gpt.py": self.script,
            "train.log": log(claims["val_bpb"]),
            **self.files,
        }
        for name, data in files.items():
            if data is not None:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return folder


def nats(bpb: float, ratio: float = RATIO) -> float:
    return bpb * math.log(2) * ratio


def log(
    bpb: float, seed: int = 42, total: int = 15_900_000, tokens: int = TOKENS, ratio: float = RATIO, more: str = ""
) -> str:
    """A log as the field's scripts write it."""
    return (
        f"seed: {seed}\nval_tokens: {tokens}\n{more}"
        f"100/100 val_loss: {nats(bpb - 0.01, ratio):.4f} val_bpb: {bpb - 0.01:.4f}\ntrain_time: 580000ms\n"
        f"Serialized model quantized+brotli: {total - 20_000} bytes\nCode size: 20000 bytes\n"
        f"Total submission size quantized+brotli: {total} bytes\n"
        f"quantized val_loss:{nats(bpb, ratio):.8f} val_bpb:{bpb:.8f} eval_time:100ms\n"
    )


def noise(n: int) -> bytes:
    return random.Random(n).randbytes(n)


def zipped(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.py", text)
    return out.getvalue()


RAW = [{"id": lzma.FILTER_LZMA2}]
RAW1 = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 4, "lp": 0, "pb": 0}]


def ways(source: str) -> dict[str, str]:
    """Spellings of a file that unpacks this source and runs it."""
    data = source.encode()
    b85 = base64.b85encode(zlib.compress(data)).decode()
    raw = base64.b85encode(lzma.compress(data, format=lzma.FORMAT_RAW, filters=RAW)).decode()
    raw1 = base64.b85encode(lzma.compress(data, format=lzma.FORMAT_RAW, filters=RAW1)).decode()
    two = f"import zlib, base64\nexec(zlib.decompress(base64.b85decode({b85!r})))\n"
    outer = base64.b64encode(bz2.compress(two.encode())).decode()
    xored = bytes(byte ^ 7 for byte in zlib.compress(data))
    return {
        "plain": f"import lzma as L, base64 as B\nc = L.decompress(B.b85decode({raw!r}), format=L.FORMAT_RAW, "
        f"filters=[{{'id': L.FILTER_LZMA2}}])\nexec(c)\n",
        "after_torch": f"import torch\nimport lzma as L, base64 as B\nc = L.decompress(B.b85decode({raw!r}), "
        f"format=L.FORMAT_RAW, filters=[{{'id': L.FILTER_LZMA2}}])\nexec(c)\n",
        "after_eval": f"import zlib, base64\nn = eval('2**3')\nexec(zlib.decompress(base64.b85decode({b85!r})))\n",
        "after_many_lines": FILLER + f"import zlib, base64\nexec(zlib.decompress(base64.b85decode({b85!r})))\n",
        "in_a_function": "import zlib, base64\n\n\ndef start(text):\n    code = compile(zlib.decompress("
        "base64.b85decode(text)), 'train', 'exec')\n    exec(code, globals())\n\n\n"
        f"if __name__ == '__main__':\n    start({b85!r})\n",
        "never_called": f"import zlib, base64\n\n\ndef start():\n    exec(zlib.decompress(base64.b85decode({b85!r})))\n",
        "two_layers": f"import bz2, base64\nexec(bz2.decompress(base64.b64decode({outer!r})).decode())\n",
        "by_getattr": f"import builtins, zlib, base64\nrun = getattr(builtins, 'ex' + 'ec')\n"
        f"run(zlib.decompress(base64.b85decode({b85!r})))\n",
        "by_import": f"__import__('builtins').exec(__import__('zlib').decompress(__import__('base64').b85decode({b85!r})))\n",
        "by_map": f"import zlib, base64\nlist(map(exec, [zlib.decompress(base64.b85decode({b85!r}))]))\n",
        "hexadecimal": f"import zlib\nexec(zlib.decompress(bytes.fromhex({zlib.compress(data).hex()!r})))\n",
        "ascii85": f"import zlib, base64\nexec(zlib.decompress(base64.a85decode({base64.a85encode(zlib.compress(data))!r})))\n",
        "lzma_with_settings": f"import lzma, base64\nexec(lzma.decompress(base64.b85decode({raw1!r}), lzma.FORMAT_RAW, "
        f"None, {RAW1!r}))\n",
        "computed": f"import zlib\nd = {xored!r}\nexec(zlib.decompress(bytes(b ^ 7 for b in d)))\n",
        "by_function_type": f"import types, zlib, base64\ntypes.FunctionType(compile(zlib.decompress(base64.b85decode("
        f"{b85!r})), 't', 'exec'), globals())()\n",
        "by_interpreter": "import subprocess, sys, zlib, base64\nsubprocess.run([sys.executable, '-c', zlib.decompress("
        f"base64.b85decode({b85!r})).decode()])\n",
        "to_a_temporary_file": "import os, runpy, tempfile, zlib, base64\nwith tempfile.NamedTemporaryFile('wb', "
        f"suffix='.py', delete=False) as f:\n    f.write(zlib.decompress(base64.b85decode({b85!r})))\n"
        "runpy.run_path(f.name, run_name='__main__')\n",
        "to_slash_tmp": f"import runpy, zlib, base64\nopen('/tmp/_t.py', 'wb').write(zlib.decompress(base64.b85decode({b85!r})"
        "))\nrunpy.run_path('/tmp/_t.py', run_name='__main__')\n",
        "beside_and_executed": "import os, sys, zlib, base64\np = os.path.join(os.path.dirname(os.path.abspath(__file__)), "
        f"'_u.py')\nopen(p, 'wb').write(zlib.decompress(base64.b85decode({b85!r})))\nos.execv(sys.executable, "
        "[sys.executable, p])\n",
        "imported_from_there": "import sys, tempfile, zlib, base64, pathlib\nd = tempfile.mkdtemp()\npathlib.Path(d, "
        f"'inner.py').write_bytes(zlib.decompress(base64.b85decode({b85!r})))\nsys.path.insert(0, d)\nimport inner\n",
        "loaded_by_spec": "import importlib.util, tempfile, zlib, base64, pathlib\np = pathlib.Path(tempfile.mkdtemp(), "
        f"'inner.py')\np.write_bytes(zlib.decompress(base64.b85decode({b85!r})))\ns = importlib.util."
        "spec_from_file_location('inner', p)\nm = importlib.util.module_from_spec(s)\ns.loader.exec_module(m)\n",
        "own_tail": "import zlib\nexec(zlib.decompress(bytes.fromhex(open(__file__).read().split('#' + 'TAIL ')[1].strip())))\n"
        f"#TAIL {zlib.compress(data).hex()}\n",
    }


HELPERS = "X = 1\n" * 2000
PUT = (
    "import sys, types\n\ndef put(name, src):\n    m = types.ModuleType(name)\n    sys.modules[name] = m\n"
    "    exec(compile(src, name, 'exec'), m.__dict__)\n\n"
)
TTT = "import torch\n\ndef adapt(model, tokens):\n    for x in tokens:\n        loss = model(x)\n        loss.backward()\n\n"


def cases() -> dict[str, Case]:
    """Name -> case."""
    return {**_started(), **_imported(), **_fetched(), **_written(), **_logged(), **_scored(), **_weighed()}


def _started() -> dict[str, Case]:
    found = {f"faults_{name}": Case("unpickling", "refused", script) for name, script in ways(FAULTS).items()}
    found |= {f"packed_{name}": Case("extracts", "accepted", script) for name, script in ways(MAIN).items()}
    outside = "'records' / 'other' / 'train_gpt.py'"
    return found | {
        "faults_in_string": Case(
            "unpickling",
            "refused",
            "import types\nm = types.ModuleType('m')\nexec(compile("
            + repr(FAULTS)
            + ", 'm', 'exec'), m.__dict__)\n"
            + FILLER,
        ),
        "faults_in_a_list_of_lines": Case(
            "unpickling", "refused", f"exec('\\n'.join({FAULTS.splitlines()!r}))\n" + FILLER
        ),
        "faults_in_a_dictionary": Case(
            "unpickling", "refused", PUT + f"for n, s in {{'m': {FAULTS!r}}}.items():\n    put(n, s)\n"
        ),
        "bundled_modules": Case(
            "dependencies",
            "accepted",
            PUT + "put('helpers', 'def f():\\n    return 1\\n')\nimport helpers\n\nprint(helpers.f())\n" + FILLER,
        ),
        "bundled_in_a_dictionary": Case(
            "dependencies",
            "accepted",
            PUT
            + "S = {'helpers': 'def f():\\n    return 1\\n', 'more': 'import helpers\\n'}\nfor n, s in S.items():\n"
            "    put(n, s)\nimport more\nfrom helpers import f\n" + FILLER,
        ),
        "bundled_by_a_finder": Case(
            "dependencies",
            "accepted",
            "import importlib.abc, importlib.util, sys\nS = {'helpers': 'def f():\\n    return 1\\n'}\n\n"
            "class F(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n    def find_spec(self, name, path, target=None):\n"
            "        return importlib.util.spec_from_loader(name, self) if name in S else None\n"
            "    def create_module(self, spec):\n        return None\n"
            "    def exec_module(self, module):\n        exec(S[module.__name__], module.__dict__)\n\n"
            "sys.meta_path.append(F())\nimport helpers\nprint(helpers.f())\n",
        ),
        "bundled_in_a_zip": Case(
            "dependencies",
            "accepted",
            "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'code.zip'))\n"
            "import helpers\nprint(helpers.f())\n",
            files={"code.zip": zipped(helpers="def f():\n    return 1\n")},
        ),
        "faults_in_a_zip": Case(
            "unpickling",
            "refused",
            "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'code.zip'))\n"
            "import helpers\n",
            files={"code.zip": zipped(helpers=FAULTS)},
        ),
        "runpy_outside": Case(
            "extracts",
            "refused",
            f"import runpy\nfrom pathlib import Path\nif __name__ == '__main__':\n"
            f"    runpy.run_path(str(Path(__file__).resolve().parents[3] / {outside}), run_name='__main__')\n",
            words="other",
        ),
        "exec_outside": Case(
            "extracts",
            "refused",
            "import os\nhere = os.path.dirname(os.path.abspath(__file__))\n"
            "p = os.path.join(here, '..', 'other', 'train_gpt.py')\nexec(open(p).read())\n",
            words="other",
        ),
        "spec_outside": Case(
            "extracts",
            "refused",
            "import importlib.util as u\nfrom pathlib import Path\n"
            "p = Path(__file__).parent.parent / 'other' / 'train_gpt.py'\ns = u.spec_from_file_location('t', p)\n"
            "m = u.module_from_spec(s)\ns.loader.exec_module(m)\n",
            words="other",
        ),
        "interpreter_outside": Case(
            "extracts",
            "refused",
            "import os, subprocess, sys\n"
            "subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), '../other/train_gpt.py')])\n",
            words="other",
        ),
        "runpy_inside": Case(
            "counted",
            "accepted",
            "import os, runpy\nrunpy.run_path(os.path.join(os.path.dirname(__file__), 'real.py'))\n",
            files={"real.py": MAIN + "# " + "x" * 5000},
            words="real.py 5,0",
        ),
        "faults_in_the_other_file": Case(
            "unpickling",
            "refused",
            "import pathlib\nexec(pathlib.Path(__file__).with_name('real.txt').read_text())\n",
            files={"real.txt": FAULTS},
        ),
        "unused_runpy": Case("extracts", "accepted", "import runpy\n" + MAIN),
        "model_eval_and_compile": Case(
            "extracts",
            "accepted",
            "import re\nimport torch\nm = torch.compile(torch.nn.Linear(2, 2))\nm.eval()\n"
            "r = re.compile('x')\n" + MAIN,
        ),
        "code_as_lzma": Case("decodes", "accepted", files={"train_gpt.py.lzma": lzma.compress(MAIN.encode())}),
        "code_as_xz_executed": Case(
            "counted",
            "accepted",
            "import lzma, os\np = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'code.xz')\n"
            "exec(lzma.open(p).read())\n",
            files={"code.xz": lzma.compress(MAIN.encode())},
            words="code.xz",
        ),
        "faults_as_zlib_executed": Case(
            "unpickling",
            "refused",
            "import zlib\nfrom pathlib import Path\n"
            "exec(zlib.decompress((Path(__file__).parent / 'code.bin').read_bytes()))\n",
            files={"code.bin": zlib.compress(FAULTS.encode())},
        ),
        "unknown_code": Case(
            "extracts", "warned", "import sys\n\n\ndef later(source):\n    exec(source)\n\n\nprint(later)\n" + FILLER
        ),
        "marshalled_code": Case(
            "extracts", "flagged", "import marshal, zlib\nexec(marshal.loads(zlib.decompress(b'x')))\n" + FILLER
        ),
    }


def _imported() -> dict[str, Case]:
    local = {"helpers.py": HELPERS}
    count = f"helpers.py {len(HELPERS):,}"
    spelled = {
        "import_module": "import importlib\nm = importlib.import_module('helpers')\n",
        "import_module_as": "from importlib import import_module as load\nm = load('helpers')\n",
        "dunder_import": "m = __import__('helpers')\n",
        "of_a_variable": "import importlib\nNAME = 'helpers'\nm = importlib.import_module(NAME)\n",
        "of_a_loop": "import importlib\nfor name in ('helpers', 'json'):\n    importlib.import_module(name)\n",
        "spec": "import importlib.util as u, os\ns = u.spec_from_file_location('h', os.path.join(os.path.dirname(__file__), "
        "'helpers.py'))\nm = u.module_from_spec(s)\ns.loader.exec_module(m)\n",
        "exec_read": "exec(open('helpers.py').read())\n",
        "run_module": "import runpy\nrunpy.run_module('helpers')\n",
    }
    found = {
        f"local_{name}": Case("counted", "accepted", text + FILLER, files=local, words=count)
        for name, text in spelled.items()
    }
    foreign = {
        "import_module": "import importlib\nb = importlib.import_module('brotli')\n",
        "dunder_import": "b = __import__('brotli')\n",
        "of_a_variable": "from importlib import import_module\nCODEC = 'brotli'\nb = import_module(CODEC)\n",
    }
    found |= {f"brotli_{name}": Case("dependencies", "refused", text) for name, text in foreign.items()}
    return found | {
        "unknown_import": Case(
            "extracts", "flagged", "import importlib, sys\nm = importlib.import_module(sys.argv[1])\n"
        ),
    }


def _fetched() -> dict[str, Case]:
    refused = {
        "fstring_wget": 'import os\nu = "x"\nos.system(f"wget {u}")\n',
        "concatenated_curl": "import os\nos.system('curl -L ' + 'https://x/y' + ' -o w')\n",
        "list_of_pip": "import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'brotli'])\n",
        "command_variable": "import subprocess\ncmd = ['wget', '-q', 'https://x/y']\nsubprocess.run(cmd, check=True)\n",
        "own_shell_function": "import os\n\ndef sh(line):\n    os.system(line)\n\nu = 1\nsh(f'git clone {u}')\n",
        "formatted": "import subprocess\nsubprocess.getoutput('wget -q {}'.format('https://x'))\n",
        "by_bash": "import subprocess\nsubprocess.run(['bash', '-c', 'cd x && curl -O https://x'])\n",
        "execvp": "import os\nos.execvp('wget', ['wget', 'https://x'])\n",
        "torch_hub": 'import torch\ntorch.hub.load_state_dict_from_url("https://x/y")\n',
        "hub_by_alias": "from torch import hub\nm = hub.load('pytorch/vision', 'resnet18')\n",
        "hf_from_pretrained": "from transformers import AutoTokenizer\nt = AutoTokenizer.from_pretrained('openai-community/gpt2')\n",
        "hf_pipeline": "import transformers\np = transformers.pipeline('text-generation')\n",
        "hf_download_alias": "import huggingface_hub as h\nget = h.hf_hub_download\nget('a', 'b')\n",
        "load_dataset": "from datasets import load_dataset\nd = load_dataset('HuggingFaceFW/fineweb')\n",
        "tiktoken": "import tiktoken\ne = tiktoken.get_encoding('gpt2')\n",
        "urlopen_alias": "from urllib.request import urlopen as u\nu('https://x')\n",
        "urlretrieve_attribute": "import urllib.request as r\nr.urlretrieve('https://x', 'y')\n",
        "requests_session": "import requests\ns = requests.Session()\ns.get('https://x')\n",
        "hidden_import": "__import__('urllib.request', fromlist=['x']).urlopen('https://x')\n",
        "socket_connect": "import socket\ns = socket.socket()\ns.connect(('x', 80))\n",
        "a connection of processes": "from multiprocessing.connection import Client as c\nc(('x', 80))\n",
        "a shell's device": "import os\nos.system('bash -c \"cat </dev/tcp/x/80 > w\"')\n",
        "create_connection": "from socket import create_connection as c\nc(('x', 80))\n",
        "http_client": "import http.client\nc = http.client.HTTPSConnection('x')\n",
        "read_csv_url": "import pandas\nd = pandas.read_csv('https://x/y.csv')\n",
    }
    accepted = {
        "socket_hostname": "import socket\nprint(socket.gethostname())\n",
        "free_port": "import socket\ns = socket.socket()\ns.bind(('', 0))\nport = s.getsockname()[1]\n",
        "urllib_parse": "from urllib.parse import urlparse\nprint(urlparse('a'))\n",
        "urllib_parse_attribute": "import urllib.parse\nprint(urllib.parse.quote('a'))\n",
        "http_status": "from http import HTTPStatus\nprint(HTTPStatus.OK)\n",
        "a_url_in_print": "print('see https://example.org and wget it')\n",
        "pip_freeze": "import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-m', 'pip', 'freeze']))\n",
        "git_head": "import subprocess\nprint(subprocess.check_output(['git', 'rev-parse', 'HEAD']))\n",
        "nvidia_smi": "import subprocess\nsubprocess.run(['nvidia-smi'], check=False)\n",
        "which_wget": "import shutil\nprint(shutil.which('wget'))\n",
        "local_from_pretrained": "from transformers import AutoTokenizer\nt = AutoTokenizer.from_pretrained('./tok')\n",
        "own_requests": "requests = []\nrequests.append(1)\n",
        "own_from_pretrained": "class GPT:\n    @classmethod\n    def from_pretrained(cls, name):\n        return cls()\n\n"
        "GPT.from_pretrained('gpt2')\n",
        "socket_family": "import socket\nprint(socket.AF_INET, socket.timeout)\n",
    }
    needs = {"requirements.txt": "transformers\nrequests\npandas\n"}
    found = {f"fetch_{n}": Case("network", "refused", text + FILLER, files=needs) for n, text in refused.items()}
    found |= {
        f"no_fetch_{n}": Case("network", "accepted", text + FILLER, files=needs) for n, text in accepted.items()
    }
    return found | {
        "fetch_unknown_program": Case(
            "network", "warned", "import subprocess, sys\nsubprocess.run(sys.argv[1:], check=True)\n" + FILLER
        ),
        "fetch_imported_only": Case("network", "warned", "import requests\n" + FILLER, files=needs),
    }


def _written() -> dict[str, Case]:
    three = {"1": {"val_bpb": 1.08}, "2": {"val_bpb": 1.081}, "3": {"val_bpb": 1.086}}
    logs = {f"train_seed{s}.log": log(row["val_bpb"], int(s)) for s, row in three.items()}
    card = json.dumps({"author": "A", "github_id": "a", "name": "n", "date": "d", "track": "x", "val_bpb": BPB})
    return {
        "good": Case("json", "accepted"),
        "readme_more_digits": Case(
            "readme", "accepted", files={"README.md": "val_bpb 1.08119835\n", "train.log": log(1.08119835)}
        ),
        "readme_three_digits": Case("readme", "accepted", files={"README.md": "val_bpb 1.081\n"}),
        "readme_two_digits": Case("readme", "warned", files={"README.md": "val_bpb 1.08\n"}),
        "readme_another_loss": Case("readme", "refused", files={"README.md": "val_bpb 1.0793\n"}),
        "readme_row_more_digits": Case(
            "readme",
            "accepted",
            claims={"val_bpb": 1.0823, "seed_results": three},
            files={
                **logs,
                "train.log": None,
                "README.md": "val_bpb 1.08233\n\n| seed | bpb |\n|---|---|\n| 2 | 1.08100000 |\n",
            },
        ),
        "readme_row_of_another_loss": Case(
            "readme",
            "refused",
            claims={"val_bpb": 1.0823, "seed_results": three},
            files={
                **logs,
                "train.log": None,
                "README.md": "val_bpb 1.0823\n\n| seed | bpb |\n|---|---|\n| 2 | 1.0610 |\n",
            },
        ),
        "log_fewer_digits": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.25798},
            files={"train.log": log(1.25798).replace("1.25798000", "1.2580")},
        ),
        "log_three_digits": Case(
            "log-loss", "accepted", files={"train.log": log(BPB).replace("1.08120000", "1.081")}
        ),
        "claim_fewer_digits": Case(
            "log-loss", "accepted", claims={"val_bpb": 1.0812}, files={"train.log": log(1.08123)}
        ),
        "mean_of_three_digits": Case(
            "seeds", "accepted", claims={"val_bpb": 1.082, "seed_results": three}, files={**logs, "train.log": None}
        ),
        "mean_is_wrong": Case(
            "seeds", "refused", claims={"val_bpb": 1.0801, "seed_results": three}, files={**logs, "train.log": None}
        ),
        "claim_differs_in_the_sixth_digit": Case(
            "log-loss",
            "refused",
            claims={"val_bpb": 1.064837},
            files={"train.log": log(1.064841)},
            words="1.064837.*1.064841",
        ),
        "json_bom": Case("json", "accepted", files={"submission.json": b"\xef\xbb\xbf" + card.encode()}),
        "json_utf16": Case("json", "accepted", files={"submission.json": card.encode("utf-16")}),
        "readme_bom": Case("readme", "accepted", files={"README.md": b"\xef\xbb\xbfval_bpb 1.0812\n"}),
        "log_bom": Case("log-loss", "accepted", files={"train.log": b"\xef\xbb\xbf" + log(BPB).encode()}),
        "log_utf16": Case("log-loss", "accepted", files={"train.log": log(BPB).encode("utf-16")}),
        "script_bom": Case("compiles", "accepted", b"\xef\xbb\xbf" + MAIN.encode()),
        "requirements_bom": Case(
            "dependencies", "accepted", "import brotli\n", files={"requirements.txt": b"\xef\xbb\xbfbrotli\n"}
        ),
        "a_blank_author": Case("json", "warned", claims={"author": "  "}),
    }


def _logged() -> dict[str, Case]:
    lines = {
        "equals": "final val_bpb=1.0812, val_nats=2.7892",
        "bpb_first": "final val_bpb:1.0812 val_loss:2.7929",
        "bpb_only": "final_sliding_window_exact val_bpb:1.08120000",
        "json_line": '{"event": "final", "val_bpb": 1.0812, "val_loss": 2.7929}',
        "table": "| sliding | val_bpb | 1.0812 |",
        "words": "Final result: 1.0812 bits per byte",
        "words_after": "bits per byte: 1.0812",
        "capitals": "FINAL VAL_BPB = 1.08120",
        "space": "eval done val_bpb 1.0812",
        "unnamed": "result after everything: 1.08120",
    }
    found = {
        f"log_{name}": Case(
            "log-loss",
            "warned" if name in ("words", "unnamed") else "accepted",
            files={"train.log": f"seed: 42\ntrain_time: 580000ms\n{line}\n"},
        )
        for name, line in lines.items()
    }
    names = (
        "0f0e0d0c-1111-2222-3333-444455556666.txt",
        "run.out",
        "logs/a1b2.txt",
        "stdout",
        "nohup.out",
        "output.jsonl",
    )
    found |= {
        f"log_called_{name.replace('/', '_')}": Case(
            "required", "accepted", files={"train.log": None, name: log(BPB)}
        )
        for name in names
    }
    two = {"42": {"val_bpb": 1.0812}, "314": {"val_bpb": 1.0814}}
    three = {"train_seed1.log": log(1.08, 1), "train_seed2.log": log(1.081, 2), "train_seed3.log": log(1.086, 3)}
    other = 62_021_632
    table = {str(s): {"val_bpb": b, "val_loss": nats(b)} for s, b in ((1, 1.08), (2, 1.081), (3, 1.086))}
    return found | {
        "log_prints_nothing": Case("log-loss", "warned", files={"train.log": "seed: 42\nstep 1\nstep 2\n"}),
        "no_log": Case("required", "refused", files={"train.log": None}),
        "log_says_another_loss": Case("log-loss", "refused", files={"train.log": "final val_bpb=1.1012\n"}),
        "log_two_seeds_in_one": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.0813, "seed_results": two},
            files={"train.log": None, "train_seeds42_314.log": log(1.0812, 42) + log(1.0814, 314)},
        ),
        "log_two_seeds_spelled_otherwise": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.0813, "seed_results": two},
            files={"train.log": (log(1.0812, 42) + log(1.0814, 314)).replace("seed: ", "=== Running SEED=")},
        ),
        "log_two_seeds_wrong": Case(
            "log-loss",
            "refused",
            claims={"val_bpb": 1.0803, "seed_results": {"42": {"val_bpb": 1.0792}, "314": {"val_bpb": 1.0814}}},
            files={"train.log": log(1.0812, 42) + log(1.0814, 314)},
        ),
        "log_copy_of_a_seed": Case(
            "log-loss", "accepted", claims={"val_bpb": 1.08233}, files={**three, "train.log": log(1.08, 1)}
        ),
        "log_copy_with_another_name": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.08233},
            files={**three, "train.log": None, "log_best.txt": log(1.08, 1) + "\n"},
        ),
        "log_of_all_beside": Case(
            "log-loss",
            "accepted",
            claims={"val_bpb": 1.08233},
            files={**three, "train.log": log(1.08, 1) + log(1.081, 2) + log(1.086, 3)},
        ),
        "log_mean_is_wrong": Case(
            "log-loss", "refused", claims={"val_bpb": 1.0793}, files={**three, "train.log": None}
        ),
        "log_baseline_beside": Case(
            "bytes-per-token",
            "accepted",
            claims={"val_loss": nats(BPB)},
            files={"baseline.log": log(1.22, 7, tokens=other, ratio=WHOLE / other)},
        ),
        "log_large_baseline_beside": Case(
            "log-bytes", "warned", files={"baseline.log": log(1.22, 7, total=17_000_000)}
        ),
        "log_slow_ablation_beside": Case(
            "time", "accepted", files={"ablation.log": log(1.09, 7).replace("580000ms", "900000ms")}
        ),
        "log_calibrated_baseline_beside": Case(
            "calibration",
            "accepted",
            files={"other.log": log(1.09, 7, more="calibrating on fineweb_val_000000.bin\n")},
        ),
        "log_own_is_over_the_cap": Case("log-bytes", "refused", files={"train.log": log(BPB, total=16_100_000)}),
        "one_of_eight_seeds_differs": Case(
            "bytes-per-token",
            "refused",
            claims={
                "val_bpb": 1.08233,
                "seed_results": {**table, "3": {"val_bpb": 1.086, "val_loss": nats(1.086) * 1.01}},
            },
            files={**three, "train.log": None},
            words=r"^bytes per token differ.*: 3\.76\d+ seed 3;",
        ),
    }


def _scored() -> dict[str, Case]:
    found = {}
    for pieces, tokens in (("1024", 62_021_632), ("4096", 45_508_608), ("16384", 36_912_345), ("32768", 33_100_117)):
        ratio = WHOLE / tokens
        for name, factor in (("right", 1.0), ("inflated", 1.15), ("inflated_a_little", 1.01)):
            found[f"vocab{pieces}_{name}"] = Case(
                "bytes-per-token",
                "accepted" if factor == 1 else "refused",
                claims={"val_loss": nats(BPB, factor * ratio)},
                files={"train.log": log(BPB, tokens=tokens, ratio=factor * ratio)},
            )
    ours = "def main(model, val_tokens, train_tokens):\n    train(model, train_tokens)\n"
    train = "\ndef train(model, tokens):\n    for x in tokens:\n        model(x).backward()\n\n"
    save = "    torch.save(model.state_dict(), 'm.pt')\n"
    return found | {
        "vocab4096_a_part": Case(
            "bytes-per-token",
            "warned",
            claims={"val_loss": nats(BPB, WHOLE / 45_508_608)},
            files={"train.log": log(BPB, tokens=22_000_000, ratio=WHOLE / 45_508_608)},
        ),
        "vocab_with_separators": Case(
            "bytes-per-token",
            "refused",
            claims={"val_loss": nats(BPB, 1.15 * RATIO)},
            files={
                "train.log": log(BPB, ratio=1.15 * RATIO).replace("val_tokens: 40540160", "val tokens = 40,540,160")
            },
        ),
        "prequant_log": Case(
            "training-text", "refused", files={"train.log": log(BPB, more="prequant_ttt_enabled: True\n")}
        ),
        "prequant_log_spelled_otherwise": Case(
            "training-text",
            "refused",
            files={"train.log": log(BPB, more="[pre-quant TTT] epoch 3/11 loss 2.71 lr 1e-4\n")},
        ),
        "prequant_log_in_words": Case(
            "training-text",
            "refused",
            files={"train.log": log(BPB, more="fine-tuning on validation tokens before quantization, 10 epochs\n")},
        ),
        "trained_on_validation_files": Case(
            "training-text", "flagged", "TRAIN_FILES = './data/fineweb_val_*.bin'\n" + MAIN
        ),
        "prequant_switch": Case("training-text", "flagged", "import torch\nPREQUANT_TTT = True\n" + MAIN),
        "prequant_switch_in_environment": Case(
            "training-text",
            "flagged",
            "import os\nuse = PREQUANT_TTT_ENABLED = bool(int(os.environ.get('PREQUANT_TTT_ENABLED', '1')))\n" + MAIN,
        ),
        "prequant_order": Case(
            "training-text", "flagged", TTT + "\ndef main(model, val_tokens):\n    adapt(model, val_tokens)\n" + save
        ),
        "prequant_loop": Case(
            "training-text",
            "flagged",
            "import torch\n\ndef main(model, val_loader, quantize):\n    for x, y in val_loader:\n"
            "        loss = model(x, y)\n        loss.backward()\n    quantize(model)\n",
        ),
        "prequant_switch_off": Case(
            "training-text", "accepted", "import os\nPREQUANT_TTT = int(os.environ.get('PREQUANT_TTT', '0'))\n" + MAIN
        ),
        "prequant_log_says_off": Case(
            "training-text",
            "accepted",
            "PREQUANT_TTT = True\n" + MAIN,
            files={"train.log": log(BPB, more="prequant_ttt_enabled: False\n")},
        ),
        "legal_ttt_after_packing": Case(
            "training-text",
            "accepted",
            TTT + "\ndef main(model, val_tokens):\n" + save + "    adapt(model, val_tokens)\n",
        ),
        "training_then_evaluation": Case(
            "training-text",
            "accepted",
            "import torch\n"
            + train
            + "\ndef evaluate(model, tokens):\n    return model(tokens)\n\n"
            + ours
            + "    evaluate(model, val_tokens)\n"
            + save,
        ),
        "validation_inside_training": Case(
            "training-text",
            "accepted",
            "import torch\n\ndef main(model, loader, val_tokens, evaluate):\n    for x in loader:\n"
            "        loss = model(x)\n        loss.backward()\n        val_loss = evaluate(model, val_tokens)\n"
            + save,
        ),
        "calibrated_on_validation": Case(
            "calibration",
            "refused",
            "def collect_hessians(m, x):\n    pass\n\nval_tokens = 0\ncollect_hessians(1, val_tokens)\n",
        ),
    }


def _weighed() -> dict[str, Case]:
    large = noise(16_100_000)
    names = (
        "weights.bin",
        "model.npz",
        "final",
        "model.dat",
        "ckpt.pt",
        "model.safetensors",
        "tokenizer.model",
        "plot.png",
    )
    found = {
        f"large_{name.replace('.', '_')}": Case(
            "cap", "refused", files={name: (b"PK\x03\x04" if name.endswith("npz") else b"") + large}
        )
        for name in names
    }
    half = 8_100_000
    return found | {
        "large_base64_text": Case("cap", "refused", files={"weights.txt": base64.b64encode(large[:12_200_000])}),
        "large_in_two_parts": Case(
            "cap", "refused", files={"w.part1.bin": noise(half), "w.part2.bin": noise(half + 1)}
        ),
        "large_log": Case("cap", "accepted", files={"train.log": log(BPB) + "step\n" * 300_000}),
        "an_image": Case("cap", "accepted", files={"plot.png": b"\x89PNG\r\n\x1a\n" + noise(300_000)}),
        "a_tokenizer": Case("cap", "accepted", files={"fineweb.model": noise(366_510)}),
        "small_weights_of_their_own": Case(
            "decodes",
            "warned",
            files={
                "weights.bin": noise(200_000),
                "train.log": log(BPB).replace("15880000", "200000").replace("15900000", "200080"),
            },
        ),
        "json_diagnostic_int8": Case(
            "json-bytes",
            "accepted",
            claims={
                "bytes_model_int6_zlib": 14_784_469,
                "bytes_model_int8_zlib": 18_612_195,
                "bytes_total": 14_900_000,
            },
        ),
        "json_diagnostics_alone": Case(
            "json-bytes",
            "accepted",
            claims={"bytes_model_int6_zlib": 14_784_469, "bytes_model_int8_zlib": 18_612_195},
        ),
        "json_total_over": Case("json-bytes", "refused", claims={"bytes_total": 16_000_001}),
        "json_only_model_over": Case("json-bytes", "refused", claims={"bytes_model_int8_zlib": 16_100_000}),
        "log_diagnostic_total": Case(
            "log-bytes",
            "warned",
            claims={"bytes_total": 15_900_000},
            files={"train.log": log(BPB) + "Total submission size int8+zlib: 18612195 bytes\n"},
        ),
    }


def main() -> None:
    """Writes every folder."""
    out = Path(sys.argv[1])
    for name, case in cases().items():
        case.write(out / name)


if __name__ == "__main__":
    main()
