"""The checkpoints of a sweep, each with its model and text: what its trials are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgpack.bench.options import BenchOptions

from ..options.text import bench_of

if TYPE_CHECKING:
    from pgpack.bench.bench import Bench
    from pgpack.cache.store import Cache
    from pgpack.measure import Measurer
    from pgpack.recipe.selector import Shapes
    from pgpack.sweep.executors.jobs import Setting


class Benches:
    """Benches in the order of their checkpoints; called with a setting they give its measurer, opened once.

    Refuses checkpoints that one recipe cannot be compared on: other shapes, the same weights twice, other text.
    """

    def __init__(self, paths: Sequence[Path], text: BenchOptions, quiet: bool, keep_in: Path, cache: Cache) -> None:
        from pgpack.checkpoint.checkpoint import load_checkpoint

        if len(paths) > 1 and text.calibration is not None:
            raise click.UsageError(
                f"--calibration {text.calibration} is of one checkpoint, and {len(paths)} are given; leave it out, "
                "and each is calibrated on the calibration text"
            )
        loaded = [(path, load_checkpoint(path)) for path in paths]
        self.all = [
            bench_of(path, checkpoint, text, quiet, keep_in=keep_in, cache=cache) for path, checkpoint in loaded
        ]
        self.quiet, self.cache = quiet, cache
        self._measurers: dict[Setting, Measurer] = {}
        for bench in self.all[1:]:
            _check_alike(self.first, bench)
        if len({bench.checkpoint.digest for bench in self.all}) < len(self.all):
            raise click.UsageError("the same weights are given twice; name each checkpoint once")

    @property
    def first(self) -> Bench:
        """The bench of the first checkpoint, which gives the study's text."""
        return self.all[0]

    @cached_property
    def tensors(self) -> Shapes:
        """What recipes are made for; alike in all checkpoints."""

        return self.first.checkpoint.stored_shapes

    @property
    def names(self) -> tuple[str, ...]:
        """A short name for each checkpoint: the stem of its file, with its folder's where stems are equal."""
        paths = [bench.path for bench in self.all]
        stems = [path.stem for path in paths]
        if len(set(stems)) < len(stems):
            stems = [f"{path.absolute().parent.name}-{path.stem}" for path in paths]
        return tuple(stems) if len(set(stems)) == len(stems) else tuple(str(i + 1) for i in range(len(stems)))

    def settings(self, text_share: float = 1.0) -> tuple[Setting, ...]:
        """Every checkpoint on the first `text_share` of the text."""
        from pgpack.sweep.executors.jobs import Setting

        return tuple(Setting(number, text_share) for number in range(len(self.all)))

    def __call__(self, setting: Setting) -> Measurer:
        """The measurer of `setting` in this process. Raises: click.UsageError where the text is another one."""
        if setting not in self._measurers:
            measurer = self.all[setting.checkpoint].measurer(text_share=setting.text_share)
            if setting.checkpoint:
                self._check_text(setting, measurer)
            self._measurers[setting] = measurer
        return self._measurers[setting]

    def _check_text(self, setting: Setting, measurer: Measurer) -> None:
        from pgpack.sweep.executors.jobs import Setting

        expected = self(Setting(0, setting.text_share)).evaluator
        assert expected is not None
        assert measurer.evaluator is not None
        if measurer.evaluator.digest != expected.digest:
            raise click.UsageError(
                f"{self.all[setting.checkpoint].path} is evaluated on other text or in another way than "
                f"{self.first.path}; give --val, --tokenizer and --seq-len for all of them"
            )


def _check_alike(first: Bench, other: Bench) -> None:
    ours, theirs = first.checkpoint.stored_shapes, other.checkpoint.stored_shapes
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            raise click.UsageError(
                f"{other.path} is no seed of {first.path}: tensor {name} has shape {theirs.get(name, 'none')}, "
                f"there {ours.get(name, 'none')}; a study of several checkpoints is of one architecture"
            )
