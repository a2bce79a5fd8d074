"""`make bench-faults`: kill -9 and a full disk at every deed of each command on its files, inputs replaced when read.

    scenario: a folder, a command --n-th deed fails--> what is left --the same command--> the bytes of no fault?

A loss is any of these: a file that was there before is gone or torn; the same command afterwards ends otherwise than
an undisturbed one, or with other bytes, or leaves a file behind; a full disk leaves a trace, says more than a
sentence or does not name a file; an input that changes gives anything but the bytes of one of its versions, or a
refusal, or makes a later run wrong. What tells of a set of files (manifest, corpus.json) may go before the set is
replaced; so may the log of a training run that is begun anew.

Every run is a fork of one process that has loaded everything and run nothing; `fault_layer` is its way to the files.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pgpack_cli.screen.output import run as shell

from pgpack.files import replace_file
from pgpack.study.tensor_bytes import TensorBytes
from tests.bench.fault_cases import REPLACED, SCENARIOS, Scenario, prepare
from tests.bench.fault_layer import COUNTED, Layer

OWN_OF_A_RUN = {"created", "quantize_s", "encode_s", "decode_s", "eval_s", "crc32", "elapsed_s", "peak_bytes"}
MOMENTS = 10
LAZY = (
    "numba", "scipy.optimize", "scipy.special", "torch._dynamo", "matplotlib.figure", "matplotlib.ticker",
    "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "gguf", "pyarrow.parquet", "transformers",
)  # fmt: skip
Files = dict[str, bytes]


@dataclass(frozen=True)
class Ended:
    """How a run ended. `code` is negative for a signal; `n_deeds` and `n_reads` are known of undisturbed runs."""

    code: int
    said: str
    deeds: Counter[str] = field(default_factory=Counter)
    n_reads: int = 0


def run(folder: Path, command: Sequence[str], layer: Layer) -> Ended:
    """`command` in `folder`, in a fork that passes through the layer."""
    with tempfile.TemporaryDirectory() as aside:
        said, counts = Path(aside, "said"), Path(aside, "counts")
        pid = os.fork()
        if pid == 0:
            _become(folder, command, layer, said, counts)
        _, status = os.waitpid(pid, 0)
        known: list[Any] = json.loads(counts.read_text()) if counts.exists() else [{}, 0]
        return Ended(os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), Counter(known[0]), known[1])


def _become(folder: Path, command: Sequence[str], layer: Layer, said: Path, counts: Path) -> None:
    code: object = 70
    try:
        out = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for fd in (1, 2):
            os.dup2(out, fd)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
        os.chdir(folder)
        sys.argv = list(command)
        from pgpack_cli.pgpack_app import app as pgpack
        from pgpack_cli.pgtrain_app import app as pgtrain

        layer.install()
        try:
            shell({"pgpack": pgpack, "pgtrain": pgtrain}[command[0]], command[0])
        except SystemExit as exit_:
            code = exit_.code
        root, layer.root = layer.root, "/nowhere"
        sys.stdout.flush()
        if layer.fault == "":
            counts.write_text(json.dumps([Counter(layer.deeds), layer.n_reads]))
        layer.root = root
    except BaseException:  # noqa: BLE001  a traceback is what the bench looks for
        import traceback

        layer.root = "/nowhere"
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 71)


def files_of(folder: Path) -> Files:
    """Name -> contents, without what belongs to a run: times, process ids. The cache of a user is no output."""
    return {
        path.relative_to(folder).as_posix(): _plain(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "cache" not in path.relative_to(folder).parts
    }


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name == "trials.lock":
        return b""
    if path.name == "tensors.jsonl":  # a row of a trial that was in flight may be there twice
        return json.dumps(TensorBytes(path.parent).of(), sort_keys=True).encode()
    if path.name == "study.json":
        return json.dumps({k: v for k, v in json.loads(data).items() if k not in OWN_OF_A_RUN}).encode()
    if path.name == "trials.jsonl" or path.name.endswith(".log.jsonl"):
        *lines, torn = data.split(b"\n")
        with contextlib.suppress(ValueError):
            rows = [json.loads(line) for line in lines]
            plain = [{k: v for k, v in row.items() if k not in OWN_OF_A_RUN} for row in rows]
            return json.dumps(plain).encode() + torn  # a row that a kill has torn stands behind those before it
    return data


def _without_locks(files: Files) -> Files:
    """What a run that was killed has made; the next one takes its lock away."""
    return {name: data for name, data in files.items() if not name.endswith(".lock")}


@dataclass
class Bench:
    """One scenario in one place: paths are part of some outputs."""

    scenario: Scenario
    template: Path
    work: Path

    def fresh(self) -> Files:
        """The folder as it was before the command; its files."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work)
        return files_of(self.work)

    def go(self, fault: str = "", at: int = -1, **watched: Any) -> Ended:
        layer = Layer(str(self.work), fault, at, **watched)
        return run(self.work, self.scenario.command, layer)

    def undisturbed(self) -> tuple[Files, Ended]:
        self.fresh()
        ended = self.go()
        if ended.code:
            raise SystemExit(f"{self.scenario.name} fails by itself: {ended.said}")
        return files_of(self.work), ended

    def struck(self, fault: str, at: int, wanted: Files) -> list[str]:
        """What was lost when the at-th deed failed."""
        before = self.fresh()
        ended = self.go(fault, at)
        if ended.code == 0 and fault == "kill":  # a run of fewer deeds, such as saves by the clock
            return [] if files_of(self.work) == wanted else ["other bytes without a fault"]
        losses = self._kept(before, wanted)
        if fault == "full":
            losses += self._refused(ended, before, wanted)
        elif ended.code != -signal.SIGKILL:
            losses.append(f"ended with {ended.code} where it was killed")
        return losses + self._goes_on(wanted)

    def _kept(self, before: Files, wanted: Files) -> list[str]:
        now = files_of(self.work)
        lost = []
        for name, data in before.items():
            if now.get(name) in (data, wanted.get(name, b"")) and name in now:
                continue
            if any(Path(name).match(pattern) for pattern in self.scenario.may_go):
                continue
            if name.endswith("trials.jsonl") and name in now and now[name].startswith(data[:-1]):
                continue
            if name in wanted or name not in self.scenario.stale:
                lost.append(f"{name} is {'torn' if name in now else 'gone'}")
        return lost

    def _refused(self, ended: Ended, before: Files, wanted: Files) -> list[str]:
        lost = []
        if ended.code == 0:  # what keeps results of this disk, such as a cache, may do without
            return [] if files_of(self.work) == wanted else ["exit 0 without its output"]
        lines = [line for line in ended.said.splitlines() if line.startswith("error: ")]
        if "Traceback" in ended.said or len(lines) != 1 or "No space left on device" not in lines[0]:
            lost.append(f"said {ended.said[-300:]!r}")
        else:
            named = self.work / lines[0].split(": ")[1].removesuffix(".state")
            files = [self.work / name for name in {*before, *wanted}]
            if not any(named == each or named in each.parents for each in files):
                lost.append(f"names no file: {lines[0]}")
        left = [name for name in files_of(self.work) if name not in before and name not in wanted]
        return lost + [
            f"leaves {name}" for name in left if not name.endswith(".state")
        ]  # a run goes on with its state

    def _goes_on(self, wanted: Files) -> list[str]:
        whole = _without_locks(files_of(self.work)) == _without_locks(wanted)
        ended = self.go()
        refused = whole and "exists" in ended.said and not self.scenario.says_done  # killed behind its last deed
        if ended.code and not refused:
            return [f"the same command ends with {ended.code}: {ended.said[-300:]}"]
        now = files_of(self.work)
        return [
            f"{name} {'is left' if name not in wanted else 'is missing' if name not in now else 'differs'}"
            for name in sorted({*now, *wanted})
            if now.get(name) != wanted.get(name)
        ]

    def replaced(self, way: str, at: int, wanted: Files) -> tuple[str, list[str]]:
        """('refused', or which version came out; what was lost) when an input is replaced before the at-th read."""
        self.fresh()
        target, other = self.work / self.scenario.watched, self.work / "other" / self.scenario.watched
        original = target.read_bytes()
        ended = self.go("swap", at, watched=str(target), swap=partial(REPLACED[way], target, other))
        lost, outcome = [], "refused"
        if ended.code == 0:
            found = {name: data for name, data in files_of(self.work).items() if name != self.scenario.watched}
            versions = {"first": wanted, "second": self.of_other()}
            fits = [
                name for name, files in versions.items()
                if all(files.get(each) == data for each, data in found.items() if not each.startswith("other/"))
            ]  # fmt: skip
            outcome = fits[0] if fits else "neither"
            lost += [] if fits else ["neither version came out"]
        elif "Traceback" in ended.said or ended.said.count("error: ") != 1 or ended.code < 0:
            lost.append(f"{ended.code}, said {ended.said[-300:]!r}")
        target.unlink(missing_ok=True)
        target.write_bytes(original)
        for name in self.scenario.made:
            path = self.work / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return outcome, lost + self._goes_on(wanted)

    _other: Files | None = None

    def of_other(self) -> Files:
        """What the second version of the input gives."""
        if self._other is None:
            kept = self.work.with_name("kept")
            self.work.rename(kept)
            self.fresh()
            shutil.copyfile(self.work / "other" / self.scenario.watched, self.work / self.scenario.watched)
            ended = self.go()
            if ended.code:
                raise SystemExit(f"{self.scenario.name} fails on its second version: {ended.said}")
            self._other = files_of(self.work)
            shutil.rmtree(self.work)
            kept.rename(self.work)
        return {name: data for name, data in self._other.items() if name != self.scenario.watched}


