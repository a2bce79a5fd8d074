"""Settings of stages, each beside the values that it may have, so that all stages refuse in the same words.

bits: int = setting(BITS, 6)        RecipeError: bits must be an integer from 2 to 8, found 9
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgpack.errors import RecipeError


@dataclass(frozen=True)
class Allowed:
    """The values that a setting may have; `words` end the sentence `SETTING must be ...`."""

    words: str
    has: Callable[[Any], bool]


BITS = Allowed("an integer from 2 to 8", lambda n: 2 <= n <= 8)  # of symmetric symbols that fit int8
GROUP = Allowed("a number of columns, or 0 for the whole row", lambda n: n >= 0)
AT_LEAST_1 = Allowed("an integer of at least 1", lambda n: n >= 1)
SEED = Allowed("an integer of at least 0", lambda n: n >= 0)
TABLE_SIZE = Allowed("an integer from 2 to 65536", lambda n: 2 <= n <= 65536)
SPARSITY = Allowed("a fraction from 0 to below 1", lambda x: 0 <= x < 1)
UP_TO_1 = Allowed("a number from 0 to 1", lambda x: 0 <= x <= 1)
POSITIVE = Allowed("a positive number", lambda x: 0 < x < math.inf)
DEVIATIONS = Allowed("a positive number of standard deviations", POSITIVE.has)
NOT_NEGATIVE = Allowed("a number of at least 0", lambda x: 0 <= x < math.inf)


def setting(allowed: Allowed, default: Any = dataclasses.MISSING) -> Any:
    """A field of a stage; without a default it must be given."""
    return dataclasses.field(default=default, metadata={"allowed": allowed})


def check_settings(stage: Any) -> None:
    """Raises RecipeError when a setting of a stage is outside its allowed values."""
    for field in dataclasses.fields(stage):
        allowed, found = field.metadata.get("allowed"), getattr(stage, field.name)
        if allowed is not None and not allowed.has(found):
            raise RecipeError(f"{field.name} must be {allowed.words}, found {found}")
