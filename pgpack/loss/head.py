"""Logits of a few tokens at a time: a model runs up to its head once, and the head on slices of the hidden states.

    ids --model--> hidden (B, T, D) | head: product with the vocabulary, casts, scales, soft caps --> logits (n, V)

So tokens x vocabulary values are never held at once: for 2,048 tokens and 49,152 pieces they take 0.4 GB, and several
times that with their softmax. The head is what follows the first product of (batch, tokens, D) with a matrix of at
least the vocabulary's size, where that treats every token alike. Where it does not, and where all logits are small,
the model's own logits are the hidden states, and the head does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pgpack.errors import DataError

WHOLE_BYTES = 64 * 2**20  # logits up to this size are held whole
SLICE_BYTES = 16 * 2**20  # of logits at a time, where they are larger
ERROR_LEN = 200  # characters of what a model's code says

_MATMULS = {torch.matmul, Tensor.matmul, Tensor.__matmul__}
_OPERATORS = ("add", "sub", "mul", "truediv")
_FORMS = ("{}", "{}_", "__{}__", "__r{}__", "__i{}__")
_CASTS = ("float", "to", "type", "type_as", "contiguous", "clone")
_CURVES = ("tanh", "tanh_", "abs", "neg", "__neg__", "clamp", "div", "div_", "true_divide")
_TOKEN_WISE = {
    *_CASTS,
    *_CURVES,
    *(form.format(name) for name in _OPERATORS for form in _FORMS),
}  # names of functions
_QUESTIONS = {"__get__", "dim", "size", "numel", "is_floating_point"}  # about a tensor, answered without one


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    """What a model gives by `forward_logits(ids)` if it has one, else by `forward(ids)`."""
    logits: Tensor = getattr(model, "forward_logits", model)(ids)
    return logits


@contextmanager
def reading() -> Iterator[None]:
    """What a model raises where it reads a text, as a sentence. Raises: DataError."""
    try:
        yield
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        what = " ".join(str(error).split())[:ERROR_LEN]
        if isinstance(error, NotImplementedError):
            raise DataError(f"the model's forward is not filled in yet: {what}") from error
        raise DataError(
            f"the model fails on this text ({type(error).__name__}: {what}); its code, the tokenizer or "
            "--seq-len does not fit it"
        ) from error


@dataclass(frozen=True)
class _Slot:
    """Stands for what an earlier step of a head gave."""

    index: int


class _Step(NamedTuple):
    func: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Unlike(Exception):
    """What follows the product does not treat every token alike."""


class Split(NamedTuple):
    """A model's output in two: hidden states, and the head that makes logits of any of them.

    Shape: hidden (B, T, D); head (n, D) -> (n, V) float32. Where the head is not `told_apart`, D is V.
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]
    n_pieces: int
    told_apart: bool


