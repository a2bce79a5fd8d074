"""A model of a folder with its tokenizer: it goes on from a prompt, greedily, and several are set side by side.

    tensors + companions --transformers--> LanguageModel --prompt--> tokens, one at a time --> text as it grows
    first model's tokens --every other model--> what it would say instead, KL(first || other) at each position

Owns nothing of how a model is built (`huggingface`). No chat template is applied; nothing is sampled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgpack.checkpoint.folders import CONFIG
from pgpack.errors import DataError
from pgpack.text.find_tokenizer import tokenizer_of
from pgpack.text.tokenizer import Tokenizer

from .huggingface import build_transformers

GENERATION = "generation_config.json"
OTHER_PIECES = 0.01  # share of a vocabulary: what is added to one for chats is less
BROKEN = "\ufffd"  # what a decoder gives for the first bytes of a character


class _Streamer:
    """What `generate` of transformers tells its tokens: the prompt first, then each as it comes."""

    def __init__(self, tell: Callable[[int], None], ends: frozenset[int]) -> None:
        self.tell, self.ends = tell, ends
        self.tokens: list[int] = []
        self.begun = False

    def put(self, value: torch.Tensor) -> None:
        if not self.begun:
            self.begun = True
            return
        for token in value.reshape(-1).tolist():
            if token not in self.ends:
                self.tokens.append(token)
                self.tell(token)

    def end(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """`network`: the transformers model; `ends`: tokens after which nothing follows; `name`: for messages."""

    name: str
    network: Any
    tokenizer: Tokenizer
    ends: frozenset[int]

    def tokens_of(self, prompt: str) -> list[int]:
        """The prompt with the special tokens that the tokenizer adds. Raises: DataError when there is no token."""
        tokens = self.tokenizer.encode(prompt).tokens.tolist()
        if not tokens:
            raise DataError(
                f"{self.name}: the prompt is empty, and this tokenizer begins a text with no token of its own"
            )
        return [int(token) for token in tokens]

    def greedy(
        self, tokens: Sequence[int], n_tokens: int, tell: Callable[[int], None] = lambda token: None
    ) -> list[int]:
        """The most likely tokens after `tokens`, at most `n_tokens`, up to an end or the length of the model; each is
        told as it comes.

        Raises: DataError when `tokens` are longer than the model allows already.
        """
        from transformers import GenerationConfig

        length = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        room = n_tokens if length is None else min(n_tokens, length - len(tokens))
        if room <= 0:
            raise DataError(f"{self.name}: the prompt has {len(tokens)} tokens, and the model reads {length} at most")
        ends = sorted(self.ends)
        plan = GenerationConfig(
            max_new_tokens=room, do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
        )
        streamer = _Streamer(tell, self.ends)
        ids = torch.tensor([tokens])
        self.network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=plan, streamer=streamer)
        return streamer.tokens

    def continued(self, prompt: str, n_tokens: int, tell: Callable[[str], None] = lambda text: None) -> str:
        """The text after `prompt`; it is told as it grows, a character once its bytes are complete.

        Raises: as `tokens_of` and `greedy`.
        """
        seen = self.tokens_of(prompt)
        begin = told = self._text(seen)

        def add(token: int) -> None:
            nonlocal told
            seen.append(token)
            text = self._text(seen)
            if not text.endswith(BROKEN):
                tell(text[len(told) :])
                told = text

        self.greedy(list(seen), n_tokens, add)
        text = self._text(seen)
        tell(text[len(told) :])
        return text[len(begin) :]

    def logits(self, tokens: Sequence[int], begin: int) -> torch.Tensor:
        """Of the tokens from `begin` on, each from all before it. Shape: (len(tokens) - begin, V)."""
        with torch.no_grad():
            found: torch.Tensor = self.network(input_ids=torch.tensor([tokens[:-1]]), use_cache=False).logits
        return found[0, begin - 1 :].float()

    def piece(self, before: Sequence[int], token: int) -> str:
        """The text that `token` adds to the tokens before it."""
        return self._text([*before, token])[len(self._text(before)) :]

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(np.asarray(tokens, np.int64))


def language_model(tensors: Mapping[str, NDArray[Any]], companions: Mapping[str, bytes], name: str) -> LanguageModel:
    """The model that `companions` describe, with `tensors` for its weights.

    Raises: DataError without a config.json or a tokenizer; as `build_transformers`.
    """
    tokenizer = tokenizer_of(companions, name) if CONFIG in companions else None
    if tokenizer is None:
        lacking = "tokenizer" if CONFIG in companions else "config.json"
        raise DataError(
            f"{name} holds no {lacking}, so nothing runs it; give a model folder, or what was packed from one"
        )
    state = {key: torch.tensor(array) for key, array in tensors.items()}
    return LanguageModel(name, build_transformers(companions[CONFIG], state), tokenizer, _ends(companions))


def _ends(companions: Mapping[str, bytes]) -> frozenset[int]:
    for name in (GENERATION, CONFIG):
        try:
            found = json.loads(companions.get(name, b"{}")).get("eos_token_id")
        except (ValueError, AttributeError, RecursionError):
            continue
        ends = found if isinstance(found, list) else [found]
        if any(isinstance(end, int) for end in ends):
            return frozenset(end for end in ends if isinstance(end, int))
    return frozenset()


@dataclass(frozen=True)
class Beside:
    """What a model says where the first one has spoken. Units: `kl` nats, from the first model, at each position."""

    name: str
    says: tuple[str, ...]
    same: tuple[bool, ...]
    kl: tuple[float, ...]

    @property
    def mean_kl(self) -> float:
        return sum(self.kl) / max(1, len(self.kl))


@dataclass(frozen=True)
class SideBySide:
    """A prompt, the greedy tokens of the first model after it, and every other model at the same positions."""

    name: str
    prompt: str
    says: tuple[str, ...]
    others: tuple[Beside, ...]


def side_by_side(models: Iterator[LanguageModel], prompt: str, n_tokens: int) -> SideBySide:
    """The first of `models` speaks, the others are asked at each of its tokens; one model is held at a time.

    Raises: DataError when the first says nothing, or another has another vocabulary.
    """
    first = next(models)
    begin = first.tokens_of(prompt)
    tokens = begin + first.greedy(begin, n_tokens)
    if len(tokens) == len(begin):
        raise DataError(f"{first.name} ends at once after this prompt; give another")
    says = tuple(first.piece(tokens[:i], tokens[i]) for i in range(len(begin), len(tokens)))
    reference = first.logits(tokens, len(begin)).log_softmax(-1)
    return SideBySide(
        first.name, prompt, says, tuple(_beside(first, other, tokens, len(begin), reference) for other in models)
    )


def _require_same_tokens(first: LanguageModel, other: LanguageModel) -> None:
    """Raises: DataError where numbers stand for other pieces of text in the two. Special ones are named at will."""
    if other.tokenizer.sha256 == first.tokenizer.sha256:
        return
    one, two = first.tokenizer.pieces, other.tokenizer.pieces
    differ = [token for token, (a, b) in enumerate(zip(one, two, strict=False)) if a != b and a and b]
    if len(differ) > OTHER_PIECES * max(len(one), 1):
        a, b = (pieces[differ[0]].decode("utf-8", "replace") for pieces in (one, two))
        raise DataError(
            f"{other.name} has another tokenizer than {first.name} (token {differ[0]} is {b!r} and {a!r}): their "
            "tokens do not compare; give models of one tokenizer"
        )


def _beside(
    first: LanguageModel, other: LanguageModel, tokens: Sequence[int], begin: int, reference: torch.Tensor
) -> Beside:
    _require_same_tokens(first, other)
    found = other.logits(tokens, begin).log_softmax(-1)
    if found.shape != reference.shape:
        raise DataError(
            f"{other.name} has {found.shape[-1]} tokens and {first.name} {reference.shape[-1]}: no KL is defined"
        )
    chosen = found.argmax(-1).tolist()
    kl = (reference.exp() * (reference - found)).sum(-1).clamp(min=0).tolist()
    says = tuple(other.piece(tokens[: begin + i], token) for i, token in enumerate(chosen))
    same = tuple(token == tokens[begin + i] for i, token in enumerate(chosen))
    return Beside(other.name, says, same, tuple(kl))
