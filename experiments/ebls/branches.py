"""What a checkpoint's branches are: gammas, share of the module's output on text, rank, and what they are worth; and
how alike the patterns of seeds are.

Owns the quantities of one checkpoint. A `Place` is (block, "attn" or "mlp", use); virtual layer = 3 * block + use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.replication.packing import Bench
from experiments.replication.rows import Row, Value, by
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgtrain.model.shrinkage import DeviatingBlock, Place, branches_seen, output_shares

SHARE_TOKENS = 2048
SIDES = ("attn", "mlp")
EARLY = 3  # virtual layers 0-2 are those for which #433 reports an attention gamma above zero at the end


def blocks_of(model: nn.Module) -> list[DeviatingBlock]:
    return [module for module in model.modules() if isinstance(module, DeviatingBlock)]


def batches(bench: Bench, n_tokens: int, skip: int = 0) -> Iterator[Tensor]:
    """Held-out text in windows of the model's length. Shape: (8, T) int64."""
    length = bench.text.seq_len
    tokens = torch.from_numpy(np.asarray(bench.text.val_tokens[skip : skip + n_tokens], dtype=np.int64))
    yield from torch.split(tokens[: len(tokens) // length * length].reshape(-1, length), 8)


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

    def averaged(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.broadcast_to(array.mean(axis=0, keepdims=True), array.shape).copy()

    taken: dict[str, tuple[Callable[[NDArray[np.float32]], NDArray[np.float32]], tuple[str, ...]]] = {
        "cut_attn": (np.zeros_like, ("attn_lora_B",)),
        "cut_mlp": (np.zeros_like, ("mlp_lora_B",)),
        "cut_both": (np.zeros_like, ("lora_B",)),
        "cut_scales": (averaged, ("attn_scales", "mlp_scales", "resid_mixes")),
    }
    rises: dict[str, float] = {}
    for name, (change, endings) in taken.items():
        changed = {key: change(array) for key, array in tensors.items() if key.endswith(endings)}
        rises[name] = evaluator.evaluate(tensors | changed).bpb - whole
    return rises


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

    def keep(side: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[side] = given[0].detach()

    projections = [(side, getattr(block, side).proj) for block in blocks_of(model) for side in SIDES]
    handles = [projection.register_forward_pre_hook(partial(keep, side)) for side, projection in projections]
    try:
        with branches_seen(model, see):
            for ids in text:
                model.forward_logits(ids)  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return found


def of_places(rows: Sequence[Row]) -> dict[str, float]:
    """Means and largest values by module, early against late, attention against MLP."""
    found: dict[str, float] = {}
    for side in SIDES:
        own = [row for row in rows if row["side"] == side]
        for what in ("gamma", "share", "rank"):
            values = {int(row["layer"]): float(row[what]) for row in own}
            found[f"{what}_{side}"] = fmean(values.values())
            found[f"{what}_{side}_max"] = max(values.values())
            early = fmean(value for layer, value in values.items() if layer < EARLY)
            late = fmean(value for layer, value in values.items() if layer >= EARLY)
            found[f"{what}_{side}_early_over_late"] = early / max(late, 1e-12)
    for what in ("gamma", "share", "rank"):
        found[f"{what}_mean"] = (found[f"{what}_attn"] + found[f"{what}_mlp"]) / 2
        found[f"{what}_attn_over_mlp"] = found[f"{what}_attn"] / max(found[f"{what}_mlp"], 1e-12)
    return found


def pattern_agreement(rows: Sequence[Row]) -> dict[int, float]:
    """Correlation of each seed's log gammas with the mean of the other seeds'."""
    by_seed = {int(seed): np.log(gammas) for (seed,), gammas in by(rows, ("seed",), "gamma").items()}
    found = {}
    for seed, own in by_seed.items():
        others = np.mean([values for other, values in by_seed.items() if other != seed], axis=0)
        found[seed] = float(np.corrcoef(own, others)[0, 1])
    return found
