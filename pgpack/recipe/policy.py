"""What happens to one tensor: transforms, a quantizer, a coding; and the tables of the stages that there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.codecs.base import ByteCodec, SymbolCoder, SymbolTransform
from pgpack.quantizers import QUANTIZERS, TRANSFORMS
from pgpack.quantizers.base import Quantizer, Transform
from pgpack.stages import Table, stage_text

from .selector import Selector


def default_side_codecs() -> tuple[ByteCodec, ...]:
    """How side information (scales, tables, permutations) is compressed unless @container says otherwise."""
    return (BYTE_CODECS["shuffle"](stride=2), BYTE_CODECS["brotli"](quality=11))


@dataclass(frozen=True)
class Coding:
    """Symbols -> bytes. Tensors with equal (coder, byte_codecs) share one stream of the artifact."""

    symbol_transforms: tuple[SymbolTransform, ...] = ()
    coder: SymbolCoder = field(default_factory=CODERS["raw"])
    byte_codecs: tuple[ByteCodec, ...] = ()


@dataclass(frozen=True)
class TensorPolicy:
    """The whole chain of one tensor."""

    transforms: tuple[Transform, ...]
    quantizer: Quantizer
    coding: Coding

    @property
    def needs_hessian(self) -> bool:
        return any(stage.needs_hessian for stage in (*self.transforms, self.quantizer))


@dataclass(frozen=True)
class Rule:
    """A selector and the policy of the tensors it is the first to match."""

    selector: Selector
    policy: TensorPolicy


def stages_of(policy: TensorPolicy) -> list[Any]:
    """All stages of a policy in order of application."""
    coding = policy.coding
    return [*policy.transforms, policy.quantizer, *coding.symbol_transforms, coding.coder, *coding.byte_codecs]


DIRECTIVES = {  # of one stage
    name: Table(__package__, {stage: f"directives:{cls}"})
    for name, stage, cls in (
        ("calib", "tokens", "Calibrate"),
        ("order", "mlp", "MlpOrder"),
        ("drift", "layers", "Drift"),
        ("tune", "steps", "Tune"),
        ("compensate", "weights", "Compensate"),
    )
}
KINDS: tuple[tuple[str, Table], ...] = (
    ("transform", TRANSFORMS),
    ("quantizer", QUANTIZERS),
    ("symbol transform", SYMBOL_TRANSFORMS),
    ("coder", CODERS),
    ("byte codec", BYTE_CODECS),
)
STAGES = Table.joined(table for _, table in KINDS)


def policy_to_text(policy: TensorPolicy, *, full: bool = False) -> str:
    """`stage|stage|...`; the default coder is left out unless `full`."""
    raw = CODERS["raw"]()
    return "|".join(
        stage_text(STAGES.name_of(stage), stage, full=full) for stage in stages_of(policy) if full or stage != raw
    )
