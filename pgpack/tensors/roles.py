"""What a tensor is for, read off its name and shape. Names are those of the challenge's dialects, of transformers and
of llama.cpp; an unknown 2-D tensor is a `matrix` unless its model's own modules tell (`ToldShapes`), and whatever has
fewer dimensions is `control`.

    embedding   token, position, bigram or value embedding tables (rows are looked up)
    head        an untied output matrix
    attention   q, k, v and output projections, fused or not
    mlp         the matrices of an MLP, or of its experts
    projection  embed_proj, head_proj and other low-rank or basis-changing matrices
    matrix      any other tensor with at least two dimensions
    control     scales, gains, mixes, gates, norms, routers, short convolutions, masks: at most one dimension, or a
                known control name
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

# '*' is the only wildcard here, and every glob begins with it.
ROLE_GLOBS: tuple[tuple[str, str], ...] = (
    ("*resid_mix*", "control"),
    ("*skip_weight*", "control"),
    ("*skip_gate*", "control"),
    ("*_scale", "control"),
    ("*_scales", "control"),
    ("*q_gain*", "control"),
    ("*smear*", "control"),
    ("*lambda*", "control"),
    ("*attn_gate*", "control"),
    ("*perm_gate*", "control"),
    ("*.attn.bias", "control"),
    ("*masked_bias", "control"),
    ("*A_log", "control"),
    ("*conv1d*", "control"),
    ("*conv_1d*", "control"),
    ("*.time_mix_*", "control"),
    ("*router*", "control"),
    ("*mlp.gate.weight", "control"),
    ("*moe.gate.weight", "control"),
    ("*embed_proj*", "projection"),
    ("*head_proj*", "projection"),
    ("*lora*", "projection"),
    ("*put_residual.*", "projection"),
    ("*bigram*proj*", "projection"),
    ("*project_in.*", "projection"),
    ("*project_out.*", "projection"),
    ("*mixer.x_proj*", "projection"),
    ("*mixer.dt_proj*", "projection"),
    ("*lm_head*", "head"),
    ("*embed_out*", "head"),
    ("*head.weight", "head"),
    ("*emb*", "embedding"),
    ("*wte*", "embedding"),
    ("*wpe*", "embedding"),
    ("*attn.*", "attention"),
    ("*attention*", "attention"),
    ("*attn_q.*", "attention"),
    ("*attn_k.*", "attention"),
    ("*attn_v.*", "attention"),
    ("*attn_qkv.*", "attention"),
    ("*attn_output.*", "attention"),
    ("*qo_bank*", "attention"),
    ("*kv_bank*", "attention"),
    ("*mlp*", "mlp"),
    ("*ffn*", "mlp"),
    ("*feed_forward*", "mlp"),
    ("*experts*", "mlp"),
    ("*.fc1.*", "mlp"),
    ("*.fc2.*", "mlp"),
    ("*output.weight", "head"),
)
ROLES = ("embedding", "head", "attention", "mlp", "projection", "matrix", "control")


class Shaped:
    """What has the shape of a tensor."""

    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@functools.cache
def role_of(name: str, shape: tuple[int, ...]) -> str:
    """The role of a tensor, one of ROLES."""
    if len(shape) < 2:
        return "control"
    for pattern, role in ROLE_GLOBS:
        if _matches(pattern, name):
            return role
    return "matrix"


class ToldShapes(dict[str, tuple[int, ...]]):
    """Shapes by name, and the roles that a model's modules tell of tensors whose names say nothing."""

    def __init__(self, shapes: Iterable[tuple[str, tuple[int, ...]]], told: Mapping[str, str]) -> None:
        super().__init__(shapes)
        self.told = told


def roles_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """name -> role of every tensor, what was told included."""
    found = {name: role_of(name, shape) for name, shape in shapes.items()}
    told = shapes.told if isinstance(shapes, ToldShapes) else {}
    return {name: told.get(name, role) if role == "matrix" else role for name, role in found.items()}


def _matches(pattern: str, name: str) -> bool:
    """fnmatchcase for globs of '*' alone; without its regular expressions, which take 15 ms to compile."""
    *parts, last = pattern.split("*")
    start = 0
    for part in parts:
        at = name.find(part, start)
        if at < 0:
            return False
        start = at + len(part)
    return name.endswith(last, start)
