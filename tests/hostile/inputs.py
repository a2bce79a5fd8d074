"""Strange checkpoints, folders and texts, one from each number: `made(seed, folder)` writes it.

    a whole checkpoint or text --structure, header, bytes changed at random--> what a user may hand in

Structure before bytes: names, shapes, dtypes, nesting, aliases, sizes in headers, empty, huge claims, cut files.
Nothing here can harm a reader that falls for it: claims of sizes are claims alone, and no case takes 64 KiB on disk.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pgpack.text.sentence_piece import train_tokenizer

VOCABULARY, WIDTH = 300, 8
SEQ_LEN = 16
ADAPTER = """import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, state):
        super().__init__()
        rows, width = state["emb.weight"].shape
        self.emb, self.head = nn.Embedding(rows, width), nn.Linear(width, rows, bias=False)
        self.load_state_dict(state, strict=False)

    def forward(self, ids):
        return self.head(self.emb(ids))


def build(state):
    return Model(state)
"""
NAMES = (
    "", " ", ".", "..", "../x", "/etc/passwd", "a/b", "a\nb", "\0", "x" * 300, "\u2581", "\udcff", "emb.weight ", "*",
    "emb.*", "__metadata__", "1", "-", "--key", "a=b|c;d", "'", '"', "\u202e", "module.emb.weight", "_orig_mod.a",
    "blocks.0.attn.c_q.weight", "qo_bank", "tok_emb.weight",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    -1, 0, 1, 2, 255, 1 << 16, 1 << 31, 1 << 32, 1 << 53, 1 << 62, 1 << 63, 1 << 64, -(1 << 63), 1e308, 0.5,
    float("nan"), None, "", "8", True, [], {}, [8],
)  # fmt: skip
SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (1,),
    (0, 3),
    (3, 0),
    (1, 1),
    (2, 3, 4),
    (1,) * 9,
    (5, 1),
    (64,),
    (7, 13),
)
SAFE_DTYPES = (
    "F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL", "C64", "F8_E4M3",
    "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F12", "", None, 7,
)  # fmt: skip
TORCH_DTYPES = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool,
    torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.complex128, torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e8m0fnu,
)  # fmt: skip
SPECIAL = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-40, 65504.0, 65520.0, 1e6, 0.0, -0.0)


@dataclass(frozen=True)
class Made:
    """A case: the file or folder to open, and the flags that say its text. `kind`: how it was made."""

    kind: str
    checkpoint: Path
    text: tuple[str, ...]


@cache
def tokenizer_bytes() -> bytes:
    """A small tokenizer; equal every time."""
    words = [f"word{i % 97} and {i} more of them, said nobody {i * i}\n" for i in range(400)]
    return train_tokenizer(words, VOCABULARY).model


def state(rng: random.Random) -> dict[str, torch.Tensor]:
    """What the adapter runs."""
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    shape = (VOCABULARY, WIDTH)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name in ("emb.weight", "head.weight")}


def strange_tensor(rng: random.Random) -> torch.Tensor:  # noqa: PLR0911  a kind a line
    """Any shape, dtype, values, strides."""
    shape = rng.choice(SHAPES)
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(rng.randrange(1 << 30)))
    if tensor.numel() and rng.random() < 0.3:
        tensor.reshape(-1)[rng.randrange(tensor.numel())] = rng.choice(SPECIAL)
    elif rng.random() < 0.2:
        tensor = torch.full(shape, rng.choice(SPECIAL))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = tensor.to(rng.choice(TORCH_DTYPES))
    kind = rng.random()
    if kind < 0.1 and tensor.ndim > 1:
        return tensor.t() if tensor.ndim == 2 else tensor.transpose(0, -1)
    if kind < 0.15 and tensor.numel() and tensor.ndim:
        return tensor[..., :1].expand(*tensor.shape[:-1], 4)
    if kind < 0.2:
        return torch.nn.Parameter(tensor, requires_grad=False)
    if kind < 0.23 and tensor.dtype == torch.float32:
        return tensor.to_sparse()
    if kind < 0.26:
        return tensor.to("meta")
    if kind < 0.3 and tensor.dtype == torch.float32:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.quantize_per_tensor(tensor.nan_to_num(0, 1, -1), 0.1, 0, torch.qint8)
    return tensor


def strange_value(rng: random.Random, depth: int = 0) -> Any:
    """What may lie beside tensors in a torch file."""
    if depth < 4 and rng.random() < 0.4:
        inner = [strange_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        kind = rng.randrange(3)
        keys = [rng.choice((rng.choice(NAMES), rng.randrange(9), None, 1.5, True, b"x", (1, 2))) for _ in inner]
        return dict(zip(keys, inner, strict=True)) if kind else tuple(inner) if rng.random() < 0.5 else inner
    plain = (None, True, 1, -1.5, "text", b"bytes", 1 << 70, np.float64(1.5), np.int64(3), np.arange(3), {1, 2}, 1j)
    return strange_tensor(rng) if rng.random() < 0.4 else rng.choice(plain)


def strange_state(rng: random.Random) -> Any:
    """A state dict of which something is odd: an entry, a name, a wrapper, a second one, an alias."""
    found: dict[Any, Any] = dict(state(rng))
    for _ in range(rng.randrange(3)):
        name: Any = rng.choice((rng.choice(NAMES), f"t{rng.randrange(5)}", rng.randrange(3), "bias"))
        found[name] = strange_tensor(rng) if rng.random() < 0.75 else strange_value(rng)
    if rng.random() < 0.2:
        found[rng.choice(NAMES)] = found[rng.choice(list(found))]
    if rng.random() < 0.1:
        del found[rng.choice(list(found))]
    if rng.random() < 0.1:
        found["emb.weight"] = strange_tensor(rng)
    for _ in range(rng.randrange(3)):
        wrapped: dict[Any, Any] = {rng.choice(("model", "state_dict", "module", "ema", "x", 1, "")): found}
        for _ in range(rng.randrange(3)):
            wrapped[rng.choice(("optimizer", "ema", "step", "args", rng.choice(NAMES)))] = strange_value(rng)
        found = wrapped if rng.random() < 0.6 else found
    return found


def saved(value: Any, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def torch_file(rng: random.Random) -> bytes:
    """A torch file of a strange value; small ones of a whole one where torch itself cannot save the value."""
    value = strange_state(rng) if rng.random() < 0.9 else strange_value(rng)
    try:
        return saved(value, rng.random() < 0.85)
    except Exception:  # noqa: BLE001  torch saves not everything that it can hold
        return saved(state(rng), True)


def damaged_torch_file(rng: random.Random) -> bytes:
    """A torch file whose pickle or another entry is damaged behind a right zip, or whose zip is damaged."""
    data = torch_file(rng)
    if rng.random() < 0.3 or not data.startswith(b"PK"):
        return damaged(data, rng)
    source = zipfile.ZipFile(io.BytesIO(data))
    names = [entry.filename for entry in source.infolist()]
    chosen = rng.choice([*names, *[name for name in names if name.endswith("data.pkl")] * len(names)])
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as target:
        for name in names:
            if name == chosen and rng.random() < 0.1:
                continue
            target.writestr(name, damaged(source.read(name), rng) if name == chosen else source.read(name))
    return buffer.getvalue()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bits turned, bytes put in, taken out, doubled; cut; something behind; nothing left."""
    found = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(found) + 1)
        kind = rng.randrange(8)
        if kind == 0:
            del found[at:]
        elif kind == 1:
            found += rng.randbytes(rng.randrange(1, 40))
        elif kind == 2:
            del found[at : at + rng.randrange(1, 40)]
        elif kind == 3:
            found[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 4 and len(found) >= 8:
            at = rng.randrange(len(found) - 7)
            found[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 255, 1 << 31, 1 << 32, 1 << 62, (1 << 64) - 1)))
        elif at < len(found):
            found[at] ^= 1 << rng.randrange(8)
    return b"" if rng.random() < 0.01 else bytes(found)


