"""What the golden artifacts hold: one case per grid, form, coder, codec and transform, named for its hazard.

Inputs come from integer arithmetic alone (a splitmix64 counter), so that no change of a random number generator or
of libm reaches them. `exact` marks cases whose packing is exact arithmetic too: their size is compared with a fresh
packing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.calibration import Calibration, from_arrays
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors

FOLDER = Path(__file__).parent
Array = NDArray[Any]
SMALL = {"wide": (12, 20), "tall": (24, 8)}


def draws(n: int, seed: int) -> NDArray[np.uint64]:
    """`n` 64-bit integers. *Source* Steele et al. 2014, splitmix64, over a counter."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed << 32) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bell(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Multiples of 1/1024 in (-1, 1), bell-shaped: sums of the eight bytes of a draw."""
    octets = draws(int(np.prod(shape)), seed).view(np.uint8).reshape(-1, 8)
    return ((octets.sum(axis=1, dtype=np.int64) - 1020) / 1024).astype(np.float32).reshape(shape)


def matrices(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Bell-shaped tensors, each with its own seed."""
    return {name: bell(shape, seed) for seed, (name, shape) in enumerate(shapes.items(), start=1)}


def small() -> dict[str, Array]:
    return matrices(SMALL)


def every_integer_type() -> dict[str, Array]:
    return {
        "int64": np.array([-(2**63), -1, 0, 2**63 - 1]),
        "int32": np.array([[-(2**31), 7], [0, 2**31 - 1]], np.int32),
        "int16": np.array([-32768, 32767], np.int16),
        "int8": np.array([-128, 127], np.int8),
        "uint8": np.array([0, 255], np.uint8),
        "bool": np.array([True, False, True]),
    }


def odd_shapes() -> dict[str, Array]:
    return {
        "scalar": bell((), 1),
        "empty": np.zeros((0, 4), np.float32),
        "one": bell((1, 1), 2),
        "conv": bell((3, 2, 2, 2), 3),
        "vector": bell((5,), 4),
    }


def extremes() -> dict[str, Array]:
    """The largest and the smallest floats, both zeros, a value halfway between two fp16 and two bf16."""
    bits = [0x7F7FFFFF, 0x00000001, 0x80000000, 0, 0x3F801000, 0x3F808000, 0x3F818000, 0xC2AA0000]
    return {"x": np.array(bits, np.uint32).view(np.float32)}


def moderate() -> dict[str, Array]:
    return {"x": np.array([65504, -65504, 2**-24, 2**-25, 0.0, -0.0, 1 + 2**-11, 1 + 2**-8], np.float32)}


def tied() -> dict[str, Array]:
    emb = bell((16, 6), 1)
    return {"tok_emb.weight": emb, "other": bell((6, 6), 2), "lm_head.weight": emb, "head2": emb}


def constant_and_skewed() -> dict[str, Array]:
    """Alphabets of one symbol, of two, of nearly all int8 values, and a peak."""
    peak = np.where(draws(400, 5) % np.uint64(50) == 0, 1.0, 0.0).astype(np.float32).reshape(20, 20)
    two = (draws(64, 6) % np.uint64(2)).astype(np.float32).reshape(8, 8)
    return {"constant": np.ones((8, 8), np.float32), "two": two, "peak": peak, "bell": bell((20, 20), 7)}


def one_mlp() -> dict[str, Array]:
    return matrices({"blocks.0.mlp.fc.weight": (16, 6), "blocks.0.mlp.proj.weight": (6, 16)})


def outliers() -> dict[str, Array]:
    tensors = small()
    tensors["wide"][3, 5], tensors["tall"][0, 0] = 8.0, -8.0
    return tensors


def uneven() -> dict[str, Array]:
    """Rows and columns whose scales span eight octaves."""
    rows = np.ldexp(1.0, -(np.arange(24) % 5)).astype(np.float32)[:, None]
    columns = np.ldexp(1.0, -(np.arange(18) % 4)).astype(np.float32)
    return {"x": bell((24, 18), 1) * rows * columns, "tall": bell((24, 8), 2)}


def many_lanes() -> dict[str, Array]:
    """20,000 skewed symbols: more than one rANS lane."""
    octets = draws(20_000, 9).view(np.uint8).reshape(-1, 8)[:, 0]
    return {"x": (octets == 0).astype(np.float32).reshape(100, 200)}


def one_large_column() -> dict[str, Array]:
    """Integers whose second column is far larger than the others, and two of which are out of all reach."""
    x = draws(300, 21).view(np.uint8).reshape(-1, 8)[:, :3].astype(np.int16).reshape(30, 30) % 5 - 2
    x[:, 1] = draws(30, 22).view(np.int16).reshape(-1, 4)[:, 0] % 5000
    x[4, 4], x[9, 1] = -20_000, 32_767
    return {"x": x, "y": x[:, 1:3].copy()}


def tall_and_small() -> dict[str, Array]:
    """40,000 rows, nearly all zero, which are cut; two small matrices that stand side by side."""
    tall = (draws(40_000, 23).view(np.uint8).reshape(-1, 8)[:, :1] == 0).astype(np.float32)
    return {"a": bell((3, 1), 24), "b": bell((5, 1), 25), "tall": tall}


@dataclass(frozen=True)
class Case:
    """A recipe on an input. `exact`: packing is exact arithmetic; `needs`: programs or modules that decode it."""

    recipe: str
    tensors: Callable[[], dict[str, Array]] = small
    exact: bool = True
    needs: tuple[str, ...] = ()
    hessians: bool = False

    def checkpoint(self) -> Checkpoint:
        return from_tensors(self.tensors())

    def calibration(self) -> Calibration | None:
        """Diagonally dominant Hessians of small integers and Fisher weights, when the recipe asks for them."""
        if not self.hessians:
            return None
        arrays = {}
        for name, array in self.tensors().items():
            n = array.shape[-1]
            arrays[f"{name}.hessian"] = (np.diag(np.arange(n, 2 * n)) + np.ones((n, n))).astype(np.float32)
            if array.ndim == 2:
                arrays[f"{name}.fisher"] = (1 + np.arange(len(array)) % 4).astype(np.float32)
        return from_arrays(arrays, "golden", 1)


CASES: dict[str, Case] = {
    # grids
    "raw-fp32-keeps-every-bit": Case("*=cast(dtype=fp32)|zlib", extremes),
    "raw-fp16-subnormals-and-ties": Case("*=cast(dtype=fp16)|zlib", moderate),
    "raw-bf16-ties-to-even": Case("*=cast(dtype=bf16)|zlib", moderate),
    "raw-integers-and-bools": Case("*=cast|zlib", every_integer_type),
    "uniform-row": Case("*=rtn(bits=6)|bitpack"),
    "uniform-group-short-last": Case("*=rtn(bits=4,group=7)|bitpack"),
    "uniform-sigma-clipped": Case("*=sdclip(bits=3,clip=2)|bitpack", outliers, exact=False),
    "uniform-gptq": Case("*=gptq(bits=4,clip=4)|rans", exact=False, hessians=True),
    "codebook-scalar": Case("*=kmeans(k=6)|bitpack", exact=False),
    "codebook-scaled-groups": Case("*=nf4(group=6)|bitpack"),
    "codebook-pairs": Case("*=product_kmeans(dim=2,k=16)|rans", exact=False),
    "codebook-quads-of-odd-rows": Case(
        "*=product_kmeans(dim=4,k=9)|rans", lambda: matrices({"x": (6, 10)}), exact=False
    ),
    "ternary-group-short-last": Case("*=ternary(group=8)|rans"),
    "binary": Case("*=binary(group=8)|bitpack"),
    "pruned-2-4": Case("*=prune_2_4|rtn(bits=5)|rans"),
    "trellis-scaled-tables": Case(
        "*=tcq(step=0.02,states=8)|rans_scaled(states=8)", uneven, exact=False, hessians=True
    ),
    "trellis-4-states-no-row-steps": Case("*=tcq(step=0.05,states=4,rows=0)|bitpack", exact=False, hessians=True),
    "trellis-256-states": Case("*=tcq(step=0.05,states=256)|rans_scaled(states=256)", exact=False, hessians=True),
    # forms
    "corrected-lqer": Case("*=lqer(rank=2)|rtn(bits=3)|rans", exact=False),
    "corrected-asymmetric-top-1": Case("*=lqer_asym(rank=2,group=8,top=1)|rtn(bits=3)|rans", exact=False),
    "factored-svd": Case("*=svd(rank=3)|rtn(bits=6)|rans", exact=False),
    # coders
    "raw-coder": Case("*=rtn(bits=6)"),
    "bitplanes": Case("*=rtn(bits=5)|bitplanes"),
    "bitplanes-then-zstd": Case("*=rtn(bits=2)|bitplanes|zstd(level=22)"),
    "rans-constant-and-peaked": Case("*=rtn(bits=8)|rans", constant_and_skewed),
    "rans-low-precision": Case("*=rtn(bits=5)|rans(precision=12)", constant_and_skewed),
    "rans-wide-symbols": Case("*=cast(dtype=fp32)|rans"),
    "rans-signed-64-bit": Case("*=cast|rans", every_integer_type),
    "rans-two-lanes": Case("*=rtn(bits=2)|rans", many_lanes),
    "rans-scaled-rows-and-columns": Case("*=rtn(bits=8)|rans_scaled", uneven, exact=False),
    "rans-scaled-odd-shapes": Case("*=rtn(bits=8)|rans_scaled", odd_shapes, exact=False),
    "rans-wide-odd-shapes": Case("*=rtn(bits=8)|rans_wide", odd_shapes, exact=False),
    "rans-wide-trellis": Case("*=tcq(step=0.02,states=8)|rans_wide(states=8)", uneven, exact=False, hessians=True),
    "rans-wide-tails-and-escapes": Case("*=cast|rans_wide(states=64)", one_large_column),
    "rans-wide-pieces-side-by-side": Case("*=rtn(bits=2)|rans_wide(states=8)", tall_and_small),
    # byte codecs
    "brotli-11": Case("*=rtn(bits=6)|brotli(quality=11)"),
    "zstd-22": Case("*=rtn(bits=6)|zstd(level=22)"),
    "zlib-9": Case("*=rtn(bits=6)|zlib(level=9)"),
    "bz2-9": Case("*=rtn(bits=6)|bz2(level=9)"),
    "lzma-9": Case("*=rtn(bits=6)|lzma(preset=9)"),
    "lrzip-9": Case("*=rtn(bits=6)|lrzip(level=9)", needs=("lrzip",), exact=False),
    "zpaq-5": Case("*=rtn(bits=6)|zpaq(level=5)", needs=("zpaq",), exact=False),
    "shuffle-4-of-odd-length": Case("*=cast(dtype=fp16)|shuffle(stride=4)|zlib", lambda: {"x": bell((7, 3), 1)}),
    "codecs-chained": Case("*=cast(dtype=fp32)|shuffle(stride=4)|zlib(level=1)|brotli(quality=5)"),
    "side-codecs-chained": Case("*=rtn(bits=6,group=4)|rans; @container=pgpack|shuffle|zlib|bz2"),
    "side-raw": Case("*=rtn(bits=6,group=4)|rans; @container=pgpack"),
    # symbol transforms
    "transpose": Case("*=rtn(bits=6)|transpose|zlib"),
    "row-sort": Case("*=rtn(bits=6)|row_sort|zlib"),
    "row-sort-then-transpose": Case("*=rtn(bits=4,group=5)|row_sort|transpose|bitpack|zlib"),
    # the field's containers
    "field-torch-baseline-zlib": Case(
        "*scale*=cast(dtype=fp32); *=rtn_percentile(bits=8,percentile=99.99984,scale_floor=true); "
        "@container=torch_baseline|zlib(level=9)",
        lambda: {**small(), "attn_scale": bell((8,), 3)},
        exact=False,
        needs=("torch",),
    ),
    "field-torch-sdclip-brotli": Case(
        "ndim<=1=cast; *=gptq(bits=6,clip=12.85); @container=torch_sdclip(stride=2)|brotli(quality=11,lgwin=22)",
        lambda: {**small(), "attn_scale": bell((8,), 3)},
        exact=False,
        needs=("torch",),
        hessians=True,
    ),
    "field-pergroup-lrzip": Case(
        "ndim<=1=cast; *=lqer_asym(rank=2,a_bits=2,b_bits=4,group=4,top=1)|gptq(bits=6,clip=11.5); "
        "@container=pergroup(level=9)|brotli(quality=11,lgwin=24)",
        lambda: {**one_mlp(), "attn_scale": bell((8,), 3)},
        exact=False,
        needs=("torch", "lrzip"),
        hessians=True,
    ),
    # the container
    "tied-tensors-once": Case("*=rtn(bits=6)|rans", tied),
    "odd-shapes": Case("ndim<=1=cast(dtype=fp32); *=rtn(bits=8)|bitpack", odd_shapes),
    "two-streams-interleaved": Case(
        "wide=rtn(bits=6)|rans; *=rtn(bits=3)|bitpack|zlib", lambda: {"z": bell((4, 4), 9), **small()}
    ),
    "mlp-order-by-norm": Case("*=rtn(bits=6)|rans; @order=mlp(by=norm)", one_mlp, exact=False),
    "name-beyond-ascii": Case("*=rtn(bits=6)|rans", lambda: {"blöcke.0.🜁": bell((4, 6), 1)}),
    "no-tensors-in-a-stream": Case("*=cast|rans", lambda: {"empty": np.zeros((0, 3), np.float32)}),
}


def libraries() -> str:
    """The releases that the sizes of small artifacts depend on, beside pgpack's own."""
    others = ", ".join(f"{name} {version(name)}" for name in ("brotli", "zstandard"))
    return f"zlib {zlib.ZLIB_RUNTIME_VERSION}, {others}"


def decoded_sha256(tensors: Mapping[str, Array]) -> str:
    """sha256 over names, dtypes, shapes and contents in order of names; knows nothing of pgpack's own digest."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        assert array.dtype.byteorder in "=|<"
        digest.update(f"{name} {array.dtype.str} {tensors[name].shape} ".encode() + array.tobytes())
    return digest.hexdigest()
