"""What the trials of a sweep are expected to cost, so that its time left is that of the trials which are left."""

from __future__ import annotations

import functools

from pgpack.cache.options import CacheOptions, default_folder
from pgpack.errors import PgpackError
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.selector import Shapes
from pgpack.sweep.executors.jobs import Job
from pgpack.sweep.pace import Price

from .benches import Benches
from .costs import decode_seconds, n_values, recipe_seconds
from .rates import Rates, read_rates


def prices(benches: Benches, cache: CacheOptions) -> Price:
    """As `price_of`, by rates measured here before or elsewhere."""
    n_tokens = benches.first.text.n_tokens if benches.first.has_text else 0
    return price_of(benches.tensors, n_tokens, read_rates(cache.folder or default_folder()))


def price_of(shapes: Shapes, n_tokens: int, rates: Rates) -> Price:
    """Seconds by stage of a job on a text of `n_tokens`; what was seen of other jobs scales them."""
    values = n_values(shapes)

    @functools.cache
    def stages(recipe: Recipe) -> tuple[float, float]:
        try:
            return recipe_seconds(recipe, shapes, rates)
        except PgpackError:
            return 0.0, 0.0  # it will fail

    def price(job: Job, follows: bool) -> dict[str, float]:
        quantize, encode = stages(job.candidate.recipe)
        evaluate = values * n_tokens * job.setting.text_share / rates.model
        first = {} if follows else {"quantize_s": quantize, "eval_s": evaluate}
        return {**first, "encode_s": encode, "decode_s": decode_seconds(shapes, rates)}

    return price
