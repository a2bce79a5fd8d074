"""Floating-point operations that training a model needs, counted from its tensors and the order of its layers.

Owns one count, the numerator of model FLOP utilisation: what the arithmetic of the model asks for, whatever a machine
spends on recomputing, optimizers or averages. Refuses torch: plans print at once.
Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B: 6 per weight and token, 12 L D T for attention.
Where we differ: a weight counts once per use, so that loops and shared blocks cost what they compute; the lookup in
the embedding table costs nothing; attention counts the T / 2 positions that a causal model may see, not T.
"""

from __future__ import annotations

import math

from .layer_plan import uses_of
from .model_config import GPTConfig
from .tensor_table import blocks_name, parameter_group, tensor_shapes


def weight_uses(config: GPTConfig) -> int:
    """Weights of all matrices that one token meets in a training pass with all loops, each as often as it is used."""
    uses = uses_of(config)
    blocks = f"{blocks_name(config)}."
    total = 0
    for name, shape in tensor_shapes(config).items():
        if parameter_group(name) == "matrix" and name.startswith(blocks):
            total += math.prod(shape) * uses[int(name.split(".")[1])]
        elif parameter_group(name) == "matrix" or "lora_" in name:  # a run has its own slice of the deviations
            total += math.prod(shape)
    head = config.table_dim * (config.vocab_size + (config.model_dim if config.has_projections else 0))
    total += config.vocab_size * config.table_dim
    return total + (config.model_dim**2 + head if config.mtp_weight else 0)


def activations_per_token(config: GPTConfig) -> int:
    """Values that a training step keeps of each token for its backward pass, about: what blocks and the head make."""
    block = 12 * config.model_dim + round(3 * config.mlp_mult * config.model_dim)
    return config.virtual_layers * block + 4 * config.vocab_size


def orthogonalizing_flop(config: GPTConfig, iterations: int) -> int:
    """Operations of Muon in a step, whatever the batch: of an (n, m) matrix, n the smaller, 4 n^2 m + 2 n^3 an
    iteration (`optim.orthogonalize`). They are no part of utilisation; small batches pay as much for them as for the
    model."""
    total = 0
    for name, shape in tensor_shapes(config).items():
        if parameter_group(name) == "matrix" and len(shape) == 2:
            n, m = sorted(shape)
            total += iterations * (4 * n * n * m + 2 * n**3)
    return total


def flop_per_token(config: GPTConfig, seq_len: int | None = None) -> int:
    """Operations, forward and backward, per token of a sequence of `seq_len` (None: the model's)."""
    length = seq_len or config.seq_len
    return 6 * weight_uses(config) + 6 * config.virtual_layers * config.model_dim * length