def safetensors_file(rng: random.Random) -> bytes:
    """A safetensors file by hand, with something odd in its header or its body."""
    header: dict[str, Any] = {}
    body = b""
    for name, tensor in state(rng).items():
        raw = tensor.numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    for _ in range(rng.randrange(4)):
        dtype, shape = rng.choice(SAFE_DTYPES), list(rng.choice(SHAPES))
        n_bytes = int(np.prod(shape)) * {"F32": 4, "I32": 4, "U32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8}.get(
            str(dtype), 2
        )
        if dtype in ("I8", "U8", "BOOL") or str(dtype).startswith("F8"):
            n_bytes //= 2
        header[rng.choice((*NAMES, "t0", "t1"))] = {
            "dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + n_bytes],
        }  # fmt: skip
        body += rng.choice((bytes(n_bytes), rng.randbytes(n_bytes)))
    if rng.random() < 0.3:
        header["__metadata__"] = rng.choice(
            ({"format": "pt"}, {"head.weight": "emb.weight", "tied": "emb.weight"}, {"a": 1}, {"model_config": "{}"},
             {"model_config": '{"n_layers": -1}'}, {"data_defaults": "[]"}, {"data_defaults": "{}"},
             {"a": "b" * 9999},
             [], "x",
             {"data_defaults": json.dumps({"val": "../*", "calib": "x", "tokenizer": "y", "seq_len": 1 << 40})},
             {"data_defaults": json.dumps({"val": None, "calib": [], "tokenizer": "", "seq_len": "8"})})
        )  # fmt: skip
    if rng.random() < 0.4:
        entry = header[rng.choice(list(header))]
        if isinstance(entry, dict) and "shape" in entry:
            at = rng.choice(("dtype", "shape", "data_offsets", "extra"))
            if at == "shape" and entry["shape"] and rng.random() < 0.7:
                entry["shape"][rng.randrange(len(entry["shape"]))] = rng.choice(NUMBERS)
            elif at == "data_offsets" and rng.random() < 0.7:
                entry[at][rng.randrange(2)] = rng.choice(NUMBERS)
            else:
                entry[at] = rng.choice(NUMBERS)
    text = json.dumps(header, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
    length = len(text) if rng.random() < 0.95 else rng.choice((0, 1, len(text) - 1, 1 << 30, 1 << 62, (1 << 64) - 1))
    whole = struct.pack("<Q", length) + text + body
    return damaged(whole, rng) if rng.random() < 0.15 else whole


def plain_safetensors(tensors: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save(tensors)


def model_folder(rng: random.Random, folder: Path) -> Path:
    """A model folder or the shards of an index: files that are missing, stale, of another kind, or pipes."""
    folder.mkdir()
    tensors = state(rng)
    parts = {f"model-0000{i}-of-00002.safetensors": {name: tensors[name]} for i, name in enumerate(tensors, 1)}
    if rng.random() < 0.7:
        for file, part in parts.items():
            data = plain_safetensors(part)
            (folder / file).write_bytes(damaged(data, rng) if rng.random() < 0.1 else data)
        weight_map: Any = {name: file for file, part in parts.items() for name in part}
        for _ in range(rng.randrange(3)):
            weight_map[rng.choice((*weight_map, *NAMES))] = rng.choice(
                (*parts, *NUMBERS, "../m.py", "absent", ".", "x.json")
            )
        if rng.random() < 0.2:
            weight_map.pop(rng.choice(list(weight_map)))
        index = {
            "metadata": {"total_size": rng.choice(NUMBERS)},
            "weight_map": rng.choice((weight_map, weight_map, [], 1)),
        }
        text = json.dumps(index).encode()
        (folder / "model.safetensors.index.json").write_bytes(damaged(text, rng) if rng.random() < 0.1 else text)
    else:
        name = rng.choice(("model.safetensors", "pytorch_model.bin", "x.bin", "a.gguf", "adapter_model.safetensors"))
        (folder / name).write_bytes(rng.choice((safetensors_file, torch_file, damaged_torch_file))(rng))
    if rng.random() < 0.7:
        architecture = rng.choice((["LlamaForCausalLM"], ["GPT2LMHeadModel"], [], None, "x", [1]))
        config = {"architectures": architecture, "model_type": rng.choice(("llama", "gpt2", "", None, 7)),
                  "vocab_size": rng.choice(NUMBERS[:12]), "hidden_size": rng.choice(NUMBERS[:8]),
                  "quantization_config": rng.choice((None, {}, {"quant_method": "fp8"}, 3)),
                  "tie_word_embeddings": rng.choice((True, False, None, "x"))}  # fmt: skip
        text = json.dumps(rng.choice((config, config, [], None, 3))).encode()
        (folder / "config.json").write_bytes(damaged(text, rng) if rng.random() < 0.2 else text)
    for name in ("tokenizer.json", "adapter_config.json", "tokenizer_config.json"):
        if rng.random() < 0.15:
            (folder / name).write_bytes(damaged(json.dumps({"model": {"type": "BPE", "vocab": {}}}).encode(), rng))
    kind = rng.randrange(20)
    if kind == 0:
        os.mkfifo(folder / "model.bin")
    elif kind == 1:
        (folder / "pytorch_model.bin").unlink(missing_ok=True)
        (folder / "pytorch_model.bin").symlink_to(folder / "absent")
    elif kind == 2:
        (folder / "model.safetensors").unlink(missing_ok=True)
        (folder / "model.safetensors").symlink_to(folder)
    return folder


def shard(tokens: np.ndarray, version: int = 1) -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, version, len(tokens)
    return header.tobytes() + tokens.astype("<u2" if version == 1 else "<u4").tobytes()


def good_tokens(n: int = 400) -> np.ndarray:
    from pgpack.text.sentence_piece import SentencePiece

    pieces = SentencePiece(tokenizer_bytes(), "the tokenizer")
    text = " ".join(f"word{i % 97} and {i} more of them" for i in range(200))
    return np.resize(pieces.encode(text).tokens, n)


def text_flags(rng: random.Random, folder: Path, strange: bool) -> tuple[str, ...]:
    """The flags of a text in `folder`; a strange one where asked for."""
    tokenizer, val = tokenizer_bytes(), shard(good_tokens())
    name = "val.bin"
    if strange:
        kind = rng.randrange(8)
        if kind == 0:
            tokenizer = damaged(tokenizer, rng)
        elif kind == 1:
            tokenizer = rng.choice((b"", b"{}", b'{"model": {"type": "BPE"}}', b"[]", rng.randbytes(300)))
        elif kind == 2:
            val = damaged(val, rng)
        elif kind == 3:
            top = rng.choice((VOCABULARY, VOCABULARY + 1, 1 << 16))
            n = rng.choice((0, 1, 15, 16, 17, 18, 100, 1000))
            val = shard(np.random.default_rng(rng.randrange(1 << 30)).integers(0, top, n), rng.choice((1, 1, 2, 3)))
        else:
            name = rng.choice(("t.txt", "t.jsonl", "t.parquet", "t.txt.gz", "t.jsonl.xz", "t.md", "t.txt.zst"))
            lines = b"\n".join(b'{"text": "a line of text number %d"}' % i for i in range(200))
            val = rng.choice(
                (lines, lines, b"", b"\xff\xfe\x00", b"one", rng.randbytes(500), b"\0" * 999, b"x" * 9000)
            )
            val = gzip.compress(val) if name.endswith("gz") and rng.random() < 0.8 else val
            val = damaged(val, rng) if rng.random() < 0.3 else val
    (folder / "t.model").write_bytes(tokenizer)
    (folder / name).write_bytes(val)
    return (
        "--val", str(folder / name), "--tokenizer", str(folder / "t.model"), "--seq-len", str(SEQ_LEN),
        "--max-tokens", "256", "--model", f"{folder / 'm.py'}:build",
    )  # fmt: skip


FILES: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "safetensors": ("a.safetensors", safetensors_file),
    "torch": ("a.pt", torch_file),
    "damaged torch": ("a.pt", damaged_torch_file),
}
KINDS = (*FILES, *FILES, "folder", "folder", "text", "text")


def made(seed: int, folder: Path) -> Made:
    """Writes case `seed` into `folder`, which is empty."""
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    (folder / "m.py").write_text(ADAPTER)
    if kind == "folder":
        checkpoint = model_folder(rng, folder / "model")
    elif kind == "text":
        checkpoint = folder / "a.safetensors"
        checkpoint.write_bytes(plain_safetensors(state(rng)))
    else:
        name, make = FILES[kind]
        checkpoint = folder / name
        checkpoint.write_bytes(make(rng))
    return Made(kind, checkpoint, text_flags(rng, folder, strange=kind == "text"))
