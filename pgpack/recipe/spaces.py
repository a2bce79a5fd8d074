"""Search spaces: recipe templates with braces, and the options of `pgpack sweep`, expanded to plain recipes.

    {a,b,c}        each of the values, which may be any recipe text
    {8:16:2}       numbers from 8 to 16 in steps of 2, both ends included
    {4:8}          whole numbers from 4 to 8

Several braces give every combination. A space is text with one template per line; `#` starts a comment.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from pgpack.errors import RecipeError

from .dials import SMALL, step_recipe, trellis_recipe
from .recipe import Recipe, parse_recipe
from .selector import Shapes

MAX_RECIPES = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"\s*(-?[\d.]+)\s*:\s*(-?[\d.]+)\s*(?::\s*(-?[\d.]+)\s*)?\Z")
_CODEC_SETTING = {
    "brotli": "quality",
    "lrzip": "level",
    "zstd": "level",
    "zlib": "level",
    "bz2": "level",
    "zpaq": "level",
}
STATES = 64
TRELLIS_STEPS = (2e-5, 3.2e-5, 5e-5, 8e-5, 1.25e-4, 2e-4, 3.2e-4, 5e-4)  # square roots of nats per token
STEPS = (0.15, 0.22, 0.32, 0.45, 0.65, 0.9, 1.25, 1.7)  # in units of a row's sigma; int6 at clip 12.85 is 0.41


@dataclass(frozen=True)
class Candidate:
    """A recipe to measure and a short name for people ('' when it has none)."""

    recipe: Recipe
    label: str = ""


def values_of(text: str) -> tuple[str, ...]:
    """The values of `a,b,c` or of a range `lo:hi[:step]`. Raises RecipeError on an empty or endless range."""
    match = _RANGE.match(text)
    if match is None:
        values = tuple(value.strip() for value in text.split(","))
        if not all(values):
            raise RecipeError(f"{text!r} has an empty value; write values as a,b,c or a range as lo:hi:step")
        return values
    try:
        low, high, step = (Decimal(match.group(i) or "1") for i in (1, 2, 3))
    except InvalidOperation:
        raise RecipeError(f"{text!r} is not a range of numbers; write lo:hi:step") from None
    if step <= 0 or high < low or (high - low) / step > MAX_RECIPES:
        raise RecipeError(f"the range {text!r} needs lo <= hi and a step above 0")
    n = int((high - low) / step) + 1
    return tuple(format((low + i * step).normalize(), "f") for i in range(n))


def expand(template: str) -> list[Recipe]:
    """Every recipe of a template, in the order of its braces, without repetition.

    Raises RecipeError on a brace without a partner, on values that are none, and on too many recipes.
    """
    pieces, alternatives = template_parts(template)
    count = math.prod(len(values) for values in alternatives)
    if count > MAX_RECIPES:
        raise RecipeError(f"the template expands to {count:,} recipes; the limit is {MAX_RECIPES:,}")
    texts = []
    for choice in itertools.product(*alternatives):
        texts.append("".join(itertools.chain(*itertools.zip_longest(pieces, choice, fillvalue=""))))
    return [parse_recipe(text) for text in dict.fromkeys(texts)]


def template_parts(template: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """(text around the braces, the values of each): one more piece than there are braces.

    Raises: RecipeError on a brace without a partner and on values that are none.
    """
    pieces = _BRACES.split(template)[::2]
    single = [brace for piece in pieces for brace in piece if brace in "{}"]
    if single:
        raise RecipeError(f"a {single[0]!r} has no partner in {template!r}; values stand in one pair: {{4,5,6}}")
    return pieces, [values_of(match.group(1)) for match in _BRACES.finditer(template)]


def space_templates(text: str) -> list[tuple[int, str]]:
    """(line number, template) of a space file, without its comments. Raises: RecipeError when there are none."""
    lines = ((n, line.split("#", 1)[0].strip()) for n, line in enumerate(text.splitlines(), start=1))
    found = [(n, template) for n, template in lines if template]
    if not found:
        raise RecipeError("the space is empty; write one recipe template per line")
    return found


def read_space(text: str) -> list[Candidate]:
    """Candidates of a space file. Raises RecipeError with the line's number."""
    found = []
    for number, template in space_templates(text):
        try:
            found += [Candidate(recipe) for recipe in expand(template)]
        except RecipeError as error:
            raise RecipeError(f"line {number}: {error}") from None
    return found


