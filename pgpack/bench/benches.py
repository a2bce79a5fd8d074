"""The checkpoints of a sweep, each with its model and text: what its trials are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pgpack.errors import SettingError
from pgpack.measure import Measurer
from pgpack.recipe.selector import Shapes
from pgpack.sweep.executors.jobs import Setting

from .workpiece import Workpiece


class Benches:
    """Benches in the order of their checkpoints; called with a setting they give its measurer, opened once.

    Refuses checkpoints that one recipe cannot be compared on: other shapes, the same weights twice, other text.
    """

    def __init__(self, benches: Sequence[Workpiece]) -> None:
        self.all = tuple(benches)
        self._measurers: dict[Setting, Measurer] = {}
        for bench in self.all[1:]:
            _check_alike(self.first, bench)
        if len({bench.checkpoint.digest for bench in self.all}) < len(self.all):
            raise SettingError("the same weights are given twice; name each checkpoint once")
        if len(self.all) > 1 and not self.first.has_text:
            raise SettingError("several checkpoints are compared by loss, and no text is known: give --text or --val")

    @property
    def first(self) -> Workpiece:
        """The bench of the first checkpoint, which gives the study's text."""
        return self.all[0]

    @cached_property
    def tensors(self) -> Shapes:
        """What recipes are made for; alike in all checkpoints."""
        return self.first.checkpoint.stored_shapes

    def settings(self, text_share: float = 1.0) -> tuple[Setting, ...]:
        """Every checkpoint on the first `text_share` of the text."""
        return tuple(Setting(number, text_share) for number in range(len(self.all)))

    def __call__(self, setting: Setting) -> Measurer:
        """The measurer of `setting` in this process. Raises: SettingError where the text is another one."""
        if setting not in self._measurers:
            measurer = self.all[setting.checkpoint].trial_measurer(setting.text_share)
            if setting.checkpoint:
                self._check_text(setting, measurer)
            self._measurers[setting] = measurer
        return self._measurers[setting]

    def _check_text(self, setting: Setting, measurer: Measurer) -> None:
        if measurer.digest != self(Setting(0, setting.text_share)).digest:
            raise SettingError(
                f"{self.all[setting.checkpoint].path} is evaluated on other text or in another way than "
                f"{self.first.path}; give --text or --val, --tokenizer and --seq-len for all of them"
            )


def _check_alike(first: Workpiece, other: Workpiece) -> None:
    ours, theirs = first.checkpoint.stored_shapes, other.checkpoint.stored_shapes
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            raise SettingError(
                f"{other.path} is no seed of {first.path}: tensor {name} has shape {theirs.get(name, 'none')}, "
                f"there {ours.get(name, 'none')}; a study of several checkpoints is of one architecture"
            )
