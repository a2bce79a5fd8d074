"""`make bench-peers`: the engine and the strongest published packers on one model, one text and the same statistics.

    python -m experiments.rate_distortion.peers MODEL --text PATH --seq-len 1024 --out results/peers

Any model that pgpack opens: a folder of Hugging Face, a GGUF, a checkpoint of pgtrain (whose own text is used where
none is given). Points already measured are read from the work folder. Rows of the engine, of the record packers, of
llama.cpp (`--llama-quantize PROGRAM`) and of NNCodec (`--nncodec PYTHON`) are real files; the sizes of EntQuant and
WaterSIC are ideal (`entquant`, `watersic`), which flatters them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgpack.fit.budget import engine_recipe
from pgpack.fit.effort import LEVELS
from pgpack.recipe.preset_candidates import SMALL_PASSTHROUGH, preset_recipe
from pgpack.recipe.presets import PRESETS
from pgpack.study.frontier import pareto_indices
from pgpack.text.made import RANDOM, SELF

from .curves import ENGINES, NNCODEC, SMALL, Variant, nncodec_rows, preset_rows, text_of
from .entquant import Coded, entquant
from .laboratory import Laboratory
from .llama_cpp import LLAMACPP, llama_rows
from .rows import Row, rate
from .text_flags import add_text_flags, name_of, text_options
from .watersic import watersic

TARGETS = (0.02, 0.06, 0.2, 0.5, 1.0)  # KL in nats per token, roughly
RECORD, FACTORS = ("sdclip-brotli", "pergroup-lrzip"), (0.7, 1.0, 1.5, 2.2)  # packers, and on every clip of theirs
SMALL_TABLE = f"{RECORD[0]}, its table at 6 bits, too"
DRIFT = Variant(f"{ENGINES[0].name}, drift", ENGINES[0].chain, suffix="@drift=layers(share=1,residual=1)")
DATA_FREE = Variant("engine, data-free", ENGINES[0].chain, "none")
OWN_TEXT = Variant("engine, the model's own text", ENGINES[0].chain)
RANDOM_TEXT = Variant("engine, random pieces", ENGINES[0].chain)
LEAST = "engine, --effort 0"
ENTQUANT, RATE_WEIGHTS = "EntQuant, ideal size", (0.02, 0.05, 0.1, 0.2, 0.3)
WATERSIC, RATES = "WaterSIC, ideal size", (4.0, 3.0, 2.5, 2.0, 1.5)  # bits per weight
NNCODEC_STEPS = (0.25, 0.18, 0.125, 0.35, 0.5)  # of NNCodec, in root mean squares of the weights
KLS = (0.03, 0.1, 0.3)  # at which sizes are given
Curve = tuple[str, Callable[[], Iterator[Row]]]
Weight = NDArray[np.float32]


@dataclass(frozen=True)
class Programs:
    """Peers that run elsewhere. `llama_quantize`: llama.cpp's program; `nncodec`: a Python that has NNCodec."""

    llama_quantize: Path | None = None
    nncodec: str | None = None


def curves_of(
    laboratory: Laboratory,
    states: Sequence[int],
    factors: Sequence[float],
    calibrated_on: Callable[[str], Laboratory] | None = None,
    programs: Programs = Programs(),
) -> Iterator[Curve]:
    """(name, how to measure it), what matters most first. `factors`: on the clips of the record packers;
    `calibrated_on`: text that is made, by its name, -> the same calibrated on that."""
    n = laboratory.checkpoint.n_params
    steps = [float(f"{np.sqrt(8 * target / n):.3g}") for target in TARGETS]
    for each in ENGINES:
        if int(each.name.removeprefix("tcq-")) in states:
            yield each.name, partial(_variant, laboratory, each, steps)
    yield DRIFT.name, partial(_variant, laboratory, DRIFT, steps[1:-1])
    for name in RECORD:
        if all(shutil.which(program) for program in PRESETS[name].requires):
            yield name, partial(preset_rows, laboratory, name, factors)
    yield SMALL_TABLE, partial(_small_table_rows, laboratory, factors)
    engine = text_of(ENGINES[0], steps[0])  # whose statistics peers are given
    if programs.llama_quantize is not None:
        yield LLAMACPP, partial(_llama_rows, laboratory, programs.llama_quantize, engine)
    yield DATA_FREE.name, partial(_variant, laboratory, DATA_FREE, steps[:-1])
    yield ENTQUANT, partial(_entquant_rows, laboratory)
    yield WATERSIC, partial(_watersic_rows, laboratory, engine)
    if programs.nncodec is not None:
        yield from (
            (name, partial(nncodec_rows, laboratory, name, programs.nncodec, NNCODEC_STEPS)) for name in NNCODEC
        )
    if calibrated_on is not None:
        yield RANDOM_TEXT.name, lambda: _variant(calibrated_on(RANDOM), RANDOM_TEXT, steps[:-2])
        yield LEAST, lambda: _least_rows(calibrated_on(RANDOM), steps[:-2])
        yield OWN_TEXT.name, lambda: _variant(calibrated_on(SELF), OWN_TEXT, steps[1:-1])


