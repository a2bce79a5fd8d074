"""How much text a model is run on at a time, and which of its blocks are run twice, so that memory stays in bounds.

    two short runs --what autograd keeps--> bytes per token and per token^2 of each block --> Plan

What a backward pass needs is kept from the forward pass on: for SmolLM2-135M 1.5 GB per window of 1,024 tokens. Fewer
windows at a time cost nothing; a block that is run again in the backward pass keeps its input alone, and costs its
forward pass (Chen et al. 2016, arXiv:1604.06174). So windows are spared first, then blocks.

Owns the bounds. A model whose batches of 8,192 tokens keep at most AS_ALWAYS is run on such batches: over batches of
another size sums round otherwise, and their last bits would change. Needs torch.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pgpack.loss.head import WHOLE_BYTES

from .watch import Watch

BATCH_TOKENS = 8192  # at most, at a time
AS_ALWAYS = 384 * 2**20  # bytes that a batch of BATCH_TOKENS may keep
BOUND = 384 * 2**20  # bytes that a smaller batch may keep, or OF_MODEL times what the model itself takes
OF_MODEL = 1.75  # SmolLM2-135M: a window of 1,024 tokens keeps 0.90 GB, no block is run again, the peak is 2.9 GB
OUTSIDE = -1  # what is kept outside of all blocks


MAPPED = 2**20  # allocations from here on go back to the system when they are freed, in bounded batches
ON_THE_HEAP = 2**25  # allocations below that do not, otherwise: where glibc's own threshold comes to rest
M_MMAP_THRESHOLD = -3  # of glibc's mallopt

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """`tokens`: of a batch, whole windows; `n_pieces`: of the vocabulary, at least; `again`: blocks to run twice;
    `bounded`: batches are smaller than they might be, for memory's sake."""

    tokens: int
    n_pieces: int
    again: Sequence[nn.Module] = ()
    bounded: bool = False


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Members of the outermost lists whose members are all of one class: a model's layers."""
    found: dict[int, nn.Module] = {}
    inside: set[int] = set()
    for module in model.modules():
        if id(module) in inside or not isinstance(module, nn.ModuleList) or len({type(each) for each in module}) != 1:
            continue
        found |= {id(each): each for each in module}
        inside |= {id(each) for each in module.modules()}
    return list(found.values())


