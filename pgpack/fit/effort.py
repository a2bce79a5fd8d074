"""One dial from quick to small, as zstd has levels: how much calibration, trellis and training a search spends.

A level is only a recipe (`pgpack.fit.budget.engine_recipe`): what it adds is printed in it, and nothing of it is in
the format. Bytes at equal loss and times of every level: `results/effort.md`, measured by `make bench-effort`.
What a large model would be run for is bounded (`bounded`): level 9 on SmolLM2, at 30 and at 55 MB, took one turn,
65 minutes of processor time on two cores beside other work, 65 and 58 of the clock: calibration, the search for where
to begin, drift, 24 steps of tuning. Those took KL from 0.697 to 0.639 at equal bytes (27.5 MB); 40 and 60 steps that
moved exponents too were both rejected.
Compensation needs steps: from FEW on it is worth more than tuning (`results/effort.md`), but 24 of it on SmolLM2
ended at KL 0.262 and 39.0 MB where 24 of tuning end at 0.252 and 38.7 MB, so that models with room for fewer are
tuned instead. *(negative)*
Rows by 32 make files 2.2 and 2.7 % smaller at 2 and 4.4 M parameters; those of SmolLM2 they make 1.2 % larger at
equal KL and twice as long to quantize, so that models beyond GROUPED do without. *(negative)* With a row_damp of 0.5
one file of it is 0.3 % smaller: what rows share is told by 32,768 tokens no better than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pgpack.text.made import RANDOM

CALIBRATED = 4.4e12  # tokens of calibration times parameters; more is cut to a power of two, not below TOKENS
TRAINED = 3.3e9  # optimizer steps times parameters: 24 of SmolLM2, each of which takes about a minute of a core
GROUPED = 33_000_000  # parameters, of more than which rows are decided all together
FEW = 100  # optimizer steps, fewer of which move no exponent by as much as it is stored to
TOKENS = 32_768  # of calibration text, where nothing else is said


@dataclass(frozen=True)
class Effort:
    """What is spent on a recipe of the trellis engine.

    `tokens`: of calibration text, None for as many as a recipe says by itself. `calib`: what is taken for such text
    where no flag names any; None: what the checkpoint remembers. `states` of the trellis; `group`: rows that are
    decided together before the next are corrected, 0 for all. `drift`: whether matrices are quantized one stage after
    another. `compensate`, `tune`: optimizer steps on calibration text; `asked`: somebody has given their number.
    """

    tokens: int | None = None
    calib: str | None = None
    states: int = 64
    group: int = 0
    drift: bool = False
    compensate: int = 0
    tune: int = 0
    asked: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """For people."""
        rows = f", rows by {self.group}" if self.group else ""
        named = {", drift followed": self.drift, ", compensated": self.compensate, ", tuned": self.tune}
        trained = "".join(name for name, is_asked in named.items() if is_asked)
        return f"trellis, {self.states} states{rows}{trained}"

    @property
    def tuning(self) -> str:
        """`@tune` of a recipe, "" without: in FEW steps what is stored exactly, no exponents."""
        continuous = "" if self.tune >= FEW else ",lr=0.006,rows=0,columns=0"
        return f"@tune=steps(count={self.tune}{continuous})" if self.tune else ""

    @property
    def compensation(self) -> str:
        """`@compensate` of a recipe, "" without. Twice its default rate: 120 steps on the demo end at KL 0.0040, not
        0.0043."""
        return f"@compensate=weights(count={self.compensate},lr=0.004)" if self.compensate else ""

    @property
    def untrained(self) -> Effort:
        """The same without what the model is run for while packing."""
        return replace(self, drift=False, compensate=0, tune=0, asked=frozenset())

    @property
    def rough(self) -> Effort:
        """A quick stand-in that needs about the same bytes: to begin a search with."""
        return replace(self.untrained, states=min(self.states, 8), group=0)

    def bounded(self, n_params: int) -> Effort:
        """The same, with what a large model would be run for kept within CALIBRATED and TRAINED.

        From 33 M parameters on fewer than 131,072 tokens and no groups of rows, from 3.3 M on fewer than 1,000
        optimizer steps; where fewer than FEW are left, they tune what would have been compensated.
        """
        tokens = self.tokens
        if tokens is not None and tokens > TOKENS:
            tokens = max(TOKENS, min(tokens, 1 << int(math.log2(max(1.0, CALIBRATED / max(1, n_params))))))
        most = int(TRAINED / max(1, n_params))
        compensate = self.compensate if "compensate" in self.asked else min(self.compensate, most)
        tune = self.tune if "tune" in self.asked else min(self.tune, most)
        if compensate < min(FEW, self.compensate):
            compensate, tune = 0, tune if "tune" in self.asked else max(tune, compensate)
        group = self.group if n_params <= GROUPED else 0
        return replace(self, tokens=tokens, group=group, compensate=compensate, tune=tune)

    def trained_by(self, compensate: int | None, tune: int | None) -> Effort:
        """The same with these numbers of optimizer steps; None: as it is."""
        given = {name: n for name, n in (("compensate", compensate), ("tune", tune)) if n is not None}
        return replace(
            self,
            compensate=given.get("compensate", self.compensate),
            tune=given.get("tune", self.tune),
            asked=self.asked | given.keys(),
        )


LEVELS = (
    Effort(tokens=2_048, calib=RANDOM, states=8),
    Effort(tokens=8_192, states=4),
    Effort(tokens=16_384, states=8),
    Effort(),
    Effort(group=32),
    Effort(group=32, drift=True),
    Effort(tokens=131_072, group=32, drift=True),
    Effort(tokens=131_072, group=32, drift=True, compensate=120),
    Effort(tokens=131_072, group=32, drift=True, compensate=300),
    Effort(tokens=131_072, group=32, drift=True, compensate=1000),
)
DEFAULT = 3
