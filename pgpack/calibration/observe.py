"""Calibration from a running model: watches every product of activations with a parameter. Needs torch.

    windows --model--> products, seen by `Watch`; logits --> labels drawn from them --> gradients --> sums --> arrays

Works on any nn.Module. What is seen of the parts of one tensor is joined in `_joined`; a look-up is recorded as
NAME.lookup.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pgpack.checkpoint.parameters import held_tensors, told_names
from pgpack.errors import CalibrationError
from pgpack.loss.head import Split, Splitter, logits_of, reading, slices
from pgpack.tables import counted_are

from .blocks import Plan, freed_memory_returned, plan, running_again
from .calibration import LOOKUP, Calibration, from_arrays
from .pace import Pace
from .products import whole
from .rare_rows import expected_fisher, expected_shares, shares_met
from .watch import Watch

Arrays = dict[str, NDArray[np.float32]]
_TINY = 1e-30


def observe(
    model: nn.Module,
    tokens: NDArray[np.integer[Any]],
    seq_len: int,
    *,
    token_digest: str,
    batch_tokens: int | None = None,
    output_rows: int = 4096,
    seed: int = 0,
    text: NDArray[np.integer[Any]] | None = None,
    stored: Collection[str] | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Calibration:
    """Hessians and Fisher weights of every matrix of `model` over `tokens`, in windows of `seq_len`.

    Besides, the second moments of output gradients of every matrix of at most `output_rows` rows (0: of none) that is
    no tied table (there a label moves one row of the softmax against all: nothing to gain, 0.003 bits a weight on the
    demo).

    Fisher weights use labels sampled from the model's own distribution (the true Fisher, not the empirical one;
    Kunstner et al. 2019, arXiv:1905.12558), one sample per token.

    `text`: all text at hand, whose tokens are only counted: it tells what the rows of tables count that are looked up
    by token, and those of the output matrix (`rare_rows`). Rows that 32,768 tokens never ask for are still asked for
    later.

    `stored`: the names of the checkpoint, by which prefixes of wrappers are told from names
    (`pgpack.checkpoint.parameters`).

    Raises CalibrationError when there are fewer tokens than one window, DataError when the model fails on them.
    """
    n_windows = len(tokens) // seq_len
    if n_windows < 1:
        raise CalibrationError(f"{counted_are(len(tokens), 'calibration token')} fewer than one window of {seq_len}")
    parameters = {name: p for name, p in model.named_parameters() if p.ndim >= 2}
    pace = Pace(progress)
    watch = Watch(parameters, output_rows, pace)
    windows = np.asarray(tokens[: n_windows * seq_len]).astype(np.int64).reshape(n_windows, seq_len)
    with _frozen(model):
        _run(model, torch.from_numpy(windows), watch, batch_tokens, seed)
    n_tokens = n_windows * seq_len
    held = held_tensors(
        {name: tuple(p.shape) for name, p in parameters.items()}, stored, told_names(model.named_modules())
    )
    arrays = _arrays(watch, held, {name: whole(name, p).stop for name, p in parameters.items()}, n_tokens)
    tables = [key for key in arrays if key.endswith(f"{LOOKUP}.fisher")]
    by_token = [key for key in tables if _asked_by_token(arrays[key], windows)]
    arrays |= {key: shares_met(arrays[key], n_tokens) for key in tables if key not in by_token}
    if text is not None:
        arrays |= _of_tokens(arrays, by_token, windows, np.asarray(text), _head(watch, held))
    return from_arrays(arrays, token_digest, n_tokens)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """The model as it is used: without dropout and the like, and without gradients of its weights."""
    training = model.training
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for parameter in learned:
            parameter.requires_grad_(True)


def _run(
    model: nn.Module,
    windows: Tensor,
    watch: Watch,
    batch_tokens: int | None,
    seed: int,
) -> None:
    """Run the model on all windows, batch by batch, and every batch backwards from labels that it draws itself."""
    seq_len = windows.shape[1]
    device = next(model.parameters()).device
    if batch_tokens is None:
        way = plan(partial(logits_of, model), model, windows.to(device), watch)
    else:
        way = Plan(batch_tokens, int(windows.max()) + 1)
    splitter = Splitter(way.n_pieces)
    with watch.replaying(), torch.no_grad():  # an attempt that fails must not be counted
        watch.pace.work = 0.0  # of the attempts before
        with reading():
            splitter.told(model, windows[:1, :2].to(device))
    watch.forget()
    watch.pace.begin(way.n_pieces)
    generator = torch.Generator(device="cpu").manual_seed(seed)
    with freed_memory_returned() if way.bounded else nullcontext(), running_again(way.again, watch):
        for ids in windows.split(max(1, way.tokens // seq_len)):
            watch.pace.batch(ids.numel())
            noise = torch.rand(ids.numel(), 1, generator=generator).to(device)
            watch.batch = ids.shape
            with reading(), watch:
                split = splitter(model, ids.to(device))
            _backward(split, noise, watch)
            watch.forget()
    watch.pace.batch(0)


def _backward(split: Split, noise: Tensor, watch: Watch) -> None:
    """The gradients of the sum of losses on labels that the model's own distribution gives. Shape: noise (n, 1)."""
    hidden = split.hidden
    states = hidden.detach().reshape(len(noise), -1)
    gradient = torch.empty_like(states)
    for part in slices(len(noise), split.n_pieces):
        given = states[part].requires_grad_()
        with watch:
            logits = split.head(given)
        with torch.no_grad():
            labels = (logits.softmax(-1).cumsum(-1) < noise[part]).sum(-1).clamp(max=logits.shape[-1] - 1)
        F.cross_entropy(logits, labels, reduction="sum").backward()
        assert given.grad is not None
        gradient[part] = given.grad
        watch.pace.head(*logits.shape)
    if hidden.requires_grad:
        hidden.backward(gradient.view_as(hidden))


