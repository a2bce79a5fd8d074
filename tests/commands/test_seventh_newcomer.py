"""What a seventh newcomer stumbled over, each as the kind that it is of."""

from __future__ import annotations

import pytest

from pgpack.tables import table

RECIPE = (
    "ndim<=1=cast(dtype=fp16)|shuffle|brotli(quality=11); *=tcq(step=0.0002619177,states=64)|rans_scaled(states=64)"
)
FRONTIER = table(
    ("", "bytes", "bpb", "+-", "above best", "KL", "+-", "name", "recipe"),
    [
        ("", 27_820, "3.5663", "0.00131", "+0.01122 +-0.00111", 0.005331, "0.00033", "", RECIPE),
        ("*", 39_966, "3.5550", "0.00055", "+0.00000 +-0.00000", 0.001385, "0.000080", "tuned to the budget", RECIPE),
    ],
)


@pytest.mark.parametrize("columns", range(40, 140, 4))
def test_no_value_with_an_interval_and_no_name_is_cut_at_any_width(columns: int) -> None:
    lines = FRONTIER.within(columns).splitlines()
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    for value in ("+0.01122 +-0.00111", "+0.00000 +-0.00000", "0.00033", "0.000080"):
        assert text.count(value) == 1
    assert text.count("tuned to the budget") == 1
    assert all(lines)
    assert all(any(size in line for size in ("bytes", "27,820", "39,966")) for line in lines if " 0.00" in line)


@pytest.mark.parametrize("columns", range(40, 100, 4))
def test_every_row_of_a_table_stands_under_its_own_name_at_any_width(columns: int) -> None:
    names = [f"model.layers.{i}.self_attn.q_proj.weight" for i in (0, 1)]
    rows = [(name, "attention", "64x64", "cast(dtype=fp16)", 6_850 + i, 13.38 + i) for i, name in enumerate(names)]
    text = table(("tensor", "role", "shape", "policy", "est. bytes", "bits/weight"), rows).within(columns)
    assert text.count("cast(dtype=fp16)") == 2
    if names[1] in text:
        first, _, second = text.partition(names[1])
        assert ("6,850" in first, "13.38" in first, "6,851" in second, "14.38" in second) == (True,) * 4
