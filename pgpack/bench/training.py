"""What recipes ask of the model itself while packing: drift followed, weights compensated, steps tuned.

    recipe --@drift, @compensate, @tune--> the model on calibration text, as `pgpack.pack.Trainer` says

Owns which text each of them sees, and that none is done twice. Refuses evaluated text through the workpiece.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pgpack.cache.entries import RECORDS, records_key, stage_name
from pgpack.cache.store import Cache, cache_key
from pgpack.calibration.calibration import Calibration
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.pack import Quantized
from pgpack.progress import Progress, shown
from pgpack.recipe.directives import Tune
from pgpack.recipe.recipe import Recipe
from pgpack.refine.fresh_text import fresh_tokens, tokens_for
from pgpack.text.data import Tokens, digest_tokens

from .options import BenchOptions

if TYPE_CHECKING:
    from .text import Text

LEFT_OUT = "made nothing better on calibration text kept back, and is left out"


class Trainable(Protocol):
    """What of a workpiece is needed to run its model on calibration text."""

    checkpoint: Checkpoint
    options: BenchOptions
    progress: Progress
    cache: Cache | None

    @property
    def text(self) -> Text: ...

    def note_once(self, line: str) -> None: ...

    @property
    def model_digest(self) -> str: ...

    def calib_tokens(self, purpose: str, n_tokens: int | None) -> Tokens: ...


@dataclass(frozen=True)
class Training:
    """`pgpack.pack.Trainer` on a workpiece's model and calibration text."""

    bench: Trainable

    def follow_drift(self, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration) -> Quantized:
        """What a recipe's @drift asks for, on the text that the Hessians come from."""
        from pgpack.refine.drift import follow_drift

        tokens = self.bench.calib_tokens("drift", recipe.calib.count)

        def work() -> Quantized:
            bench = self.bench
            with shown(bench.progress, len(checkpoint.stored_shapes), "tensor", "following the drift") as bar:
                return follow_drift(
                    checkpoint, recipe, calibration, bench.text.build, tokens, bench.text.seq_len,
                    device=self._device, progress=bar.update,
                )  # fmt: skip

        return self._once("drift", checkpoint, recipe, calibration, tokens, work)

    def compensate(self, checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration | None) -> Quantized:
        """What a recipe's @compensate asks for, on calibration text that the Hessians have not seen."""
        from pgpack.refine.compensate import compensate
        from pgpack.refine.drift import Drifting

        used, count = recipe.calib.count, recipe.compensate.count
        known = self.bench.calib_tokens("compensation", used + tokens_for(count))
        tokens = fresh_tokens(known, used, count)

        def work() -> Quantized:
            bench, text, follows = self.bench, self.bench.text, recipe.drift.follows
            n_tensors = len(checkpoint.stored_shapes)
            with (
                shown(bench.progress, count, "step", "compensating") as bar,
                shown(bench.progress if follows else None, n_tensors, "tensor", "following the drift") as tensors,
            ):

                def drifted(n: int) -> None:
                    tensors.update(n)
                    bar.update(0)  # this time says nothing about that of a step

                drifting = Drifting.over(known[:used], text.seq_len, text.build, self._device, drifted)
                return compensate(
                    checkpoint, recipe, calibration, text.build, tokens, text.seq_len, device=self._device,
                    drifting=drifting if follows else None, progress=lambda step, kl: bar.update(),
                    left_out=lambda: bench.note_once(f"compensation {LEFT_OUT}"),
                )  # fmt: skip

        return self._once("compensated", checkpoint, recipe, calibration, tokens, work)

    def tune(self, quantized: Quantized, recipe: Recipe) -> Quantized:
        """What a recipe's @tune asks for, on text that neither the Hessians nor @compensate have seen."""
        from pgpack.refine.tuning import tune

        bench = self.bench
        used = recipe.calib.count + tokens_for(recipe.compensate.count)
        wanted = used + tokens_for(recipe.tune.count)
        tokens = fresh_tokens(bench.calib_tokens("tuning", wanted), used, recipe.tune.count)

        def work() -> Quantized:
            with shown(bench.progress, recipe.tune.count, "step", "tuning") as bar:
                return tune(
                    quantized, bench.text.build, dict(bench.checkpoint.items()), tokens, bench.text.seq_len,
                    recipe.tune, device=self._device, progress=lambda step, kl: bar.update(),
                )  # fmt: skip

        untuned = records_key(quantized.records, quantized.aliases)
        found = work() if bench.cache is None else self._kept(
            cache_key("tuned", untuned, stage_name(recipe.tune), *self._origin(bench.checkpoint, tokens)),
            work, quantized.aliases,
        )  # fmt: skip
        if records_key(found.records, found.aliases) == untuned:
            bench.note_once(f"tuning {LEFT_OUT}")
        if bench.cache is None:
            return found
        return dataclasses.replace(found, quantize_s=quantized.quantize_s + found.quantize_s)

    def _once(
        self,
        kind: str,
        checkpoint: Checkpoint,
        recipe: Recipe,
        calibration: Calibration | None,
        tokens: Tokens,
        work: Callable[[], Quantized],
    ) -> Quantized:
        """What `work` gives; taken from the cache where it was done before."""
        if self.bench.cache is None:
            return work()
        statistics = calibration.digest if calibration else None
        untuned = dataclasses.replace(recipe, tune=Tune())  # which comes after
        key = cache_key(kind, untuned.digest, statistics, *self._origin(checkpoint, tokens))
        return self._kept(key, work, checkpoint.aliases)

    def _kept(self, key: str, work: Callable[[], Quantized], aliases: dict[str, str]) -> Quantized:
        assert self.bench.cache is not None
        started = time.perf_counter()
        records = self.bench.cache.recall("tuned", key, RECORDS, lambda: work().records, in_memory=False)
        return Quantized(records, aliases, time.perf_counter() - started)

    def _origin(self, checkpoint: Checkpoint, tokens: Tokens) -> tuple[str | None, ...]:
        bench = self.bench
        return checkpoint.digest, bench.model_digest, digest_tokens(tokens), str(bench.text.seq_len)

    @property
    def _device(self) -> str:
        return self.bench.options.device or "cpu"
