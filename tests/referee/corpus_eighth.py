# ruff: noqa: E501, UP031  (scripts and log lines of the folders stand as they are written)
"""Folders by somebody who had not read the referee, spelled as the public records are: code, and what it fetches."""

from __future__ import annotations

import base64
import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Mapping

from .folder_case import zipped
from .real_script import Batch, base

BAD = (
    "import pickle, urllib.request\nimport torch\n\ndef main():\n    urllib.request.urlretrieve('https://example.org/w.bin', 'w.bin')\n"
    "    x = pickle.load(open('w.bin', 'rb'))\n    m = torch.nn.Linear(1, 1)\n    m.load_state_dict(x)\n\nmain()\n"
)
SC = base()


b = Batch()


def bad(name: str, script: str | bytes, files: Mapping[str, str | bytes] | None = None) -> None:
    b.case(f"eight_{name}", "refused", "network", script=script, files=files)


def fetch(name: str, before: str = "", at: str = "BEFORE_EVAL", body: str = "", req: str | None = None) -> None:
    b.case(f"eight_{name}", "refused", "network", script=base(IMPORTS=before, **{at: body}), req=req)


def fetch2(name: str, body: str, before: str = "", req: str | None = None) -> None:
    fetch(name, before, body=body, req=req)


def honest(name: str, req: str | None = None, **slots: str) -> None:
    b.case(f"eight_{name}", "accepted", "network", script=base(**slots), req=req)


def lz(source: str) -> str:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
    return base64.b85encode(lzma.compress(source.encode(), format=lzma.FORMAT_RAW, filters=filters)).decode()


def unlz(source: str) -> str:
    return f"lzma.decompress(base64.b85decode({lz(source)!r}), format=lzma.FORMAT_RAW, filters=[{{'id': lzma.FILTER_LZMA2, 'preset': 9}}])"


def lzw(text: str) -> list[int]:
    codes, out, word = {chr(i): i for i in range(256)}, list[int](), ""
    for c in text:
        if word + c not in codes:
            out.append(codes[word])
            codes[word + c] = len(codes)
            word = ""
        word += c
    return [*out, codes[word]]


def b64lines(source: str) -> str:
    text = base64.b64encode(zlib.compress(source.encode(), 9)).decode()
    return "\n".join(f"    '{text[i : i + 76]}'" for i in range(0, len(text), 76))