def _variant(laboratory: Laboratory, variant: Variant, steps: Sequence[float]) -> Iterator[Row]:
    for step in steps:
        yield laboratory.recipe_row(variant.name, step, text_of(variant, step), variant.calibration)


def _least_rows(laboratory: Laboratory, steps: Sequence[float]) -> Iterator[Row]:
    """`--effort 0`; `laboratory` is calibrated on pieces drawn at random."""
    for step in steps:
        yield laboratory.recipe_row(LEAST, step, str(engine_recipe(LEVELS[0], step, laboratory.shapes)))


def small_table(recipe: str) -> str:
    """A record packer's recipe with its table as fine as its matrices: on models of many pieces it is most of the
    file, and fewer bits pay there."""
    matrices = re.search(r"\*=(gptq\(bits=6,[^)]*\))", recipe)
    return recipe if matrices is None else re.sub(r"=gptq\(bits=8,[^)]*\)", f"={matrices[1]}", recipe)


def _small_table_rows(laboratory: Laboratory, factors: Sequence[float]) -> Iterator[Row]:
    for factor in factors:
        recipe = preset_recipe(RECORD[0], factor, SMALL_PASSTHROUGH, laboratory.shapes)
        yield laboratory.recipe_row(SMALL_TABLE, factor, small_table(str(recipe)))


def _llama_rows(laboratory: Laboratory, program: Path, engine: str) -> Iterator[Row]:
    calibration = laboratory.calibration("observed", laboratory.recipe(engine))
    yield from llama_rows(laboratory, program, calibration, laboratory.rows.path.parent / "llama.cpp")


def _entquant_rows(laboratory: Laboratory) -> Iterator[Row]:
    for rate_weight in RATE_WEIGHTS:

        def coded(name: str, weight: Weight, rate_weight: float = rate_weight) -> Coded:
            return entquant(weight.reshape(weight.shape[0], -1), rate_weight)

        measure = partial(_ideal_row, laboratory, ENTQUANT, rate_weight, f"lambda {rate_weight:g}", coded)
        yield laboratory.rows.measured(ENTQUANT, rate_weight, measure)


def _watersic_rows(laboratory: Laboratory, engine: str) -> Iterator[Row]:
    """`engine`: a recipe of the engine, whose statistics are used."""
    for bits in RATES:

        def coded(name: str, weight: Weight, bits: float = bits) -> Coded | None:
            calibration = laboratory.calibration("observed", laboratory.recipe(engine))
            if calibration.hessian_shape(name) is None:
                return None
            hessian = calibration.load(f"{name}.hessian")
            return watersic(weight.reshape(-1, len(hessian)), hessian, bits)

        measure = partial(_ideal_row, laboratory, WATERSIC, bits, f"rate {bits:g}", coded)
        yield laboratory.rows.measured(WATERSIC, bits, measure)


def _ideal_row(
    laboratory: Laboratory, curve: str, dial: float, recipe: str, coded: Callable[[str, Weight], Coded | None]
) -> Row:
    """Matrices by a packer of which only the ideal size is known, the rest (what it cannot code, too) as fp16."""
    tensors, n_bytes = dict(laboratory.tensors), 0.0
    for name, shape in laboratory.shapes.items():
        weight = laboratory.checkpoint.tensor(name).astype(np.float32)
        found = coded(name, weight) if name in laboratory.matrices else None
        if found is not None:
            tensors[name], n_bytes = found.weight.reshape(shape), n_bytes + found.n_bytes
        else:
            tensors[name], n_bytes = weight.astype(np.float16).astype(np.float32), n_bytes + 2 * weight.size
    tensors |= {alias: tensors[stored] for alias, stored in laboratory.checkpoint.aliases.items()}
    return laboratory.row_of(curve, dial, round(n_bytes), tensors, (0, 0, 0), recipe)


def bytes_at(rows: Sequence[Row], kl: float) -> int | None:
    """The size at a KL, between two points of the curve's Pareto set; None beyond them."""
    sized = np.array([(row.n_bytes, row.kl) for row in rows if row.kl > 0]).reshape(-1, 2)
    points = sorted((np.log(kl), np.log(n_bytes)) for n_bytes, kl in sized[pareto_indices(sized)])
    if not points or not points[0][0] <= np.log(kl) <= points[-1][0]:
        return None
    return round(float(np.exp(np.interp(np.log(kl), *np.array(points).T))))


