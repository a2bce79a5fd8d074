"""A recipe applied: what each tensor needs, and the matrix that it is quantized as."""

from __future__ import annotations

import pytest

from pgpack.recipe.applied import Applied, AppliedTensor, apply
from pgpack.recipe.recipe import parse_recipe

SHAPES = {
    "tok_emb.weight": (64, 32),
    "blocks.0.mlp.fc.weight": (96, 32),
    "blocks.0.mlp.proj.weight": (32, 96),
    "scale": (32,),
    "step": (),
}


def applied(text: str) -> Applied:
    return apply(parse_recipe(text), SHAPES)


def test_tensors_keep_the_checkpoints_order_and_their_first_rule() -> None:
    found = applied("ndim<=1=cast; *.mlp.*=rtn(bits=4); *=rtn(bits=8)")
    assert list(found.tensors) == list(SHAPES)
    assert [tensor.policy.quantizer.bits for tensor in found.tensors.values()] == [8, 4, 4, 0, 0]
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == SHAPES


def test_calibration_is_needed_where_a_quantizer_or_a_transform_needs_it() -> None:
    found = applied("ndim<=1=cast; tok_emb.*=prune_wanda|rtn; *.fc.*=gptq; *=rtn")
    assert found.needs_hessian == ("tok_emb.weight", "blocks.0.mlp.fc.weight")
    assert found.needs_calibration
    assert not applied("*=rtn").needs_calibration


def test_rows_that_correct_each_other_are_told() -> None:
    found = applied("ndim<=1=cast; tok_emb.*=tcq(step=0.1); *=tcq(step=0.1,group=8)")
    assert found.corrects_rows == ("blocks.0.mlp.fc.weight", "blocks.0.mlp.proj.weight")


def test_equal_transforms_of_different_rules_are_one() -> None:
    found = applied(
        "ndim<=1=cast; tok_emb.*=prune_global(sparsity=0.2)|rtn(bits=8); *=prune_global(sparsity=0.2)|rtn"
    )
    (names,) = found.by_transform().values()
    assert names == [name for name, shape in SHAPES.items() if len(shape) == 2]


@pytest.mark.parametrize(
    ("shape", "hessian", "expected"),
    [
        ((), None, (1, 1)),
        ((5,), None, (1, 5)),
        ((0, 5), None, (0, 5)),
        ((4, 6), (6, 6), (4, 6)),
        ((3, 4, 6), None, (3, 24)),
        ((3, 4, 6), (24, 24), (3, 24)),
        ((3, 4, 6), (6, 6), (12, 6)),
        ((2, 3, 4, 6), (6, 6), (24, 6)),
    ],
)
def test_matrices_of_a_stack_lie_under_each_other_where_their_hessian_says_so(
    shape: tuple[int, ...], hessian: tuple[int, ...] | None, expected: tuple[int, int]
) -> None:
    tensor = AppliedTensor("w", shape, parse_recipe("*=cast").rules[0])
    assert tensor.matrix_shape(hessian) == expected
