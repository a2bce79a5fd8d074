"""Roles are read off names by the globs of the table, the first one that matches."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.tensors.roles import ROLE_GLOBS, ROLES, role_of

PARTS = sorted({part for pattern, _ in ROLE_GLOBS for part in pattern.split("*")} | {".", "blocks", "x", "_"})
EXAMPLES = {
    "tok_emb.weight": "embedding",
    "blocks.0.attn.c_q.weight": "attention",
    "blocks.3.mlp.fc.weight": "mlp",
    "bigram.proj.weight": "projection",
    "embed_proj.weight": "projection",
    "lm_head.weight": "head",
    "blocks.1.attn_scale": "control",
    "blocks.1.attn_scales": "control",
    "blocks.1.attn_scale.weight": "matrix",
    "something": "matrix",
}


def test_every_glob_begins_with_its_only_wildcard() -> None:
    for pattern, role in ROLE_GLOBS:
        assert pattern.startswith("*")
        assert not set(pattern) & set("?[]")
        assert role in ROLES


@pytest.mark.parametrize(("name", "role"), EXAMPLES.items())
def test_the_names_of_the_field_have_their_roles(name: str, role: str) -> None:
    assert role_of(name, (8, 8)) == role
    assert role_of(name, (8,)) == "control"


@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
def test_a_role_is_that_of_the_first_glob_that_fnmatch_matches(name: str) -> None:
    expected = next((role for pattern, role in ROLE_GLOBS if fnmatchcase(name, pattern)), "matrix")
    assert role_of(name, (8, 8)) == expected
