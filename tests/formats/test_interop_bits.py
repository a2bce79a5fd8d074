"""Ternary and binary containers decode to what their scripts would compute, whatever the codec and packing."""

from __future__ import annotations

import io
import lzma
import random

import brotli
import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpack.errors import FormatError
from pgpack.formats.field.torch_bits import records_of
from pgpack.formats.torch_files.stream import load
from pgpack.unpack import unpack
from tests.formats.reading import identify, read_field_artifact


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def grouped(weight, group):
    """(groups of the matrix with zeros filled in, padded width)."""
    matrix = weight.reshape(weight.shape[0], -1)
    fill = -matrix.shape[1] % group
    return torch.nn.functional.pad(matrix, (0, fill)).reshape(-1, group), matrix.shape[1] + fill


def described(weight, group, n, padded):
    shape = [weight.shape[0], weight.numel() // weight.shape[0]]
    names = {"shape": shape, "padded_cols": padded, "group_size": group, "orig_shape": list(weight.shape)}
    return names | n


def ternary_entry(weight, group, bitmask):
    """The entry of a matrix and the weights that a loader makes of it, symbol by symbol."""
    groups, padded = grouped(weight, group)
    scale = groups.abs().mean(1).half()
    symbols = torch.clamp(torch.round(groups / scale.float().clamp(min=1e-8)[:, None]), -1, 1).to(torch.int8).float()
    flat = symbols.reshape(-1).int().tolist()
    if bitmask:
        bits = [int(s != 0) for s in flat]
        signs = [int(s > 0) for s in flat if s]
        packed = b"".join(
            bytes(sum(b << (7 - i) for i, b in enumerate(part[at : at + 8])) for at in range(0, len(part), 8))
            for part in (bits, signs)
        )
    else:
        packed = bytes(sum((s + 1) * 3**i for i, s in enumerate(flat[at : at + 5])) for at in range(0, len(flat), 5))
    share = symbols.abs().mean(1).clamp(min=1e-8)
    values = (symbols * (scale.float() / share)[:, None]).reshape(-1, padded)
    values = values[:, : weight.numel() // weight.shape[0]].reshape(weight.shape)
    kind = "ternary_bitmask" if bitmask else "ternary"
    entry = {"type": kind, "packed": packed, "scale": scale} | described(
        weight, group, {"n_trits": len(flat)}, padded
    )
    return entry, values


def binary_entry(weight, group, scale_dtype):
    groups, padded = grouped(weight, group)
    scale = groups.abs().mean(1).to(scale_dtype)
    signs = torch.where(groups >= 0, 1.0, -1.0)
    flat = (signs.reshape(-1) > 0).int().tolist()
    packed = bytes(sum(b << i for i, b in enumerate(flat[at : at + 8])) for at in range(0, len(flat), 8))
    values = (signs * scale.float()[:, None]).reshape(-1, padded)[:, : weight.numel() // weight.shape[0]]
    entry = {"type": "binary", "packed": packed, "scale": scale}
    return entry | described(weight, group, {"n_bits": len(flat)}, padded), values.reshape(weight.shape)


def fp4_entry(weight):
    matrix = weight.reshape(1, -1) if weight.ndim < 2 else weight.reshape(-1, weight.shape[-1])
    scale = (matrix.abs().amax(1) / 7).half()
    symbols = torch.clamp(torch.round(matrix / scale.float()[:, None]), -7, 7).to(torch.int8).float()
    codes = (symbols.reshape(-1).int() + 8).tolist()
    packed = torch.tensor([a | (b << 4) for a, b in zip(codes[::2], [*codes[1::2], 8], strict=False)])
    entry = {"type": "fp4", "packed": packed.to(torch.uint8), "scale": scale, "shape": list(weight.shape)}
    return entry, (symbols * scale.float()[:, None]).reshape(weight.shape)


def raw_entry(weight, kind):
    data = weight.to({"fp8": torch.float8_e4m3fn, "fp16": torch.float16, "bf16": torch.bfloat16}[kind])
    return {"type": kind, "data": data}, data.float()


def every_kind():
    """name -> (entry, weights)."""
    torch.manual_seed(0)

    def weight(*shape):
        return torch.randn(*shape) * 0.05

    ternary = {
        "blocks.0.mlp.fc.weight": ternary_entry(weight(12, 64), 16, False),
        "short": ternary_entry(weight(6, 21), 16, False),
        "bank": ternary_entry(weight(3, 4, 8), 8, True),
        "short_mask": ternary_entry(weight(5, 13), 4, True),
        "zeros": ternary_entry(torch.zeros(2, 8), 8, True),
    }
    binary = {
        "blocks.1.mlp.fc.weight": binary_entry(weight(12, 64), 16, torch.float16),
        "bf16_scales": binary_entry(weight(4, 32), 16, torch.bfloat16),
        "fp8_scales": binary_entry(weight(4, 32), 16, torch.float8_e4m3fn),
        "short_binary": binary_entry(weight(5, 13), 4, torch.float16),
    }
    raw = {
        f"{kind}.{n}": raw_entry(weight(*s), kind)
        for kind in ("fp8", "fp16", "bf16")
        for n, s in enumerate([(3, 5), (7,)])
    }
    return ternary, binary, raw | {"tok_emb.weight": fp4_entry(weight(7, 9)), "odd": fp4_entry(weight(5))}


TERNARY, BINARY, REST = every_kind()


def saved(entries):
    return torch_bytes({name: entry for name, (entry, _) in entries.items()})


def xnor(method, stream):
    return bytes([method]) + stream


CODED = [
    pytest.param(lambda data: data, id="plain"),
    pytest.param(lambda data: lzma.compress(data, preset=9), id="lzma"),
    pytest.param(lambda data: xnor(0, lzma.compress(data)), id="method-lzma"),
    pytest.param(lambda data: xnor(1, brotli.compress(data, quality=5)), id="method-brotli"),
    pytest.param(lambda data: xnor(2, zstandard.ZstdCompressor(level=3).compress(data)), id="method-zstd"),
]


@pytest.mark.parametrize("coded", CODED)
@pytest.mark.parametrize(
    ("entries", "kind"),
    [(TERNARY | REST, "torch_ternary"), (BINARY | REST, "torch_binary")],
    ids=["ternary", "binary"],
)
def test_every_entry_decodes_to_the_loaders_weights_bit_for_bit(entries, kind, coded):
    data = coded(saved(entries))
    assert identify(data) == kind
    unpacked = unpack(data)
    assert unpacked.kind == kind
    assert list(unpacked.tensors()) == list(entries)
    for name, values in unpacked.tensors().items():
        assert values.shape == tuple(entries[name][1].shape)
        assert values.tobytes() == entries[name][1].contiguous().numpy().tobytes(), name


WRONG = [
    ("ternary", {"packed": b"\xff" * 200}),
    ("ternary", {"packed": b""}),
    ("ternary", {"packed": "text"}),
    ("ternary", {"packed": None}),
    ("ternary", {"n_trits": -1}),
    ("ternary", {"n_trits": 1 << 39, "padded_cols": 1 << 30, "shape": [1 << 9, 1 << 30], "group_size": 1 << 30}),
    ("ternary", {"group_size": 0}),
    ("ternary", {"group_size": 7}),
    ("ternary", {"padded_cols": 32}),
    ("ternary", {"shape": [12]}),
    ("ternary", {"shape": [-12, 64]}),
    ("ternary", {"shape": "12x64"}),
    ("ternary", {"orig_shape": [12, 63]}),
    ("ternary", {"orig_shape": [1] * 40 + [768]}),
    ("ternary", {"scale": torch.ones(3).half()}),
    ("ternary", {"scale": torch.ones(48).double()}),
    ("ternary", {"scale": 1.0}),
    ("ternary", {"type": "septenary"}),
    ("ternary", {"type": ["ternary"]}),
    ("ternary", {"type": None}),
    ("ternary", {"type": "ternary_bitmask"}),
    ("binary", {"packed": b"\0"}),
    ("binary", {"n_bits": True}),
    ("fp4", {"packed": torch.zeros(3, dtype=torch.uint8)}),
    ("fp4", {"scale": torch.ones(2).half()}),
    ("fp8", {"data": torch.zeros(3)}),
    ("fp8", {"data": b"bytes"}),
]
WHOLE = {
    "ternary": TERNARY["blocks.0.mlp.fc.weight"][0],
    "binary": BINARY["blocks.1.mlp.fc.weight"][0],
    "fp4": REST["tok_emb.weight"][0],
    "fp8": REST["fp8.0"][0],
}


@pytest.mark.parametrize(("entry", "change"), WRONG, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(WRONG)])
def test_an_entry_that_does_not_fit_is_a_format_error(entry, change):
    whole = {"w": TERNARY["short"][0], "x": WHOLE[entry] | change}
    with pytest.raises(FormatError):
        unpack(torch_bytes(whole)).tensors()


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_flipped_bits_are_refused_or_decode_but_never_fail_otherwise(rng: random.Random):
    data = bytearray(saved(TERNARY | REST))
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    try:
        for record in read_field_artifact(bytes(data), 1 << 20):
            record.dequantize()
    except FormatError:
        pass


def test_symbols_count_against_the_limit():
    state = load(saved(TERNARY), 1 << 20)
    n = sum(entry["n_trits"] for entry in state.values())
    assert len(records_of(state, n)) == len(TERNARY)
    with pytest.raises(FormatError):
        records_of(state, n // 2)


def test_labels_of_older_files_are_read():
    rng = np.random.default_rng(0)
    symbols = torch.tensor(rng.integers(-31, 32, (4, 6)), dtype=torch.int8)
    w = {"a.q": symbols, "a.scale": torch.rand(4).half(), "b": torch.rand(3).half(), "c": torch.rand(3)}
    m = {"a": {"type": "int6"}, "b": "passthrough", "c": "passthrough_ctrl"}
    data = zstandard.ZstdCompressor(level=3).compress(torch_bytes({"w": w, "m": m}))
    assert identify(data) == "torch_sdclip"
    found = unpack(data).tensors()
    assert np.array_equal(found["a"], symbols.numpy() * w["a.scale"].float().numpy()[:, None])
    assert np.array_equal(found["c"], w["c"].numpy())
    for label in ({"type": "float"}, {}, 7, ["int6"]):
        with pytest.raises(FormatError):
            read_field_artifact(torch_bytes({"w": w, "m": m | {"a": label}}))
