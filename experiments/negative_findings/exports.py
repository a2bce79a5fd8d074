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
    points: dict[tuple[int, bool, str], Packed] = {}
    for bits, floor, table in VARIANTS:
        point = exported(bench, law(bits, floor), FP16 if table == "fp16" else law(bits, floor))
        points[bits, floor, table] = point
        found.add(
            "exports", seed=seed, bits=bits, floor=int(floor), table=table, n_bytes=point.n_bytes,
            cost=point.bpb - bench.fp32_bpb, kl=point.kl,
        )  # fmt: skip
    loss = {key: point.bpb for key, point in points.items()}
    size = {key: point.n_bytes for key, point in points.items()}
    floored, free = loss[6, True, "fp16"], loss[6, False, "fp16"]
    int8_table, n_table = exported(bench, law(6, True), law(8, True)), bench.tensors["tok_emb.weight"].size
    found.values |= {
        "int5.cost_as_documented": loss[5, True, "same"] - floored,
        "int5.cost_table_alone": exported(bench, law(6, True), law(5, True)).bpb - floored,
        "int5.cost_clean": loss[5, False, "fp16"] - free,
        "int5.cost_clean_with_table": loss[5, False, "same"] - free,
        "int5.size_ratio": size[5, False, "fp16"] / size[6, False, "fp16"],
        "floor.cost_int6": floored - free,
        "floor.cost_int5": loss[5, True, "fp16"] - loss[5, False, "fp16"],
        "floor.cost_int6_table": loss[6, True, "same"] - loss[6, False, "same"],
        "floor.size_ratio_int6": size[6, True, "fp16"] / size[6, False, "fp16"],
        "floor.rows": _rows_at_the_floor(bench),
        "int6.bpb": free,
        # What fp16 costs and gains beside the int8 that the baseline stores a table in.
        "fp16_table.bytes_per_value": (size[6, True, "fp16"] - int8_table.n_bytes) / n_table,
        "fp16_table.gain": floored - int8_table.bpb,
        "zlib.size_change": exported(bench, law(6, True), FP16, ZLIB).n_bytes / size[6, True, "fp16"] - 1,
        **_zstd_read_as_zlib(),
    }
    return found


def _rows_at_the_floor(bench: MatrixBench) -> float:
    """Share of the rows of matrices and table whose largest weight is below 1, where the floor replaces the step."""
    names = [*bench.matrices, "tok_emb.weight"]
    below = [np.abs(bench.tensors[name]).max(axis=1) < 1 for name in names]
    return float(np.concatenate(below).mean())


def _zstd_read_as_zlib() -> dict[str, float]:
    """Whether a zstd stream handed to zlib crashes, and whether our own codec refuses it by name."""
    stream = BYTE_CODECS["zstd"](level=22).encode(b"symbols" * 64)
    crashed = named = 0.0
    try:
        zlib.decompress(stream)
    except zlib.error:
        crashed = 1.0
    try:
        BYTE_CODECS["zlib"]().decode(stream, 7 * 64)
    except PgpackError:
        named = 1.0
    return {"zlib.reads_zstd_crash": crashed, "zlib.refused_by_name": named}
