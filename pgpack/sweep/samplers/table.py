"""The table of samplers: name -> class. Each begins its search of a `SearchTask` by its class method `of`."""

from __future__ import annotations

from pgpack.stages import Table

SAMPLERS = Table(
    __package__,
    {
        "random": "base:RandomSampler",
        "halving": "halving:HalvingSampler",
        "tpe": "optuna_samplers:OptunaSampler",
        "nsga2": "optuna_samplers:OptunaSampler",
        "surrogate": "surrogate:SurrogateSampler",
        "ladder": "ladder:LadderSampler",
    },
    group="pgpack.samplers",
)