def spread(n: int, most: int) -> list[int]:
    """At most `most` of 0..n-1, evenly spread, the ends among them."""
    return list(range(n)) if n <= most else sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})


def measure(
    names: Sequence[str], most: int, folder: Path, say: Callable[[str], None], keep: Path | None = None
) -> list[dict[str, Any]]:
    """One row for each scenario. `keep`: a folder of the rows that are done, which a second call goes on from."""
    rows = []
    for scenario in SCENARIOS:
        if names and scenario.name not in names:
            continue
        place = folder / scenario.name.replace(" ", "-").replace(":", "")
        kept = None if keep is None else keep / f"{place.name}-{most}.json"
        if kept is not None and kept.exists():
            rows.append(json.loads(kept.read_text()))
            continue
        bench = Bench(scenario, place / "template", place / "work")
        prepare(scenario, bench.template, partial(run, layer=Layer("/nowhere")))
        wanted, ended = bench.undisturbed()
        twice = [] if bench.undisturbed()[0] == wanted else ["two undisturbed runs differ"]
        row: dict[str, Any] = {"scenario": scenario.name, "command": " ".join(scenario.command)}
        if scenario.watched:
            bench.fresh()
            n_reads = bench.go(watched=str(bench.work / scenario.watched)).n_reads
            row |= {"reads": n_reads, "replaced": 0, "outcomes": Counter(), "losses": twice}
            for number, at in enumerate(spread(n_reads, min(most, MOMENTS * len(REPLACED)))):
                way = list(REPLACED)[number % len(REPLACED)]
                outcome, lost = bench.replaced(way, at, wanted)
                row["replaced"] += 1
                row["outcomes"][outcome] += 1
                row["losses"] += [f"{way} before read {at}: {each}" for each in lost]
        else:
            n = sum(ended.deeds.values())
            full = sum(ended.deeds[deed] for deed in ("create", "write", "mkdir"))
            points = {"kill": spread(n, most), "full": spread(full, most)}
            row |= {"deeds": {deed: ended.deeds[deed] for deed in COUNTED if ended.deeds[deed]}, "losses": twice}
            for fault, where in points.items():
                row[fault] = len(where)
                for at in where:
                    row["losses"] += [f"{fault} at {at}: {each}" for each in bench.struck(fault, at, wanted)]
        rows.append(row)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_file(kept, json.dumps(row).encode())
        say(f"{scenario.name}: {json.dumps({k: v for k, v in row.items() if k != 'losses'})}")
        for loss in row["losses"]:
            say(f"  LOSS {loss}")
        shutil.rmtree(place)
    return rows


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    struck = [row for row in rows if "kill" in row]
    swapped = [row for row in rows if "replaced" in row]
    n = sum(row["kill"] + row["full"] for row in struck) + sum(row["replaced"] for row in swapped)
    lines = [
        "# Faults, one at each deed",
        "",
        f"{n:,} runs that were struck, {sum(len(row['losses']) for row in rows)} losses. `make bench-faults`; what "
        "counts as a loss stands in `tests/bench/faults.py`. A deed is what a command does to its folder: open to "
        "write, write, fsync, rename, unlink, mkdir, truncate; struck in the middle where it is a write. Where a "
        "command has more deeds than were struck, these are evenly spread.",
        "",
        "| command | deeds | kill -9 | full disk | losses |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {row['scenario']} | {sum(row['deeds'].values())} | {row['kill']} | {row['full']} | "
            f"{len(row['losses'])} |"
            for row in struck
        ),
        "",
        "An input replaced by another of the same shape, overwritten in place, and cut, in turn, before reads that "
        "are evenly spread; then the same command on the first version again, with the cache of the disturbed run.",
        "",
        "| command | reads | replaced | refused | first version | second version | losses |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {row['scenario']} | {row['reads']} | {row['replaced']} | "
            + " | ".join(str(row["outcomes"].get(name, 0)) for name in ("refused", "first", "second"))
            + f" | {len(row['losses'])} |"
            for row in swapped
        ),
    ]
    measured = {row["scenario"] for row in rows}
    if left_out := [scenario.name for scenario in SCENARIOS if scenario.name not in measured]:
        lines += ["", f"Not in this run: {', '.join(left_out)}."]
    losses = [f"* {row['scenario']}: {loss}" for row in rows for loss in row["losses"]]
    return "\n".join([*lines, *(["", *losses] if losses else []), ""])


def load_everything() -> None:
    """Import what commands import when they need it, once for all forks."""
    import pgpack_cli

    import pgpack
    import pgtrain

    for name in LAZY:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    for package in (pgpack, pgtrain, pgpack_cli):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(found.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="names; none for all")
    parser.add_argument("--most", type=int, default=60, help="deeds of a command that are struck")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", type=Path, help="folder of what is done, which a second call goes on from")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args()
    load_everything()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        rows = measure(asked.scenarios, asked.most, Path(folder).resolve(), partial(print, flush=True), asked.keep)
    if asked.json:
        asked.json.write_text(json.dumps({"most": asked.most, "rows": rows}, indent=1) + "\n")
    if asked.markdown:
        asked.markdown.write_text(page(rows))
    if asked.keep is not None:  # the next call begins anew
        shutil.rmtree(asked.keep, ignore_errors=True)


if __name__ == "__main__":
    main()
