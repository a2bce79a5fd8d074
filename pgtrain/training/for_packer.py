"""Training for a packer: in the last part of a run weights move to where the packer needs fewer bytes for them.

    REFRESHES times        averaged weights, training text --observe--> the engine's steps
    every few steps        weights --trellis--> levels, bytes, Newton's step down what is paid for the rate
    every step             gradient of the loss --> Muon, Adam, then weights += SHARE rate of learning * Newton's step

Owns when that happens, and its state: exact to the bit when a run is continued. What the engine does is
`pgpack.refine.outlook`'s. The trellis is the packer's own: its gain, its zeros and its error feedback are in the
levels whose rate is paid. The rate acts beside the optimizers, as decoupled weight decay does: within them Muon and
Adam take away its scale.

*Source* decoupled decay: Loshchilov and Hutter 2019, arXiv:1711.05101; rate-constrained training: BackSlash,
arXiv:2504.16968; Oktay et al., arXiv:1906.06624. We differ: the rate is that of the packer's coder. Tried before
*(negative)*: the slope of the rate among the gradients, the loss at decoded weights or at what the trellis aims at
(README of experiments/for_packer).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgpack.calibration.calibration import Calibration
from pgpack.refine.outlook import Outlook
from pgpack.refine.target import PackerTarget

Weights = Mapping[str, NDArray[np.float32]]
EVERY = 4  # steps from one decision to the next, unless a run says otherwise
REFRESHES = 3  # calibrations in all
SHARE = 0.02  # of Newton's step, each step at the full rate of learning


class ForPacker:
    """The late part of a run. `observe`: weights -> calibration; `pressure`: what a byte costs, in units
    of what the packer pays for it; `n_steps`: how long the part is; `every`: steps from one decision to the next."""

    def __init__(
        self, target: PackerTarget, weights: Mapping[str, Tensor], observe: Callable[[Weights], Calibration],
        pressure: float, n_steps: int, every: int = EVERY,
    ) -> None:  # fmt: skip
        shapes = {name: tuple(each.shape) for name, each in weights.items()}
        self.outlook, self.every = Outlook(target, shapes, torch.get_num_threads()), every
        decisions = max(1, -(-n_steps // every))
        self.observe, self.pressure = observe, pressure
        self.refresh = every * max(1, -(-decisions // REFRESHES))  # steps from one calibration to the next
        self.step = 0
        self.origin: dict[str, NDArray[np.float32]] = {}  # what the steps come from
        self.moves: dict[str, Tensor] = {}
        self.n_bytes = 0.0

    def prepare_(self, named: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> None:
        """What is due before the next step."""
        if self.step % self.refresh == 0:
            self.origin = _arrays({name: averaged[name] for name in self.outlook.shapes})
            calibration = self.observe(self.origin)
            (self.outlook.settle if self.step else self.outlook.begin)(self.origin, calibration)
        if self.step % self.every == 0:
            self._decide(named)
        self.step += 1

    @torch.no_grad()
    def _decide(self, named: Mapping[str, Tensor]) -> None:
        weights = _arrays({name: named[name] for name in self.outlook.matrices})
        decision = self.outlook.decide(weights)
        self.n_bytes = decision.n_bytes
        self.moves = {
            name: torch.from_numpy(self.pressure * move.reshape(named[name].shape)).to(named[name])
            for name, move in decision.moves.items()
        }

    @torch.no_grad()
    def move_(self, named: Mapping[str, Tensor], scale: float) -> None:
        """Move weights down what is paid for bytes, after the optimizers' step, but not beyond zero: there it turns.
        `scale`: of the rate of learning."""
        for name, move in self.moves.items():
            weight = named[name]
            moved = weight + SHARE * scale * move.to(weight)
            weight.copy_(torch.where(moved * weight < 0, torch.zeros_like(weight), moved))

    @property
    def recipe(self) -> str:
        """The recipe at the dial as it is: what the weights were trained for."""
        return str(self.outlook.target.at(self.outlook.dial).recipe)

    def tensors(self) -> dict[str, Tensor]:
        """Its state but for `numbers`, float32."""
        origin = {f"origin/{name}": torch.from_numpy(array) for name, array in self.origin.items()}
        return origin | {f"move/{name}": move for name, move in self.moves.items()}

    def numbers(self) -> dict[str, float]:
        """The rest of its state, exact as JSON."""
        outlook = self.outlook
        return {"step": self.step, "dial": outlook.dial, "settled_at": outlook.settled_at, "n_bytes": self.n_bytes}

    def restore_(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Take over a state; what follows from the calibration is worked out again."""
        self.step, self.n_bytes = int(numbers["step"]), numbers["n_bytes"]
        split = {kind: {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)} for kind in KINDS}
        self.origin = _arrays(split["origin/"])
        self.moves = split["move/"]
        if self.step:
            self.outlook.dial = numbers["settled_at"]
            self.outlook.settle(self.origin, self.observe(self.origin))
            self.outlook.dial = numbers["dial"]


KINDS = ("origin/", "move/")


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Copies of them."""
    return {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in tensors.items()}
