"""Every dialect goes through import, pack and unpack and comes out under the names and shapes its scripts load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pgpack.checkpoint.checkpoint import from_tensors, load_checkpoint
from pgpack.checkpoint.dialects import BANKS, banked, common_prefix, dialect_of, unwrapped
from pgpack.errors import CheckpointError
from pgpack.pack import pack
from pgpack.recipe.presets import preset_text
from pgpack.recipe.recipe import parse_recipe
from pgpack.tensors.roles import role_of
from pgpack.unpack import unpack
from pgtrain.model.tensor_table import count_parameters, tensor_shapes
from pgtrain.presets import PRESETS

LOSSLESS = "*=cast(dtype=fp32)|raw"


def as_banks(shapes):
    """The same tensors as a banked script names them."""
    layers = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
    found = {}
    inside = set()
    for bank, kinds in BANKS.items():
        members = [f"blocks.{i}.{kind}" for kind in kinds for i in range(layers)]
        inside |= set(members)
        found[bank] = (len(members), *shapes[members[0]])
    return found | {name: shape for name, shape in shapes.items() if name not in inside}


def older_banks(shapes):
    """#549 and #1019: banks, channel SmearGate and bigram under other names, value embeddings, no skip gates."""
    dim, vocabulary = shapes["qo_bank"][2], shapes["tok_emb.weight"][0]
    kept = {name: shape for name, shape in shapes.items() if name != "skip_gates" and "lambdas" not in name}
    kept |= {"smear.gate": (dim,), "bigram.embed.weight": (vocabulary, 128), "bigram.proj.weight": (dim, 128)}
    kept |= {"bigram.scale": (), "ve_shared.embed.weight": (vocabulary, 128), "ve_shared.scale": ()}
    return kept | {"ve_shared.proj.weight": (shapes["kv_bank"][1], 128), "ve_layer_scales.0": (1,)}


def dialects(suffix):
    """name -> (shapes as the script saves them, what it is called)."""
    table = {
        name: tensor_shapes(PRESETS[name + suffix].model) for name in ("loop45", "lanes", "baseline", "prism-wt")
    }
    table |= {name: tensor_shapes(PRESETS[name + suffix].model) for name in ("ebls", "embed-416", "eleven")}
    banks = as_banks(table["lanes"])
    return {
        "baseline": (table["baseline"], "unbanked"),
        "unbanked": (table["loop45"], "unbanked"),
        "banked": (banks, "banked"),
        "older banks": (older_banks(banks), "banked, value embeddings"),
        "EBLS": (table["ebls"], "EBLS"),
        "PRISM": (table["prism-wt"] | {"blocks.0.attn.perm_gate.bias": (1,)}, "PRISM"),
        "decoupled": (table["embed-416"], "decoupled embedding"),
        "banked decoupled": (as_banks(table["embed-416"]), "banked, decoupled embedding"),
        "212": (table["eleven"], "bigram hash"),
    }


def drawn(shapes, seed=0):
    """A state dict of these shapes: matrices bf16 and fp32 mixed, control tensors fp32, as the scripts save them."""
    generator = torch.Generator().manual_seed(seed)
    mixed = {}
    for i, (name, shape) in enumerate(shapes.items()):
        values = 0.05 * torch.randn(shape, generator=generator)
        mixed[name] = values.bfloat16() if i % 3 == 1 and len(shape) > 1 else values
    return mixed


def survives(folder: Path, shapes, recipe: str) -> tuple[dict, dict]:
    """(weights that were saved, weights that a script would load) after save, load, pack, unpack, back into banks."""
    saved = drawn(shapes)
    torch.save(saved, folder / "final_model.pt")
    checkpoint = load_checkpoint(folder / "final_model.pt")
    rules = parse_recipe(recipe).without_idle_rules(checkpoint.stored_shapes)
    tensors = unpack(pack(checkpoint, rules).data).tensors()
    back = banked(tensors) if "qo_bank" in shapes else tensors
    return {name: value.float().numpy() for name, value in saved.items()}, back


TINY = dialects("-tiny")


@pytest.mark.parametrize("name", TINY)
def test_a_small_state_dict_of_every_dialect_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    shapes, called = TINY[name]
    assert dialect_of(shapes) == called
    saved, back = survives(tmp_path, shapes, LOSSLESS)
    assert {key: array.shape for key, array in back.items()} == shapes
    for key, array in saved.items():
        assert np.array_equal(back[key], array), key


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", dialects(""))
def test_a_full_size_state_dict_of_every_dialect_comes_back_in_names_and_shapes(name: str, tmp_path: Path) -> None:
    shapes, _ = dialects("")[name]
    recipe = preset_text("int6-zstd22").replace("zstd(level=22)", "zstd(level=1)")
    saved, back = survives(tmp_path, shapes, recipe)
    assert {key: array.shape for key, array in back.items()} == shapes
    for key, array in saved.items():
        error = np.linalg.norm(back[key] - array) / max(1e-9, np.linalg.norm(array))
        assert error < 0.5, key  # a step floor of 1/31 on weights of 0.05


def test_the_full_sizes_are_the_published_ones() -> None:
    assert count_parameters(PRESETS["lanes"].model) == 35_944_602
    numel = {
        name: sum(int(np.prod(shape)) for shape in shapes.values()) for name, (shapes, _) in dialects("").items()
    }
    assert numel["banked"] == 35_944_602
    assert numel["unbanked"] == 35_943_512
    assert numel["older banks"] > 35_900_000


