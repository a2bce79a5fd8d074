"""A synthetic checkpoint of the record stack's shapes, and its calibration, as two files.

Owns what the benchmark packs: names and shapes as in openai/parameter-golf (unbanked), rows whose standard deviation
is log-normal around 0.045, values a little heavier-tailed than a Gaussian (Student t, 8 degrees of freedom), and
Hessians X^T X / n of correlated activations: after a normalization for most inputs, squared ReLU for `mlp.proj`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgpack.calibration.calibration import from_arrays, save_calibration
from pgpack.checkpoint.checkpoint import save_tensors

Float32 = NDArray[np.float32]

LAYERS, VOCABULARY = 11, 8192
SKIPS = 8  # three layers run three times: 17 applications, 8 skip connections
DIM, HEADS, KV_DIM, HIDDEN = 512, 8, 256, 2048
ROW_STD, ROW_SPREAD, TAIL = 0.045, 0.25, 8  # median and log-spread of the rows' std; degrees of freedom
ACTIVATIONS, DECAY = 4096, 0.75  # rows of X; exponent of the falling spectrum of the inputs
FISHER = 0.02  # median squared gradient of an output; puts 3.5 bits per weight near the step of real models


def scaled(scale: float) -> tuple[int, int]:
    """(layers, vocabulary) of a smaller stack; 1.0 is the record's."""
    return max(1, round(LAYERS * scale)), max(256, round(VOCABULARY * scale))


def record_shapes(layers: int = LAYERS, vocabulary: int = VOCABULARY) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, in the order of the state dict; 35.94 M values at the record's size."""
    shapes: dict[str, tuple[int, ...]] = {"tok_emb.weight": (vocabulary, DIM)}
    n_skips = round(SKIPS * layers / LAYERS)
    if n_skips:
        shapes |= {"skip_weights": (n_skips, DIM), "skip_gates": (n_skips, DIM)}
    for i in range(layers):
        shapes |= {
            f"blocks.{i}.attn_scale": (DIM,),
            f"blocks.{i}.mlp_scale": (DIM,),
            f"blocks.{i}.resid_mix": (2, DIM),
            f"blocks.{i}.attn.q_gain": (HEADS,),
            f"blocks.{i}.attn.c_q.weight": (DIM, DIM),
            f"blocks.{i}.attn.c_k.weight": (KV_DIM, DIM),
            f"blocks.{i}.attn.c_v.weight": (KV_DIM, DIM),
            f"blocks.{i}.attn.proj.weight": (DIM, DIM),
            f"blocks.{i}.mlp.fc.weight": (HIDDEN, DIM),
            f"blocks.{i}.mlp.proj.weight": (DIM, HIDDEN),
        }
    return shapes


def matrix(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32:
    """Heavy-tailed values whose rows differ in scale."""
    unit = rng.standard_t(TAIL, shape).astype(np.float32) / np.float32(math.sqrt(TAIL / (TAIL - 2)))
    return unit * (ROW_STD * np.exp(ROW_SPREAD * rng.standard_normal((shape[0], 1)))).astype(np.float32)


def control(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Float32:
    """Scales around 1, gates around 0, gains around 1.5."""
    centre = {"skip_gates": 0.0, "q_gain": 1.5}.get(name.rsplit(".", 1)[-1], 1.0)
    return (centre + 0.3 * rng.standard_normal(shape)).astype(np.float32)


def weights(layers: int, vocabulary: int) -> dict[str, Float32]:
    """Every tensor of the stack."""
    rng = np.random.default_rng(36)
    return {
        name: matrix(rng, shape) if name.endswith(".weight") else control(rng, name, shape)
        for name, shape in record_shapes(layers, vocabulary).items()
    }


def inputs(rng: np.random.Generator, dim: int) -> Float32:
    """Correlated rows of unit mean square, as behind an RMS normalization. Shape: (ACTIVATIONS, dim)."""
    basis = np.linalg.qr(rng.standard_normal((dim, dim)).astype(np.float32))[0]
    spectrum = (np.arange(1, dim + 1) ** -DECAY).astype(np.float32)
    X = (rng.standard_normal((ACTIVATIONS, dim), dtype=np.float32) * spectrum) @ basis
    return (X / np.sqrt(np.square(X).mean(axis=1, keepdims=True))).astype(np.float32)


def second_moments(X: Float32) -> Float32:
    """H = mean x x^T. Shape: (dim, dim)."""
    H: Float32 = X.T @ X / np.float32(len(X))
    return (H + H.T) / np.float32(2)


def hessians(tensors: dict[str, Float32], layers: int) -> Iterator[tuple[str, Float32]]:
    """(key of the calibration file, Hessian) of every matrix."""
    rng = np.random.default_rng(63)
    yield "tok_emb.weight.hessian", second_moments(inputs(rng, DIM))
    for i in range(layers):
        H = second_moments(inputs(rng, DIM))
        for name in ("c_q", "c_k", "c_v"):
            yield f"blocks.{i}.attn.{name}.weight.hessian", H
        yield f"blocks.{i}.attn.proj.weight.hessian", second_moments(inputs(rng, DIM))
        X = inputs(rng, DIM)
        yield f"blocks.{i}.mlp.fc.weight.hessian", second_moments(X)
        hidden = np.square(np.maximum(X @ tensors[f"blocks.{i}.mlp.fc.weight"].T, 0))
        yield f"blocks.{i}.mlp.proj.weight.hessian", second_moments(hidden)


def fishers(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Float32]]:
    """(key of the calibration file, Fisher weights) of every matrix: log-normal over the outputs."""
    rng = np.random.default_rng(7)
    for name, shape in shapes.items():
        if name.endswith(".weight"):
            yield f"{name}.fisher", (FISHER * np.exp(rng.standard_normal(shape[0]))).astype(np.float32)


def write(checkpoint: Path, calibration: Path, scale: float) -> None:
    """Write both files for a stack of `scale` times the record's layers and vocabulary."""
    layers, vocabulary = scaled(scale)
    tensors = weights(layers, vocabulary)
    save_tensors(checkpoint, tensors, {})
    statistics = dict(hessians(tensors, layers)) | dict(fishers(record_shapes(layers, vocabulary)))
    save_calibration(calibration, from_arrays(statistics, "synthetic", ACTIVATIONS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    given = parser.parse_args()
    write(given.checkpoint, given.calibration, given.scale)
