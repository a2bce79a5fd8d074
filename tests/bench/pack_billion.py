"""`make bench-billion`: a model of 1.1 B values packed without text. Peak memory, time and bytes of the engine.

    random weights in the shapes of TinyLlama, bf16, four shards --pgpack pack, no text--> artifact

What `pack` may hold is symbols of a byte each and the encoded bytes; of weights one tensor's at a time, never the
model's. The goals are those of a machine of two cores. Weights are made here, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pgpack.checkpoint.writing import Outgoing, write_safetensors
from tests.bench.pack_36m import measured

PEAK_GOAL, WALL_GOAL_S = 3e9, 1200.0
STEP, STATES, SHARDS = 1e-4, 8, 4
LAYERS, WIDTH, HIDDEN, KEYS, VOCABULARY = 22, 2048, 5632, 256, 32_000


def llama_shapes(scale: float = 1.0) -> dict[str, tuple[int, ...]]:
    """Names and shapes of TinyLlama; `scale` shrinks widths and vocabulary."""
    width, hidden, keys, vocabulary = (max(8, int(scale * n)) for n in (WIDTH, HIDDEN, KEYS, VOCABULARY))
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for layer in range(LAYERS):
        shapes = {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (hidden, width),
            "mlp.up_proj": (hidden, width),
            "mlp.down_proj": (width, hidden),
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}
    return found | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def write_model(folder: Path, scale: float = 1.0) -> int:
    """A folder of SHARDS bf16 files and their index, as models are published; the number of its values."""
    shapes = llama_shapes(scale)
    weight_map: dict[str, str] = {}
    per_shard = -(-len(shapes) // SHARDS)
    for number in range(SHARDS):
        names = list(shapes)[number * per_shard : (number + 1) * per_shard]
        file = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        write_safetensors(folder / file, list(_tensors(names, shapes)), {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sum(math.prod(shape) for shape in shapes.values())


def _tensors(names: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> Iterator[Outgoing]:
    for name in names:
        shape, seed = shapes[name], list(shapes).index(name)

        def values(shape: tuple[int, ...] = shape, seed: int = seed) -> Any:
            normal = np.random.default_rng(seed).standard_normal(shape, np.float32)
            return normal * np.float32(0.02) if len(shape) > 1 else np.ones(shape, np.float32)

        yield Outgoing(name, shape, "BF16", values)


def bench(folder: Path, scale: float) -> dict[str, Any]:
    """Pack; the round trip is compared within. Units: bytes, seconds; `cpu_s` of all threads."""
    n_values = write_model(folder, scale)
    recipe = f"ndim<=1=cast; *=tcq(step={STEP},states={STATES})|rans_scaled(states={STATES})"
    out, load = folder / "model.pgpack", os.getloadavg()[0]
    where = ["--recipe", recipe, "-o", str(out), "--no-cache", "--json", "-q"]
    packed, peak, cpu_s = measured(["-m", "cli.pgpack_app", "pack", str(folder), *where])
    return {
        "n_values": n_values,
        "recipe": recipe,
        "n_bytes": out.stat().st_size,
        "bits_per_weight": packed["bits_per_weight"],
        "quantize_s": packed["quantize_s"],
        "encode_s": packed["encode_s"],
        "decode_s": packed["decode_s"],
        "cpu_s": cpu_s,
        "peak_bytes": peak,
        "load": round(load, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def page(row: dict[str, Any]) -> str:
    """The result for people."""
    wall = row["quantize_s"] + row["encode_s"] + row["decode_s"]
    return (
        f"# {row['n_values'] / 1e9:.2f} B values packed without text\n\n"
        f"`make bench-billion` on {row['machine']}, load {row['load']} before it; `{row['recipe']}`.\n\n"
        "| | measured | goal |\n|---|---:|---:|\n"
        f"| peak memory | {row['peak_bytes'] / 1e9:.2f} GB | {PEAK_GOAL / 1e9:g} GB |\n"
        f"| quantize, encode, decode and compare | {wall:.0f} s | {WALL_GOAL_S:g} s |\n"
        f"| processor time | {row['cpu_s']:.0f} s | |\n"
        f"| artifact | {row['n_bytes']:,} B, {row['bits_per_weight']:.3f} bits per weight | |\n"
    )


def main() -> None:
    """Parse the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--folder", type=Path, help="where the 2.2 GB model is written")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        row = bench(Path(folder), flags.scale)
    if flags.json:
        flags.json.write_text(json.dumps(row, indent=1) + "\n")
    if flags.markdown:
        flags.markdown.write_text(page(row))
    print(page(row))


if __name__ == "__main__":
    main()