def markdown(document: dict[str, Any]) -> str:
    """The page."""
    curves = {name: [Row(**row) for row in rows] for name, rows in document["curves"].items()}
    ours = curves.get(document["engine"], [])

    def against(peer: str, variant: str) -> str:
        return _percent(rate(curves.get(peer, []), curves.get(variant, []), "kl"))

    lines = [
        f"# {document['name']}: the engine and its peers",
        "",
        f"Written by `{document['command']}`: {document['n_params']:,} parameters, {document['n_tokens']:,} "
        f"held-out tokens, fp32 {document['fp32_bpb']:.4f} bits per byte. Differences are BD-rates at equal "
        f"KL, negative where `{document['engine']}` is smaller than the curve. The data-free engine "
        f"against EntQuant: {against(ENTQUANT, DATA_FREE.name)}; calibrated on random pieces: "
        f"{against(ENTQUANT, RANDOM_TEXT.name)}, `--effort 0`: {against(ENTQUANT, LEAST)}; on what the model "
        f"writes itself: {against(ENTQUANT, OWN_TEXT.name)}. With drift against WaterSIC: "
        f"{against(WATERSIC, DRIFT.name)}.",
        "",
        f"| curve | engine against it | {' | '.join(f'bytes at KL {kl:g}' for kl in KLS)} |",
        f"|---|---:|{'---:|' * len(KLS)}",
    ]
    for name, rows in curves.items():
        sizes = " | ".join("-" if (size := bytes_at(rows, kl)) is None else f"{size:,}" for kl in KLS)
        versus = "" if name == document["engine"] else _percent(rate(rows, ours, "kl"))
        lines.append(f"| {name} | {versus} | {sizes} |")
    lines += ["", "| curve | dial | bytes | bits/weight | KL | bits per byte | quantize, s | encode, s | decode, s |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for name, rows in curves.items():
        for row in rows:
            times = f"{row.quantize_s:.1f} | {row.encode_s:.1f} | {row.decode_s:.1f}"
            bits = 8 * row.n_bytes / document["n_params"]
            lines.append(
                f"| {name} | {row.dial:g} | {row.n_bytes:,} | {bits:.3f} | {row.kl:.4f} | {row.bpb:.4f} | {times} |"
            )
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write, curve by curve."""
    parser = argparse.ArgumentParser(description="The engine and its peers on one model.")
    parser.add_argument("model", type=Path, help="what pgpack opens: a folder, a GGUF, a checkpoint")
    add_text_flags(parser)
    parser.add_argument("--max-tokens", type=int, default=8192, help="held-out tokens to evaluate on")
    parser.add_argument("--calib-tokens", type=int, default=16384, help="tokens to calibrate on")
    parser.add_argument(
        "--states", type=int, nargs="+", default=[8], help="of the engine's trellis; the first is ours"
    )
    parser.add_argument(
        "--clips", type=float, nargs="+", default=list(FACTORS), help="factors on the clips of the record packers"
    )
    parser.add_argument("--llama-quantize", type=Path, help="the program of llama.cpp, to measure its types")
    parser.add_argument("--nncodec", help="a Python that has NNCodec 2.1.3, to measure it")
    parser.add_argument("--curves", nargs="+", help="of which names; all of them, unless given")
    parser.add_argument("--work", type=Path, default=Path("runs/peers"), help="folder of the points measured so far")
    parser.add_argument("--out", type=Path, default=Path("results/peers"), help="OUT.json and OUT.md are written")
    given = parser.parse_args(arguments)
    text = text_options(given)
    name = name_of(given.model)
    calibrated = f"@calib=tokens(count={given.calib_tokens})"
    laboratory = Laboratory(given.model, name, given.work / name, given.max_tokens, calibrated, text)

    def calibrated_on(made: str) -> Laboratory:
        other = dataclasses.replace(text, calib=made)
        return Laboratory(given.model, name, given.work / name / made, given.max_tokens, calibrated, other)

    fp32 = laboratory.piece.evaluator.evaluate(laboratory.tensors)
    document: dict[str, Any] = {
        "name": name,
        "command": "make bench-peers",
        "engine": f"tcq-{given.states[0]}",
        "n_params": laboratory.checkpoint.n_params,
        "n_tokens": fp32.n_tokens,
        "fp32_bpb": fp32.bpb,
        "small": SMALL,
        "curves": {},
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    programs = Programs(given.llama_quantize, given.nncodec)
    for curve, measure in curves_of(laboratory, given.states, given.clips, calibrated_on, programs):
        if given.curves and curve not in given.curves:
            continue
        document["curves"][curve] = []
        for row in measure():
            document["curves"][curve].append(dataclasses.asdict(row))
            print(f"{curve} {row.dial:g}: {row.n_bytes:,} B, KL {row.kl:.4f}", file=sys.stderr, flush=True)
            given.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            given.out.with_suffix(".md").write_text(markdown(document), encoding="utf-8")
    print(markdown(document))


if __name__ == "__main__":
    main()
