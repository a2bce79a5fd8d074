"""GPTAQ's question: should a layer's target allow for the error of the layers below it?

    python -m experiments.rate_distortion.asymmetric demo/model.safetensors > results/asymmetric.md

x are a matrix's inputs in the fp32 model, z in the quantized one. GPTAQ (arXiv:2504.02692) minimizes |w x - v z|
instead of |(w - v) x|, which is GPTQ with H = E z z^T and the target w C H^-1, C = E x z^T. Here all layers are taken
at once: the model is quantized, z is observed, and it is quantized again towards the new targets. The tied embedding
keeps its own. `damp` times the mean diagonal joins H where the target is solved for; `share` is how far the target
goes from w to there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.rate_distortion.curves import ENGINES, dials, text_of
from experiments.rate_distortion.laboratory import Laboratory, open_laboratory
from experiments.rate_distortion.rows import points
from pgpack.calibration.calibration import from_arrays
from pgpack.calibration.observe import _Watch
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.pack import pack
from pgpack.recipe.text import parse_recipe
from pgpack.unpack import unpack

Arrays = Mapping[str, NDArray[np.float32]]
N_TOKENS, BATCH_WINDOWS = 32_768, 16
CASES = ((0.0, 0.0), (0.1, 1.0), (0.1, 0.5))  # (damp, share); the first only takes E z z^T for H


class _Inputs(_Watch):
    """Keeps the inputs of every product of one batch."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(parameters)
        self.inputs: dict[str, Tensor] = {}

    def _see(self, x: Tensor, y: Tensor, name: str, transposed: bool) -> None:
        if not transposed:
            self.inputs[name] = x.detach().reshape(-1, x.shape[-1]).float()


def moments(laboratory: Laboratory, quantized: Arrays) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(H, C) of every matrix over the calibration text."""
    text = laboratory.bench.text
    models = [
        text.build({n: torch.tensor(a) for n, a in t.items()}).eval()
        for t in (dict(laboratory.checkpoint.items()), quantized)
    ]
    windows = text.calib_tokens[:N_TOKENS].astype(np.int64).reshape(-1, text.seq_len)
    H: dict[str, Tensor] = {}
    C: dict[str, Tensor] = {}
    for start in range(0, len(windows), BATCH_WINDOWS):
        ids, seen = torch.from_numpy(windows[start : start + BATCH_WINDOWS]), []
        for model in models:
            watch = _Inputs({name: p for name, p in model.named_parameters() if p.ndim == 2})
            with torch.no_grad(), watch:
                model.forward_logits(ids)
            seen.append(watch.inputs)
        for name, z in seen[1].items():
            H[name] = H.get(name, torch.zeros(())) + z.T @ z / N_TOKENS
            C[name] = C.get(name, torch.zeros(())) + seen[0][name].T @ z / N_TOKENS
    return H, C


def row(laboratory: Laboratory, step: float, damp: float, share: float) -> Any:
    """The point of the second quantization."""
    recipe = parse_recipe(text_of(ENGINES[1], step)).without_idle_rules(laboratory.tensors)
    first = unpack(laboratory.pack(recipe).data).tensors()
    H, C = moments(laboratory, first)
    observed = laboratory.calibration("observed", recipe)
    arrays = {key: observed.load(key) for key in observed.shapes}
    tensors = dict(laboratory.checkpoint.items())
    for name in laboratory.matrices:
        if f"{name}.lookup.hessian" in arrays:
            continue
        arrays[f"{name}.hessian"] = H[name].numpy()
        if share:
            solved = H[name].double() + damp * H[name].diagonal().mean() * torch.eye(len(H[name]))
            W = torch.tensor(tensors[name]).double()
            shift = W @ torch.linalg.solve(solved, (C[name] - H[name]).double(), left=False)
            tensors[name] = (W + share * shift).float().numpy()
    artifact = pack(from_tensors(tensors), recipe, from_arrays(arrays, "", N_TOKENS))
    decoded = unpack(artifact.data).tensors()
    times = (artifact.quantize_s, artifact.encode_s, artifact.decode_s)
    return laboratory._row("asymmetric", step, artifact.n_bytes, decoded, times, str(recipe))


def main() -> None:
    """Print the table."""
    from pgpack.study.frontier import bd_rate

    laboratory = open_laboratory(Path(sys.argv[1]), "demo", Path("runs/rd/demo"), 16384)
    steps = dials(laboratory)[2:5]
    anchor = [laboratory.recipe_row(ENGINES[1].name, step, text_of(ENGINES[1], step)) for step in steps]
    print("# Targets that allow for the layers below (GPTAQ, all layers at once)\n")
    print("Written by `python -m experiments.rate_distortion.asymmetric`: the demo's model, 64 states.\n")
    print("| damp | share | KL at " + " | KL at ".join(f"step {step:g}" for step in steps) + " | bytes at equal KL |")
    print("|---:|---:|" + "---:|" * (len(steps) + 1))
    print("| the engine | | " + " | ".join(f"{each.kl:.5f}" for each in anchor) + " | |")
    for damp, share in CASES:
        rows = [row(laboratory, step, damp, share) for step in steps]
        rate = bd_rate(points(anchor, "kl"), points(rows, "kl"), "kl").percent
        print(
            f"| {damp:g} | {share:g} | " + " | ".join(f"{each.kl:.5f}" for each in rows) + f" | {rate:+.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
