# ruff: noqa: E501  (scripts and log lines of the folders stand as they are written)
"""A small submission folder with the verdict that is right for it, and what such folders are made of.

`refused`: the named rule fails. `accepted`: no rule fails, and the named one has no warning. `flagged`: the named rule
fails or warns. `warned`: it warns and nothing fails. Standard library only.
"""

from __future__ import annotations

import io
import json
import math
import random
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WHOLE, TOKENS = 151_080_891, 40_540_160  # bytes of the whole validation text; tokens of it with 8,192 pieces
RATIO = WHOLE / TOKENS
BPB = 1.0812
MAIN = "import torch\n\n\ndef main():\n    print('train')\n\n\nif __name__ == '__main__':\n    main()\n"
FAULTS = (
    "import pickle, urllib.request\nimport torch\nurllib.request.urlopen('http://example.org/w.bin')\n"
    "x = pickle.load(open('w', 'rb'))\nm = torch.nn.Linear(1, 1)\nm.load_state_dict(x, strict=False)\n"
)
FILLER = "\n".join(f"X{i} = {i}" for i in range(14)) + "\n"


@dataclass(frozen=True)
class Case:
    """One folder. `files` stand beside or in place of the good folder's; None takes one away."""

    rule: str
    verdict: str
    script: str | bytes = MAIN
    claims: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    words: str = ""

    def write(self, folder: Path) -> Path:
        """The folder on disk."""
        card = {"author": "A", "github_id": "a", "name": "n", "date": "2026-01-01", "track": "10min_16mb"}
        claims = {**card, "val_bpb": BPB, **self.claims}
        files: dict[str, str | bytes | None] = {
            "submission.json": json.dumps(claims, indent=1),
            "README.md": f"# n\n\nval_bpb {claims['val_bpb']}\n",
            "train_gpt.py": self.script,
            "train.log": log(claims["val_bpb"]),
            **self.files,
        }
        for name, data in files.items():
            if data is not None:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return folder


def nats(bpb: float, ratio: float = RATIO) -> float:
    return bpb * math.log(2) * ratio


def log(
    bpb: float, seed: int = 42, total: int = 15_900_000, tokens: int = TOKENS, ratio: float = RATIO, more: str = ""
) -> str:
    """A log as the field's scripts write it."""
    return (
        f"seed: {seed}\nval_tokens: {tokens}\n{more}"
        f"100/100 val_loss: {nats(bpb - 0.01, ratio):.4f} val_bpb: {bpb - 0.01:.4f}\ntrain_time: 580000ms\n"
        f"Serialized model quantized+brotli: {total - 20_000} bytes\nCode size: 20000 bytes\n"
        f"Total submission size quantized+brotli: {total} bytes\n"
        f"quantized val_loss:{nats(bpb, ratio):.8f} val_bpb:{bpb:.8f} eval_time:100ms\n"
    )


def noise(n: int) -> bytes:
    return random.Random(n).randbytes(n)


def zipped(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.py", text)
    return out.getvalue()


HELPERS = "X = 1\n" * 2000
PUT = (
    "import sys, types\n\ndef put(name, src):\n    m = types.ModuleType(name)\n    sys.modules[name] = m\n"
    "    exec(compile(src, name, 'exec'), m.__dict__)\n\n"
)
TTT = "import torch\n\ndef adapt(model, tokens):\n    for x in tokens:\n        loss = model(x)\n        loss.backward()\n\n"
