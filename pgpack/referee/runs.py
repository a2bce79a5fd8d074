"""Foreign code and foreign artifacts, each in a fenced process of its own (`fence`), and what that process reported.

Owns the limits and the list of what may be imported. Refuses to wait longer than `timeout_s`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import warm

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev/null", "/dev/urandom")
TARGET_MODULES = frozenset({"flash_attn_interface"})  # no distribution of that name; the H100 records rely on it
ENDED = "it ended with status"  # what the fence says of a script that left with a number
UNWRAP_S = 1.5  # of processor time that a self-extracting file may take to show what it would run
DECODING_PROGRAMS = ("lrzip", "zpaq", "sh")
# what openai/parameter-golf's own requirements.txt installs on the target machine, and triton, which comes with torch
# there; neither brotli nor zstandard is among it
TARGET_DISTRIBUTIONS = (
    "numpy", "tqdm", "torch", "huggingface-hub", "kernels", "setuptools", "typing-extensions", "datasets", "tiktoken",
    "sentencepiece", "triton",
)  # fmt: skip

# distributions whose module has another name, as far as such scripts use them
NAMED_OTHERWISE = {
    "pyyaml": "yaml", "scikit-learn": "sklearn", "scikit-image": "skimage", "pillow": "PIL", "protobuf": "google",
    "opencv-python": "cv2", "opencv-python-headless": "cv2", "beautifulsoup4": "bs4", "python-dateutil": "dateutil",
    "mosaicml-streaming": "streaming", "attrs": "attr", "pyzmq": "zmq", "faiss-cpu": "faiss", "faiss-gpu": "faiss",
    "python-dotenv": "dotenv", "gitpython": "git", "nvidia-ml-py": "pynvml", "nvidia-ml-py3": "pynvml",
    "hydra-core": "hydra", "umap-learn": "umap", "pycryptodome": "Crypto", "msgpack-python": "msgpack",
    "flash-attn-3": "flash_attn_interface", "pytorch-ranger": "ranger", "py-cpuinfo": "cpuinfo",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a fenced process may use. Units: seconds, bytes."""

    timeout_s: float = 600.0
    memory: int = 6 << 30
    file_bytes: int = 2 << 30
    report_bytes: int = 64 << 20


@dataclass(frozen=True)
class Run:
    """How a fenced process ended. `error` is '' when it did what it was asked to.

    `opened`: files of the folder that it read; `refused`: what the fence kept it from; `missing`: modules that it
    wanted and nobody declared; `value`: the probe's answer. Of a file that starts other code: `layers`, the sources
    that it would run; `reached`, (layer or -1 for the file, line) of what started them; `outside`, files above the
    folder that it would run; `made`, modules of its own making; `blind`, code without a source; `started`, commands;
    `stopped`, whether its time ended before it did.
    """

    error: str = ""
    seconds: float = 0.0
    network: str = ""
    peak_bytes: int = 0
    opened: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    torch: bool = False
    layers: tuple[bytes, ...] = ()
    reached: tuple[tuple[int, int], ...] = ()
    outside: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    stopped: bool = False
    value: Any = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        return not self.error


def run_script(
    path: Path,
    arguments: Sequence[str],
    scratch: Path,
    modules: Iterable[str],
    limits: Limits,
    *,
    root: Path | None = None,
    unwrap: bool = False,
) -> Run:
    """A Python file of the folder, run as `python FILE ARGUMENTS` in `scratch`; `unwrap` keeps its inner code, unrun.

    Only `modules` (top-level names), the standard library and the file's own folder can be imported. `root`: the
    folder that it belongs to, its own where none is named.
    """
    request = {"file": str(path), "module": "", "arguments": [*arguments], "unwrap": unwrap}
    if unwrap:
        limits = replace(limits, timeout_s=min(limits.timeout_s, 10 * UNWRAP_S))
    return _fenced(request, root or path.parent, scratch, sorted(modules), limits, 0)


def run_probe(
    name: str, arguments: Sequence[str], root: Path, scratch: Path, limits: Limits, *, number: int = 0
) -> Run:
    """`probe.main([name, *arguments])`: our decoder on a foreign file, fenced. Its answer is the run's `value`.

    `number`: of the interpreter that it is forked off; another one has another seed of its hashes.
    """
    answer = scratch / "answer.json"
    request = {"file": "", "module": f"{__package__}.probe", "arguments": [name, *arguments, str(answer)]}
    run = _fenced({**request, "unwrap": False}, root, scratch, None, limits, number)
    if not run.ok:
        return run
    try:
        with answer.open("rb") as file:
            return replace(run, value=json.loads(file.read(limits.report_bytes)))
    except (OSError, ValueError) as error:
        return replace(run, error=f"the decoder left no answer: {error}")