def codec_text(spec: str) -> str:
    """`brotli:11` -> `brotli(quality=11)`; `bitpack+zstd:22` -> `bitpack|zstd(level=22)`."""
    stages = []
    for part in spec.split("+"):
        name, colon, level = part.strip().partition(":")
        setting = _CODEC_SETTING.get(name, "preset" if name == "lzma" else "")
        if colon and not setting:
            raise RecipeError(f"codec {name!r} takes no level; write {name}, or a full recipe with --recipe")
        stages.append(f"{name}({setting}={level})" if colon else name)
    return "|".join(stages)


@dataclass(frozen=True)
class SpaceOptions:
    """The axes that `pgpack sweep` offers as flags; every combination is one recipe."""

    bits: Sequence[str] = ("4", "5", "6")
    clip_sigmas: Sequence[str] = ("8", "12", "16")
    embed_bits: Sequence[str] = ("8",)
    passthrough: Sequence[str] = ("4096",)
    codecs: Sequence[str] = ("rans", "brotli:11")
    prune: Sequence[str] = ("0",)
    codebook: Sequence[str] = ("",)

    def candidates(self, tensors: Shapes) -> list[Candidate]:
        """Every combination, as recipes for these tensors (rules that would match nothing are left out).

        Combinations that differ only in their codec stand next to each other, so that a sweep quantizes once.
        """
        chosen = itertools.product(*self.axes().values())
        recipes = [option_recipe(*values).without_idle_rules(tensors) for values in dict.fromkeys(chosen)]
        return [Candidate(recipe) for recipe in dict.fromkeys(recipes)]

    def axes(self) -> dict[str, Sequence[str]]:
        """Name -> values, in the order of `option_recipe`'s arguments."""
        return {
            "passthrough": self.passthrough,
            "embed_bits": self.embed_bits,
            "bits": self.bits,
            "clip_sigmas": self.clip_sigmas,
            "prune": self.prune,
            "codebook": self.codebook,
            "codec": self.codecs,
        }


def option_recipe(
    passthrough: str, embed_bits: str, bits: str, clip: str, prune: str, codebook: str, codec: str
) -> Recipe:
    """The recipe of one value of every axis."""
    coding = codec_text(codec)
    before = f"prune_magnitude(sparsity={prune})|" if _number(prune) else ""
    if codebook:
        name, _, k = codebook.partition(":")
        quantizer = f"{name}(k={k})" if k else name
    else:
        quantizer = f"gptq(bits={bits},clip={clip})"
    embedding_clip = f"{_number(clip) * 1.5:g}"
    return parse_recipe(
        f"role:control={SMALL}; numel<={passthrough}={SMALL}; "
        f"role:embedding=gptq(bits={embed_bits},clip={embedding_clip})|{coding}; *={before}{quantizer}|{coding}"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"{text!r} is not a number") from None


def default_space(tensors: Shapes, presets: Iterable[Candidate] = ()) -> list[Candidate]:
    """What a sweep explores when nothing is said: the trellis engine along its dial, GPTQ at four step sizes, two
    of them under brotli too, quantizers without calibration, pruning, a codebook, and the field's presets."""
    found = [Candidate(step_recipe(step, 1.0, "rans", tensors)) for step in STEPS[::2]]
    found += [Candidate(step_recipe(step, 1.0, "brotli(quality=11)", tensors)) for step in STEPS[::4]]
    found += [Candidate(trellis_recipe(step, STATES, tensors)) for step in TRELLIS_STEPS]
    texts = [f"role:control={SMALL}; *=rtn(bits={bits})|rans" for bits in (4, 6, 8)]
    texts += [
        f"role:control={SMALL}; *=kmeans(k=16)|rans",
        f"role:control={SMALL}; *=prune_magnitude(sparsity=0.3)|gptq(bits=8,clip=52)|rans",
    ]
    found += [Candidate(parse_recipe(text).without_idle_rules(tensors)) for text in texts]
    found += [Candidate(each.recipe.without_idle_rules(tensors), each.label) for each in presets]
    return sorted_by_quantization(list(dict.fromkeys(found)))


def sorted_by_quantization(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that quantize alike next to each other, otherwise in the given order."""
    groups: dict[object, list[Candidate]] = {}
    for candidate in candidates:
        rules = candidate.recipe.rules
        key = (tuple((r.selector, r.policy.transforms, r.policy.quantizer) for r in rules), candidate.recipe.order)
        groups.setdefault(key, []).append(candidate)
    return [candidate for group in groups.values() for candidate in group]
