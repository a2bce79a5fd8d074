"""What a recipe says of the whole model: how to calibrate, reorder, follow the drift, tune and
compensate. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from pgpack.errors import RecipeError


@dataclass(frozen=True)
class Calibrate:
    """`@calib`: how calibration is collected when no file is given: the first `count` tokens of the training text."""

    count: int = 32_768

    def __post_init__(self) -> None:
        if self.count < 1:
            raise RecipeError("calibration needs a count of at least 1 token")


@dataclass(frozen=True)
class MlpOrder:
    """`@order`: a function-preserving order of MLP hidden units, applied to the checkpoint before anything else.

    by = none | norm (rows of mlp.fc by falling norm, columns of mlp.proj alike).
    """

    by: str = "none"

    def __post_init__(self) -> None:
        if self.by not in ("none", "norm"):
            raise RecipeError(f"unknown order {self.by!r}; use none or norm")


@dataclass(frozen=True)
class Drift:
    """`@drift`: matrices in the model's order, towards what makes up for those before them (`pgpack.refine.drift`).

    `share`: of the way to the targets that allow for changed inputs, 0 for none; `residual`: of the way to those that
    make up for the changed residual stream, 0 for none; `damp`: of the mean of a Hessian's diagonal, added to it.
    """

    share: float = 0.0
    residual: float = 0.0
    damp: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 <= self.residual <= 1 and self.damp > 0):
            raise RecipeError("drift needs shares between 0 and 1 and a damp above 0")

    @property
    def follows(self) -> bool:
        """Whether there is anything to do."""
        return self.share > 0 or self.residual > 0


@dataclass(frozen=True)
class Tune:
    """`@tune`: Adam steps that tune what decodes the symbols against the fp32 model (`pgpack.refine.tuning`).

    `count`: steps, 0 for no tuning. `lr`: the largest change of an exponent per step, in octaves. `rows`, `columns`:
    values an octave that exponents are stored to (0: not tuned, 1, 2, 4 or 8).
    """

    count: int = 0
    lr: float = 0.01
    rows: int = 8
    columns: int = 8

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 < self.lr < 1:
            raise RecipeError("tuning needs a count of at least 0 and a learning rate between 0 and 1")
        if self.rows not in (0, 1, 2, 4, 8) or self.columns not in (0, 1, 2, 4, 8):
            raise RecipeError("tuning stores 0, 1, 2, 4 or 8 values an octave")


@dataclass(frozen=True)
class Compensate:
    """`@compensate`: quantize in stages and train what is still free to make up for it (`pgpack.refine.compensate`).

    `count`: Adam steps in all, 0 for none. `groups`: stages, about as many weights in each. `lr`: the largest change
    of a weight per step, in units of its tensor's root mean square.
    """

    count: int = 0
    groups: int = 3
    lr: float = 0.002

    def __post_init__(self) -> None:
        if self.count < 0 or self.groups < 2 or not 0 < self.lr < 1:
            raise RecipeError(
                "compensation needs a count of at least 0, 2 groups or more and a learning rate between 0 and 1"
            )
