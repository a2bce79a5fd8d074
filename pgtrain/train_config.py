"""How a run trains, as plain values. Owns `TrainConfig`; refuses torch, so that a plan prints at once."""

from __future__ import annotations

from dataclasses import dataclass

from pgpack.errors import DataError


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of one run; equal values, data and machine give equal checkpoints.

    Units: learning rates per step at full schedule; `warmup_steps`, `warmdown_steps` in steps;
    `max_seconds` of wall clock (0 = no limit; a run it cuts short is not reproducible).
    Source: defaults are those of openai/parameter-golf train_gpt.py, except EMA (later submissions use 0.9965).
    """

    steps: int = 1000
    batch_tokens: int = 8192
    matrix_lr: float = 0.04
    embed_lr: float = 0.05
    head_lr: float = 0.008
    scalar_lr: float = 0.04
    warmup_steps: int = 20
    warmdown_steps: int = 300
    muon_momentum: float = 0.95
    muon_momentum_start: float = 0.85
    muon_momentum_steps: int = 500
    muon_iterations: int = 5
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_eps: float = 1e-8
    grad_clip: float = 1.0
    ema_decay: float = 0.9965
    seed: int = 1337
    max_seconds: float = 0.0
    val_every: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise DataError(f"a run of {self.steps} steps trains nothing; give --steps of at least 1")
        if not 0.0 <= self.ema_decay < 1.0:
            raise DataError(f"EMA decay {self.ema_decay} must be in [0, 1); 0 turns averaging off")
        for name in ("matrix_lr", "embed_lr", "head_lr", "scalar_lr", "grad_clip", "warmup_steps",
                     "warmdown_steps", "max_seconds", "val_every", "weight_decay"):  # fmt: skip
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}, must not be negative")
