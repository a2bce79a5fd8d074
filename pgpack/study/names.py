"""What people call a trial: its label, or the stages of its recipe with the settings that tell it from others.

    tcq(step=0.0005,states=64)|rans_scaled, ... step=0.0002 ... --> "tcq step 0.0005 + rans_scaled", ...

Owns words; the recipe itself stands beside them. Trusts no text: what is no recipe is a name as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .trial import Trial

MAX_NAME = 60  # characters
MIN_CURVE = 3  # settings of one packer that make a curve
_STAGE = re.compile(r"([\w.]+)(?:\(([^()]*)\))?\Z")
_TUNED = re.compile(r"tuned to a budget of \d+")


def names_of(trials: Sequence[Trial]) -> list[str]:
    """A name for each trial."""
    stages = [_stages(trial.recipe) for trial in trials]
    seen: dict[tuple[str, str], set[str]] = {}
    for name, settings in (stage for each in stages for stage in each):
        for key, value in settings:
            seen.setdefault((name, key), set()).add(value)
    differ = {place for place, values in seen.items() if len(values) > 1}

    def of(trial: Trial, found: list[tuple[str, list[tuple[str, str]]]]) -> str:
        if trial.label:
            return _TUNED.sub("tuned to the budget", trial.label)
        told = (
            " ".join([name, *(f"{key} {value}".strip() for key, value in settings if (name, key) in differ)])
            for name, settings in found
        )
        name = " + ".join(told) or trial.recipe
        return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]} ..."

    return [of(trial, found) for trial, found in zip(trials, stages, strict=True)]


def peers_of(trials: Iterable[Trial]) -> dict[str, tuple[Trial, ...]]:
    """Packer -> its trials, for those measured over a dial (`packer`, `packer:12`, ...) at three settings or more."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.ok and trial.label:
            found.setdefault(trial.label.partition(":")[0], []).append(trial)
    return {name: tuple(group) for name, group in found.items() if len(group) >= MIN_CURVE}


def _stages(recipe: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """(name, settings) of each stage of the recipe's last rule; none for a text that is no recipe."""
    rules = [rule for rule in recipe.split("; ") if not rule.startswith("@")]
    chain = rules[-1].partition("=")[2] if rules else ""
    found = [_STAGE.match(stage) for stage in chain.split("|")]
    if not all(found):
        return []
    stages = []
    for match in found:
        assert match is not None
        settings = [setting.partition("=") for setting in (match[2] or "").split(",") if setting]
        stages.append((match[1], [(key, value) for key, _, value in settings]))
    return stages
