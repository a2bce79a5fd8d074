"""How far calibration is inside of a batch: the work of its products, forward and backward, in tokens of it.

    products as they come --work--> share of a batch --> tokens, at most the batch's

A batch is up to 8,192 tokens, a quarter of what is calibrated on by default: told by whole batches alone, a bar would
stand still until then. Owns what a product is taken to cost; the sums themselves are `watch`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

EACH_FORWARD, EACH_BACKWARD = 50, 300  # a value that goes in or comes out, besides: norms, activations, attention
SOFTMAX = 250  # multiplications that a logit costs besides its product: its exponential, a label drawn, its gradient


@dataclass
class Pace:
    """Tells `progress` of tokens done. `work`: multiplications for a token, as far as they are known before."""

    progress: Callable[[int], None]
    work: float = 0.0
    _foreseeing: bool = True
    _width: int = 0  # of what the latest product gave
    _batch: int = 0
    _done: float = field(default=0.0)
    _told: int = 0

    def forward(self, n_tokens: int, n_in: int, n_out: int, squared: int) -> None:
        """A product, and a second moment of `squared` values. Before the first batch it is what there will be."""
        if self._foreseeing:
            both = EACH_FORWARD + EACH_BACKWARD
            self.work += 2 * n_in * n_out + squared**2 + both * (n_in + n_out)
            self._width = n_out
        else:
            self.did(n_tokens * (n_in * n_out + squared**2 + EACH_FORWARD * (n_in + n_out)))

    def backward(self, n_tokens: int, n_in: int, n_out: int) -> None:
        self.did(n_tokens * (n_in * n_out + EACH_BACKWARD * (n_in + n_out)))

    def head(self, n_tokens: int, n_pieces: int) -> None:
        """What the logits of tokens cost besides their product."""
        self.did(n_tokens * SOFTMAX * n_pieces)

    def begin(self, n_pieces: int) -> None:
        """All that is foreseen was seen, but the output matrix and its logits. From now on there is work done."""
        self._foreseeing = False
        self.work += n_pieces * (2 * self._width + SOFTMAX) + self._width**2
        self.progress(0)

    def batch(self, n_tokens: int) -> None:
        """The batch before is done, whatever it was foreseen to take, and one of `n_tokens` begins; 0: none."""
        self._tell(self._batch)
        self._batch, self._done, self._told = n_tokens, 0.0, 0

    def did(self, work: float) -> None:
        self._done += work
        if self.work and self._batch:
            self._tell(min(self._batch, int(self._done / self.work)))

    def _tell(self, n_tokens: int) -> None:
        if n_tokens > self._told:
            self.progress(n_tokens - self._told)
            self._told = n_tokens