def _fenced(
    request: dict[str, Any], root: Path, scratch: Path, modules: list[str] | None, limits: Limits, number: int
) -> Run:
    document = {
        **request,
        "root": str(root),
        "scratch": str(scratch),
        "readable": [*SYSTEM, sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), *_ours(modules)],
        "programs": DECODING_PROGRAMS,
        "modules": modules,
        "memory": limits.memory,
        "cpu_s": int(limits.timeout_s) + 1,
        "file_bytes": limits.file_bytes,
        "unwrap_s": UNWRAP_S,
    }
    loaded = () if request["file"] else (request["module"],)
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as report, tempfile.TemporaryFile() as said:
        asked.write(json.dumps(document).encode())
        asked.seek(0)
        status = warm.run(loaded, number, [asked, report, said], limits.timeout_s)
        if status is None:
            return Run(error=f"did not end within {limits.timeout_s:g} s", stopped=True)
        report.seek(0)
        said.seek(0)
        return _report(report.read(limits.report_bytes), status, said.read(1 << 16))


def _ours(modules: list[str] | None) -> list[str]:
    """The engine's own files can be read by our probes, not by foreign code."""
    return [str(PACKAGE_ROOT / "pgpack"), str(warm.FENCE)] if modules is None else []


def _report(text: bytes, status: int, stderr: bytes) -> Run:
    try:
        found: dict[str, Any] = json.loads(text)
        error, seconds, network, peak = (found[name] for name in ("error", "seconds", "network", "peak_bytes"))
        lists: dict[str, Any] = {name: tuple(found[name]) for name in ("opened", "refused", "missing", "programs")}
        layers = tuple(layer.encode("latin-1") for layer in found.get("layers", []))
        reached = tuple((int(layer), int(line)) for layer, line in found.get("reached", []))
        lists |= {name: tuple(map(str, found.get(name, []))) for name in ("outside", "made", "blind", "started")}
        plain = Run(str(error), float(seconds), str(network), int(peak), torch=bool(found["torch"]))
        if plain.error.startswith(ENDED):
            plain = replace(plain, error=f"{plain.error}: {_last_line(stderr)}")
        return replace(plain, layers=layers, reached=reached, stopped=bool(found.get("stopped")), **lists)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Run(error=f"the process ended with status {status} and without a report: {_last_line(stderr)}")


def _last_line(stderr: bytes) -> str:
    return (stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"])[-1][:300]


def declared_distributions(requirements: str | None) -> frozenset[str]:
    """Names that a requirements.txt declares, normalized. Lines that are options, comments or URLs name nothing."""
    names = set()
    for line in (requirements or "").splitlines():
        matched = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line.partition("#")[0])
        if matched and "://" not in line.partition("@")[0]:
            names.add(normalized(matched[1]))
    return frozenset(names)


def normalized(name: str) -> str:
    """A distribution's name as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def _installed(name: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """(requirements, top-level modules) of a distribution; nothing of one that is not installed here.

    Only those asked for are read: `importlib.metadata.packages_distributions` reads all, 0.15 s more.
    """
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return (), frozenset()
    modules = (found.read_text("top_level.txt") or "").split() or [
        file.parts[0] if len(file.parts) > 1 else file.stem for file in found.files or () if file.suffix == ".py"
    ]
    return tuple(found.requires or ()), frozenset(modules)


def importable(distributions: Iterable[str]) -> frozenset[str]:
    """Top-level modules of these distributions and of what they need, as far as they are installed here."""
    return _importable(frozenset(distributions))


@functools.cache
def _importable(distributions: frozenset[str]) -> frozenset[str]:
    wanted, closed = [normalized(name) for name in distributions], dict[str, frozenset[str]]()
    while wanted:
        name = wanted.pop()
        if name in closed:
            continue
        needs, closed[name] = _installed(name)
        wanted += [
            normalized(re.split(r"[\s;<>=!~\[(]", need, maxsplit=1)[0]) for need in needs if "extra ==" not in need
        ]
    other = {NAMED_OTHERWISE[name] for name in closed if name in NAMED_OTHERWISE}
    return frozenset(name.replace("-", "_") for name in closed).union(other, *closed.values())