def slices(n_tokens: int, n_pieces: int) -> Iterator[slice]:
    """Runs of tokens whose logits take at most SLICE_BYTES."""
    size = max(1, SLICE_BYTES // (4 * n_pieces))
    return (slice(start, min(start + size, n_tokens)) for start in range(0, n_tokens, size))


class Splitter:
    """Splits the output of models of one kind; remembers when their head cannot be told from the rest."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size, self.possible = vocab_size, True

    def __call__(self, model: nn.Module, ids: Tensor) -> Split:
        """The hidden states of `ids` and the head. Shape: ids (B, T) int64."""
        if self.possible and 4 * ids.numel() * self.vocab_size > WHOLE_BYTES:
            if (split := self._split(model, ids)) is not None:
                return split
            self.possible = False
        logits = logits_of(model, ids)
        n_pieces = logits.shape[-1] if isinstance(logits, Tensor) else 0
        return Split(logits, Tensor.float, n_pieces, told_apart=False)

    def told(self, model: nn.Module, ids: Tensor) -> bool:
        """Whether the head is told apart on these few tokens; if not, no attempt is made later."""
        self.possible = self._split(model, ids) is not None
        return self.possible

    def _split(self, model: nn.Module, ids: Tensor) -> Split | None:
        watch = _HeadWatch(ids.shape, self.vocab_size)
        try:
            with watch:
                last = logits_of(model, ids)
        except (_Unlike, RuntimeError, TypeError, ValueError, IndexError):  # what is wrong in itself comes again
            return None
        if watch.hidden is None or watch.slot(last) is None or last.shape[-1] < self.vocab_size:
            return None
        return Split(watch.hidden, watch.head(), last.shape[-1], told_apart=True)


class _HeadWatch(TorchFunctionMode):
    """Lets a model run with one token from its head on, and keeps the steps that it takes there."""

    def __init__(self, shape: torch.Size, vocab_size: int) -> None:
        super().__init__()
        self.shape, self.vocab_size = shape, vocab_size
        self.hidden: Tensor | None = None
        self.steps: list[_Step] = []
        self.seen: list[Tensor] = []  # what each step gave

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.hidden is None:
            return self._begin(func, args, kwargs) if self._is_head(func, args) else func(*args, **kwargs)
        slots = [slot for arg in (*args, *kwargs.values()) if (slot := self.slot(arg)) is not None]
        result = func(*args, **kwargs)
        if slots and isinstance(result, Tensor):
            if not _token_wise(func, args, kwargs, self.slot):
                raise _Unlike
            self._keep(_Step(func, args, kwargs), result)
        elif slots and getattr(func, "__name__", "") not in _QUESTIONS:
            raise _Unlike
        return result

    def slot(self, value: Any) -> _Slot | None:
        """Where a value comes from; the latest step where it was changed in place."""
        found = [i for i, tensor in enumerate(self.seen) if tensor is value]
        return _Slot(found[-1]) if found else None

    def head(self) -> Callable[[Tensor], Tensor]:
        """The steps kept, as a function of hidden states. Shape: (n, D) -> (n, V) float32."""
        steps = self.steps

        def run(hidden: Tensor) -> Tensor:
            values: list[Tensor] = [hidden[None]]
            for func, args, kwargs in steps:
                given = [values[arg.index] if isinstance(arg, _Slot) else arg for arg in args]
                named = {k: values[arg.index] if isinstance(arg, _Slot) else arg for k, arg in kwargs.items()}
                values.append(func(*given, **named))
            logits: Tensor = values[-1][0].float()
            return logits

        return run

    def _is_head(self, func: Any, args: Any) -> bool:
        if not (func is F.linear or func in _MATMULS) or len(args) < 2 or not isinstance(args[0], Tensor):
            return False
        n_pieces = args[1].shape[0 if func is F.linear else -1] if args[1].ndim == 2 else 0
        return args[0].shape[:-1] == self.shape and n_pieces >= self.vocab_size

    def _begin(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        self.hidden = args[0]
        one = args[0][:, :1]
        self.seen.append(one)
        with torch._C.DisableTorchFunction(), torch.no_grad():  # another watch counts only what is run in earnest
            result: Tensor = func(one.detach(), *args[1:], **kwargs)
        self._keep(_Step(func, (one, *args[1:]), kwargs), result)
        return result

    def _keep(self, step: _Step, result: Tensor) -> None:
        args = tuple(arg if (slot := self.slot(arg)) is None else slot for arg in step.args)
        kwargs = {k: arg if (slot := self.slot(arg)) is None else slot for k, arg in step.kwargs.items()}
        self.steps.append(_Step(step.func, args, kwargs))
        self.seen.append(result)


def _token_wise(func: Any, args: Any, kwargs: Any, slot: Callable[[Any], _Slot | None]) -> bool:
    """Whether a step does the same to every token: given numbers, or one value for each piece, besides the logits."""
    name = getattr(func, "__name__", "")
    if name == "__getitem__":  # a vocabulary that is padded: logits[..., :V], logits[:, :, :V]
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        before, last = index[:-1], index[-1]
        everything = before in ((Ellipsis,), (slice(None), slice(None)))
        return everything and isinstance(last, slice)
    others = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor) and slot(arg) is None]
    return name in _TOKEN_WISE and all(other.ndim <= 1 or other.numel() == 1 for other in others)
