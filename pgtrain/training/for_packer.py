"""Training for a packer: the last part of a run sees the weights that the packer will decode, and pays for bytes.

    REFRESHES times        averaged weights, training text --observe--> the engine's steps
    every few steps        weights --trellis--> levels, their rate and its slope, bytes
    every step             gradient of the loss at what the trellis aims at (weights less what is not worth its bits),
                           straight through, + slope of what is paid for bytes --> Muon, Adam

Owns when that happens, and its state: exact to the bit when a run is continued. What the engine does is
`pgpack.refine.outlook`'s. The trellis is the packer's own: its gain, its zeros and its error feedback are in the
levels whose rate is paid. The loss sees what it aims at and not what it decodes to *(negative)*: rounding errors are
chaotic, and weights that have learned to make up for some of them meet others at the next decision.

*Source* straight-through rounding: Bengio et al. 2013, arXiv:1308.3432; rate-constrained training: BackSlash,
arXiv:2504.16968; Oktay et al., arXiv:1906.06624. We differ: the rate is that of the packer's coder. Where loss and
rate are quadratic, what the trellis aims at is where both gradients cancel: training begins there, and finds what a
quadratic does not know. Tried before *(negative)*: Newton's steps for the rate apart from the optimizer.
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
        self.offsets: dict[str, Tensor] = {}
        self.slopes: dict[str, Tensor] = {}
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
        for name, target in decision.targets.items():
            parameter = named[name]
            offset = (target - weights[name].reshape(target.shape)).reshape(parameter.shape)
            self.offsets[name] = torch.from_numpy(offset).to(parameter)
            slope = self.pressure * decision.slopes[name].reshape(parameter.shape)
            self.slopes[name] = torch.from_numpy(slope).to(parameter)

    def weights(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name -> weights as the trellis aims at them, as leaves that collect the gradient there."""
        return {
            name: (named[name].detach() + offset.to(named[name])).requires_grad_()
            for name, offset in self.offsets.items()
        }

    def hand_back_(self, named: Mapping[str, Tensor], weights: Mapping[str, Tensor], fraction: float) -> None:
        """Give the parameters the gradients that their decoded weights collected, after backward."""
        for name, seen in weights.items():
            named[name].grad = seen.grad

    def add_rate_(self, named: Mapping[str, Tensor]) -> None:
        """Add the gradient of what is paid for bytes to that of the loss."""
        for name, slope in self.slopes.items():
            if (gradient := named[name].grad) is not None:
                gradient.add_(slope.to(gradient))

    @property
    def recipe(self) -> str:
        """The recipe at the dial as it is: what the weights were trained for."""
        return str(self.outlook.target.at(self.outlook.dial).recipe)

    def tensors(self) -> dict[str, Tensor]:
        """Its state but for `numbers`, float32."""
        origin = {f"origin/{name}": torch.from_numpy(array) for name, array in self.origin.items()}
        late = {f"offset/{name}": offset for name, offset in self.offsets.items()}
        return origin | late | {f"slope/{name}": slope for name, slope in self.slopes.items()}

    def numbers(self) -> dict[str, float]:
        """The rest of its state, exact as JSON."""
        outlook = self.outlook
        return {"step": self.step, "dial": outlook.dial, "settled_at": outlook.settled_at, "n_bytes": self.n_bytes}

    def restore_(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Take over a state; what follows from the calibration is worked out again."""
        self.step, self.n_bytes = int(numbers["step"]), numbers["n_bytes"]
        split = {kind: {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)} for kind in KINDS}
        self.origin = _arrays(split["origin/"])
        self.offsets, self.slopes = split["offset/"], split["slope/"]
        if self.step:
            self.outlook.dial = numbers["settled_at"]
            self.outlook.settle(self.origin, self.observe(self.origin))
            self.outlook.dial = numbers["dial"]


KINDS = ("origin/", "offset/", "slope/")


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Copies of them."""
    return {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in tensors.items()}
