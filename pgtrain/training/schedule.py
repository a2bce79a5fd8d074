"""Learning rates and momentum over a run: linear warmup, plateau, linear warmdown; what starts late.

Pure functions of the step. Source: openai/parameter-golf train_gpt.py (warmdown by steps, or by the remaining
seconds when wall clock is capped); where we differ: the baseline's warmup primes the compiler, ours ramps.
"""

from __future__ import annotations

from .train_config import TrainConfig


def lr_scale(config: TrainConfig, step: int, elapsed_s: float = 0.0) -> float:
    """Factor on every learning rate at `step` (counted from 0), in (0, 1]."""
    remaining = float(config.steps - step)
    if config.max_seconds and step:
        seconds_left = max(config.max_seconds - elapsed_s, 0.0)
        remaining = min(remaining, seconds_left * step / max(elapsed_s, 1e-9))
    ramp = (step + 1) / config.warmup_steps if config.warmup_steps else 1.0
    fall = remaining / config.warmdown_steps if config.warmdown_steps else 1.0
    return max(min(ramp, max(fall, config.min_lr), 1.0), 0.0)


def run_fraction(config: TrainConfig, step: int, elapsed_s: float = 0.0) -> float:
    """How much of the run lies behind before `step`, in steps or in seconds, whichever is more; in [0, 1]."""
    by_time = elapsed_s / config.max_seconds if config.max_seconds and step else 0.0
    return min(max(step / config.steps, by_time), 1.0)


def sequence_length(config: TrainConfig, full: int, fraction: float) -> int:
    """Tokens per sequence after `fraction` of the run; `full` without a curriculum."""
    reached = [length for start, length in config.seq_curriculum if start <= fraction]
    return reached[-1] if reached else full


def muon_momentum(config: TrainConfig, step: int) -> float:
    """Muon's momentum at `step`: linear from `muon_momentum_start` to `muon_momentum`, then constant."""
    share = min(step / config.muon_momentum_steps, 1.0) if config.muon_momentum_steps else 1.0
    return config.muon_momentum_start + share * (config.muon_momentum - config.muon_momentum_start)
