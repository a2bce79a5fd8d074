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
OF_TRANSFORMERS = {
    "embedding": (
        "model.embed_tokens.weight transformer.wte.weight transformer.wpe.weight gpt_neox.embed_in.weight "
        "model.decoder.embed_positions.weight backbone.embeddings.weight transformer.word_embeddings.weight "
        "token_embd.weight position_embd.weight"
    ),
    "head": "lm_head.weight embed_out.weight output.weight head.weight",
    "attention": (
        "model.layers.0.self_attn.q_proj.weight model.layers.0.self_attn.o_proj.weight "
        "transformer.h.0.attn.c_attn.weight transformer.h.11.attn.c_proj.weight "
        "gpt_neox.layers.0.attention.query_key_value.weight gpt_neox.layers.0.attention.dense.weight "
        "model.layers.0.self_attn.dense.weight "
        "model.decoder.layers.0.self_attn.out_proj.weight h.0.self_attention.query_key_value.weight "
        "blk.0.attn_q.weight blk.0.attn_output.weight blk.0.attn_qkv.weight"
    ),
    "mlp": (
        "model.layers.0.mlp.gate_proj.weight model.layers.0.mlp.down_proj.weight transformer.h.0.mlp.c_fc.weight "
        "transformer.h.0.mlp.c_proj.weight gpt_neox.layers.0.mlp.dense_h_to_4h.weight model.layers.0.mlp.fc1.weight "
        "model.decoder.layers.0.fc1.weight model.decoder.layers.0.fc2.weight blk.0.ffn_gate.weight "
        "model.layers.0.block_sparse_moe.experts.3.w1.weight model.layers.0.mlp.experts.gate_up_proj "
        "model.layers.0.feed_forward.down_proj.weight rwkv.blocks.0.feed_forward.key.weight"
    ),
    "projection": (
        "model.decoder.project_in.weight model.decoder.project_out.weight backbone.layers.0.mixer.x_proj.weight "
        "backbone.layers.0.mixer.dt_proj.weight"
    ),
    "matrix": "backbone.layers.0.mixer.in_proj.weight backbone.layers.0.mixer.out_proj.weight",
    "control": (
        "backbone.layers.0.mixer.A_log backbone.layers.0.mixer.conv1d.weight transformer.h.0.attn.bias "
        "model.layers.0.mlp.gate.weight model.layers.0.block_sparse_moe.gate.weight h.0.attn.masked_bias "
        "rwkv.blocks.0.feed_forward.time_mix_key model.layers.0.temporal_block.conv_1d.weight"
    ),
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


@pytest.mark.parametrize(
    ("name", "role"), [(name, role) for role, names in OF_TRANSFORMERS.items() for name in names.split()]
)
def test_the_names_of_transformers_and_llamacpp_have_their_roles(name: str, role: str) -> None:
    assert role_of(name, (8, 8)) == role


@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
def test_a_role_is_that_of_the_first_glob_that_fnmatch_matches(name: str) -> None:
    expected = next((role for pattern, role in ROLE_GLOBS if fnmatchcase(name, pattern)), "matrix")
    assert role_of(name, (8, 8)) == expected
