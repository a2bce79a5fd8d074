"""Strange inputs through the commands, many in one process: python -m tests.hostile.fuzz_inputs --cases 2000

    case --inspect, plan, pack, eval, each with a clock on it--> a result, or a sentence and an exit code

A fault is anything else: another exception, a warning, a sentence of several lines, more than `SECONDS` of processor
time, more than `MEMORY` in all, a file that is left behind, an artifact that lacks a name. `--first SEED
--cases 1` repeats one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pgpack_cli.pgpack_app import app
from pgpack_cli.screen.output import run

import pgpack
from pgpack.referee.fence import peak_bytes
from tests.hostile.inputs import Made, made

RECIPE = "*=cast(dtype=fp16)|raw"
SECONDS = 10.0  # of processor time, and six times as many on the clock
MEMORY = 1 << 30  # resident, of the whole process
ADDRESSES = 6 << 30  # torch alone maps 2 GiB
LONGEST = 1000  # characters of a sentence, the name of a file in it included
SHOWN = 20


class Hangs(BaseException):
    """Raised by the clock."""


@dataclass
class Found:
    """What a run came to. `faults`: (seed, verb, what), `ends`: kind, verb and how it ended -> how often."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, str]] = field(default_factory=list)


def commands_of(seed: int, case: Made, out: Path) -> Iterator[tuple[str, list[str]]]:
    """(verb, its words) for one case."""
    path = str(case.checkpoint)
    if case.kind != "text":
        yield "inspect", ["inspect", path, *(["--json"] if seed % 2 else [])]
        yield "plan", ["plan", path, "--recipe", RECIPE]
        yield "pack", ["pack", path, "--recipe", RECIPE, "-o", str(out), "--no-cache", "-q"]
    yield "eval", ["eval", path, *case.text, "-q"]


def run_case(seed: int, folder: Path, found: Found) -> None:
    """Every command on one case, in an empty `folder`."""
    inside, out = folder / "in", folder / "out"
    inside.mkdir()
    out.mkdir()
    case = made(seed, inside)
    before = listed(folder)
    for verb, words in commands_of(seed, case, out / "a.pgpack"):
        code, fault = ended(words)
        found.ends[f"{case.kind}: {verb} {code}"] += 1
        if fault:
            found.faults.append((seed, verb, fault))
            sys.__stderr__.write(f"{seed} {verb}: {fault}\n")
        if (peak := peak_bytes()) > MEMORY:
            found.faults.append((seed, verb, f"{peak >> 20} MiB in memory"))
        packed = {"out/a.pgpack", "out/a.pgpack.json"} if verb == "pack" and code == 0 else set()
        if (more := listed(folder) - before) != packed:
            found.faults.append((seed, verb, f"left behind {sorted(more - packed)}, lacks {sorted(packed - more)}"))
        if packed and seed % 8 == 0 and (lost := lost_names(case.checkpoint, out / "a.pgpack")):
            found.faults.append((seed, verb, f"the artifact lacks {lost[:3]}"))
        shutil.rmtree(out)
        out.mkdir()


def lost_names(checkpoint: Path, artifact: Path) -> list[str]:
    """Tensors of a checkpoint that its artifact does not hold in their shape."""
    held = {name: array.shape for name, array in pgpack.open_artifact(artifact).tensors().items()}
    shapes = pgpack.open_checkpoint(checkpoint).shapes
    return [name for name, shape in shapes.items() if held.get(name) != tuple(shape)]


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "__pycache__"} - {
        str(path.relative_to(folder)) for path in folder.rglob("*.pyc")
    }


def ended(words: list[str]) -> tuple[int, str]:
    """(exit code, what was wrong with how it ended or ''), as `screen.output.run` ends."""
    said = io.StringIO()
    try:
        with clocked(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=ResourceWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # of torch, in the code of the adapter
            sys.argv = ["pgpack", *words]
            run(app, "pgpack")
    except Hangs:
        return -1, "hangs"
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        sentences = [line for line in said.getvalue().splitlines() if not code or line.strip()]
        last = sentences[-1] if sentences else ""
        wrong = code and (not last.lower().startswith("error: ") or len(last) > LONGEST)
        return code, f"no sentence: {last[:200]!r}" if wrong else ""
    except BaseException as error:  # noqa: BLE001  every other end is a fault
        where = traceback.extract_tb(error.__traceback__)[-1]
        own = [each for each in traceback.extract_tb(error.__traceback__) if "/pgpack/" in each.filename][-1:]
        at = f"{Path((own or [where])[0].filename).name}:{(own or [where])[0].lineno}"
        return -1, f"{type(error).__name__} at {at}: {str(error)[:160]}"


@contextlib.contextmanager
def clocked() -> Iterator[None]:
    def ring(number: int, frame: Any) -> NoReturn:
        raise Hangs

    for number, which, seconds in (
        (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
        (signal.SIGALRM, signal.ITIMER_REAL, 6 * SECONDS),
    ):
        signal.signal(number, ring)
        signal.setitimer(which, seconds)
    try:
        yield
    finally:
        for which in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(which, 0)


def run_cases(first: int, count: int) -> Found:
    """Cases `first` to `first + count`, in an empty working directory that must stay so."""
    found = Found()
    with tempfile.TemporaryDirectory() as home:
        working = Path(home) / "working"
        working.mkdir()
        os.chdir(working)
        for seed in range(first, first + count):
            folder = Path(home) / "case"
            folder.mkdir()
            run_case(seed, folder, found)
            shutil.rmtree(folder)
            if any(working.iterdir()):
                found.faults.append((seed, "all", f"wrote {[path.name for path in working.iterdir()]} where it ran"))
                for path in working.iterdir():
                    path.unlink()
        os.chdir("/")
    return found


def main() -> int:
    """Prints a JSON document; exit code 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    found = run_cases(arguments.first, arguments.cases)
    kinds = Counter(f"{verb}: {what}" for _, verb, what in found.faults)
    document = {
        "cases": arguments.cases,
        "commands": sum(found.ends.values()),
        "cpu_s": round(time.process_time() - started, 1),
        "peak_mib": peak_bytes() >> 20,
        "n_faults": len(found.faults),
        "faults": [f"{what} ({n} times)" for what, n in kinds.most_common(SHOWN)],
        "seeds": [list(fault) for fault in found.faults[:SHOWN]],
        "ends": dict(sorted(found.ends.items())),
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 1 if found.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
