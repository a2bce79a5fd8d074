"""`make bench`: packing at the record's size. Time, memory and bytes of every field preset and of every codec.

    record_stack --two files--> pgpack pack (one process per row) --artifact--> decode (another process)

Each row is what a user runs, `pgpack pack ... --calibration FILE`; its peak memory is the kernel's own figure for
that process and the programs it starts. The round trip is verified before anything is timed: `pack` compares all
symbols, and the decoding process must find the packer's digest of the weights. This module stays small (no torch, no
data), because a child's peak starts at its parent's size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pgpack.recipe.dials import step_recipe, trellis_recipe
from pgpack.recipe.presets import PRESETS
from tests.bench.record_stack import record_shapes, scaled

PEAK_GOAL, DECODE_GOAL_S = 3.0, 5.0
STEP = 12.85 / 31  # of int6 at 12.85 sigma
EMBEDDING_RATIO = (20 / 127) / STEP  # int8 at 20 sigma
TRELLIS_STEP, TRELLIS_STATES = 5e-4, (8, 64)  # about as many bytes
CODINGS = {
    "rans": "rans",
    "brotli-11": "brotli(quality=11)",
    "zstd-19": "zstd(level=19)",
    "zstd-22": "zstd(level=22)",
    "lzma-6": "lzma(preset=6)",
    "bitpack-zlib-9": "bitpack|zlib(level=9)",
    "zlib-9": "zlib(level=9)",
    "bz2-9": "bz2(level=9)",
    "lrzip-9": "lrzip(level=9)",
}
ON_REQUEST = ("gptq+lrzip-9",)  # ten minutes, and `pergroup-lrzip` shows what lrzip costs; --only lrzip measures it
VERSIONS = ("pgpack", "numpy", "scipy", "brotli", "zstandard", "safetensors")

Row = dict[str, Any]


class Failed(Exception):
    """A measured process ended with an error; its message is the last line it wrote."""


def measured(command: Sequence[str]) -> tuple[Row, int, float]:
    """(its JSON, peak memory in bytes, processor seconds) of a Python program and the programs it starts."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([sys.executable, *command], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise Failed((err.read().strip().splitlines() or [f"exit code {process.returncode}"])[-1])
        unit = 1 if sys.platform == "darwin" else 1024
        return json.loads(out.read()), usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime


def plans(scale: float) -> dict[str, tuple[list[str], str]]:
    """Row name -> (recipe flags of `pgpack pack`, the programs it needs)."""
    tensors = record_shapes(*scaled(scale))
    found = {
        f"tcq-{states}+rans_scaled": (["--recipe", str(trellis_recipe(TRELLIS_STEP, states, tensors))], "")
        for states in TRELLIS_STATES
    }
    for name, coding in CODINGS.items():
        recipe = str(step_recipe(STEP, EMBEDDING_RATIO, coding, tensors))
        found[f"gptq+{name}"] = (["--recipe", recipe], "lrzip" if "lrzip" in coding else "")
    for name, preset in PRESETS.items():  # the slowest comes last
        found[name] = (["--preset", name], " ".join(preset.requires))
    return found


def bench_row(name: str, flags: list[str], folder: Path) -> Row:
    """Pack, verify, decode. Units: bytes, seconds; peaks in bytes."""
    out = folder / f"{name}.pgpack"
    calibration = ["--calibration", str(folder / "calibration.safetensors")]
    checkpoint = folder / "checkpoint.safetensors"
    load = round(os.getloadavg()[0], 1)
    where = [*calibration, "-o", str(out), "--no-cache", "--json", "-q"]
    packed, pack_peak, cpu_s = measured(["-m", "pgpack_cli.pgpack_app", "pack", str(checkpoint), *flags, *where])
    decoded, decode_peak, _ = measured(["-m", "tests.bench.decode", str(out), packed["weights_digest"]])
    n_bytes = out.stat().st_size
    out.unlink()
    return {
        "name": name,
        "recipe": packed["recipe"],
        "n_bytes": n_bytes,
        "bits_per_weight": packed["bits_per_weight"],
        "quantize_s": packed["quantize_s"],
        "encode_s": packed["encode_s"],
        "decode_s": decoded["decode_s"],
        "decode_repeats": decoded["repeats"],
        "pack_cpu_s": cpu_s,
        "load": load,
        "pack_peak": pack_peak,
        "decode_peak": decode_peak,
        "weights_digest": packed["weights_digest"],
    }


