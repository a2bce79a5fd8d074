"""The baseline GPT of the challenge: tokens in, soft-capped logits out.

    ids -> tok_emb -> rms_norm = x0 -> encoder blocks --skips--> decoder blocks -> final_norm -> head -> softcap

Owns `GPT`, its initial weights and `build`. Tensor names are those of `pgtrain.model_config.tensor_shapes`.
Source: openai/parameter-golf train_gpt.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgtrain.blocks import Block, rms_norm, rotary_tables
from pgtrain.model_config import GPTConfig, check_shapes

ZERO_AT_START = ("attn.proj.weight", "mlp.proj.weight", "lm_head.weight")


class FinalNorm(nn.Module):
    """The last RMS norm. A module, so that a forward hook sees the input of the (tied) output projection."""

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x)


class GPT(nn.Module):
    """Decoder-only transformer with a U-Net of skips over its layers."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.model_dim)
        self.skip_weights = nn.Parameter(torch.ones(config.num_skips, config.model_dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = FinalNorm()
        self.lm_head = None if config.tie_embeddings else nn.Linear(config.model_dim, config.vocab_size, bias=False)

    def forward_logits(self, ids: Tensor) -> Tensor:  # (B, T) int64 -> (B, T, V) float32
        """Logits of the next token at every position, after the soft cap, in float32."""
        config = self.config
        x0 = x = rms_norm(self.tok_emb(ids))
        cos, sin = rotary_tables(ids.shape[1], config.head_dim, config.rope_base, ids.device)
        skips: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i < config.num_skips:
                x = block(x, x0, cos, sin)
                skips.append(x)
                continue
            if skips:  # the deepest encoder layer meets the first decoder layer
                x = x + self.skip_weights[i - config.num_skips].to(x.dtype) * skips.pop()
            x = block(x, x0, cos, sin)
        head = self.tok_emb.weight if self.lm_head is None else self.lm_head.weight
        logits = F.linear(self.final_norm(x), head)
        cap = config.logit_softcap
        return cap * torch.tanh(logits.float() / cap)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:  # (B, T), (B, T) -> ()
        """Mean cross-entropy in nats per token."""
        logits = self.forward_logits(ids)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def initialize_(model: GPT, seed: int) -> GPT:
    """Fill the weights as the baseline starts them, from `seed` alone; the model comes back.

    Embedding N(0, tied_embed_init_std) when tied, N(0, 1) when not; output projections zero; other matrices
    uniform in +-1/sqrt(in); gains, scales and skips keep their constants.
    """
    generator = torch.Generator().manual_seed(seed)
    embed_std = model.config.tied_embed_init_std if model.config.tie_embeddings else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "tok_emb.weight":
                parameter.normal_(0.0, embed_std, generator=generator)
            elif name.endswith(ZERO_AT_START):
                parameter.zero_()
            elif name.endswith(".weight"):
                bound = parameter.shape[1] ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)
    return model


def build(config: GPTConfig, state_dict: Mapping[str, Tensor]) -> GPT:
    """A model in eval mode that holds `state_dict`'s tensors as they are (no copy).

    Raises: CheckpointError when names or shapes are not exactly those of `config`.
    """
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in state_dict.items()})
    with torch.device("meta"):
        model = GPT(config)
    model.load_state_dict(dict(state_dict), strict=True, assign=True)
    return model.requires_grad_(False).eval()
