"""A checkpoint with its model and its text: observed and measured; what is costly is opened when first needed.

    checkpoint + text --observe--> calibration        checkpoint + model + text --> evaluator, with KL to the fp32

Owns what of this is done once and kept. Refuses calibration on text that is evaluated (`text`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pgpack.cache.entries import CALIBRATION
from pgpack.cache.store import Cache, cache_key
from pgpack.calibration.calibration import Calibration, load_calibration, save_calibration, whole_calibration
from pgpack.calibration.distortion import WeightError
from pgpack.checkpoint.checkpoint import Checkpoint
from pgpack.checkpoint.folders import CONFIG
from pgpack.errors import CalibrationError, DataError, ToolMissing
from pgpack.loss.evaluator import BitsPerByte, Evaluator, Tensors
from pgpack.measure import Measurer
from pgpack.progress import Progress, shown, waiting
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe, parse_recipe
from pgpack.tables import counted
from pgpack.text.data import Tokens, digest_tokens
from pgpack.text.find_tokenizer import load_tokenizer, tokenizer_of
from pgpack.text.made import RANDOM
from pgpack.text.token_shares import token_shares

from .defaults import text_defaults
from .options import BenchOptions
from .sources import require_calibration_text
from .training import Training

if TYPE_CHECKING:
    from .text import Text


PLAIN = "*=cast"  # a recipe that is calibrated as those are that say nothing of it
OUTPUT_ROWS = 4096  # of a matrix whose output gradients' second moments are kept where a recipe uses them: 64 MiB


def _silent(line: str) -> None:
    pass


@dataclass
class Workpiece:
    """A checkpoint with its model and text, opened when first needed.

    `calibration(recipe)` reads the file of `options.calibration` once, or observes the model on the recipe's token
    count; with `keep_in`, what was observed is kept in that folder and read from there the next time. `cache` keeps
    it, and all other work, from one run to the next. `note` is told in a line what a user should know; `progress` as
    in `pgpack.progress`.
    """

    path: Path
    checkpoint: Checkpoint
    options: BenchOptions = field(default_factory=BenchOptions)
    note: Callable[[str], None] = _silent
    progress: Progress = None
    keep_in: Path | None = None
    cache: Cache | None = None
    _observed: dict[tuple[int, int], Calibration] = field(default_factory=dict)
    _n_left_out: int = 0
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for line in self.checkpoint.notes:
            self.note_once(line)
        if self.options.calibration is not None:
            _ = self.file_calibration.digest  # a wrong or damaged file is refused before any work

    @functools.cached_property
    def text(self) -> Text:
        """The model and text. Raises DataError or CheckpointError, saying which flag to give."""
        with waiting(self.progress if callable(self.progress) else bool(self.progress), "loading torch"):
            from .text import open_text

        text = open_text(self.path, self.checkpoint, self.options, self.progress)
        for line in text.notes:
            self.note(line)
        return text

    def calib_tokens(self, purpose: str, n_tokens: int | None = None) -> Tokens:
        """The first `n_tokens` of the calibration text. Raises DataError, naming every flag that `purpose` lacks."""
        require_calibration_text(self.path, self.checkpoint, self.options, purpose)
        text = self.text
        tokens = text.calib_tokens if n_tokens is None else text.first_calib_tokens(n_tokens)
        if text.n_left_out > self._n_left_out:
            self._n_left_out = text.n_left_out
            self.note(f"{text.n_left_out:,} calibration tokens of passages that are also evaluated are left out")
        return tokens

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """An evaluator whose KL is to this checkpoint."""
        return self._evaluator_on(self.text)

    def _evaluator_on(self, text: Text) -> Evaluator:
        self.note(f"evaluating on {counted(text.n_tokens, 'token')}")
        return text.evaluator(dict(self.checkpoint.items()))

    @functools.cached_property
    def model_digest(self) -> str:
        """sha256 hex of what turns tensors into logits, themselves aside: model, its code, device and torch.

        Of a --model FILE.py the file counts and what it imports from its own folder; code from elsewhere is not seen.
        """
        import torch

        model = self.text.model
        code, device = list(model.code()), self.options.device or "cpu"
        return cache_key(model.config, self.options.model, code, device, torch.__version__)

    def measurer(self, evaluate: bool = True, text_share: float = 1.0) -> Measurer:
        """What measures recipes on this checkpoint and the first `text_share` of its text; KL is to the checkpoint.

        Raises: DataError or CheckpointError when it is to evaluate and there is no text.
        """
        evaluator = self._when_needed(text_share) if evaluate else None
        digest = cache_key(self.model_digest, self.checkpoint.digest) if evaluate else None
        cache = Cache() if self.cache is None else self.cache
        return Measurer(
            self.checkpoint,
            evaluator,
            self.calibration,
            cache,
            Training(self),
            digest,
            strict=self.options.strict,
            note=self.note_once,
            shares=self.token_shares,
        )

    def token_shares(self) -> NDArray[np.float64] | None:
        """How often each token is to be expected, where a tokenizer is named or among the companions.

        Raises: DataError for a tokenizer that an option or the metadata names and that cannot be read.
        """
        return self._token_shares

    @functools.cached_property
    def _token_shares(self) -> NDArray[np.float64] | None:
        named = self.options.tokenizer or text_defaults(self.checkpoint.metadata, self.path).tokenizer
        if named is not None:
            return token_shares(load_tokenizer(Path(named)))
        with contextlib.suppress(DataError, ToolMissing):  # nobody asked for it
            found = tokenizer_of(self.checkpoint.companions, str(self.path))
            return None if found is None else token_shares(found)
        return None

    def note_once(self, line: str) -> None:
        """`note`, unless there is nothing to say or it was said before."""
        if line and line not in self._told:
            self._told.add(line)
            self.note(line)

    def tell_what_lacks(self) -> None:
        """A note on tensors that the model of config.json needs and the weights lack, where no model was built, which
        would have refused them."""
        if "text" in vars(self) or self.options.model is not None or CONFIG not in self.checkpoint.companions:
            return
        from pgpack.models.completeness import no_model

        self.note_once(no_model(self.checkpoint.companions, self.checkpoint.shapes))

    @property
    def has_text(self) -> bool:
        """Whether a loss can be measured: the checkpoint names its text, or an option does."""
        return self.options.names_text or "data_defaults" in self.checkpoint.metadata

    def trial_measurer(self, text_share: float = 1.0) -> Measurer:
        """What measures the trials of a sweep: on text, or where none is known on the error of the weights.

        Raises: as `measurer`; DataError for text to calibrate on where none is to evaluate on.
        """
        if self.has_text:
            return self.measurer(text_share=text_share)
        if self.options.calib not in (None, RANDOM):
            raise DataError(
                f"--calib {self.options.calib} calibrates, and no text is named to measure trials on; give --val "
                "too, or --text PATH for both"
            )
        alone = self.measurer(evaluate=False)
        if not self.can_calibrate:
            return dataclasses.replace(alone, calibrate=lambda recipe: None, weights=WeightError(self.checkpoint))
        known = self.calibration(parse_recipe(PLAIN))
        return dataclasses.replace(alone, weights=WeightError(self.checkpoint, known))

    def _when_needed(self, text_share: float) -> Evaluator:
        if text_share == 1:
            return _WhenNeeded(self.text.evaluator().digest, lambda: self.evaluator)
        text = self.text.first(text_share)
        return _WhenNeeded(text.evaluator().digest, functools.cache(lambda: self._evaluator_on(text)))

    @property
    def can_calibrate(self) -> bool:
        """Whether statistics are there or a text to take them from: the checkpoint names one, or an option does."""
        options = self.options
        named = options.calibration is not None or options.calib is not None or bool(options.text)
        return named or "data_defaults" in self.checkpoint.metadata

    def calibration(self, recipe: Recipe) -> Calibration | None:
        """The statistics that `recipe` asks for; None where no text is known and nothing is refused for that.

        Raises: CalibrationError or DataError.
        """
        if self.options.calibration is not None:
            return self.file_calibration
        if not self.can_calibrate and not self.options.strict:
            return None
        count = recipe.calib.count
        rows = OUTPUT_ROWS if apply(recipe, self.checkpoint.stored_shapes).corrects_rows else 0
        if (count, rows) not in self._observed:
            observed = self._kept(self.keep_in, count, rows) if self.keep_in else self._recalled(count, rows)
            self._observed[count, rows] = observed
        return self._observed[count, rows]

    def _kept(self, folder: Path, count: int, output_rows: int) -> Calibration:
        """The statistics in `folder` when they are whole and of this checkpoint and text, else observed and kept.

        Rounding differs between machines, and a trial's key depends on the last bit of its calibration: a study
        that goes on elsewhere must go on with the same file.
        """
        name = f"calibration-{self.checkpoint.digest[:8]}-{count}"
        tokens = self.text.first_calib_tokens(count)
        tokens = tokens[: len(tokens) // self.text.seq_len * self.text.seq_len]
        origin = {
            "checkpoint_digest": self.checkpoint.digest,
            "observed": f"{digest_tokens(tokens)} in windows of {self.text.seq_len}",
        }
        counted = {"counted": digest_tokens(self.text.calib_tokens)}  # a study that was begun before goes on without
        paths = [folder / f"{name}.safetensors", folder / f"{name}-outputs.safetensors"]  # the former may have them
        for path in paths[: 2 if output_rows else 1]:
            kept = whole_calibration(path)
            has_outputs = kept and any(key.endswith(".output") for key in kept.shapes)
            same = kept and {**counted, **kept.metadata} == {**kept.metadata, **counted, **origin}
            if kept and same and (has_outputs or not output_rows):
                return kept
        metadata = origin | counted
        calibration = dataclasses.replace(self._recalled(count, output_rows), metadata=metadata)
        folder.mkdir(parents=True, exist_ok=True)
        save_calibration(paths[bool(output_rows)], calibration)
        return calibration

    def _recalled(self, count: int, output_rows: int) -> Calibration:
        """The statistics of `count` tokens from the cache, else observed and kept there."""
        if self.cache is None:
            return self.observe(count, output_rows)
        digests = [digest_tokens(self.calib_tokens("calibration", n)) for n in (count, None)]
        key = cache_key(self.checkpoint.digest, self.model_digest, *digests, self.text.seq_len, output_rows)
        return self.cache.recall(
            "calibration", key, CALIBRATION, lambda: self.observe(count, output_rows), in_memory=False
        )

    @functools.cached_property
    def file_calibration(self) -> Calibration:
        assert self.options.calibration is not None
        return load_calibration(self.options.calibration)

    def observe(self, n_tokens: int, output_rows: int = 0) -> Calibration:
        """Statistics of the first `n_tokens` of the calibration text, under the names of the stored tensors.

        `output_rows`: of matrices of at most so many rows also the second moments of output gradients.
        """
        import torch

        from pgpack.calibration.observe import observe

        tokens = self.calib_tokens("calibration", n_tokens)
        if len(tokens) < n_tokens:
            self.note(
                f"the calibration text has {counted(len(tokens), 'token')}, fewer than {n_tokens:,}; all are used"
            )
        device = self.options.device or "cpu"
        model = self.text.build({n: torch.tensor(array, device=device) for n, array in self.checkpoint.items()})
        with shown(self.progress, len(tokens), "tok", "calibrating") as bar:
            calibration = observe(
                model,
                tokens,
                self.text.seq_len,
                token_digest=digest_tokens(tokens),
                output_rows=output_rows,
                text=self.text.calib_tokens,
                stored=self.checkpoint.shapes,
                progress=bar.update,
            )
        if not calibration.names:
            raise CalibrationError("the model was run but none of its matrices was seen in a product x W^T")
        return under_stored_names(calibration, self.checkpoint.aliases)


@dataclass
class _WhenNeeded:
    """An evaluator that is opened for the first loss that no cache has: it runs the fp32 model over all the text."""

    digest: str
    opened: Callable[[], Evaluator]

    def evaluate(self, tensors: Tensors) -> BitsPerByte:
        return self.opened().evaluate(tensors)


def under_stored_names(calibration: Calibration, aliases: dict[str, str]) -> Calibration:
    """The calibration with statistics that were observed under a tied name moved to the stored name."""
    names = set(calibration.names)
    moved = {alias: stored for alias, stored in aliases.items() if alias in names and stored not in names}
    if not moved:
        return calibration
    sources = {}
    for key in calibration.shapes:
        name, _, kind = key.rpartition(".")
        sources[f"{moved.get(name, name)}.{kind}"] = key
    return dataclasses.replace(
        calibration,
        shapes={key: calibration.shapes[source] for key, source in sources.items()},
        load=lambda key: calibration.load(sources[key]),
    )
