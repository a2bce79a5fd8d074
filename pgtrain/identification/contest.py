"""Guesses at a model against each other: the same tokens under each, ever fewer guesses on ever more of them.

    guesses --256 tokens--> those not clearly behind --1,024--> ... --all--> Standings

Two guesses are told apart by the mean of the difference of their losses token by token: what is hard to predict is
hard for both, so the difference is known far better than either loss. Owns what "clear" means.
Source: racing, Maron and Moore 1994, "Hoeffding Races"; here with the normal approximation in place of the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgpack.errors import PgpackError
from pgtrain.model.model_config import GPTConfig

from .stationary import Grams, steeper

Losses = NDArray[np.float64]
Measure = Callable[[GPTConfig, int, int], Losses]  # (config, first, last) -> nats of these tokens of a fixed order
Slope = Callable[[GPTConfig], Grams]  # products of its gradients, `stationary`
SIGMAS = 4.0  # standard errors that a difference must reach to be no chance
SAME = 1e-6  # nats per token: two guesses that differ by less are one function on this text
STAGES = (256, 1024, 4096, 16_384, 65_536)  # tokens


@dataclass(frozen=True)
class Standing:
    """A guess after a contest: its loss on `n_tokens`, how far behind the best it is there, and the standard error of
    that. Units: nats per token."""

    config: GPTConfig
    nats: float
    behind: float
    error: float
    n_tokens: int

    @property
    def same(self) -> bool:
        """Whether it computes what the best computes."""
        return abs(self.behind) < SAME and self.error < SAME

    @property
    def clear(self) -> bool:
        """Whether it is behind by more than chance."""
        return self.behind > SIGMAS * self.error and self.behind > SAME


@dataclass
class Judge:
    """Losses of guesses on the first tokens of one text, computed once each. `n_tokens`: how many there are."""

    measure: Measure
    slope: Slope
    n_tokens: int
    _grams: dict[GPTConfig, Grams] = field(default_factory=dict)
    _known: dict[GPTConfig, Losses] = field(default_factory=dict)

    def losses(self, config: GPTConfig, n_tokens: int) -> Losses | None:
        """Of the first `n_tokens`; None for what cannot run or gives no finite loss."""
        known = self._known.get(config, np.empty(0))
        if len(known) < n_tokens:
            try:
                more = self.measure(config, len(known), n_tokens)
            except PgpackError:
                return None
            known = self._known[config] = np.concatenate((known, more))
        found = known[:n_tokens]
        return found if np.isfinite(found).all() else None

    def equal(self, one: GPTConfig, other: GPTConfig) -> bool:
        """Whether two guesses that were judged are one function on this text."""
        shared = min(len(self._known[one]), len(self._known[other]))
        return bool(np.abs(self._known[one][:shared] - self._known[other][:shared]).max(initial=0.0) < SAME)

    def prefers(self, one: GPTConfig, other: GPTConfig) -> tuple[int, int]:
        """(by loss, by gradient): 1 for the first, -1 for the second, 0 where neither is clear."""
        shared = min(len(self._known[one]), len(self._known[other]))
        behind = _standing(one, self._known[one][:shared], self._known[other][:shared])
        far = abs(behind.behind) > SIGMAS * behind.error
        by_loss = 0 if not far else -1 if behind.behind > 0 else 1
        return by_loss, -steeper(self._slopes(one), self._slopes(other))

    def _slopes(self, config: GPTConfig) -> Grams:
        if config not in self._grams:
            self._grams[config] = self.slope(config)
        return self._grams[config]

    def contest(self, guesses: Iterable[GPTConfig], n_tokens: int | None = None) -> list[Standing]:
        """The guesses by loss, the best first; what cannot run is left out. Those that drop out early stand with the
        tokens that they were judged on."""
        limit = min(n_tokens or self.n_tokens, self.n_tokens)
        stages = [*(stage for stage in STAGES if stage < limit), limit]
        running = list(dict.fromkeys(guesses))
        dropped: list[Standing] = []
        standing: list[Standing] = []
        for stage in stages:
            measured = [(each, losses) for each in running if (losses := self.losses(each, stage)) is not None]
            if not measured:
                return []
            best = min((losses for _, losses in measured), key=lambda losses: float(losses.mean()))
            standing = [_standing(each, losses, best) for each, losses in measured]
            dropped += [each for each in standing if each.clear]
            standing = [each for each in standing if not each.clear]
            running = [each.config for each in standing]
            if all(each.same for each in standing):
                break
        standing.sort(key=lambda each: each.behind)
        return [*standing, *sorted(dropped, key=lambda each: each.behind)]


def _standing(config: GPTConfig, losses: Losses, best: Losses) -> Standing:
    differences = losses - best
    error = float(differences.std()) / max(len(losses) - 1, 1) ** 0.5
    return Standing(config, float(losses.mean()), float(differences.mean()), error, len(losses))
