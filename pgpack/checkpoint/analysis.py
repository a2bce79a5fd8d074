"""What the weights of a checkpoint say about how its blocks are used: one table for any dialect that is read here.

    checkpoint --names--> blocks, skips, lanes, depths, projections, tensors  (+ notes on what it has not got)

Contribution of a sublayer = |W|_F of its output projection x mean of its learned scale, as the weight analysis of
openai/parameter-golf #1546 (which does not name its norm; the Frobenius norm gives its numbers). It says how large
the weights are, not what the block is worth: inputs are normalised, but activations are not part of it.
Refuses to guess: what a dialect does not store is None, and a note says so. numpy only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.tensors.roles import role_of

from .checkpoint import Checkpoint

Array = NDArray[np.float32]
BLOCK = re.compile(r"^((?:.*\.)?(?:blocks|shared_blocks|layers|h)\.(\d+))\.")
OUTPUTS = {
    "attn": (
        "attn.proj.weight", "attn.c_proj.weight", "attn.o_proj.weight", "self_attn.o_proj.weight",
        "self_attn.dense.weight", "self_attn.out_proj.weight", "attn.out_proj.weight", "attention.dense.weight",
        "attn.attention.out_proj.weight", "self_attention.dense.weight",
    ),
    "mlp": (
        "mlp.proj.weight", "mlp.c_proj.weight", "mlp.down_proj.weight", "mlp.fc2.weight", "fc2.weight",
        "mlp.fc_out.weight", "mlp.dense_4h_to_h.weight",
    ),
}  # fmt: skip
OWN = "attn_scale, mlp_scale, q_gain, resid_mix, skip_weights, lanes, embed_proj, head_proj"


@dataclass(frozen=True)
class Block:
    """One physical block, or one run of it where a block has scales for each of its runs (#433).

    Norms are Frobenius norms of output projections, scales means over channels, `q_gain_std` is the sample standard
    deviation over heads, `keep` and `x0` the mean shares of the stream and of the embedding in the block's input.
    """

    name: str
    index: int
    run: int | None
    attn_norm: float | None
    attn_scale: float | None
    mlp_norm: float | None
    mlp_scale: float | None
    q_gain_mean: float | None
    q_gain_std: float | None
    keep: float | None
    x0: float | None

    @property
    def label(self) -> str:
        return self.name if self.run is None else f"{self.name} run {self.run}"

    @property
    def attn(self) -> float | None:
        """Contribution of attention."""
        return _product(self.attn_norm, self.attn_scale)

    @property
    def mlp(self) -> float | None:
        """Contribution of the MLP."""
        return _product(self.mlp_norm, self.mlp_scale)

    @property
    def contribution(self) -> float | None:
        """Of both together; None when either is not known."""
        return None if self.attn is None or self.mlp is None else self.attn + self.mlp


@dataclass(frozen=True)
class Skip:
    """A row of the U-Net skips, row 0 the innermost. The stream becomes sigmoid(gate) stream + (1 - ...) weight skip.

    `gate` is the mean of sigmoid(gate), None for skips that are added; `effective` = weight * (1 - gate).
    """

    row: int
    weight: float
    gate: float | None

    @property
    def effective(self) -> float:
        return self.weight if self.gate is None else self.weight * (1.0 - self.gate)


@dataclass(frozen=True)
class Lanes:
    """What a layer with two residual lanes writes where, and what it keeps of each lane."""

    layer: int
    attn_to_attn: float
    attn_to_mlp: float
    mlp_to_attn: float
    mlp_to_mlp: float
    keep_attn: float
    keep_mlp: float

    @property
    def attn_crosses(self) -> float:
        """Share of attention's output that goes to the other lane, by magnitude."""
        return _share(self.attn_to_mlp, self.attn_to_attn)

    @property
    def mlp_crosses(self) -> float:
        return _share(self.mlp_to_attn, self.mlp_to_mlp)


@dataclass(frozen=True)
class Depth:
    """A virtual layer's own factors on its block's scales (#2090): means over channels."""

    row: int
    attn_scale: float
    mlp_scale: float


@dataclass(frozen=True)
class Projection:
    """Singular values of a projection, or of B A where the matrix is stored as two factors."""

    name: str
    shape: tuple[int, int]
    largest: float
    smallest: float
    mean: float
    std: float


@dataclass(frozen=True)
class Roundtrip:
    """|head_proj embed_proj - I| / |I|: 0 when one undoes the other.

    `unrelated`: sqrt(1 + narrow / wide), what two orthogonal matrices give that know nothing of each other.
    """

    residual: float
    unrelated: float


@dataclass(frozen=True)
class TensorShape:
    """What matters to a packer. `peak` = largest magnitude / std; `kurtosis` in excess of a Gaussian's;
    `row_spread` = largest / smallest nonzero std of a row, 1 for what has no rows."""

    name: str
    role: str
    shape: tuple[int, ...]
    std: float
    peak: float
    kurtosis: float
    row_spread: float

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Analysis:
    """Everything; `notes` says what the checkpoint has not got."""

    dialect: str
    n_params: int
    blocks: tuple[Block, ...]
    skips: tuple[Skip, ...]
    lanes: tuple[Lanes, ...]
    depths: tuple[Depth, ...]
    projections: tuple[Projection, ...]
    roundtrip: Roundtrip | None
    tensors: tuple[TensorShape, ...]
    notes: tuple[str, ...]

    @property
    def contributions(self) -> list[float]:
        """Of every block that has one, in order."""
        return [block.contribution for block in self.blocks if block.contribution is not None]

    @property
    def total(self) -> float | None:
        return sum(self.contributions) if self.contributions else None

    @property
    def ratio(self) -> float | None:
        """Largest contribution / smallest; None when there is none or the smallest is not above 0."""
        found = self.contributions
        return max(found) / min(found) if found and min(found) > 0 else None


def analyze(checkpoint: Checkpoint) -> Analysis:
    """Raises: CheckpointError on NaN or infinity."""
    found = _Tensors(checkpoint)
    blocks = tuple(block for name, index in _block_names(checkpoint.shapes) for block in _block(found, name, index))
    skips, lanes = _skips(found), _lanes(found, checkpoint.metadata)
    attn, mlp = found.get("virtual_attn_scales"), found.get("virtual_mlp_scales")
    depths = () if attn is None or mlp is None else tuple(
        Depth(row, float(a), float(m)) for row, (a, m) in enumerate(zip(attn.mean(1), mlp.mean(1), strict=True))
    )  # fmt: skip
    stored = tuple(_tensor(name, checkpoint.tensor(name)) for name in checkpoint.stored_shapes)
    return Analysis(
        checkpoint.dialect or "unknown", checkpoint.n_params, blocks, skips, lanes, depths,
        tuple(_projections(found)), _roundtrip(found), stored, tuple(_notes(blocks, skips, lanes, found, checkpoint)),
    )  # fmt: skip


class _Tensors:
    """Tensors as float64, None where there is none."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def get(self, name: str) -> NDArray[np.float64] | None:
        known = name in self.checkpoint.shapes
        return np.asarray(self.checkpoint.tensor(name), dtype=np.float64) if known else None


def _block_names(names: Iterable[str]) -> list[tuple[str, int]]:
    """(name, index) of every block, by list and number."""
    found = {(match[1], int(match[2])) for match in map(BLOCK.match, names) if match}
    return sorted(found, key=lambda block: (block[0].rpartition(".")[0], block[1]))


def _block(found: _Tensors, name: str, index: int) -> list[Block]:
    """The block once, or once for each of its runs."""
    norms = {side: _norm(found, [f"{name}.{output}" for output in OUTPUTS[side]]) for side in OUTPUTS}
    gains = found.get(f"{name}.attn.q_gain")
    mean = None if gains is None else float(gains.mean())
    spread = None if gains is None or gains.size < 2 else float(gains.std(ddof=1))

    def block(
        run: int | None, attn: NDArray[Any] | None, mlp: NDArray[Any] | None, mix: NDArray[Any] | None
    ) -> Block:
        keep, x0 = (None, None) if mix is None else (_mean(mix[0]), _mean(mix[1]))
        return Block(name, index, run, norms["attn"], _mean(attn), norms["mlp"], _mean(mlp), mean, spread, keep, x0)

    of_runs = [found.get(f"{name}.{part}") for part in ("attn_scales", "mlp_scales", "resid_mixes")]
    if of_runs[0] is None:
        return [block(None, *(found.get(f"{name}.{part}") for part in ("attn_scale", "mlp_scale", "resid_mix")))]
    return [block(r, *(None if part is None else part[r] for part in of_runs)) for r in range(len(of_runs[0]))]


def _norm(found: _Tensors, names: list[str]) -> float | None:
    """Frobenius norm of the first of these that exists."""
    tensors = (found.get(name) for name in names)
    return next((float(np.linalg.norm(each)) for each in tensors if each is not None and each.size), None)


def _mean(tensor: NDArray[Any] | None) -> float | None:
    return None if tensor is None or not tensor.size else float(tensor.mean())


def _skips(found: _Tensors) -> tuple[Skip, ...]:
    weights, gates = found.get("skip_weights"), found.get("skip_gates")
    if weights is None or weights.ndim != 2:
        return ()
    opened = [None] * len(weights) if gates is None else [float((1 / (1 + np.exp(-row))).mean()) for row in gates]
    return tuple(Skip(row, float(w.mean()), gate) for row, (w, gate) in enumerate(zip(weights, opened, strict=True)))


def _lanes(found: _Tensors, metadata: Mapping[str, str]) -> tuple[Lanes, ...]:
    """Layers from the metadata's lane_start on, all where it is not known."""
    post, keep = found.get("parallel_post_lambdas"), found.get("parallel_resid_lambdas")
    if post is None or keep is None or post.shape[1:] != (2, 2):
        return ()
    start = max(0, _lane_start(metadata) or 0)
    return tuple(
        Lanes(layer, *(float(value) for value in (*post[layer].reshape(4), *keep[layer])))
        for layer in range(start, len(post))
    )


def _lane_start(metadata: Mapping[str, str]) -> int | None:
    try:
        start = json.loads(metadata.get("model_config", "{}")).get("lane_start")
    except (ValueError, AttributeError, RecursionError):
        return None
    return start if type(start) is int else None


def _projections(found: _Tensors) -> Iterable[Projection]:
    for name in found.checkpoint.shapes:
        tensor = found.get(name) if role_of(name, found.checkpoint.shapes[name]) == "projection" else None
        if tensor is None or tensor.ndim != 2:
            continue
        if name.endswith(".A.weight"):
            other = found.get(name.removesuffix("A.weight") + "B.weight")
            if other is not None:
                yield _singular(name.removesuffix(".A.weight") + " (B A)", other @ tensor, len(tensor))
        elif not name.endswith(".B.weight"):
            yield _singular(name, tensor, min(tensor.shape))


def _singular(name: str, matrix: NDArray[np.float64], rank: int) -> Projection:
    values = np.linalg.svd(matrix, compute_uv=False)[:rank]
    rows, columns = matrix.shape
    return Projection(
        name, (rows, columns), float(values[0]), float(values[-1]), float(values.mean()), float(values.std())
    )


def _roundtrip(found: _Tensors) -> Roundtrip | None:
    into, out = found.get("embed_proj.weight"), found.get("head_proj.weight")
    if into is None or out is None or into.shape != out.shape[::-1]:
        return None
    wide, narrow = into.shape
    residual = float(np.linalg.norm(out @ into - np.eye(narrow))) / narrow**0.5
    return Roundtrip(residual, (1 + narrow / wide) ** 0.5)


def _tensor(name: str, array: NDArray[Any]) -> TensorShape:
    values = np.asarray(array, dtype=np.float64)
    role = role_of(name, values.shape)
    if not values.size or not values.std():
        return TensorShape(name, role, values.shape, 0.0, 0.0, 0.0, 1.0)
    std, centred = float(values.std()), values - values.mean()
    kurtosis = float((centred**4).mean()) / std**4 - 3.0
    rows = values.reshape(len(values), -1).std(1) if values.ndim > 1 else np.ones(1)
    rows = rows[rows > 0]
    spread = float(rows.max() / rows.min()) if rows.size else 1.0
    return TensorShape(name, role, values.shape, std, float(np.abs(values).max()) / std, kurtosis, spread)


def _notes(
    blocks: tuple[Block, ...], skips: tuple[Skip, ...], lanes: tuple[Lanes, ...], found: _Tensors, of: Checkpoint
) -> Iterable[str]:
    """What is not there, and what the numbers therefore leave out."""
    names = of.shapes
    if not blocks:
        yield "no blocks are named blocks.N, shared_blocks.N, layers.N or h.N: contributions are not known"
        return
    if any(block.attn_norm is None or block.mlp_norm is None for block in blocks):
        lacking = next(block for block in blocks if block.attn_norm is None or block.mlp_norm is None)
        sides = [side for side, norm in (("attn", lacking.attn_norm), ("mlp", lacking.mlp_norm)) if norm is None]
        yield f"{lacking.name} has no output projection of {' and '.join(sides)} under a name that is known here"
    if "virtual_attn_scales" in names:
        yield "contributions are those of the blocks' own scales; `depths` multiplies them at every virtual layer"
    if any("lora_A" in name for name in names):
        yield "low-rank deviations of the runs are not part of the norms"
    own = any(value is not None for block in blocks for value in (block.attn_scale, block.q_gain_mean, block.x0))
    if own or skips or lanes or _roundtrip(found) is not None:
        yield from _notes_of_own(blocks, skips, lanes, found, of)
    else:
        yield f"none of the challenge's own parameters ({OWN}): norms are shown, contributions are not known"


def _notes_of_own(
    blocks: tuple[Block, ...], skips: tuple[Skip, ...], lanes: tuple[Lanes, ...], found: _Tensors, of: Checkpoint
) -> Iterable[str]:
    """Which of the challenge's own parameters are not there, of a checkpoint that has one at least."""
    if any(block.attn_scale is None or block.mlp_scale is None for block in blocks):
        yield "no attn_scale and mlp_scale: the norms are shown, contributions are not known"
    if all(block.q_gain_mean is None for block in blocks):
        yield "no q_gain"
    if all(block.x0 is None for block in blocks):
        yield "no resid_mix: blocks do not mix in the embedding"
    if not skips:
        yield "no skip_weights"
    elif all(skip.gate is None for skip in skips):
        yield "no skip_gates: skips are added with their weights"
    if not lanes:
        yield "no lanes"
    elif _lane_start(of.metadata) is None:
        yield "the file does not say where lanes start; rows of layers before that are never read"
    if _roundtrip(found) is None:
        yield "no embed_proj and head_proj: the stream is as wide as the table"


def _product(norm: float | None, scale: float | None) -> float | None:
    return None if norm is None or scale is None else norm * scale


def _share(part: float, rest: float) -> float:
    """|part| / (|part| + |rest|), 1/2 of nothing."""
    whole = abs(part) + abs(rest)
    return abs(part) / whole if whole else 0.5