class _Seen(NamedTuple):
    """Statistics of rows start..stop of a tensor, means over tokens. Shape: hessian (in, in), fisher (rows,)."""

    start: int
    stop: int
    hessian: NDArray[np.float32]
    fisher: NDArray[np.float32] | None
    output: NDArray[np.float32] | None

    def part(self, at: int, n: int) -> _Seen:
        """Of `n` rows from `at` on, which are a tensor of their own."""
        own = slice(at, at + n)
        fisher = None if self.fisher is None else self.fisher[own]
        return _Seen(0, n, self.hessian, fisher, None if self.output is None else self.output[own, own])


def _arrays(watch: Watch, held: Mapping[str, tuple[str, ...]], rows: Mapping[str, int], n_tokens: int) -> Arrays:
    """Everything that was seen, by the names of the checkpoint; keys as in `pgpack.calibration.calibration`.

    Moments are means over all tokens. Squares are means over those that came to the matrix, so that an expert's
    errors cost what they do, times how often: with both over all tokens, times the square of that.
    """

    def mean(total: Tensor | None, n: int = n_tokens) -> NDArray[np.float32] | None:
        return None if total is None else total.div_(n).cpu().numpy()

    seen: dict[str, list[_Seen]] = defaultdict(list)
    sizes = {}
    for use, moment in watch.moments.items():
        names = held[use.name]
        each = max(1, rows[use.name] // len(names))
        index, start = divmod(use.start, each)
        n_rows = use.stop - use.start
        if start + n_rows > each and (start or n_rows % each):
            continue  # a product with parts of several matrices at once
        n_came = min(max(1, watch.n_rows[use]), n_tokens)
        square, output = (mean(sums.get(use), n_came) for sums in (watch.squares, watch.outputs))
        hessian = moment.div_(n_tokens).cpu().numpy()
        whole = _Seen(start, start + n_rows, hessian, square, output)
        for at, name in enumerate(names[index : index + max(1, n_rows // each)]):
            seen[name].append(whole.part(at * each, each) if n_rows > each else whole)
            sizes[name] = each
    arrays: Arrays = {}
    for name, uses in seen.items():
        whole = uses[0] if len(uses) == 1 and uses[0][:2] == (0, sizes[name]) else _joined(uses, sizes[name])
        kinds = {"hessian": whole.hessian, "fisher": whole.fisher, "output": whole.output}
        arrays |= {f"{name}.{kind}": array for kind, array in kinds.items() if array is not None}
    for name, (counts, gradients) in watch.look_ups.items():
        if name in watch.not_looked_up:
            continue
        table = {"fisher": mean(counts), "hessian": mean(gradients)}
        arrays |= {f"{held[name][0]}{LOOKUP}.{kind}": array for kind, array in table.items() if array is not None}
    return arrays


def _joined(uses: Sequence[_Seen], rows: int) -> _Seen:
    """One Hessian, and a weight for each row, of a tensor whose rows take part in products of their own.

    Use k makes an error e of row r cost f_kr e H_k e. That is taken as f_r e H e with f_r the sum of
    f_kr tr H_k / tr H and H the mean of the H_k / tr H_k, weighted by what all rows cost there.
    """
    traces = [max(float(np.trace(use.hessian)), _TINY) for use in uses]
    weights = [  # what all rows of a use cost
        t * (float(use.fisher.sum()) if use.fisher is not None else 1.0) for use, t in zip(uses, traces, strict=True)
    ]
    total = max(sum(weights), _TINY)
    trace = max(sum(w * t for w, t in zip(weights, traces, strict=True)) / total, _TINY)
    hessian = np.zeros_like(uses[0].hessian)
    fisher = np.zeros(rows, np.float32)
    for use, own, weight in zip(uses, traces, weights, strict=True):
        hessian += use.hessian * np.float32(weight / total * trace / own)
        if use.fisher is not None:
            fisher[use.start : use.stop] += use.fisher * np.float32(own / trace)
    known = all(use.fisher is not None for use in uses)
    return _Seen(0, rows, hessian, fisher if known else None, None)


def _head(watch: Watch, held: Mapping[str, tuple[str, ...]]) -> str | None:
    """The output matrix: what the last product was made with, one that is stored as it is."""
    last = watch.latest
    return held[last.name][0] if last is not None and last.rows_are_outputs and len(held[last.name]) == 1 else None


def _asked_by_token(shares: NDArray[np.float32], windows: NDArray[np.int64]) -> bool:
    """Whether the tokens of `windows`, and nothing else, were looked up."""
    return np.array_equal(np.rint(shares * windows.size), np.bincount(windows.reshape(-1), minlength=len(shares)))


def _of_tokens(
    arrays: Mapping[str, NDArray[np.float32]],
    tables: Sequence[str],
    windows: NDArray[np.int64],
    text: NDArray[np.integer[Any]],
    head: str | None,
) -> Arrays:
    """What `text` tells of the `tables` that tokens look up, and of the head."""
    found: Arrays = {}
    n_rows = max([int(windows.max()) + 1, int(text.max(initial=0)) + 1, *(len(arrays[key]) for key in tables)])
    shares = expected_shares(np.bincount(text, minlength=n_rows))
    for key in tables:
        found[key] = shares[: len(arrays[key])].astype(np.float32)
    if head is not None and len(arrays.get(f"{head}.fisher", ())) >= n_rows:
        found[f"{head}.fisher"] = expected_fisher(arrays[f"{head}.fisher"], shares, windows.size)
    return found


def uncovered(calibration: Calibration, shapes: Mapping[str, tuple[int, ...]]) -> Sequence[str]:
    """Matrices (2-D or more) of a checkpoint that calibration saw no product of."""
    seen = {name.removesuffix(LOOKUP) for name in calibration.names}
    return [name for name, shape in shapes.items() if len(shape) >= 2 and name not in seen]
