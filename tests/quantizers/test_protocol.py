"""What the two tables of this room promise to whoever walks them."""

from __future__ import annotations

import pytest

from pgpack.quantizers import QUANTIZERS, TRANSFORMS
from pgpack.quantizers.base import Quantizer, Transform

STAGES = [*((Quantizer, cls) for cls in QUANTIZERS.values()), *((Transform, cls) for cls in TRANSFORMS.values())]


@pytest.mark.parametrize(("kind", "cls"), STAGES)
def test_every_stage_is_a_frozen_dataclass_of_its_kind(kind, cls):
    assert issubclass(cls, kind)
    assert cls.__dataclass_params__.frozen


def test_what_a_stage_does_not_declare_is_nothing():
    class Least(Quantizer):
        def quantize(self, source):
            raise NotImplementedError

    class Same(Transform):
        def apply(self, source, inner):
            return inner(source)

    least, same = Least(), Same()
    assert (least.needs_hessian, least.bits, least.corrects_rows) == (False, 0, False)
    assert (same.needs_hessian, same.top, same.bind([])) == (False, 0, same)
