"""Quantization-aware training: the forward pass sees weights on the grid that the packer will store.

    W --row steps (fp16)--> round, clip --> grid weights --> forward, backward --> their gradients --> W

Owns the grid in torch, and the recipe whose packed weights are bit for bit those of the forward pass: steps and
rounding are `pgpack.quantizers.uniform.SdClip`'s (clip > 0) or `Rtn`'s (clip 0), which GPTQ's grid equals. Training
scripts whose QAT rounded on another grid than their exporter trained for a quantizer that never came (PR #212).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pgpack.errors import DataError
from pgtrain.model.tensor_table import parameter_group

from .train_config import TrainConfig

SOFT_START, SOFT_END = 1.0, 16.0  # sharpness of soft rounding over the QAT part of a run


def row_steps(weight: Tensor, bits: int, clip: float) -> Tensor:
    """Steps as the packer stores them, fp16 values in float32. Shape: (out, in) -> (out, 1).

    clip > 0: clip * std / R with the unbiased std of a row; clip 0: absmax / R. R = 2^(bits-1) - 1.
    """
    largest = float(2 ** (bits - 1) - 1)
    spread = weight.abs().amax(dim=1, keepdim=True) / largest
    if not clip:
        return spread.half().float()
    std = weight.double().std(dim=1, correction=1, keepdim=True).float()
    steps = (std * clip / largest).clamp(min=1e-10)
    return torch.where(std > 0, steps, spread).half().float()


def on_grid(weight: Tensor, bits: int, clip: float) -> Tensor:
    """The weights that a decoder gets. Shape: (out, in) float32; no gradient."""
    largest = 2 ** (bits - 1) - 1
    with torch.no_grad():
        steps = row_steps(weight, bits, clip)
        symbols = weight / torch.where(steps > 0, steps, torch.inf)
        return symbols.round_().clamp_(-largest, largest).mul_(steps)


def soft_slope(x: Tensor, sharpness: Tensor) -> Tensor:
    """Derivative at x, in steps, of s(x) = floor(x) + 1/2 + tanh(a r) / (2 tanh(a/2)), r = x - floor(x) - 1/2.

    Its mean over a step is 1. Source: Agustsson and Theis 2020, arXiv:2006.09952, eq. 12. Where we differ: s is
    not used forward, so that the loss is always that of the weights that are packed.
    """
    r = x - x.floor() - 0.5
    return sharpness * (1 - torch.tanh(sharpness * r).square()) / (2 * torch.tanh(sharpness / 2))


@dataclass(frozen=True)
class FakeQuantizer:
    """Which tensors are on which grid while a run trains; equal qat_ settings mean an equal packed model."""

    config: TrainConfig

    @classmethod
    def of(cls, config: TrainConfig) -> FakeQuantizer | None:
        """The quantizer of a run, None when QAT is off."""
        return cls(config) if config.qat_bits or config.qat_embed_bits else None

    def setting(self, name: str) -> tuple[int, float]:
        """(bits, clip) of a tensor; 0 bits leave it alone."""
        group, config = parameter_group(name), self.config
        if group == "matrix":
            return config.qat_bits, config.qat_clip
        return (config.qat_embed_bits, config.qat_embed_clip) if group in ("embedding", "head") else (0, 0.0)

    def weights(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name -> grid weights of every quantized tensor, leaves that collect the gradient at the grid."""
        return {
            name: on_grid(parameter.detach(), *self.setting(name)).requires_grad_()
            for name, parameter in parameters.items()
            if self.setting(name)[0]
        }

    def hand_back_(self, parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor], fraction: float) -> None:
        """Give the parameters the gradients that their grid weights collected, after backward.

        straight through (Bengio et al. 2013, arXiv:1308.3432): as they are, clipped weights included. soft: times the
        slope of soft rounding, which sharpens while `fraction` of the QAT part grows from 0 to 1.
        """
        sharpness = SOFT_START + fraction * (SOFT_END - SOFT_START)
        for name, seen in weights.items():
            parameter, gradient = parameters[name], seen.grad
            if gradient is not None and self.config.qat_rounding == "soft":
                steps = row_steps(parameter.detach(), *self.setting(name))
                x = parameter.detach() / torch.where(steps > 0, steps, torch.inf)
                gradient = gradient * soft_slope(x, torch.tensor(sharpness, device=x.device))
            parameter.grad = gradient

    def recipe(self, names: Mapping[str, Tensor]) -> str:
        """The recipe that stores exactly the forward pass's weights; whatever was not quantized stays fp32.

        Raises: DataError when no tensor was quantized.
        """
        rules = []
        for name in names:
            bits, clip = self.setting(name)
            if bits:
                glob = "*." + ".".join(name.split(".")[-3:]) if name.count(".") > 2 else name
                law = f"sdclip(bits={bits},clip={clip:.12g})" if clip else f"rtn(bits={bits})"
                rules.append(f"{glob}={law}|rans")
        if not rules:
            raise DataError("no tensor was quantized in training, so no recipe matches it")
        return "; ".join([*dict.fromkeys(rules), "*=cast(dtype=fp32)"])
