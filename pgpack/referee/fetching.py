"""What a script would fetch over a network or install, however that is spelled; nothing here runs it.

Fetching: a module made for it that is used, hubs of models and data, a socket that connects, a program that downloads
or installs. Not fetching: parsing a URL, the host's name, a free port, a package that is asked for its version.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from .script import Place, Script, calls, keyword, references
from .texts import PROGRAMS, UNKNOWN

MODULES = (
    "requests", "urllib.request", "urllib.robotparser", "urllib2", "urllib3", "http.client", "ftplib", "smtplib",
    "imaplib", "poplib", "telnetlib", "nntplib", "xmlrpc.client", "aiohttp", "httpx", "wget", "gdown", "boto3",
    "botocore", "s3fs", "gcsfs", "paramiko", "pycurl", "websocket", "websockets", "pooch", "kagglehub", "kaggle",
    "google.cloud.storage", "azure.storage", "torch.hub", "torch.utils.model_zoo", "gensim.downloader", "pip",
    "six.moves.urllib.request", "torchaudio.utils.download_asset", "openai", "modelscope", "clearml", "mega",
    "redis", "memcache", "pymemcache", "pymongo", "psycopg", "psycopg2", "pymysql", "mysql", "kafka", "pika", "etcd3",
    "anthropic", "cohere", "litellm", "replicate", "google.generativeai", "google.genai", "google.cloud", "ollama",
    "oss2", "qcloud_cos", "dropbox", "b2sdk", "webdav3", "smbclient", "asyncssh", "fabric", "rpyc", "Pyro5",
    "azure.storage.blob", "minio", "elasticsearch",
)  # fmt: skip
_WITHIN = tuple(f"{module}." for module in MODULES)
CALLS = {
    "hf_hub_download", "snapshot_download", "urlretrieve", "urlopen", "load_state_dict_from_url",
    "download_url_to_file", "load_file_from_url", "download_url", "download_file_from_google_drive",
    "cached_download", "download_and_extract_archive",
}  # fmt: skip
NAMES = (
    "huggingface_hub.HfApi", "huggingface_hub.HfFileSystem", "huggingface_hub.InferenceClient",
    "huggingface_hub.login", "huggingface_hub.Repository", "socket.create_connection", "asyncio.open_connection",
    "nltk.download", "transformers.pipeline", "evaluate.load", "sys.modules.urllib.request",
    "datasets.load_dataset_builder", "transformers.utils.hub.cached_file", "transformers.utils.cached_file",
    "tiktoken.get_encoding", "tiktoken.encoding_for_model", "multiprocessing.connection.Client", "wandb.Api",
    "wandb.restore", "wandb.use_artifact", "wandb.run.use_artifact", "whisper.load_model", "tensorflow_datasets.load",
    "fasttext.util.download_model", "mlflow.artifacts.download_artifacts", "pyarrow.fs.S3FileSystem",
    "pyarrow.fs.GcsFileSystem", "minio.Minio", "laion_clap.CLAP_Module", "spacy.cli.download", "tfds.load",
    "keras.utils.get_file", "tensorflow.keras.utils.get_file", "tf.keras.utils.get_file", "nltk.downloader.download",
)  # fmt: skip
REPORTERS = (
    "wandb.init",
    "neptune.init_run",
    "comet_ml.Experiment",
    "comet_ml.start",
    "mlflow.set_tracking_uri",
    "swanlab.init",
)
HUBS = ("from_pretrained", "load_dataset", "get_kernel")
MODELS_BY_NAME = ("SentenceTransformer", "CrossEncoder", "SparseEncoder")
LOCAL_FORMATS = {"json", "text", "csv", "parquet", "arrow", "imagefolder", "webdataset"}
_PROGRAM = r"(?:^|[\s;&|(`'\"/=])"
_END = r"(?=[\s;&|)`'\"]|$)"
_COMMAND = re.compile(
    _PROGRAM + r"(?:(?:wget|curl|aria2c|axel|gdown|rclone|gsutil|azcopy|sftp|s3cmd|s5cmd|kaggle|ncat|telnet)"
    + _END + r"|"
    r"(?:apt|apt-get|aptitude|yum|dnf|apk|brew|snap|conda|mamba|micromamba|npm|cargo|gem|pacman)\s+(?:-\S+\s+)*"
    r"(?:install|update|upgrade|add|create|-S)" + _END + r"|"
    r"pip[\d.]*\s+(?:-\S+\s+)*(?:install|download|wheel)" + _END + r"|pipx?\s+run" + _END + r"|"
    r"uv\s+(?:pip\s+(?:install|sync)|add|sync|tool|run)" + _END + r"|"
    r"git\s+(?:-\S+\s+)*(?:clone|fetch|pull|submodule|lfs|ls-remote)" + _END + r"|"
    r"(?:huggingface-cli|hf)\s+(?:download|login|upload|repo)" + _END + r"|aws\s+(?:-\S+\s+)*s3" + _END + r"|"
    r"gcloud\s+(?:storage|compute)" + _END + r"|(?:scp|rsync|ssh)\s+\S.*(?::|@)|docker\s+(?:pull|run)" + _END + r")"
    r"|[<>\s]/dev/(?:tcp|udp)/\S"
)  # fmt: skip
_ADDRESS = re.compile(
    r"(?:^|[\s'\"=])(?:https?|ftp|s3|gs)://(?!localhost|127\.|0\.0\.0\.0)[\w.-]+/\S"
)  # given to a program
_URL = re.compile(r"(?:https?|ftp|s3|gs|hf|az)://\S+$")
OPENERS = (
    "open", "read_csv", "read_parquet", "read_json", "read_table", "load", "loadtxt", "genfromtxt", "retrieve",
    "download", "fetch", "from_url", "load_url", "imread", "copy", "filesystem",
)  # fmt: skip
STARTERS = (
    "run", "Popen", "call", "check_call", "check_output", "system", "popen", "getoutput", "getstatusoutput",
    "create_subprocess_shell", "create_subprocess_exec", "spawn",
)  # fmt: skip
PROCESSES = (
    "subprocess.",
    "os.system",
    "os.popen",
    "os.exec",
    "os.spawn",
    "os.posix_spawn",
    "pty.",
    "asyncio.create",
)


def fetches(scripts: Sequence[Script]) -> Iterator[Place]:
    """Uses of modules, hubs, sockets and programs that reach for the network or install something."""
    yield from _of_modules(scripts)
    for script, call, name in calls(scripts):
        last = name.rpartition(".")[2]
        if name in script.functions or _stays_here(call):
            continue  # one of its own, whose body is looked at by itself, or one that only looks on this machine
        if why := _fetches(script, call, name, last):
            yield script.place(call, why)
    for script in scripts:
        yield from _connections(script)
    for text, place in commands(scripts):
        if _COMMAND.search(text) or _ADDRESS.search(text):
            yield place
    for script, call, name in calls(scripts):
        if name.startswith("runpy.run_module") and "pip" in {*_first(script, call)}:
            yield script.place(call, "runpy.run_module('pip')")


def _fetches(script: Script, call: ast.Call, name: str, last: str) -> str:
    """What a call fetches, '' for one that fetches nothing."""
    if last in CALLS or name in NAMES or name.startswith(("sklearn.datasets.fetch_", *(f"{n}." for n in NAMES))):
        return f"{name}(...)"
    if last in (*HUBS, *MODELS_BY_NAME) and _of_hub(script, call, name) == "hub":
        return f"{name}(...) fetches from a hub"
    if last in OPENERS and call.args and any(_URL.match(text) for text in script.texts_of(call.args[0])):
        return f"{name}({next(iter(script.texts_of(call.args[0])))[:60]!r})"
    asked = [word for word in ("pretrained", "download") if (given := keyword(call, word)) and _is_true(given)]
    if name.startswith("torchvision.") and (given := keyword(call, "weights")) and not _is_none(given):
        asked.append("weights")
    if host := _is_elsewhere(script, call, name):
        return f"{name}(...) meets {host}"
    return f"{name}({asked[0]}={ast.unparse(keyword(call, asked[0]) or call)[:40]}) fetches it" if asked else ""


def undecided_fetches(scripts: Sequence[Script]) -> Iterator[Place]:
    """What may fetch: a module made for it that is imported and never used by name, an unknown program or model."""
    used = {place.file for place in _of_modules(scripts)}
    for script in scripts:
        for node in script.nodes:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if _in_modules(name) and script.name not in used:
                    yield script.place(node, f"import {name}, of which no use is seen")
    for script, call, name in calls(scripts):
        last = name.rpartition(".")[2]
        if last in HUBS and _of_hub(script, call, name) == "unknown":
            yield script.place(call, f"{name}(...) of a name that is not written down")
        elif name in REPORTERS and not _is_switched(script, call):
            yield script.place(call, f"{name}(...) reports the run to a server")
        elif name.startswith(PROCESSES) and (arguments := _command_arguments(call)):
            if all(text.strip(f"{UNKNOWN} /") == "" for text in script.texts_of(arguments[0])):
                yield script.place(call, f"{name}(...) starts a program that is not written down")
        elif name in ("socket.socket", "socket.socketpair") and not _socket_use(script):
            yield script.place(call, f"{name}(...), of which no use is seen")


def _is_elsewhere(script: Script, call: ast.Call, name: str) -> str:
    """The machine that a store or a process group is told to meet at, '' for this one and for what torchrun says."""
    last = name.rpartition(".")[2]
    given = keyword(call, "host_name") or (call.args[0] if call.args else None) if last == "TCPStore" else None
    if last in ("init_process_group", "init_rpc"):
        given = keyword(call, "init_method")
    for text in script.texts_of(given) if given is not None else ():
        host = re.match(r"(?:tcp://)?([\w.-]+\.[\w.-]+)(?::|$)", text)
        if host and not re.match(r"127\.|0\.0\.0\.0|localhost", host[1]):
            return host[1]
    return ""


def _is_switched(script: Script, call: ast.Call) -> bool:
    """Whether a call is told to stay offline, or stands under a condition that a run need not fulfil."""
    mode = keyword(call, "mode")
    if isinstance(mode, ast.Constant) and mode.value in ("offline", "disabled"):
        return True
    under = (part for node in script.nodes if isinstance(node, ast.If) for part in (*node.body, *node.orelse))
    return any(inner is call for part in under for inner in ast.walk(part))


def _of_modules(scripts: Sequence[Script]) -> Iterator[Place]:
    seen = set()
    for script, node, name in references(scripts):
        if _in_modules(name) and not script.is_local(node, name) and (script.name, node.lineno) not in seen:
            seen.add((script.name, node.lineno))
            yield script.place(node, name)


def _in_modules(name: str) -> bool:
    return f"{name}.".startswith(_WITHIN)


def _first(script: Script, call: ast.Call) -> Iterator[str]:
    if call.args:
        yield from script.texts_of(call.args[0])


def _of_hub(script: Script, call: ast.Call, name: str) -> str:
    """'hub' for what is named as a hub names it, 'local' for files, 'unknown' for what is not written down."""
    owner = name.rpartition(".")[0]
    if owner in {node.name for node in script.nodes if isinstance(node, ast.ClassDef)}:
        return "local"  # a class of the script's own, whose method is looked at by itself
    if _stays_here(call):
        return "local"
    found = {*_first(script, call)} or {UNKNOWN}
    data = keyword(call, "data_files")
    if found <= LOCAL_FORMATS and not (data and any("://" in text for text in script.texts_of(data))):
        return "local"
    kinds = {_kind_of_source(text) for text in found}
    return "hub" if "hub" in kinds else "unknown" if "unknown" in kinds else "local"


def _stays_here(call: ast.Call) -> bool:
    local = keyword(call, "local_files_only")
    return local is not None and _is_true(local)


def _kind_of_source(text: str) -> str:
    if text.startswith(("/", "./", "../", "~", f"{UNKNOWN}/")) or text.endswith((".json", ".model", ".bin", ".txt")):
        return "local"
    return "unknown" if UNKNOWN in text or not text else "hub"


def _connections(script: Script) -> Iterator[Place]:
    """Sockets that connect to somewhere; one that only listens finds a free port."""
    has_socket = any(name in ("socket.socket", "ssl.wrap_socket", "ssl.SSLContext") for *_, name in calls([script]))
    for _, call, name in calls([script]) if has_socket else ():
        if name.rpartition(".")[2] in ("connect", "connect_ex", "sendto") and not name.startswith("sqlite3"):
            yield script.place(call, f"a socket's {name.rpartition('.')[2]}(...)")


def _socket_use(script: Script) -> bool:
    """Whether the script says what its sockets are for."""
    return any(name.rpartition(".")[2] in ("bind", "connect", "connect_ex", "sendto") for *_, name in calls([script]))


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and bool(node.value)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _command_arguments(call: ast.Call) -> list[ast.expr]:
    given = [value for name in ("args", "cmd", "command") if (value := keyword(call, name)) is not None]
    return [*call.args, *given]


def commands(scripts: Sequence[Script]) -> Iterator[tuple[str, Place]]:
    """(command line, where) of every program that a script starts, as far as it is written down."""
    for script, call, name in calls(scripts):
        last = name.rpartition(".")[2]
        starts = last in STARTERS or name.startswith(PROCESSES)
        if not starts or name.startswith(("dist.", "torch.distributed.")):
            continue
        arguments = _command_arguments(call)
        several = last.startswith(("exec", "spawn", "create_subprocess_exec", "posix_spawn"))
        whole = ast.List(arguments, ast.Load()) if several else arguments[0] if arguments else None
        for text in script.texts_of(whole) if whole is not None else ():
            if text.strip(f"{UNKNOWN} "):
                yield text, script.place(call, f"{name}({text.replace(UNKNOWN, '...')[:60]!r})")


def fetched_by_commands(lines: Iterable[str]) -> Iterator[str]:
    """Those of some command lines that download or install."""
    yield from (line[:80] for line in lines if _COMMAND.search(line))


def looked_for(scripts: Sequence[Script]) -> Iterator[tuple[str, Place]]:
    """(program, where) of every program whose presence a script asks for."""
    for script, call, name in calls(scripts):
        if name.rpartition(".")[2] in PROGRAMS:
            for text in _first(script, call):
                yield text, script.place(call, f"{name}({text[:60]!r})")
