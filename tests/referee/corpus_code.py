# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders that differ in their code: packed, started, imported, fetched."""

from __future__ import annotations

import base64
import bz2
import lzma
import zlib

from .folder_case import (
    FAULTS,
    FILLER,
    HELPERS,
    MAIN,
    PUT,
    Case,
    zipped,
)

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


def started() -> dict[str, Case]:
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


def imported() -> dict[str, Case]:
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


def fetched() -> dict[str, Case]:
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