# ---------------------------------------------------------------- A code, however packed
b.case(
    "eight_a_implicit_concat",
    "accepted",
    "extracts",
    script=f"import base64, zlib\nSRC = (\n{b64lines(SC)}\n)\nexec(zlib.decompress(base64.b64decode(SRC)).decode('utf-8'))\n",
)
b.case(
    "eight_a_lzma_alone",
    "accepted",
    "extracts",
    script="import lzma,base64\nexec(lzma.decompress(base64.b85decode(%r),format=lzma.FORMAT_ALONE))\n"
    % base64.b85encode(lzma.compress(SC.encode(), format=lzma.FORMAT_ALONE)).decode(),
)
b.case(
    "eight_a_in_docstring",
    "accepted",
    "extracts",
    script='"""%s"""\nimport base64, lzma\nexec(lzma.decompress(base64.b64decode(__doc__)))\n'
    % base64.b64encode(lzma.compress(SC.encode())).decode(),
)
b.case(
    "eight_a_behind_marker",
    "accepted",
    "extracts",
    script="import sys,zlib,base64\nexec(zlib.decompress(base64.b85decode(open(__file__,'rb').read().split(b'\\n#~',1)[1].strip())))\n#~"
    + base64.b85encode(zlib.compress(SC.encode(), 9)).decode()
    + "\n",
)
b.case(
    "eight_a_codecs",
    "accepted",
    "extracts",
    script="import codecs\np = %r\nexec(codecs.decode(codecs.decode(p, 'base64'), 'zlib'))\n"
    % base64.b64encode(zlib.compress(SC.encode())),
)
b.case(
    "eight_a_latin1_text",
    "accepted",
    "extracts",
    script=b"# -*- coding: latin-1 -*-\nimport zlib\nexec(zlib.decompress("
    + repr(zlib.compress(SC.encode(), 9).decode("latin-1")).encode("latin-1")
    + b".encode('latin-1')))\n",
)
b.case(
    "eight_a_big_integer",
    "accepted",
    "extracts",
    script="import zlib\nn = %s\nexec(zlib.decompress(n.to_bytes(-(-n.bit_length() // 8), 'big')))\n"
    % hex(int.from_bytes(zlib.compress(SC.encode(), 9), "big")),
)
b.case(
    "eight_a_ascii85",
    "accepted",
    "extracts",
    script="from base64 import a85decode as d\nfrom bz2 import decompress as z\nexec(z(d(%r)))\n"
    % base64.a85encode(bz2.compress(SC.encode())).decode(),
)
b.case(
    "eight_a_code_beside_xz",
    "accepted",
    "extracts",
    script="import lzma, pathlib\nhere = pathlib.Path(__file__).resolve().parent\nwith lzma.open(here / 'code.xz', 'rt') as f:\n    src = f.read()\nexec(compile(src, str(here / 'code.xz'), 'exec'))\n",
    files={"code.xz": lzma.compress(SC.encode())},
)
b.case(
    "eight_a_minified",
    "accepted",
    "extracts",
    script="import os as A,sys as B,torch as C,torch.nn.functional as D\nE=C.nn\nclass F(E.Module):\n\tdef __init__(s,d):super().__init__();s.a=E.Linear(d,d,bias=False)\n\tdef forward(s,x):return D.relu(s.a(x)).square()\ndef G():\n\tH=F(4);I=C.zeros(1,4);J=C.optim.SGD(H.parameters(),lr=.1)\n\tfor K in range(3):J.zero_grad();H(I).sum().backward();J.step()\n\tC.save(H.state_dict(),'m.pt')\nif __name__=='__main__':G()\n",
)
b.case(
    "eight_a_exec_in_main_guard",
    "accepted",
    "extracts",
    script="import base64, gzip\n\ndef load():\n    return gzip.decompress(base64.b32decode(%r))\n\nif __name__ == '__main__':\n    exec(compile(load(), __file__, 'exec'), {'__name__': '__main__', '__file__': __file__})\n"
    % base64.b32encode(gzip.compress(SC.encode(), mtime=0)).decode(),
)
b.case(
    "eight_a_spec_from_file",
    "accepted",
    "extracts",
    script="import importlib.util, pathlib\nspec = importlib.util.spec_from_file_location('core', pathlib.Path(__file__).with_name('core.py'))\ncore = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(core)\ncore.main()\n",
    files={"core.py": SC},
)
b.case(
    "eight_a_os_execv",
    "accepted",
    "extracts",
    script="import os, sys\nif 'OMP_NUM_THREADS' not in os.environ:\n    os.environ['OMP_NUM_THREADS'] = '1'\n    os.execv(sys.executable, [sys.executable] + sys.argv)\n"
    + SC,
)
b.case(
    "eight_a_load_inline",
    "accepted",
    "extracts",
    script=base(
        DEFS="""
CPP = "torch::Tensor twice(torch::Tensor x) { return x + x; }"

def build():
    from torch.utils.cpp_extension import load_inline
    return load_inline(name="twice", cpp_sources=CPP, functions=["twice"])
"""
    ),
)
b.case("eight_a_crlf_bom", "accepted", "extracts", script=b"\xef\xbb\xbf" + SC.replace("\n", "\r\n").encode())
b.case(
    "eight_a_pep695",
    "accepted",
    "extracts",
    script="type Pair[T] = tuple[T, T]\n\ndef first[T](p: Pair[T]) -> T:\n    return p[0]\n\nprint(first((1, 2)))\n",
)
b.case(
    "eight_a_tstring_names",
    "accepted",
    "extracts",
    script=SC.replace(
        "import copy",
        "import copy\nexec_time = eval_loss = compile_ms = 0.0\nprint(f'exec {exec_time} eval {eval_loss} compile {compile_ms}')",
    ),
)
b.case(
    "eight_a_torch_compile",
    "accepted",
    "extracts",
    script=base(BEFORE_TRAIN="model = torch.compile(model, dynamic=False, fullgraph=True)"),
)

