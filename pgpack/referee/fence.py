"""A program: runs foreign files, each in a process forked off this one, under limits, and says what they touched.

    python -I fence.py SOCKET [MODULE ...]   per request: descriptors of it, of its report and of stderr in, pid and
                                             status out; `warm` is the other side

Standard library only, and nothing of ours is imported before the foreign file asks for it. Network: a namespace of
its own where the system grants one; everywhere an audit hook that refuses sockets. The hook also refuses writing
outside the scratch folder, reading outside `readable`, other programs than `programs`, and unpickling that names
globals. Modules outside `modules` are not found. This holds honest code to the rules and catches the field's known
faults; it is no prison for code that attacks CPython itself, for which a throwaway machine is the right place.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.abc
import importlib.util
import json
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NETWORK = (
    "socket.", "urllib.", "http.client.", "ftplib.", "smtplib.", "imaplib.", "poplib.", "telnetlib.", "nntplib.",
)  # fmt: skip
HARMLESS = ("socket.gethostname",)  # asks this machine alone
PROCESSES = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "pty.spawn",
    "os.startfile",
)  # and os.forkpty
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "os.utime", "os.setxattr", "os.removexattr",
)  # fmt: skip
FORBIDDEN = ("os.kill", "os.killpg", "resource.setrlimit", "resource.prlimit", "ctypes.dlopen", "pickle.find_class")
LISTED = 64  # of each kind of finding


class Fence:
    """What the foreign file may do and what it did. Paths are absolute and resolved."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.root = os.path.realpath(request["root"])
        self.scratch = os.path.realpath(request["scratch"])
        self.readable = (*map(os.path.realpath, request["readable"]), self.root, self.scratch)
        self.programs = frozenset(request["programs"])
        self.modules = None if request["modules"] is None else frozenset(request["modules"])
        self.armed = False
        self.watch: Callable[[str, tuple[Any, ...]], None] | None = None  # told of every event before it is judged
        self.may_add = False  # new files may be made in `root`; what was there stays
        self.added: set[str] = set()
        self.opened: list[str] = []
        self.refused: list[str] = []
        self.missing: list[str] = []
        self.ran: list[str] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook; silent until armed, so that the fence can set itself up."""
        if not self.armed:
            return
        if self.watch is not None:
            self.watch(event, arguments)
        if event in HARMLESS:
            return
        if event == "open":
            self._open(arguments[0], arguments[2])
        elif event == "subprocess.Popen":
            self._program(arguments[0])
        elif event.startswith(NETWORK):
            self._refuse(f"network: {event}")
        elif event.startswith(PROCESSES):
            self._refuse(f"process: {event}")
        elif event in CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                self._write(path, event)
        elif event == "pickle.find_class":
            self._refuse(f"unpickling: {arguments[0]}.{arguments[1]}")
        elif event in FORBIDDEN and arguments[0] is not None:
            self._refuse(f"forbidden: {event} {arguments[0]!r:.80}")

    def _open(self, path: Any, flags: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        if isinstance(flags, int) and flags & WRITING:
            self._write(path, "open for writing")
            return
        real = os.path.realpath(os.fsdecode(path))
        if not real.startswith(tuple(f"{folder}{os.sep}" for folder in self.readable)) and real not in self.readable:
            if os.path.exists(real):
                self._refuse(f"read outside: {real}")
            return
        if real.startswith(self.root + os.sep) and os.path.isfile(real):
            _note(self.opened, os.path.relpath(real, self.root))

    def _write(self, path: Any, what: str) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        real = os.path.realpath(os.fsdecode(path))
        if self.may_add and real.startswith(self.root + os.sep) and (real in self.added or not os.path.exists(real)):
            self.added.add(real)
            return
        if real not in (os.devnull, self.scratch) and not real.startswith(self.scratch + os.sep):
            self._refuse(f"write outside: {what} {real}")

    def _program(self, executable: Any) -> None:
        name = os.path.basename(os.fsdecode(executable)) if executable else ""
        if name not in self.programs:
            self._refuse(f"program: {name}")
        _note(self.ran, name)

    def _refuse(self, what: str) -> NoReturn:
        _note(self.refused, what)
        raise PermissionError(f"refused by the referee: {what}")


def _note(found: list[str], what: str) -> None:
    if what not in found and len(found) < LISTED:
        found.append(what)


class Gate(importlib.abc.MetaPathFinder):
    """Finds nothing itself; says no to modules that nobody declared."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """None lets the next finder look; raises ModuleNotFoundError for an undeclared module."""
        top = fullname.partition(".")[0]
        fence = self.fence
        if fence.modules is None or top in sys.stdlib_module_names or top in fence.modules:
            return
        if any(os.path.exists(os.path.join(fence.root, top + ending)) for ending in ("", ".py")):
            return
        _note(fence.missing, top)
        raise ModuleNotFoundError(f"No module named {top!r}: it is not declared", name=top)


def limit(request: dict[str, Any]) -> None:
    """Memory, processor time and file size of this process, for good. Units: bytes and seconds."""
    for kind, value in (
        (resource.RLIMIT_AS, request["memory"]),
        (resource.RLIMIT_CPU, request["cpu_s"]),
        (resource.RLIMIT_FSIZE, request["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def without_network() -> str:
    """How the network is kept away: 'namespace' (and the hook), or 'audit hook' alone."""
    uid, gid = os.getuid(), os.getgid()
    with contextlib.suppress(OSError, AttributeError):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
            for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
                with contextlib.suppress(OSError):
                    Path("/proc/self", name).write_text(text, encoding="ascii")
            return "namespace"
    return "audit hook"


def peak_bytes() -> int:
    """The most memory that this process has held since it began (getrusage would count its parent's)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@functools.cache
def unwrapping() -> Any:
    """The module of that name beside this file: nothing of pgpack can be imported here."""
    spec = importlib.util.spec_from_file_location("pgpack_unwrapping", Path(__file__).with_name("unwrapping.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unwrap_file(request: dict[str, Any], fence: Fence) -> dict[str, Any]:
    """What a self-extracting file would run, as `unwrapping` finds it, and how that ended."""
    module = unwrapping()
    unwrapper = module.Unwrapper(request["file"], fence.root, fence.scratch)
    fence.watch, fence.may_add = unwrapper.watch, True
    fence.armed, error, stopped = True, "", False
    try:
        unwrapper.run(_as_main(request["file"], []), request["unwrap_s"])
    except (module.Stop, SystemExit) as ended:
        stopped = isinstance(ended, module.Stop)
    except BaseException as failure:  # noqa: BLE001  (whatever foreign code raises is an answer)
        error = traceback.format_exception_only(failure)[-1].strip()
    fence.armed = False
    for name in unwrapper.opened:
        _note(fence.opened, name)
    return {**unwrapper.report(), "error": error, "stopped": stopped}


def _as_main(path: str, arguments: list[str]) -> dict[str, Any]:
    """The namespace in which a file runs as the main program."""
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    module = ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    return module.__dict__


def requests(connection: socket.socket) -> tuple[dict[str, Any], int]:
    """Returns once in every process that is forked off, with its request and the descriptor of its report."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
        if not data:
            raise SystemExit(0)
        pid = os.fork()
        if pid == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(pid.to_bytes(4, "little"))
        connection.sendall(os.waitpid(pid, 0)[1].to_bytes(4, "little"))
    connection.close()
    os.setsid()
    request, report, stderr = descriptors
    os.dup2(stderr, 2)
    os.close(stderr)
    with os.fdopen(request, "rb") as file:
        return json.load(file), report


def main() -> int:
    """One request, one report, in each process that is forked off."""
    unwrapping()
    for name in sys.argv[2:]:
        importlib.import_module(name)
    request, report_fd = requests(socket.socket(fileno=int(sys.argv[1])))
    os.environ.update(TMPDIR=request["scratch"], HOME=request["scratch"])
    fence, error = Fence(request), ""
    unwrapped: dict[str, Any] = {}
    network = without_network()
    sys.dont_write_bytecode = True
    limit(request)
    if not request["unwrap"]:
        sys.meta_path.insert(0, Gate(fence))
    sys.addaudithook(fence.hook)
    os.chdir(fence.root if request["unwrap"] else request["scratch"])  # as a person would run it
    started = time.perf_counter()
    fence.armed = not request["unwrap"]
    try:
        if request["unwrap"]:
            unwrapped = unwrap_file(request, fence)
            error = unwrapped.pop("error")
        elif request["module"]:
            importlib.import_module(request["module"]).main(request["arguments"])
        else:
            file = request["file"]
            exec(compile(Path(file).read_bytes(), file, "exec"), _as_main(file, request["arguments"]))
    except SystemExit as ended:
        code = ended.code
        error = "" if code in (None, 0) else code if isinstance(code, str) else f"it ended with status {code}"
    except BaseException as failure:  # noqa: BLE001  (whatever foreign code raises is an answer)
        error = traceback.format_exception_only(failure)[-1].strip()
    fence.armed = False
    report = {
        "error": error[:2000],
        "seconds": time.perf_counter() - started,
        "network": network,
        "peak_bytes": peak_bytes(),
        "opened": fence.opened,
        "refused": fence.refused,
        "missing": fence.missing,
        "programs": fence.ran,
        "torch": "torch" in sys.modules and not request["unwrap"],
        **unwrapped,
    }
    with os.fdopen(report_fd, "w", encoding="utf-8") as out:
        json.dump(report, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
