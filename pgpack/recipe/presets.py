"""The field's packers as recipes, in one literal table, with the dial that each of them is tuned by.

    preset_text(name)                        the pipeline as its source runs it
    preset_text(name, dial, passthrough)     the same pipeline elsewhere on its curve, or for a smaller model

A preset is a template: its rules name tensors that a checkpoint may lack (`Recipe.without_idle_rules` drops them).
Not in a recipe, because the source's training script decides it: how calibration text is drawn
(`calibration_tokens` says how much) and the dtype that the model casts decoded weights to.
Where we differ: `rtn_percentile` folds tensors above 65,536 values that are no matrices to rows, where the challenge
gives them one fp32 step (its models have none); PR #1855 corrects with a symmetric grid where 64 does not divide
rank x inputs, here `@container=pergroup` refuses (choose another `group`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgpack.errors import RecipeError
from pgpack.stages import value_text

PASSTHROUGH = 65_536  # the field stores tensors of up to so many values raw
_RAW_RULE = f"numel<={PASSTHROUGH}=cast(dtype=fp16)"
_CONTROL_RULE = f"role:control&numel<={PASSTHROUGH}=cast(dtype=fp16)"
_FP32_CONTROLS = "; ".join(
    f"*{name}*&numel<={PASSTHROUGH}=cast(dtype=fp32)"
    for name in ("attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weight")
)
ROLE_OF_NAME = {
    "tok_emb.weight": "role:embedding",
    "*tok_emb*": "role:embedding",
    "*.mlp.*": "role:mlp",
    "*.attn.*": "role:attention",
}
_LQER = "lqer_asym(rank=4,a_bits=2,b_bits=4,group=64,top=3)"


@dataclass(frozen=True)
class Preset:
    """One pipeline of the field.

    `use_when`: what it is for; `recipe`: the text at the source's own settings; `dial`: what the dial turns;
    `dial_default`: the source's own setting of it; `dial_values`: a ladder that draws the curve, from large to small
    artifacts; `requires`: external programs; `calibration_tokens`: how many tokens the source calibrates on, 0 for
    none.
    """

    name: str
    source: str
    description: str
    use_when: str
    recipe: str
    dial: str = "factor on every clip"
    dial_default: float = 1.0
    dial_values: tuple[float, ...] = (0.6, 0.75, 0.9, 1.0, 1.2, 1.5, 2.0, 2.6)
    requires: tuple[str, ...] = ()
    calibration_tokens: int = 0


_BITS_DIAL = "bits"
_BITS_LADDER = (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0)

_ALL = (
    Preset(
        name="baseline-int8-zlib",
        source="train_gpt.py of the challenge",
        description="int8 rows clipped at the 99.99984th percentile, small tensors fp16, controls fp32, zlib 9",
        use_when="the number to beat is the challenge's own file, or nothing may be calibrated",
        recipe=(
            f"{_FP32_CONTROLS}; {_RAW_RULE}; *=rtn_percentile(bits=8,percentile=99.99984,scale_floor=true); "
            "@container=torch_baseline|zlib(level=9)"
        ),
        dial=_BITS_DIAL,
        dial_default=8.0,
        dial_values=_BITS_LADDER,
    ),
    Preset(
        name="int6-zstd22",
        source="PR #212",
        description="the baseline at int6 with its step floor of 1/31, embedding fp16, zstd 22",
        use_when="a file without calibration must be smaller than the baseline's and may lose several mBPB",
        recipe=(
            f"tok_emb.weight=cast(dtype=fp16); {_FP32_CONTROLS}; {_RAW_RULE}; "
            "*=rtn_percentile(bits=6,percentile=99.99984,scale_floor=true); @container=torch_baseline|zstd(level=22)"
        ),
        dial=_BITS_DIAL,
        dial_default=6.0,
        dial_values=_BITS_LADDER,
    ),
    Preset(
        name="sdclip-brotli",
        source="PR #1394",
        description="GPTQ int6 at 12.85 sigma, embedding int8 at 20 sigma, byte shuffle, brotli 11",
        use_when="one strong packer of the field is to be compared with: GPTQ under brotli",
        recipe=(
            f"{_RAW_RULE}; *tok_emb*=gptq(bits=8,clip=20); *=gptq(bits=6,clip=12.85); "
            "@container=torch_sdclip(stride=2)|brotli(quality=11,lgwin=22)"
        ),
        calibration_tokens=64 * 98_304,
    ),
    Preset(
        name="layer-clip",
        source="PR #1586",
        description="GPTQ with its own clip per kind: MLP 12, attention 13 (int6), embedding 15 (int7), brotli 11",
        use_when="as `sdclip-brotli`, with clips for embedding, attention and MLP as the field tuned them",
        recipe=(
            f"{_RAW_RULE}; *tok_emb*=gptq(bits=7,clip=15); *.mlp.*=gptq(bits=6,clip=12); "
            "*.attn.*=gptq(bits=6,clip=13); *=gptq(bits=6,clip=12.85); "
            "@container=torch_sdclip(stride=2)|brotli(quality=11,lgwin=22)"
        ),
        calibration_tokens=64 * 98_304,
    ),
    Preset(
        name="pergroup-lrzip",
        source="PR #1855",
        description="GPTQ at 11.5/13/14 sigma, LQER on the three worst tensors, one sorted lrzip stream per kind",
        use_when="the field's most elaborate file is to be compared with and minutes of decoding do not matter",
        recipe=(
            f"*.attn_gate_w&ndim>1&numel>31&numel<=8192=rtn(bits=8); {_RAW_RULE}; "
            f"*tok_emb*={_LQER}|gptq(bits=7,clip=14); *.mlp.*={_LQER}|gptq(bits=6,clip=11.5); "
            f"*.attn.*={_LQER}|gptq(bits=6,clip=13); *={_LQER}|gptq(bits=6,clip=12.85); "
            "@container=pergroup(level=9)|brotli(quality=11,lgwin=24)"
        ),
        requires=("lrzip",),
        calibration_tokens=16 * 98_304,
    ),
)
PRESETS: dict[str, Preset] = {each.name: each for each in _ALL}


def preset(name: str) -> Preset:
    """The preset called `name`. Raises RecipeError with the known names."""
    if name not in PRESETS:
        raise RecipeError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_text(name: str, dial: float | None = None, passthrough: int = PASSTHROUGH) -> str:
    """The recipe text of a preset at a dial setting (None: the source's own).

    `passthrough`: tensors of up to so many values stay fp16. Below the field's 65,536, which leaves small models
    almost unquantized, control tensors (scales, gains, gates) still stay fp16.
    """
    found = preset(name)
    if passthrough < 0:
        raise RecipeError(f"passthrough must be a number of values of at least 0, found {passthrough}")
    text = found.recipe
    if dial is not None and dial != found.dial_default:
        text = _turned(found, dial)
    if passthrough != PASSTHROUGH:
        rule = f"numel<={passthrough}=cast(dtype=fp16)"
        if passthrough < PASSTHROUGH:
            rule += f"; {_CONTROL_RULE}"
        text = text.replace(_RAW_RULE, rule)
    return text


def _turned(found: Preset, value: float) -> str:
    """The recipe with its dial at `value`."""
    if found.dial == _BITS_DIAL:
        if value not in found.dial_values:
            raise RecipeError(f"the dial of {found.name} is bits, a whole number from 2 to 8, found {value:g}")
        return re.sub(r"(rtn_percentile\(bits=)\d+", rf"\g<1>{int(value)}", found.recipe)
    if not 0 < value < 1000:
        raise RecipeError(f"the dial of {found.name} is a {found.dial}, above 0 and below 1000, found {value:g}")
    return re.sub(
        r"clip=([0-9.]+)", lambda match: f"clip={value_text(round(float(match[1]) * value, 6))}", found.recipe
    )