bad(
    "b_latin1_text",
    b"# -*- coding: latin-1 -*-\nimport zlib\nexec(zlib.decompress("
    + repr(zlib.compress(BAD.encode(), 9).decode("latin-1")).encode("latin-1")
    + b".encode('latin-1')))\n",
)
bad(
    "b_big_integer",
    "import zlib\nn = %d\nexec(zlib.decompress(n.to_bytes((n.bit_length() + 7) // 8, 'little')))\n"
    % int.from_bytes(zlib.compress(BAD.encode(), 9), "little"),
)
bad(
    "b_behind_marker",
    "import zlib\nexec(zlib.decompress(bytes.fromhex(open(__file__).read().rsplit('# ', 1)[1])))\n# "
    + zlib.compress(BAD.encode(), 9).hex(),
)
bad(
    "b_xor",
    "k = 0x5a\np = bytes.fromhex(%r)\nexec(bytes(b ^ k for b in p))\n" % bytes(b ^ 0x5A for b in BAD.encode()).hex(),
)
bad("b_rot13", "import codecs\nexec(codecs.decode(%r, 'rot13'))\n" % codecs.encode(BAD, "rot13"))
bad("b_getattr_builtins", "import builtins\nf = getattr(builtins, ''.join(['ex', 'ec']))\nf(%r[::-1])\n" % BAD[::-1])
bad(
    "b_lambda_call",
    "import base64\n(lambda run, s: run(base64.b64decode(s)))(exec, %r)\n" % base64.b64encode(BAD.encode()).decode(),
)
bad("b_function_type", "import types\nc = compile(%r, '<m>', 'exec')\ntypes.FunctionType(c, globals())()\n" % BAD)
bad(
    "b_thread_target",
    "import threading, base64\nt = threading.Thread(target=exec, args=(base64.b64decode(%r), globals()))\nt.start()\nt.join()\n"
    % base64.b64encode(BAD.encode()).decode(),
)
bad("b_map_exec", "parts = [%r]\nlist(map(exec, parts))\n" % BAD)
bad("b_python_dash_c", "import subprocess, sys\nsubprocess.run([sys.executable, '-c', %r], check=True)\n" % BAD)
bad("b_heredoc", "import subprocess\nsubprocess.run('python3 - <<EOF\\n' + %r + '\\nEOF', shell=True)\n" % BAD)
bad("b_chars", "exec(''.join(map(chr, %r)))\n" % [ord(c) for c in BAD])
bad(
    "b_local_package",
    "from lib import tool\ntool.main()\n",
    files={"lib/__init__.py": "", "lib/tool.py": BAD.replace("\nmain()", "")},
)
bad(
    "b_atexit_dataloader",
    "import atexit, zlib, base64\natexit.register(exec, zlib.decompress(base64.b64decode(%r)))\n"
    % base64.b64encode(zlib.compress(BAD.encode())).decode(),
)
bad(
    "b_txt_code",
    "from pathlib import Path\nexec(Path(__file__).with_name('kernel.txt').read_text())\n",
    files={"kernel.txt": BAD},
)
bad(
    "b_multiprocessing",
    "import runpy, multiprocessing as mp\nif __name__ == '__main__':\n    mp.Process(target=runpy.run_path, args=('stage2.py',), kwargs={'run_name': '__main__'}).start()\n",
    files={"stage2.py": BAD},
)
bad(
    "b_zipimport",
    "import sys, os\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib.zip'))\nimport stage\nstage.main()\n",
    files={"lib.zip": zipped(stage=BAD.replace("\nmain()", ""))},
)
# ---------------------------------------------------------------- B fetching
fetch(
    "n_get_kernel",
    "from kernels import get_kernel",
    "BEFORE_TRAIN",
    "fa3 = get_kernel('kernels-community/flash-attn3')",
    req="kernels\n",
)
fetch("n_tiktoken", "import tiktoken", "BEFORE_TRAIN", "enc = tiktoken.get_encoding('gpt2')", req="tiktoken\n")
fetch("n_nltk", "import nltk", "BEFORE_TRAIN", "nltk.download('punkt')", req="nltk\n")
fetch(
    "n_snapshot_alias",
    "from huggingface_hub import snapshot_download as sd",
    "BEFORE_EVAL",
    "p = sd('jodoe/pg-weights')",
    req="huggingface_hub\n",
)
fetch(
    "n_streaming",
    "",
    "BEFORE_EVAL",
    "from datasets import load_dataset\nextra = load_dataset('HuggingFaceFW/fineweb', streaming=True, split='train')",
    req="datasets\n",
)
fetch("n_numpy_datasource", "", "BEFORE_EVAL", "f = np.lib.npyio.DataSource(None).open('https://example.org/t.npy')")
fetch(
    "n_pandas_url",
    "import pandas as pd",
    "BEFORE_EVAL",
    "t = pd.read_parquet('https://example.org/table.parquet')",
    req="pandas\n",
)
fetch("n_asyncio", "import asyncio", "BEFORE_EVAL", "r, w = asyncio.run(asyncio.open_connection('example.org', 80))")
fetch(
    "n_fsspec",
    "import fsspec",
    "BEFORE_EVAL",
    "with fsspec.open('s3://bucket/w.bin', 'rb') as f:\n    extra = f.read()",
    req="fsspec\ns3fs\n",
)
fetch("n_popen_curl", "", "BEFORE_EVAL", "extra = os.popen('curl -sL https://example.org/w').read()")
fetch(
    "n_git_clone",
    "import subprocess",
    "BEFORE_EVAL",
    "subprocess.check_output(['git', 'clone', 'https://github.com/jodoe/w', '/tmp/w'])",
)
fetch(
    "n_gsutil_split",
    "import shlex, subprocess",
    "BEFORE_EVAL",
    "subprocess.call(shlex.split('gsutil cp gs://bucket/w.bin .'))",
)
fetch(
    "n_pip_split",
    "import subprocess",
    "BEFORE_EVAL",
    "subprocess.run('pip install -q zstandard'.split(), check=True)",
)
b.case(
    "eight_n_try_import_pip",
    "flagged",
    "network",
    script=base(
        IMPORTS="try:\n    import zstandard\nexcept ImportError:\n    import subprocess\n    subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'zstandard', '--break-system-packages'])\n    import zstandard"
    ),
    req="zstandard\n",
)
fetch(
    "n_http_client",
    "from http.client import HTTPSConnection as H",
    "BEFORE_EVAL",
    "c = H('example.org')\nc.request('GET', '/w')",
)
fetch(
    "n_socket_connect",
    "import socket",
    "BEFORE_EVAL",
    "s = socket.create_connection(('example.org', 9000))\nextra = s.recv(1 << 20)",
)
fetch(
    "n_torch_load_url",
    "from torch.utils import model_zoo",
    "BEFORE_EVAL",
    "sd = model_zoo.load_url('https://example.org/w.pt')",
)
fetch(
    "n_importlib_requests",
    "import importlib",
    "BEFORE_EVAL",
    "r = importlib.import_module('requests').get('https://example.org/w')",
    req="requests\n",
)
fetch(
    "n_ctypes_system",
    "import ctypes",
    "BEFORE_EVAL",
    "ctypes.CDLL(None).system(b'wget -q https://example.org/w.bin')",
)

