"""`make bench-start`: processor time of the commands that answer at once, best of several runs.

    python -m tests.bench.startup CHECKPOINT TEXT_FOLDER

The limit is 0.3 s. Processor time, because the clock also counts what else the machine does; `python -c 'import
numpy'` is measured in the same run, as the part that is not ours.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_S = 0.3
RUNS = 9
PGPACK, PGTRAIN = "pgpack_cli.pgpack_app", "pgpack_cli.pgtrain_app"


def commands(checkpoint: str, text: str, folder: str) -> dict[str, list[str]]:
    """Name -> arguments of python."""
    out, packed = f"{folder}/model.safetensors", f"{folder}/model.pgpack"
    recipe = "role:control=cast; *=gptq(bits=6,clip=12.85)|rans"
    return {
        "python -c 'import numpy'": ["-c", "import numpy"],
        "pgpack --help": ["-m", PGPACK, "--help"],
        "pgpack sweep --help": ["-m", PGPACK, "sweep", "--help"],
        "pgtrain --help": ["-m", PGTRAIN, "--help"],
        "pgtrain run --help": ["-m", PGTRAIN, "run", "--help"],
        "pgpack demo --dry-run": ["-m", PGPACK, "demo", "--dry-run"],
        "pgtrain run --dry-run": ["-m", PGTRAIN, "run", "--data", text, "-o", out, "--dry-run"],
        "pgpack pack --recipe --dry-run": [
            *("-m", PGPACK, "pack", checkpoint, "--recipe", recipe, "-o", packed, "--dry-run"),
        ],
        "pgpack pack --budget --dry-run": [
            *("-m", PGPACK, "pack", checkpoint, "--budget", "600kB", "-o", packed, "--dry-run"),
        ],
        "pgpack sweep --dry-run": ["-m", PGPACK, "sweep", checkpoint, "--out", f"{folder}/study", "--dry-run"],
    }


def processor_s(arguments: list[str]) -> float:
    """User and system time of one run of python."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(checkpoint: str, text: str) -> int:
    """Print the table; 1 when a command takes longer than the limit."""
    slow = 0
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: [processor_s(args)] for name, args in commands(checkpoint, text, folder).items()}
        for _ in range(RUNS - 1):  # rounds, so that a busy moment of the machine does not hit one command alone
            for name, args in commands(checkpoint, text, folder).items():
                measured[name].append(processor_s(args))
    size = Path(checkpoint).stat().st_size
    print(f"processor time, best of {RUNS}; a checkpoint of {size:,} bytes, limit {LIMIT_S} s")
    for name, times in measured.items():
        slow += min(times) > LIMIT_S
        print(f"{min(times):6.3f} s  {name}{'  TOO SLOW' if min(times) > LIMIT_S else ''}")
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