def test_a_banks_matrices_are_those_of_the_layers(tmp_path: Path) -> None:
    shapes = TINY["banked"][0]
    saved = drawn(shapes)
    torch.save(saved, tmp_path / "b.pt")
    found = load_checkpoint(tmp_path / "b.pt")
    layers = shapes["mlp_up_bank"][0]
    for i in range(layers):
        for bank, at, name in (
            ("qo_bank", i, "attn.c_q"), ("qo_bank", layers + i, "attn.proj"), ("kv_bank", i, "attn.c_k"),
            ("kv_bank", layers + i, "attn.c_v"), ("mlp_up_bank", i, "mlp.fc"), ("mlp_down_bank", i, "mlp.proj"),
        ):  # fmt: skip
            assert np.array_equal(found.tensor(f"blocks.{i}.{name}.weight"), saved[bank][at].float().numpy())
    assert list(load_checkpoint(tmp_path / "b.pt", as_stored=True).shapes) == list(shapes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"qo_bank": (3, 4, 4)}, "2 matrices for every layer"),
        ({"kv_bank": (4, 4)}, "three dimensions"),
        ({"blocks.0.mlp.fc.weight": (8, 4)}, "by its own name"),
    ],
)
def test_what_cannot_be_a_bank_is_refused(change, sentence: str, tmp_path: Path) -> None:
    shapes = {"qo_bank": (4, 4, 4), "kv_bank": (4, 2, 4), "mlp_up_bank": (2, 8, 4), "mlp_down_bank": (2, 4, 8)}
    torch.save(drawn(shapes | change), tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(tmp_path / "b.pt")


def test_what_does_not_fill_banks_is_refused() -> None:
    whole = {
        f"blocks.{i}.{kind}": np.zeros((2, 2), "f4") for kinds in BANKS.values() for kind in kinds for i in (0, 1)
    }
    assert {name: array.shape for name, array in banked(whole).items()} == {
        "qo_bank": (4, 2, 2), "kv_bank": (4, 2, 2), "mlp_up_bank": (2, 2, 2), "mlp_down_bank": (2, 2, 2)
    }  # fmt: skip
    with pytest.raises(CheckpointError, match=r"blocks\.1\.mlp\.fc\.weight is missing"):
        banked({name: array for name, array in whole.items() if name != "blocks.1.mlp.fc.weight"})
    with pytest.raises(CheckpointError, match="would hold shapes"):
        banked(whole | {"blocks.1.attn.proj.weight": np.zeros((2, 3), "f4")})
    with pytest.raises(CheckpointError, match="there are no"):
        banked({"w": np.zeros(2, "f4")})


def test_unknown_names_still_pack_and_every_matrix_is_one() -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "encoder.h.0.w1": rng.standard_normal((12, 8)).astype("f4"),
        "conv.kernel": rng.standard_normal((4, 3, 5)).astype("f4"),
        "norm.g": np.ones(8, "f4"),
    }
    checkpoint = from_tensors(tensors)
    assert dialect_of(checkpoint.shapes) == "unknown"
    assert [role_of(name, shape) for name, shape in checkpoint.shapes.items()] == ["matrix", "matrix", "control"]
    back = unpack(pack(checkpoint, parse_recipe("ndim<=1=cast|raw; *=rtn(bits=8)|rans")).data).tensors()
    assert {name: array.shape for name, array in back.items()} == checkpoint.shapes


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["module.a", "module.b"], "module."),
        (["_orig_mod.module.a"], "_orig_mod.module."),
        (["module.a", "b"], ""),
        (["module.", "module.a"], ""),
        ([], ""),
    ],
)
def test_only_a_prefix_of_all_names_is_one(names, prefix: str) -> None:
    assert common_prefix(names) == prefix


PLAIN = ["tok_emb.weight", "blocks.0.attn.c_q.weight", "blocks.1.mlp.fc.weight", "skip_weights"]


@pytest.mark.parametrize(
    "wrapped",
    [
        [f"{prefix}{name}" for name in PLAIN]
        for prefix in ("module._orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "model.", "net._orig_mod.")
    ]
    + [
        [
            PLAIN[0],
            "blocks.0._orig_mod.attn.c_q.weight",
            "blocks.1.mlp._checkpoint_wrapped_module.fc.weight",
            PLAIN[3],
        ],
        [
            "_fsdp_wrapped_module.tok_emb.weight",
            "_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module.attn.c_q.weight",
            "_fsdp_wrapped_module.blocks.1._fsdp_wrapped_module.mlp.fc.weight",
            "_fsdp_wrapped_module.skip_weights",
        ],
    ],
)
def test_what_trainers_wrap_modules_in_is_no_part_of_a_name(wrapped: list[str]) -> None:
    assert list(unwrapped(wrapped).values()) == PLAIN
    assert dialect_of(dict.fromkeys(wrapped, ())) == "unbanked"


@pytest.mark.parametrize(
    "names",
    [
        ["model.embed.weight", "model.layers.0.w"],  # a transformers model: its own module is called so
        ["a.module.weight", "b"],  # a module of that name
        ["x._orig_mod.w", "x.w"],  # two that would be one
        ["model.tok_emb.weight", "other.blocks.0.w"],
        ["_orig_mod", "a"],
    ],
)
def test_other_names_stay_whole(names: list[str]) -> None:
    assert unwrapped(names) == {name: name for name in names}
