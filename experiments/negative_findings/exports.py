"""The source's exporter: its step floor, int5, the fp16 table, and the wrong decompressor (findings 5, 12, 15).

    matrices   rtn_percentile(bits, scale_floor): rows are clipped at a percentile; the step is at least 1 / R
    table      fp16, or the same law

All through one zstd-22 stream, as in the source; sizes are whole artifacts.
"""

from __future__ import annotations

import zlib

import numpy as np

from experiments.replication.packing import Packed
from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgpack.codecs import BYTE_CODECS
from pgpack.errors import PgpackError

from .recipes import MatrixBench

TOKENS = 8192
ZSTD, ZLIB = "zstd(level=22)", "zlib(level=9)"
FP16 = "cast(dtype=fp16)"
VARIANTS = tuple((bits, floor, table) for bits in (6, 5) for floor in (True, False) for table in ("fp16", "same"))


def law(bits: int, floor: bool) -> str:
    """The source's quantizer, with and without its floor."""
    return f"rtn_percentile(bits={bits},scale_floor={str(floor).lower()})"


def exported(bench: MatrixBench, matrices: str, table: str, codec: str = ZSTD) -> Packed:
    """The checkpoint with `matrices` in the blocks, `table` in the embedding, fp16 elsewhere."""
    rules = f"blocks.*.attn.*.weight={matrices}|raw|{codec}; blocks.*.mlp.*.weight={matrices}|raw|{codec}"
    return bench.packed(f"{rules}; tok_emb.weight={table}|raw|{codec}; *={FP16}|raw|{codec}")


def measure(trained: Trained, seed: int) -> Found:
    """Every variant on one checkpoint, then what they say together."""
    bench = MatrixBench(trained.path("packed", seed), TOKENS)
    found = Found(seed)
    loss: dict[tuple[int, bool, str], float] = {}
    size: dict[tuple[int, bool, str], int] = {}
    for key in VARIANTS:
        bits, floor, table = key
        point = exported(bench, law(bits, floor), FP16 if table == "fp16" else law(bits, floor))
        loss[key], size[key] = point.bpb, point.n_bytes
        found.add(
            "exports",
            seed=seed,
            bits=bits,
            floor=int(floor),
            table=table,
            n_bytes=point.n_bytes,
            cost=point.bpb - bench.fp32_bpb,
            kl=point.kl,
        )
    documented, int6 = loss[5, True, "same"], loss[6, True, "fp16"]
    table_only = exported(bench, law(6, True), law(5, True)).bpb
    found.values |= {
        "int5.cost_as_documented": documented - int6,
        "int5.cost_table_alone": table_only - int6,
        "int5.cost_clean": loss[5, False, "fp16"] - loss[6, False, "fp16"],
        "int5.cost_clean_with_table": loss[5, False, "same"] - loss[6, False, "fp16"],
        "int5.size_ratio": size[5, False, "fp16"] / size[6, False, "fp16"],
        "floor.cost_int6": int6 - loss[6, False, "fp16"],
        "floor.cost_int5": loss[5, True, "fp16"] - loss[5, False, "fp16"],
        "floor.cost_int6_table": loss[6, True, "same"] - loss[6, False, "same"],
        "floor.size_ratio_int6": size[6, True, "fp16"] / size[6, False, "fp16"],
        "floor.rows": _rows_at_the_floor(bench),
        "int6.bpb": loss[6, False, "fp16"],
    }
    _table_in_fp16(bench, found)
    _codec_switch(bench, found, size[6, True, "fp16"])
    return found


def _rows_at_the_floor(bench: MatrixBench) -> float:
    """Share of the rows of matrices and table whose largest weight is below 1, where the floor replaces the step."""
    names = [*bench.matrices, "tok_emb.weight"]
    below = [np.abs(bench.tensors[name]).max(axis=1) < 1 for name in names]
    return float(np.concatenate(below).mean())


def _table_in_fp16(bench: MatrixBench, found: Found) -> None:
    """What fp16 costs and gains beside the int8 that the baseline stores a table in."""
    full, int8 = exported(bench, law(6, True), FP16), exported(bench, law(6, True), law(8, True))
    found.values["fp16_table.bytes_per_value"] = (full.n_bytes - int8.n_bytes) / bench.tensors["tok_emb.weight"].size
    found.values["fp16_table.gain"] = full.bpb - int8.bpb


def _codec_switch(bench: MatrixBench, found: Found, zstd_bytes: int) -> None:
    """The same export through zlib, and a zstd stream handed to zlib."""
    found.values["zlib.size_change"] = exported(bench, law(6, True), FP16, ZLIB).n_bytes / zstd_bytes - 1
    stream = BYTE_CODECS["zstd"](level=22).encode(b"symbols" * 64)
    try:
        zlib.decompress(stream)
        crashed = 0.0
    except zlib.error:
        crashed = 1.0
    found.values["zlib.reads_zstd_crash"] = crashed
    try:
        BYTE_CODECS["zlib"]().decode(stream, 7 * 64)
        named = 0.0
    except PgpackError:
        named = 1.0
    found.values["zlib.refused_by_name"] = named
