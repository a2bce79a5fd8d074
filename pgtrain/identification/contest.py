"""Guesses at a model against each other: the same tokens under each, ever fewer guesses on ever more of them.

    guesses --256 tokens--> those not clearly behind --1,024--> ... --all--> Standings

Two guesses are told apart by the mean of the difference of their losses token by token: what is hard to predict is
hard for both, so the difference is known far better than either loss. Owns what "clear" means.
Source: racing, Maron and Moore 1994, "Hoeffding Races"; here with the normal approximation in place of the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pgpack.errors import PgpackError
from pgtrain.model.model_config import GPTConfig

from .evidence import MOST, Losses, of_losses
from .stationary import BATCHES, FEW, Gradients, n_batches, rise

Measure = Callable[[GPTConfig, int, int], Losses]  # (config, first, last) -> nats of these tokens of a fixed order
Slope = Callable[[GPTConfig, int, int], Gradients]  # (config, first, last) -> its gradients in these batches
Against = Callable[[GPTConfig], int]  # how many stored values speak against it (see `untouched`)
SIGMAS = 4.0  # standard errors that a difference must reach to be no chance
SAME = 1e-6  # nats per token: two guesses that differ by less are one function on this text
STAGES = (256, 1024, 4096, 16_384, 65_536)  # tokens
TOLD = 16_384  # tokens after which guesses that never differed are one: documents begin in them


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
    against: Against = lambda config: 0
    _refuted: dict[GPTConfig, bool] = field(default_factory=dict)
    _slopes: dict[GPTConfig, Gradients] = field(default_factory=dict)
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

    def nats(self, config: GPTConfig) -> float:
        """On all tokens that it was judged on."""
        return float(self._known[config].mean())

    def equal(self, one: GPTConfig, other: GPTConfig) -> bool:
        """Whether two guesses that were judged are one function on this text."""
        shared = min(len(self._known[one]), len(self._known[other]))
        return _same(self._known[one][:shared], self._known[other][:shared])

    def evidence_of_loss(self, one: GPTConfig, other: GPTConfig, lean: float) -> float:
        """The log of how much likelier the first is than the second, by what both were judged on."""
        shared = min(len(self._known[one]), len(self._known[other]))
        return of_losses(self._known[one][:shared], self._known[other][:shared], lean)

    def evidence_of_gradient(self, one: GPTConfig, other: GPTConfig) -> float:
        """The same by the gradient."""
        if not rise(self._gradients(one, FEW), self._gradients(other, FEW)).felt:
            return 0.0
        return rise(self._gradients(one, BATCHES), self._gradients(other, BATCHES)).evidence

    def evidence_of_values(self, one: GPTConfig, other: GPTConfig) -> float:
        """The same by the values that training never touched, of which one refutes a guess."""
        for config in (one, other):
            if config not in self._refuted:
                self._refuted[config] = self.against(config) > 0
        return MOST * (self._refuted[other] - self._refuted[one])

    def _gradients(self, config: GPTConfig, batches: int) -> Gradients:
        known = self._slopes.get(config)
        first = 0 if known is None else n_batches(known)
        if known is None or first < batches:
            more = self.slope(config, first, batches)
            known = more if known is None else {name: np.concatenate((known[name], more[name])) for name in known}
            self._slopes[config] = known
        return known

    def contest(self, guesses: Iterable[GPTConfig], n_tokens: int | None = None) -> list[Standing]:
        """The guesses by loss, the best first; what cannot run is left out. Those that drop out early stand with the
        tokens that they were judged on."""
        limit = min(n_tokens or self.n_tokens, self.n_tokens)
        running = list(dict.fromkeys(guesses))
        dropped: list[Standing] = []
        standing: list[Standing] = []
        twins: dict[GPTConfig, GPTConfig] = {}
        for stage in [*(stage for stage in STAGES if stage < limit), limit]:
            measured = [(each, losses) for each in running if (losses := self.losses(each, stage)) is not None]
            if not measured:
                return []
            best = min((losses for _, losses in measured), key=lambda losses: float(losses.mean()))
            standing = [_standing(each, losses, best) for each, losses in measured]
            dropped += [each for each in standing if each.clear]
            standing = [each for each in standing if not each.clear]
            running = [each.config for each in standing]
            if stage >= TOLD:
                twins |= self._twins(running)
                running = [each for each in running if each not in twins]
            if len(running) == 1:
                break
        known = {each.config: each for each in (*dropped, *standing)}
        for config, twin in twins.items():
            self._known[config] = self._known[twin]
            known[config] = replace(known[twin], config=config)
        out = {each.config for each in dropped}
        return sorted(known.values(), key=lambda each: (twins.get(each.config, each.config) in out, each.behind))

    def _twins(self, configs: Sequence[GPTConfig]) -> dict[GPTConfig, GPTConfig]:
        """Each that is one function with an earlier one on this text -> the earliest such."""
        found: dict[GPTConfig, GPTConfig] = {}
        for i, config in enumerate(configs):
            own = next((each for each in configs[:i] if each not in found and self.equal(each, config)), None)
            if own is not None:
                found[config] = own
        return found


def _same(one: Losses, other: Losses) -> bool:
    return bool(np.abs(one - other).mean() < SAME / 2)


def _standing(config: GPTConfig, losses: Losses, best: Losses) -> Standing:
    differences = losses - best
    error = float(differences.std()) / max(len(losses) - 1, 1) ** 0.5
    return Standing(config, float(losses.mean()), float(differences.mean()), error, len(losses))
