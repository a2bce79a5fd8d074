"""Records of every kind that the field's containers hold, and the law that reading gives them back."""

from __future__ import annotations

import numpy as np

from pgpack.codecs import BYTE_CODECS
from pgpack.formats.own.contents import Contents
from pgpack.tensors.grids import QuantizedTensor, UniformGrid
from pgpack.tensors.raw_values import RawValues
from pgpack.tensors.record import Record

BROTLI = (BYTE_CODECS["brotli"](quality=5),)
MATRICES = ["tok_emb.weight"] + [
    f"blocks.{layer}.{kind}.weight"
    for layer in (0, 1, 11)
    for kind in ("attn.c_q", "attn.c_k", "attn.c_v", "attn.proj", "mlp.fc", "mlp.proj")
]


def rows(name, shape, seed=0, scale_dtype=np.float16, top=31):
    """A record of int8 symbols with a step per row (one step below two dimensions)."""
    rng = np.random.default_rng(seed)
    folded = (shape[0], int(np.prod(shape[1:]))) if len(shape) > 1 else (1, int(np.prod(shape)))
    symbols = rng.integers(-top, top + 1, folded).astype(np.int8)
    scales = rng.uniform(0.01, 0.1, (folded[0], 1)).astype(scale_dtype)
    return Record(name, shape, "plain", (QuantizedTensor(symbols, UniformGrid(scales), shape),))


def raw(name, values, dtype):
    """A record of raw values, folded as the packer folds floating tensors."""
    grid = RawValues(dtype)
    bits = grid.symbols_of(values)
    if values.dtype.kind == "f":
        bits = bits.reshape(bits.shape[0] if bits.ndim > 1 else 1, -1) if bits.size else bits.reshape(1, 0)
    return Record(name, values.shape, "plain", (QuantizedTensor(bits, grid, values.shape),))


def corrected(name, shape, rank=4, group=64, fortran=False):
    rng = np.random.default_rng(3)
    A = rng.integers(-2, 2, (shape[0], rank)).astype(np.int8, order="F" if fortran else "C")
    B = rng.integers(-8, 8, (-(-rank * shape[1] // group), group)).astype(np.int8)
    steps = rng.uniform(0.01, 0.1, (len(B), 1)).astype(np.float16)
    A_part = QuantizedTensor(A, UniformGrid(np.full((1, 1), 0.5, np.float16)), A.shape)
    B_part = QuantizedTensor(B, UniformGrid(steps), (rank, shape[1]))
    return Record(name, shape, "corrected", (rows(name, shape).parts[0], A_part, B_part))


def contents(*records):
    return Contents(records, {}, {})


def all_kinds():
    rng = np.random.default_rng(1)
    found = [rows(name, (16, 24) if name.startswith("tok") else (8, 12), i) for i, name in enumerate(MATRICES)]
    for dtype in ("fp32", "fp16", "bf16"):
        found += [
            raw(f"{dtype}.{n}", rng.standard_normal(s).astype("f4"), dtype) for n, s in enumerate([(), (5,), (2, 3)])
        ]
    found += [
        raw("steps", np.arange(6, dtype=np.int64).reshape(2, 3), "int64"),
        raw("flags", np.array([True, False]), "bool"),
    ]
    found += [rows("vector", (40,)), rows("bank", (3, 4, 5)), rows("wide_step", (6, 4), scale_dtype=np.float32)]
    return [*found, raw("empty", np.zeros(0, "f4"), "fp16")]


def assert_same_records(written, read):
    by_name = {record.name: record for record in read}
    assert by_name.keys() == {record.name for record in written}
    for before in written:
        after = by_name[before.name]
        assert (after.shape, after.form) == (before.shape, before.form)
        assert before.dequantize().tobytes() == after.dequantize().tobytes(), before.name
        for p, q in zip(before.parts, after.parts, strict=True):
            assert np.array_equal(p.symbols, q.symbols), before.name
            assert p.symbols.dtype == q.symbols.dtype
            assert p.shape == q.shape
