"""A model run in stages: the inputs of one matrix after another, without running again what is settled.

    windows --settled blocks: their kept outputs--> the block at hand --> inputs of the stage's matrices, and stop

Owns order: which matrices share an input, which block they are in, which of them write to the residual stream. Works
on any nn.Module whose layers are members of a list; what is seen more than once in a pass, by a part of the tokens
only, or outside of the layers has no stage. Needs torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pgpack.calibration.blocks import blocks_of, instead
from pgpack.calibration.products import Place, Products, whole
from pgpack.errors import RecipeError
from pgpack.loss.head import logits_of
from pgpack.recipe.recipe import Recipe

CLOSE = 1e-3  # of the residual stream, relative: what its writers add up to


def refuse_global(recipe: Recipe, directive: str) -> None:
    """Raises RecipeError where what is done to a tensor depends on all of them, which stages do not see."""
    if recipe.order.by != "none":
        raise RecipeError(f"{directive} does not go with @order, whose permutation depends on all weights at once")
    if any(t.top for rule in recipe.rules for t in rule.policy.transforms):
        raise RecipeError(f"{directive} does not go with lqer_asym, which chooses among all tensors")


class _Enough(Exception):
    """All that was wanted of a pass has been seen."""


@dataclass(frozen=True)
class Stage:
    """Parameters that one input goes into, all in one block. `before`: those of the block that write to the residual
    stream before; `writes`: whether its one parameter does, so that what the stream lacks can be made up for."""

    parameters: tuple[str, ...]
    block: int
    before: tuple[str, ...] = ()
    writes: bool = False


@dataclass(eq=False)
class _Pass(Products):
    """One pass: inputs and outputs of products by parameter, until `wanted` are seen."""

    model: nn.Module
    wanted: Collection[str] | None = None
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    order: list[tuple[str, int]] = field(default_factory=list)  # parameter, identity of its input
    times: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__({name: each for name, each in self.model.named_parameters() if each.ndim == 2})
        self.wholes = {name: whole(name, each) for name, each in self.model.named_parameters() if each.ndim == 2}

    def product(self, x: Tensor, y: Tensor, place: Place, rows_are_outputs: bool) -> None:
        name = place.name
        self.times[name] += 1
        if not rows_are_outputs or place[:3] != self.wholes[name][:3]:
            self.times[name] += 1  # of no use here, as if it had been seen twice
        if self.wanted is None or name in self.wanted:
            self.inputs[name], self.outputs[name] = x, y
        self.order.append((name, id(x)))
        if self.wanted is not None and self.inputs.keys() >= set(self.wanted):
            raise _Enough


class Staged:
    """A model and windows, run block by block. `ids`: batches of windows. Shape: (windows, time) int64 each."""

    def __init__(self, model: nn.Module, ids: Sequence[Tensor]) -> None:
        self.model, self.ids, self.blocks = model, ids, blocks_of(model)
        self.settled = 0  # blocks whose outputs are kept
        self.kept: list[dict[int, Any]] = [{} for _ in ids]
        self.entered: Any = None
        self.chained = False

    @torch.no_grad()
    def stages(self) -> list[Stage]:
        """The stages in the order of the model; [] where its layers cannot be run one by one."""
        ids = self.ids[0][:1, :16]
        seen, outputs, streams = self._whole_pass(ids)
        if len(outputs) != len(self.blocks) or not self.blocks:
            return []
        self.chained = self._is_chain(ids, outputs)
        inside = {id(p): i for i, block in enumerate(self.blocks) for p in block.parameters()}
        places = {name: inside[id(p)] for name, p in self.model.named_parameters() if id(p) in inside}
        usable = {
            name for name, n in seen.times.items()
            if n == 1 and name in places and seen.inputs[name].shape[:-1].numel() == ids.numel()
        }  # fmt: skip
        found: list[Stage] = []
        together: dict[int, list[str]] = {}
        for name, source in seen.order:
            if name in usable:
                together.setdefault(source, []).append(name)
        for names in together.values():
            block = places[names[0]]
            writers = _writers(seen, streams[block], [n for n in seen.times if places.get(n) == block])
            before = tuple(n for n in writers if list(seen.times).index(n) < list(seen.times).index(names[0]))
            found.append(Stage(tuple(names), block, before, len(names) == 1 and names[0] in writers))
        return found

    @torch.no_grad()
    def inputs(self, stage: Stage) -> Iterator[tuple[Tensor, Tensor | None]]:
        """(inputs of the stage, residual stream that it will be added to, where it writes) of every batch.

        Shape: (tokens, in), (tokens, out), float32.
        """
        while self.settled < stage.block:
            self._settle()
        wanted = {*stage.parameters, *(stage.before if stage.writes else ())}
        for batch, ids in enumerate(self.ids):
            seen = _Pass(self.model, wanted)
            with self._patched(batch, entering=stage.block), seen:
                self._run(ids)
            stream = None
            if stage.writes:
                stream = sum((_rows(seen.outputs[name]) for name in stage.before), start=_rows(self.entered))
            yield _rows(seen.inputs[stage.parameters[0]]), stream

    def _settle(self) -> None:
        """Keep what the next block gives, of every batch."""
        for batch, ids in enumerate(self.ids):
            with self._patched(batch, until=self.settled):
                self._run(ids)
            if self.chained:
                self.kept[batch].pop(self.settled - 1, None)
        self.settled += 1

    def _run(self, ids: Tensor) -> None:
        try:
            logits_of(self.model, ids)
        except _Enough:
            return

    @contextmanager
    def _patched(self, batch: int, until: int = -1, entering: int = -1) -> Iterator[None]:
        """While it lasts settled blocks give what is kept of them, the pass ends with block `until`, and what goes
        into block `entering` is remembered."""
        kept = self.kept[batch]

        def forward(index: int, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if index < self.settled:
                return kept.get(index, args[0] if args else None)
            if index == entering:
                self.entered = args[0] if args else kwargs.get("hidden_states")
            result = original(*args, **kwargs)
            if index == until:
                kept[index] = result
                raise _Enough
            return result

        with instead(self.blocks, forward):
            yield

    def _whole_pass(self, ids: Tensor) -> tuple[_Pass, dict[int, Any], dict[int, tuple[Any, Any]]]:
        """What a short pass shows: its products, what each block gives, and (what goes in, what comes out)."""
        outputs: dict[int, Any] = {}
        streams: dict[int, tuple[Any, Any]] = {}
        times: Counter[int] = Counter()

        def forward(index: int, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            entered = args[0].clone() if args and isinstance(args[0], Tensor) else None
            outputs[index] = original(*args, **kwargs)
            streams[index] = entered, outputs[index][0] if isinstance(outputs[index], tuple) else outputs[index]
            times[index] += 1
            return outputs[index]

        seen = _Pass(self.model)
        with instead(self.blocks, forward), seen:
            self.logits = logits_of(self.model, ids)
        return seen, outputs if set(times.values()) == {1} else {}, streams

    def _is_chain(self, ids: Tensor, outputs: dict[int, Any]) -> bool:
        """Whether a block's output goes into the next block alone, so that one is all that must be kept."""
        last = len(self.blocks) - 2

        def forward(index: int, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if index < last:
                return _spoilt(outputs[index])
            return outputs[index] if index == last else original(*args, **kwargs)

        if last < 1:
            return False
        with instead(self.blocks, forward):
            return torch.equal(logits_of(self.model, ids), self.logits)


def _writers(seen: _Pass, stream: tuple[Any, Any], names: Sequence[str]) -> tuple[str, ...]:
    """Those of a block's matrices whose outputs make up all that it adds to what goes in; () where others do."""
    entered, left = stream
    if not isinstance(entered, Tensor) or not isinstance(left, Tensor):
        return ()
    found = [name for name in names if seen.outputs[name].shape == entered.shape and seen.times[name] == 1]
    for wide in (found, found[-2:], found[-1:]):
        added = sum((_rows(seen.outputs[name]) for name in wide), start=_rows(entered))
        if wide and float((added - _rows(left)).norm()) <= CLOSE * float(_rows(left).norm()):
            return tuple(wide)
    return ()


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1]).float()


def _spoilt(output: Any) -> Any:
    """The same with nothing in it that a number could be made of."""
    if isinstance(output, Tensor):
        return torch.full_like(output, float("nan"))
    return tuple(map(_spoilt, output)) if isinstance(output, tuple) else output
