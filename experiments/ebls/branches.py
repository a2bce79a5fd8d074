"""What a checkpoint's branches are: gammas, share of the module's output on text, rank, and what they are worth.

Owns the quantities of one checkpoint. A `Place` is (block, "attn" or "mlp", use); virtual layer = 3 * block + use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.replication.packing import Bench
from experiments.replication.rows import Value
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.loss.evaluator import Tensors
from pgtrain.model.shrinkage import DeviatingBlock, Place, branches_seen, output_shares

SHARE_TOKENS = 2048
SIDES = ("attn", "mlp")


def blocks_of(model: nn.Module) -> list[DeviatingBlock]:
    return [module for module in model.modules() if isinstance(module, DeviatingBlock)]


def batches(bench: Bench, n_tokens: int, skip: int = 0) -> Iterator[Tensor]:
    """Held-out text in windows of the model's length. Shape: (8, T) int64."""
    length = bench.text.seq_len
    tokens = torch.from_numpy(np.asarray(bench.text.val_tokens[skip : skip + n_tokens], dtype=np.int64))
    yield from tokens[: len(tokens) // length * length].reshape(-1, length).split(8)


def gammas(path: Path) -> list[dict[str, Value]]:
    """One row per virtual layer and module: gamma alone, which needs no text."""
    tensors = dict(load_checkpoint(path).items())
    rows: list[dict[str, Value]] = []
    for side in SIDES:
        names = sorted(name for name in tensors if name.endswith(f"{side}_shrinkage_logits"))
        logits = np.concatenate([tensors[name] for name in names]).astype(np.float64)
        rows += [{"layer": i, "side": side, "gamma": float(g)} for i, g in enumerate(1 / (1 + np.exp(-logits)))]
    return rows


def places(path: Path) -> list[dict[str, Value]]:
    """One row per virtual layer and module: gamma, share of the output, effective rank of A B."""
    bench = Bench(path, SHARE_TOKENS)
    model = bench.text.evaluator().module(bench.tensors)
    shares = output_shares(model, batches(bench, SHARE_TOKENS))
    rows: list[dict[str, Value]] = []
    for index, block in enumerate(blocks_of(model)):
        for side in SIDES:
            a, b, logits = block.branch(side)
            for use, gamma in enumerate(torch.sigmoid(logits).tolist()):
                layer = index * len(logits) + use
                share = shares[index, side, use]
                rank = effective_rank((a[use] @ b[use]).numpy())
                rows.append({"layer": layer, "side": side, "gamma": gamma, "share": share, "rank": rank})
    return rows


def effective_rank(matrix: NDArray[np.float32]) -> float:
    """(sum s^2)^2 / sum s^4 over singular values s: n for n equal ones; 0 for a zero matrix."""
    power = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
    return float(power.sum() ** 2 / (power**2).sum()) if power.sum() > 1e-20 else 0.0


def worth(path: Path, n_tokens: int) -> dict[str, float]:
    """Bits per byte that the loss rises by when a freedom is taken from the trained model.

    cut_attn, cut_mlp, cut_both: branches removed. cut_scales: scales and mixes replaced by their mean over the
    virtual layers of a block.
    """
    bench = Bench(path, n_tokens)
    evaluator, tensors = bench.text.evaluator(), bench.tensors
    whole = evaluator.evaluate(tensors).bpb
    taken = {
        "cut_attn": _silent(tensors, "attn_lora_B"),
        "cut_mlp": _silent(tensors, "mlp_lora_B"),
        "cut_both": _silent(tensors, "lora_B"),
        "cut_scales": _averaged(tensors),
    }
    return {name: evaluator.evaluate(changed).bpb - whole for name, changed in taken.items()}


def _silent(tensors: Tensors, ending: str) -> Tensors:
    return {name: np.zeros_like(a) if name.endswith(ending) else a for name, a in tensors.items()}


def _averaged(tensors: Tensors) -> Tensors:
    per_layer = ("attn_scales", "mlp_scales", "resid_mixes")
    return {
        name: np.broadcast_to(a.mean(axis=0, keepdims=True), a.shape).copy() if name.endswith(per_layer) else a
        for name, a in tensors.items()
    }


def unfoldable(path: Path, n_tokens: int = 8192) -> dict[str, float]:
    """Share of the branches' power that no change of the module's last matrix can give, per module.

    Least squares of gamma (norm x) A B on the inputs of `proj`, fitted on one half of the text, measured on the
    other; mean over virtual layers. 0: W_i = W + a low-rank change of it.
    """
    bench = Bench(path, n_tokens)
    model = bench.text.evaluator().module(bench.tensors)
    half = min(n_tokens, len(bench.text.val_tokens)) // 2
    fitted, tested = (_moments(model, list(batches(bench, half, skip))) for skip in (0, half))
    errors: dict[str, list[float]] = {side: [] for side in SIDES}
    for place, (gram, cross, _) in fitted.items():
        ridge = 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram))
        change = np.linalg.solve(gram + ridge, cross)
        other, target, power = tested[place]
        left = power - 2 * np.sum(change * target) + np.sum(change * (other @ change))
        errors[place[1]].append(float(left / max(power, 1e-30)))
    return {f"unfoldable_{side}": float(np.mean(values)) for side, values in errors.items()}


Moments = tuple[NDArray[np.float64], NDArray[np.float64], float]


@torch.no_grad()
def _moments(model: nn.Module, text: list[Tensor]) -> dict[Place, Moments]:
    """h'h, h't and t't of every place: h what goes into `proj`, t what the branch adds."""
    inputs: dict[str, Tensor] = {}
    found: dict[Place, Moments] = {}

    def see(place: Place, out: Tensor, added: Tensor) -> None:
        h, t = (x.flatten(0, -2).double().numpy() for x in (inputs[place[1]], added))
        new = (h.T @ h, h.T @ t, float(np.square(t).sum()))
        old = found.get(place)
        found[place] = new if old is None else (old[0] + new[0], old[1] + new[1], old[2] + new[2])

    def keep(side: str):  # type: ignore[no-untyped-def]
        return lambda module, given: inputs.__setitem__(side, given[0].detach())

    handles = [
        getattr(block, side).proj.register_forward_pre_hook(keep(side))
        for block in blocks_of(model)
        for side in SIDES
    ]
    try:
        with branches_seen(model, see):
            for ids in text:
                model.forward_logits(ids)  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return found