def run(folder: Path, scale: float, only: Sequence[str]) -> Iterator[Row]:
    """The document after each row; a row that cannot be measured holds its error."""
    files = [str(folder / "checkpoint.safetensors"), str(folder / "calibration.safetensors")]
    subprocess.run([sys.executable, "-m", "tests.bench.record_stack", *files, "--scale", str(scale)], check=True)
    n_bytes = Path(files[0]).stat().st_size
    rows = []
    host = machine()
    for name, (flags, program) in plans(scale).items():
        if name in ON_REQUEST if not only else not any(part in name for part in only):
            continue
        if program and not shutil.which(program):
            rows.append({"name": name, "error": f"needs the program {program}"})
        else:
            try:
                rows.append(bench_row(name, flags, folder))
            except Failed as failure:
                rows.append({"name": name, "error": str(failure)})
        print(table_line(rows[-1], n_bytes), file=sys.stderr, flush=True)
        yield {"fp32_n_bytes": n_bytes, "scale": scale, "machine": host, "rows": rows}


def machine() -> Row:
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


HEAD = """| recipe | bytes | bits/weight | quantize s | encode s | cpu s | decode s | pack peak | decode peak |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def table_line(row: Row, fp32: int) -> str:
    """One line of the Markdown table."""
    if "error" in row:
        return f"| {row['name']} | not measured: {row['error']} | | | | | | | |"
    return (
        f"| {row['name']} | {row['n_bytes']:,} | {row['bits_per_weight']:.3f} | {row['quantize_s']:.1f} "
        f"| {row['encode_s']:.1f} | {row['pack_cpu_s']:.1f} | {row['decode_s']:.2f} | {row['pack_peak'] / fp32:.2f}x "
        f"| {row['decode_peak'] / fp32:.2f}x |"
    )


def goals(rows: Sequence[Row], fp32: int) -> list[str]:
    """The two goals, each with the rows that miss it."""
    done = [row for row in rows if "error" not in row]
    heavy = [f"{r['name']} {r['pack_peak'] / fp32:.2f}x" for r in done if r["pack_peak"] > PEAK_GOAL * fp32]
    slow = [f"{r['name']} {r['decode_s']:.1f} s" for r in done if r["decode_s"] > DECODE_GOAL_S]
    return [
        f"* peak memory of `pack` at most {PEAK_GOAL:g}x the fp32 checkpoint: "
        + (f"missed by {', '.join(heavy)}" if heavy else "met by every row"),
        f"* decoding in at most {DECODE_GOAL_S:g} s: "
        + (f"missed by {', '.join(slow)}" if slow else "met by every row"),
    ]


def _loads(rows: Sequence[Row]) -> str:
    found = [row["load"] for row in rows if "load" in row]
    return f"{min(found):g} to {max(found):g}" if found else "unknown"


def markdown(document: Row) -> str:
    """The page that `--markdown` writes."""
    rows, fp32, host = document["rows"], document["fp32_n_bytes"], document["machine"]
    layers, vocabulary = scaled(document["scale"])
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    used = [f"* {row['name']}: `{row['recipe']}`" for row in rows if "recipe" in row]
    return "\n".join(
        [
            f"# Packing {fp32 / 4e6:.1f} M parameters",
            "",
            f"Written by `make bench`. {layers} layers of {record_shapes()['skip_weights'][1]}, vocabulary "
            f"{vocabulary:,}, synthetic weights and Hessians; {fp32:,} B as fp32.",
            f"{host['cpu']}, {host['cores']} cores, {host['system']}; {versions}.",
            f"Load of the machine when each row began: {_loads(rows)}.",
            "",
            "Each row is `pgpack pack` in a process of its own, verified, then decoded in another. Quantizing and",
            "encoding are wall seconds, quantizing includes reading weights and Hessians; cpu is all processor time",
            "of the pack. Decoding is bytes to all float32 tensors, best of 3 (once where it takes 20 s). Peaks are",
            "resident memory of the process over the size of the fp32 checkpoint.",
            "",
            HEAD,
            *(table_line(row, fp32) for row in rows),
            "",
            *goals(rows, fp32),
            "",
            "Recipes:",
            "",
            *used,
            "",
        ]
    )


def main() -> None:
    """Print the table; write JSON and Markdown where asked."""
    parser = argparse.ArgumentParser(description="Time, memory and bytes of packing 36 M parameters.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows whose name contains one of these")
    parser.add_argument("--scale", type=float, default=1.0, help="of layers and vocabulary; 0.1 takes a minute")
    given = parser.parse_args()
    page = "no row has such a name"
    with tempfile.TemporaryDirectory(prefix="pgpack-bench-") as folder:
        for document in run(Path(folder), given.scale, given.only):
            page = markdown(document)
            if given.json:
                given.json.write_text(json.dumps(document, indent=2) + "\n")
            if given.markdown:
                given.markdown.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