def plan(run: Run, model: nn.Module, windows: Tensor, watch: Watch) -> Plan:
    """How `run`, ids to logits by `model`, is best run on `windows`. Shape: (n, seq_len) int64.

    A model that cannot be run on parts of a window is run as always.
    """
    seq_len = windows.shape[1]
    most = max(1, BATCH_TOKENS // seq_len) * seq_len
    blocks = blocks_of(model)
    try:
        kept = _Kept.measured(run, model, blocks, windows[:1], watch)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return Plan(most, int(windows.max()) + 1)
    if kept.of(seq_len, most).total() <= AS_ALWAYS:
        return Plan(most, kept.n_pieces)
    bound = bound_of(model)
    tokens = next((n for n in range(most, seq_len, -seq_len) if kept.of(seq_len, n).total() <= bound), seq_len)
    again = _without(kept.of(seq_len, tokens), blocks, bound)
    able = again and _can_run_again(run, again, windows[:1, : max(1, seq_len // 8)], watch)
    return Plan(tokens, kept.n_pieces, again if able else (), bounded=True)


@contextmanager
def instead(blocks: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """While it lasts `forward(index, original, ...)` runs in place of every block."""
    own = [vars(block).get("forward") for block in blocks]
    for index, block in enumerate(blocks):
        block.forward = partial(forward, index, block.forward)
    try:
        yield
    finally:
        for block, before in zip(blocks, own, strict=True):
            del block.forward
            if before is not None:
                block.forward = before


def running_again(blocks: Sequence[nn.Module], watch: Watch) -> AbstractContextManager[None]:
    """While this lasts, what the backward pass needs of these blocks is computed anew there."""
    return instead(blocks, partial(_again, watch))


def _again(watch: Watch, _: int, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with watch.scope():
            return forward(*args, **kwargs)

    return checkpoint(
        run,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), watch.replaying()),
        **kwargs,
    )


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """While it lasts, where glibc allocates: activations that come and go leave holes in its heap, for
    SmolLM2-135M 0.9 GB of them. What goes back must be cleared when it is given out again, 11 % of the processor time
    of that model's calibration, and a third of a small one's, or of its tuning."""
    _map_from(MAPPED)
    try:
        yield
    finally:
        _map_from(ON_THE_HEAP)


def _map_from(n_bytes: int) -> None:
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, n_bytes)


def bound_of(model: nn.Module) -> int:
    """Bytes that a batch may keep, when a large one keeps more than AS_ALWAYS."""
    return max(BOUND, round(OF_MODEL * sum(parameter.nbytes for parameter in model.parameters())))


def _without(kept: Counter[int], blocks: Sequence[nn.Module], bound: int) -> list[nn.Module]:
    """The fewest blocks, from the first on, without which what is kept is within `bound`."""
    total, found = kept.total(), []
    for index, block in enumerate(blocks):
        if total <= bound:
            break
        found.append(block)
        total -= kept[index]
    return found


def _can_run_again(run: Run, blocks: Sequence[nn.Module], ids: Tensor, watch: Watch) -> bool:
    """Whether these blocks do the same when they are run again; one that fills a cache does not."""
    try:
        with running_again(blocks, watch):
            with watch.replaying():
                logits = run(ids)
            logits.float().sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    finally:
        watch.forget()
    return True


@dataclass(frozen=True)
class _Kept:
    """Bytes that autograd keeps of a short window and of one of half its length, by block; logits aside.

    Units: `n_tokens` of the window; `n_pieces` logits of each.
    """

    n_tokens: int
    n_pieces: int
    whole: Counter[int]
    half: Counter[int]

    @classmethod
    def measured(cls, run: Run, model: nn.Module, blocks: Sequence[nn.Module], ids: Tensor, watch: Watch) -> _Kept:
        length = max(1, min(64, ids.shape[1] // 2))
        n_pieces, whole = _kept(run, model, blocks, ids[:, : 2 * length], watch)
        return cls(2 * length, n_pieces, whole, _kept(run, model, blocks, ids[:, :length], watch)[1])

    def of(self, seq_len: int, n_tokens: int) -> Counter[int]:
        """The same of `n_tokens` in windows of `seq_len`: a term per token, and one per pair of tokens."""
        found: Counter[int] = Counter()
        for index, whole in self.whole.items():
            pairs = max(0.0, (whole - 2 * self.half[index]) / (self.n_tokens**2 / 2))
            single = whole / self.n_tokens - pairs * self.n_tokens
            found[index] = round(n_tokens * (single + pairs * seq_len))
        logits = 4 * n_tokens * self.n_pieces
        found[OUTSIDE] += 2 * logits if logits <= WHOLE_BYTES else 0  # they and their gradients
        return found


def _kept(
    run: Run, model: nn.Module, blocks: Sequence[nn.Module], ids: Tensor, watch: Watch
) -> tuple[int, Counter[int]]:
    """(logits of a token, bytes that autograd keeps of one run besides weights and logits, by block)."""
    sizes: list[tuple[int, int, int]] = []  # block, last dimension, bytes
    place = [OUTSIDE]
    seen = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            sizes.append((place[-1], tensor.shape[-1] if tensor.ndim else 1, storage.nbytes()))
        return tensor

    def leave(*_: Any) -> None:
        place.pop()

    handles = []
    for index, block in enumerate(blocks):
        handles.append(block.register_forward_pre_hook(lambda *_, index=index: place.append(index)))
        handles.append(block.register_forward_hook(leave))
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), watch.replaying():
            n_pieces = run(ids).shape[-1]
    finally:
        watch.forget()
        for handle in handles:
            handle.remove()
    found: Counter[int] = Counter()
    for index, last, n_bytes in sizes:
        found[index] += n_bytes if last != n_pieces else 0
    return n_pieces, found
