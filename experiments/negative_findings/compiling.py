"""Does torch.compile fold a switch away that is turned on late? (finding 2b)

Three places for the switch of a fake quantizer: an attribute of the module, of its class, of a base class by name.
Compiled with the "eager" backend: what is folded is decided while the graph is captured, before any backend sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgtrain.model.gpt import GPT, initialize_
from pgtrain.training.loss_function import LossFunction
from pgtrain.training.qat import on_grid

Compile = Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]
BITS = 3  # coarse, so that the switch is seen in every output


class OwnSwitch(nn.Module):
    """The switch is an attribute of the module."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)))
        self.qat = False

    def is_on(self) -> bool:
        return self.qat

    def turn_on_(self) -> None:
        self.qat = True

    def forward(self, x: Tensor) -> Tensor:
        weight = on_grid(self.weight, BITS, 0.0) if self.is_on() else self.weight
        return x @ weight.T


class ClassSwitch(OwnSwitch):
    """The switch is an attribute of the class, as in the challenge's scripts."""

    enabled = False

    def is_on(self) -> bool:
        return self.enabled

    def turn_on_(self) -> None:
        type(self).enabled = True


class BaseSwitch(OwnSwitch):
    """The switch is an attribute of a named class."""

    def is_on(self) -> bool:
        return ClassSwitch.enabled

    def turn_on_(self) -> None:
        ClassSwitch.enabled = True


eager = partial(torch.compile, backend="eager", dynamic=False, fullgraph=True)
WAYS: dict[str, Compile] = {
    "compiled": lambda module, x: eager(module),  # as the challenge's scripts compile
    # Nothing checks whether the captured graph still holds.
    "unguarded": lambda module, x: eager(module, options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}),
    "exported": lambda module, x: torch.export.export(module, (x,)).module(),  # captured once, for good
}


def measure(trained: Trained, seed: int) -> Found:
    """Shares of the three places in which a late switch is not seen; and pgtrain's own way."""
    found = Found(seed)
    for way, compile_ in WAYS.items():
        ignored = [_is_ignored(kind, compile_, seed) for kind in (OwnSwitch, ClassSwitch, BaseSwitch)]
        found.values[f"switch.ignored_{way}"] = sum(ignored) / len(ignored)
    found.values["switch.ignored_by_pgtrain"] = float(_pgtrain_ignores(trained, seed))
    return found


def _is_ignored(kind: type[OwnSwitch], compile_: Compile, seed: int) -> bool:
    torch.compiler.reset()
    ClassSwitch.enabled = False
    module, x = kind(seed), torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
    run = compile_(module, x)
    before = run(x).detach().clone()
    module.turn_on_()
    after = run(x).detach()
    ClassSwitch.enabled = False
    return bool(torch.equal(before, after))


def _pgtrain_ignores(trained: Trained, seed: int) -> bool:
    """The loss before and after QAT begins, in the compiled functions that a run uses."""
    torch.compiler.reset()
    config = trained.study.run("control", seed, "tiny").model
    model = initialize_(GPT(config), seed)
    loss = LossFunction(model, "eager")
    ids = torch.randint(0, config.vocab_size, (1, 17), generator=torch.Generator().manual_seed(seed))
    grid = {name: on_grid(p.detach(), BITS, 0.0) for name, p in model.named_parameters() if p.ndim == 2}
    return bool(torch.equal(loss(ids[:, :-1], ids[:, 1:]), loss(ids[:, :-1], ids[:, 1:], grid)))
