"""Files that a script reads and that nobody counts: weights of another place, priors beside the data.

Known are paths whose last part is written down. Left alone: what the folder holds, what the code itself writes, the
challenge's shards and tokenizers, and what the system says of the machine.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence

from .launch import NO_LAUNCH, Launch
from .script import Place, Script, calls, keyword
from .text_names import is_evaluated_path, names_training
from .texts import UNKNOWN

LOADERS = ("torch.load", "safetensors.torch.load_file", "numpy.load", "np.load", "safetensors.safe_open")
READERS = (
    *LOADERS, "numpy.fromfile", "numpy.memmap", "numpy.loadtxt", "numpy.genfromtxt", "open", "io.open", "gzip.open",
    "lzma.open", "bz2.open", "load_file", "safe_open", "torch.from_file", "pandas.read_csv", "pandas.read_parquet",
    "os.open",
)  # fmt: skip
METHODS = ("read_text", "read_bytes", "open")  # of a path
_WRITES = re.compile(r"save|write|dump|tofile|to_csv|copy|move|rename|replace|link|export")
_OF_DATA = re.compile(
    r"fineweb|tokeni[sz]er|docs_selected|^(?:manifest|meta|metadata|config|hparams?|params|settings)\b|"
    r"\.(?:model|vocab|tiktoken|py|cu|cpp|c|h|so|sh|md|log|ya?ml|toml)$|^requirements"
)
_OF_RUN = re.compile(r"model|submission|artifact|weights|checkpoint|ckpt|quant|packed|\.(?:ptz|pgpack)$")
_OF_MACHINE = re.compile(r"DATA|TOKENI[SZ]ER|VOCAB|TRAIN|VAL|LOG|OUT|CONFIG|CACHE_DIR|HOME|TMP")
_SHARED = ("shared_memory.SharedMemory", "shared_memory.ShareableList", "managers.BaseManager")
_OF_SYSTEM = ("/proc/", "/sys/", "/etc/", "/dev/null", "/dev/urandom", "/usr/")


def uncounted(scripts: Sequence[Script], present: Collection[str], given: Launch = NO_LAUNCH) -> Iterator[Place]:
    """What is read and counted nowhere: files, memory of other processes; `given`: how the scripts are started."""
    yield from outside_files(scripts, present)
    yield from unset_files(scripts, given)
    yield from shared_memory(scripts)


def outside_files(scripts: Sequence[Script], present: Collection[str]) -> Iterator[Place]:
    """Files that are read and lie neither in the folder (`present`: its files) nor among the challenge's data."""
    saved = {_base(text) for *_, call, name in calls(scripts) for text in _written(scripts, call, name)}
    held = {_base(name) for name in present} | saved
    for script, call, name in calls(scripts):
        for text in script.texts_of(path) if (path := _read_path(script, call, name)) is not None else ():
            base = _base(text)
            if not base or UNKNOWN in base or "*" in base or base in held or not re.search(r"\w\.\w{1,12}$", base):
                continue
            is_absolute = text.startswith(("/", "~/", "../")) and UNKNOWN not in text and name in LOADERS
            if is_absolute or not (_is_data(text) or _OF_RUN.search(base.lower())):
                yield script.place(call, f"{name}({text.replace(UNKNOWN, '...')!r}) reads what is not in the folder")


def unset_files(scripts: Sequence[Script], given: Launch) -> Iterator[Place]:
    """Files that are read by a name which only an environment variable knows, and that nothing sets or writes."""
    written = {
        ast.unparse(each)
        for *_, call, name in calls(scripts)
        if _WRITES.search(name.rpartition(".")[2] or getattr(call.func, "attr", "")) or _opens_to_write(call, name)
        for each in (*call.args, *(item.value for item in call.keywords))
    }
    for script, call, name in calls(scripts):
        path = _read_path(script, call, name)
        if path is None or ast.unparse(path) in written:
            continue
        variable = _variable(script, path)
        if variable and variable not in given and not _OF_MACHINE.search(variable):
            yield script.place(call, f"{name}(...) reads what the environment's {variable} names, which nothing sets")


def _opens_to_write(call: ast.Call, name: str) -> bool:
    modes = [
        each.value
        for each in (*call.args[1:], *(item.value for item in call.keywords))
        if isinstance(each, ast.Constant)
    ]
    return name.endswith("open") and any(re.match("[wax]", str(mode)) for mode in modes)


def _variable(script: Script, node: ast.expr, depth: int = 0) -> str:
    """The environment variable that an expression is, '' for others and where it has another value too."""
    while isinstance(node, ast.Call) and node.args and _last(node) in ("Path", "str", "expanduser", "fspath"):
        node = node.args[0]
    match node:
        case ast.Subscript(value=owner, slice=ast.Constant(value=str(name))) if _is_environ(script, owner):
            return name
        case ast.Call(func=func, args=[ast.Constant(value=str(name))]) if _is_environ(script, func):
            return name
        case ast.Name(id=held) if depth < 2:
            values = script.values.get(held, [])
            return _variable(script, values[0], depth + 1) if len(values) == 1 else ""
    return ""


def _last(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _is_environ(script: Script, node: ast.expr) -> bool:
    return script.name_of(node) in ("os.environ", "os.environ.get", "os.getenv", "environ", "environ.get", "getenv")


def shared_memory(scripts: Sequence[Script]) -> Iterator[Place]:
    """Memory of other processes that is attached to, and that nothing here creates."""
    found = [(script, call) for script, call, name in calls(scripts) if name.endswith(_SHARED)]
    if any(isinstance(made := keyword(call, "create"), ast.Constant) and made.value for _, call in found):
        return
    for script, call in found:
        yield script.place(call, f"{ast.unparse(call)[:60]} reads what another process has left")


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _is_data(text: str) -> bool:
    """Whether a path is of the challenge's text or tokenizers, or of the machine."""
    base = _base(text)
    if text.startswith(_OF_SYSTEM) or is_evaluated_path(text) or names_training(base):
        return True
    return bool(_OF_DATA.search(base.lower())) or "tokenizers/" in text


def _read_path(script: Script, call: ast.Call, name: str) -> ast.expr | None:
    """What names the file that a call reads, None of other calls."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    if name in READERS or name.replace("np.", "numpy.", 1) in READERS:
        mode = keyword(call, "mode") or (call.args[1] if len(call.args) > 1 and last == "open" else None)
        writes = isinstance(mode, ast.Constant) and bool(re.match("[wax]", str(mode.value)))
        return call.args[0] if call.args and not writes else None
    if last in METHODS and isinstance(call.func, ast.Attribute):
        writes = any(isinstance(each, ast.Constant) and re.match("[wax]", str(each.value)) for each in call.args)
        return None if writes else call.func.value
    return None


def _written(scripts: Sequence[Script], call: ast.Call, name: str) -> Iterator[str]:
    """The texts that are given to a call which writes a file."""
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    given = [*call.args, *(item.value for item in call.keywords)]
    modes = (each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str))
    is_opened = last in ("open", "memmap") and any(re.fullmatch(r"[wax]b?\+?t?", mode) for mode in modes)
    owner = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    for each in (*owner, *given) if is_opened or _WRITES.search(last) else ():
        for script in scripts:
            yield from script.texts_of(each)
