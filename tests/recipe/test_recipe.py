"""Recipes: text and TOML round-trip, first match wins, coverage is an error with a caret, digests are stable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpack.errors import CoverageError, RecipeError
from pgpack.recipe.applied import apply
from pgpack.recipe.recipe import Recipe, parse_recipe, parse_recipe_toml
from pgpack.recipe.selector import Selector, TensorInfo
from pgpack.recipe.spaces import SpaceOptions, codec_text, default_space, expand, read_space, values_of
from tests.recipe.toml_form import recipe_to_toml

SHAPES = {
    "tok_emb.weight": (1024, 64),
    "blocks.0.attn.c_q.weight": (64, 64),
    "blocks.0.mlp.fc.weight": (128, 64),
    "blocks.0.attn_scale": (64,),
}
EXAMPLE = (
    "tok_emb.*=gptq(bits=8,clip=20)|brotli; blocks.*.mlp.*&ndim>1=gptq(clip=12)|rans; "
    "numel<=65536=cast|shuffle|brotli; *=gptq(clip=12.85)|rans; @container=pgpack|lzma; @calib=tokens(count=1000)"
)

quantizers = st.sampled_from(
    ["cast", "cast(dtype=bf16)", "rtn(bits=4)", "gptq(bits=5,clip=9.5)", "kmeans(k=16)", "ternary", "nf4(group=32)"]
)
codings = st.sampled_from(["", "|raw", "|rans", "|bitpack|zstd(level=22)", "|transpose|raw|shuffle(stride=4)|lzma"])
transforms = st.sampled_from(["", "prune_magnitude(sparsity=0.25)|", "prune_2_4|lqer(rank=2)|"])
selectors = st.sampled_from(["*", "tok_emb.*", "role:mlp", "numel<=100", "ndim<=1&role:control", "a.b & numel>7"])
rules = st.builds("{}={}{}{}".format, selectors, transforms, quantizers, codings)
directives = st.sampled_from(
    [
        "",
        "; @container=pgpack",
        "; @container=torch_sdclip|brotli",
        "; @order=mlp(by=norm)",
        "; @tune=steps(count=9)",
        "; @compensate=weights(count=9)",
    ]
)
recipes = st.builds(lambda many, last: "; ".join(many) + last, st.lists(rules, min_size=1, max_size=4), directives)


@given(recipes)
def test_text_and_toml_round_trip(text: str) -> None:
    recipe = parse_recipe(text)
    assert parse_recipe(str(recipe)) == recipe
    assert parse_recipe_toml(recipe_to_toml(recipe)) == recipe
    assert parse_recipe(recipe.canonical().removeprefix("pgpack-recipe-1 ")) == recipe
    assert hash(parse_recipe(str(recipe))) == hash(recipe)


def test_first_match_wins() -> None:
    tensors = apply(parse_recipe(EXAMPLE.replace("numel<=65536", "ndim<=1")), SHAPES).tensors
    assert tensors["tok_emb.weight"].rule.selector.text == "tok_emb.*"
    assert tensors["blocks.0.mlp.fc.weight"].rule.selector.text == "blocks.*.mlp.*&ndim>1"
    assert tensors["blocks.0.attn_scale"].rule.selector.text == "ndim<=1"
    assert tensors["blocks.0.attn.c_q.weight"].rule.selector.text == "*"


def test_the_digest_hashes_every_default() -> None:
    short, long = parse_recipe("*=gptq"), parse_recipe("*=gptq(bits=6,clip=12.85,group=0)|raw")
    assert short == long
    assert short.digest == long.digest != parse_recipe("*=gptq(bits=5)").digest
    assert "damp=0.01" in short.canonical()
    assert str(short) == "*=gptq"


@pytest.mark.parametrize(
    ("text", "says", "fault"),
    [
        ("*=gptq(bitz=6)", "bits=6", "bitz"),
        ("*=gptx", "unknown stage 'gptx'", "gptx"),
        ("*=rans|gptq", "cannot follow", "gptq"),
        ("*=gptq|rans|raw", "one coder only", "raw"),
        ("*=rans", "no quantizer", "rans"),
        ("*=gptq(bits=six)", "'six' is not a value of type int", "six"),
        ("*=gptq(bits=[3,6])", "'[3' is not a value of type int; a sweep tries several that stand in {}", "[3"),
        ("role:nothing=cast", "unknown role", "role"),
        ("numel<=many=cast", "whole number", "numel"),
        ("@nothing=1; *=cast", "unknown directive", "@nothing"),
        ("*=cast; @tune=steps(rows=3)", "values an octave", "steps"),
        ("*=cast; @container=zip", "unknown stage 'zip'", "zip"),
        ("hello", "a rule is SELECTOR=PIPELINE; write what is done to 'hello', such as 'hello=gptq", "hello"),
        ("*=", "a rule is SELECTOR=PIPELINE; write what is done to '*', such as '*=gptq", "*="),
        ("tok_emb.*:", "write what is done to 'tok_emb.*'", "tok_emb"),
        ("*=cast;foo(bits=3)|rans", "in '*=foo(bits=3)|rans': unknown stage 'foo'", "foo"),
        ("x:rtm(bits=4)", "did you mean 'rtn'?", "x:rtm"),
        ("*=rtn;rans", "in '*=rans': the chain has no quantizer", "rans"),
        ("ndim<=rtn|rans", "a rule is SELECTOR=PIPELINE", "ndim"),
        ("*=gptq(bits=1)", "", "gptq"),
    ],
)
def test_a_fault_gets_a_sentence_and_a_caret(text: str, says: str, fault: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    *_, shown, caret = str(caught.value).split("\n")
    assert says in str(caught.value)
    assert shown[caret.index("^") :].startswith(fault)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tcq(step=1e-4)|rans_scaled", "*=tcq(step=1e-4)|rans_scaled"),
        ("=gptq(bits=6)|rans", "*=gptq(bits=6)|rans"),
        ("*:gptq(bits=6)|rans", "*=gptq(bits=6)|rans"),
        ("*==rtn|rans", "*=rtn|rans"),
        ("*->rtn|rans", "*=rtn|rans"),
        ("* rtn|rans", "*=rtn|rans"),
        ("rtn", "*=rtn"),
        ("svd(rank=4)|rtn", "*=svd(rank=4)|rtn"),
        ("ndim<=1:cast", "ndim<=1=cast"),
        ("numel>100=>cast", "numel>100=cast"),
        ("role:control:cast|brotli", "role:control=cast|brotli"),
        ("role:control cast", "role:control=cast"),
    ],
)
def test_a_rule_that_was_nearly_written_is_shown_as_it_is_written(text: str, meant: str) -> None:
    parse_recipe(meant)
    with pytest.raises(RecipeError, match="a rule is SELECTOR=PIPELINE") as caught:
        parse_recipe(f"ndim<=1=cast; {text}")
    assert f"did you mean {meant!r}?" in str(caught.value).partition("\n")[0]


def test_an_empty_recipe_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least one rule"):
        parse_recipe(" ; ")


def test_an_uncovered_tensor_is_an_error() -> None:
    with pytest.raises(CoverageError, match=r"no rule covers blocks\.0\.attn\.c_q"):
        apply(parse_recipe("tok_emb.*=cast; ndim<=1=cast"), SHAPES)


def test_a_rule_that_governs_nothing_is_an_error_with_a_caret() -> None:
    recipe = parse_recipe("*=cast; lm_head.*=rtn(bits=8)")
    with pytest.raises(CoverageError, match="governs nothing") as caught:
        apply(recipe, SHAPES)
    *_, shown, caret = str(caught.value).split("\n")
    assert shown[caret.index("^") :].startswith("lm_head")
    assert str(recipe.without_idle_rules(SHAPES)) == "*=cast"


def test_selectors_combine_name_role_and_size() -> None:
    info = TensorInfo("blocks.3.mlp.fc.weight", (128, 64))
    assert Selector("blocks.*&role:mlp&numel>8191&ndim>1").matches(info)
    assert not Selector("blocks.*&numel<=8191").matches(info)


def test_ranges_include_both_ends() -> None:
    assert values_of("8:16:2") == ("8", "10", "12", "14", "16")
    assert values_of("0.1:0.3:0.1") == ("0.1", "0.2", "0.3")
    assert values_of("a, b") == ("a", "b")


@pytest.mark.parametrize("text", ["9:1", "1:2:0", "a,,b", "1:2:-1"])
def test_an_empty_range_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        values_of(text)


@pytest.mark.parametrize(
    "template", ["*=gptq(bits={4,5)|rans", "*=gptq(bits=4,5})|rans", "*=gptq(bits={4,{5}})|rans"]
)
def test_a_brace_without_a_partner_is_named(template: str) -> None:
    with pytest.raises(RecipeError, match="has no partner"):
        expand(template)


def test_a_template_expands_to_every_combination() -> None:
    texts = [str(recipe) for recipe in expand("*=gptq(bits={4:5},clip={8,10})|{rans,zlib}")]
    assert len(texts) == len(set(texts)) == 8
    assert texts[0] == "*=gptq(bits=4,clip=8)|rans"


def test_a_space_file_names_the_faulty_line() -> None:
    assert len(read_space("# comment\n*=rtn(bits={4,8})\n\n")) == 2
    with pytest.raises(RecipeError, match="line 2"):
        read_space("*=cast\n*=nonsense\n")


def test_options_become_recipes_that_cover_the_checkpoint() -> None:
    options = SpaceOptions(bits=("5",), clip_sigmas=("8", "9"), codecs=("rans", "brotli:9", "bitpack+zstd:3"))
    candidates = options.candidates(SHAPES)
    assert len(candidates) == 6
    for candidate in candidates:
        apply(candidate.recipe, SHAPES)


def test_the_default_space_covers_the_checkpoint_without_repetition() -> None:
    recipes: list[Recipe] = [candidate.recipe for candidate in default_space(SHAPES)]
    assert len(set(recipes)) == len(recipes) > 15
    for recipe in recipes:
        apply(recipe, SHAPES)


def test_codec_specs_take_levels() -> None:
    assert codec_text("brotli:11") == "brotli(quality=11)"
    assert codec_text("lzma:6") == "lzma(preset=6)"
    assert codec_text("bitpack+zstd:22") == "bitpack|zstd(level=22)"
    with pytest.raises(RecipeError, match="takes no level"):
        codec_text("rans:3")
