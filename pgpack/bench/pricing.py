"""What the trials of a sweep are expected to cost, so that its time left is that of the trials which are left."""

from __future__ import annotations

import functools

from pgpack.cache.options import CacheOptions, default_folder
from pgpack.errors import PgpackError
from pgpack.recipe.recipe import Recipe
from pgpack.sweep.executors.jobs import Job
from pgpack.sweep.pace import Price

from .benches import Benches
from .costs import decode_seconds, n_values, recipe_seconds
from .rates import read_rates


def prices(benches: Benches, cache: CacheOptions) -> Price:
    """Seconds by stage of a job, by rates measured here before or elsewhere; what was seen scales them."""
    rates, shapes, bench = read_rates(cache.folder or default_folder()), benches.tensors, benches.first
    values, n_tokens = n_values(shapes), bench.text.n_tokens if bench.has_text else 0

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
