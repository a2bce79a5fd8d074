"""Weights with nothing at zero or one, so that every term of a model's arithmetic shows."""

from __future__ import annotations

import numpy as np

from pgtrain.model.model_config import GPTConfig
from pgtrain.model.tensor_table import tensor_shapes


def random_tensors(config: GPTConfig, seed: int) -> dict[str, np.ndarray]:
    """Name -> normal values of standard deviation 0.2."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in tensor_shapes(config).items()}