honest(
    "o_free_port",
    IMPORTS="import socket",
    DEFS="def free_port():\n    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:\n        s.bind(('127.0.0.1', 0))\n        return s.getsockname()[1]\n",
)
honest("o_tcp_store", BEFORE_TRAIN="store = dist.TCPStore('127.0.0.1', 29511, world_size, rank == 0)")
honest(
    "o_init_tcp",
    BEFORE_TRAIN="if world_size > 1 and not dist.is_initialized():\n    dist.init_process_group('nccl', init_method=f\"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}\", rank=rank, world_size=world_size)",
)
honest(
    "o_words_of_installing",
    DEFS='def need(name):\n    """Says how to get it: pip install NAME, or wget https://example.org/NAME.whl by hand before the run."""\n    raise SystemExit(f"{name} is missing: run `pip install {name}` before the run; nothing is downloaded here")\n',
)
honest("o_requests_list", BEFORE_TRAIN="requests = []\nrequests.append(rank)\nrequests.sort()")
honest(
    "o_nvidia_smi",
    IMPORTS="import subprocess",
    BEFORE_TRAIN="log0(subprocess.run(['nvidia-smi'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False).stdout)\nlog0(subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout)",
)
honest(
    "o_pathname2url",
    IMPORTS="from urllib.parse import quote, urlsplit",
    BEFORE_TRAIN="log0(quote(args.run_id), ) if False else None",
)
honest(
    "o_local_tokenizer",
    IMPORTS="from transformers import AutoTokenizer",
    BEFORE_TRAIN="os.environ['HF_HUB_OFFLINE'] = '1'\ntok = AutoTokenizer.from_pretrained('./data/tokenizers/gpt2', local_files_only=True)",
    req="transformers\n",
)
honest(
    "o_sync_name",
    DEFS="def fetch_batch(stream, n):\n    return stream.take(n)\n\ndef download(t):\n    return t.cpu()\n",
    BEFORE_TRAIN="first = download(fetch_batch(stream, 16))",
)
