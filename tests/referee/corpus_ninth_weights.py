# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""Folders by somebody who had not read the referee: weights that are called something else, or are below every limit."""

from __future__ import annotations

import base64
import json
import math
import random
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from .folder_case import noise
from .real_script import SMALL, Batch, base, run_log

SC = base()


def rnd(n: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(n)


def b85(n: int, seed: int) -> str:
    return base64.b85encode(rnd(n, seed)).decode()


def png(payload: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 2380, 2380, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", payload) + chunk(b"IEND", b"")


def ninth_weights() -> Batch:
    b = Batch()
    art = b"x\x9c" + noise(15_958_000)

    def big(name: str, files: Mapping[str, str | bytes], **given: Any) -> None:
        b.case(f"nine_{name}", "refused", "cap", files=files, **given)

    big("w_parts_dat", {f"shards/p{i:02d}.dat": rnd(900_000, i) for i in range(19)})
    big(
        "w_readme_comment",
        {},
        readme="# n\n\nval_bpb 1.0812\n\n<!-- " + base64.b64encode(noise(13_000_000)).decode() + " -->\n",
    )
    big("w_log_tail", {}, logs={"train.log": run_log() + "dump: " + noise(8_600_000).hex() + "\n"})
    big("w_json_note", {}, js={"notes": base64.b85encode(noise(13_000_000)).decode()})
    big("w_hidden_dot", {".cache/blob": noise(17_000_000)})
    big("w_py_table", {"tables.py": "T = '" + base64.b85encode(noise(13_200_000)).decode() + "'\n"})
    big("w_png", {"loss.png": png(zlib.compress(noise(17_000_000), 0))})
    big(
        "w_jsonl",
        {
            "metrics.jsonl": "".join(
                json.dumps({"step": i, "v": base64.b64encode(rnd(120, i)).decode()}) + "\n" for i in range(90_000)
            )
        },
    )
    b.case(
        "nine_w_docstrings_below_limits",
        "flagged",
        "cap",
        files={
            "final_model.int6.ptz": art,
            **{
                f"lib/t{i}.py": '"""' + base64.b85encode(rnd(32_000, i)).decode().replace('"', "'") + '"""\n'
                for i in range(8)
            },
        },
        script=SMALL,
        logs={"train.log": run_log(model=15_950_000, code=200)},
    )
    b.case(
        "nine_w_comments_below_limits",
        "flagged",
        "cap",
        files={
            "final_model.int6.ptz": art,
            **{
                f"notes/n{i}.md": "\n".join(
                    "> " + base64.b64encode(rnd(54, 1000 * i + j)).decode() for j in range(900)
                )
                for i in range(4)
            },
        },
        script=SMALL,
        logs={"train.log": run_log(model=15_950_000, code=200)},
    )
    b.case(
        "nine_w_human_script",
        "accepted",
        "cap",
        files={"train_gpt_human.py": SC * 2, "RESULTS.md": "# Results\n\n" + "| a | b |\n" * 800},
    )
    b.case(
        "nine_w_metrics_csv",
        "accepted",
        "cap",
        files={"metrics.csv": "step,loss\n" + "".join(f"{i},{3 + math.sin(i):.6f}\n" for i in range(60_000))},
    )
    b.case(
        "nine_w_odds_and_ends",
        "accepted",
        "cap",
        files={
            "LICENSE": "MIT License\n" * 20,
            ".gitattributes": "*.log -diff\n",
            "run.sh": "#!/bin/bash\nset -e\nexport SEED=42\ntorchrun --standalone --nproc_per_node=8 train_gpt.py\n",
        },
    )
    b.case(
        "nine_w_kernel_cpp",
        "accepted",
        "cap",
        script=base(
            DEFS='def kernel():\n    from torch.utils.cpp_extension import load\n    return load(name="k", sources=[str(Path(__file__).with_name("kernel.cpp"))])\n'
        ),
        files={"kernel.cpp": "#include <torch/extension.h>\n" + "// fused expert\n" * 900},
    )
    b.case("nine_w_plot_png", "accepted", "cap", files={"loss.png": png(zlib.compress(bytes(2380 * 2380 * 3 // 40)))})

    # below every limit
    log = {"train.log": run_log(model=15_960_000, code=200)}
    for name, files in {
        "2w_many_short_literals": {
            f"tab{i}.py": "T = [\n" + "".join(f"    {b85(45, 1000 * i + j)!r},\n" for j in range(700)) + "]\n"
            for i in range(4)
        },
        "2w_int_lists": {f"grid{i}.py": "G = " + repr(list(rnd(14_000, 50 + i))) + "\n" for i in range(6)},
        "2w_hash_comments": {
            f"old/v{i}.py": "import torch\n" + "".join(f"# {b85(60, 1000 * i + j)}\n" for j in range(600))
            for i in range(3)
        },
    }.items():
        b.case(f"nine_{name}", "flagged", "cap", script=SMALL, files={"final_model.int6.ptz": art, **files}, logs=log)

    b.case(
        "nine_2x_artifact_over",
        "refused",
        "cap",
        files={"final_model.int6.ptz": noise(16_020_000)},
        logs={"train.log": run_log(model=15_900_000)},
    )
    b.case(
        "nine_w_base64_in_a_log",
        "flagged",
        "cap",
        files={"final_model.int6.ptz": art},
        logs={
            "train.log": run_log(model=15_958_002, code=200)
            + "".join(f"state: {base64.b64encode(rnd(90, i)).decode()}\n" for i in range(700))
        },
    )
    return b
