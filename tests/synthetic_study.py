"""A study of about 60 trials shaped like real ones, for tests of pictures, pages and commands.

A 36 M-parameter model at R bits per weight: KL = 0.55 * 2^(-2.24 R + 4.6) nats per token, bpb rises by
KL / (ln 2 * 2.6 bytes per token); three quantizers and five codecs around that law, two presets, two failures.
Losses are those of 32 blocks of text that are hard or easy for every recipe alike.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from pgpack.inspect import Anatomy, SizeStage, TensorAnatomy
from pgpack.loss.intervals import pack_floats, ratio
from pgpack.study.card import StudyMeta
from pgpack.study.journal import Journal
from pgpack.study.study import Study
from pgpack.study.trial import Trial, by_size, trial_key

FP32_BPB = 1.2193
N_WEIGHTS = 36_000_000
CREATED = "2026-01-02T03:04:05+00:00"
CODECS = {"rans": 1.0, "brotli(quality=11)": 1.012, "zstd(level=22)": 1.04, "lzma": 1.03, "raw": 1.2}
BLOCK_BYTES = tuple(16_000 + 250 * (block * 7 % 11) for block in range(32))
QUANTIZERS = {"gptq": 1.0, "sdclip": 1.9, "rtn": 4.5}


def synthetic_meta(seed: int = 0) -> StudyMeta:
    return StudyMeta(
        checkpoint=f"runs/seed {seed}/model.safetensors",
        checkpoint_digest=_digest(f"checkpoint {seed}"),
        evaluator_digest=_digest("evaluator"),
        calibration_digest=_digest("calibration"),
        pgpack_version="0.1.0",
        created=CREATED,
        budget=16_000_000,
        space="{gptq,sdclip,rtn}(bits={2,3,4,5,6})|{...}",
        data_flags="--calib 'shards/train_*.bin'",
        fp32_bpb=FP32_BPB,
        fp32_nats=FP32_BPB * math.log(2) * 2.6,
        fp32_n_bytes=4 * N_WEIGHTS,
        block_bytes=BLOCK_BYTES,
    )


def synthetic_trials(seed: int = 0, n_extra: int = 0, scale: float = 1.0) -> tuple[Trial, ...]:
    """About 60 trials by size, and `n_extra` more like them; `scale` multiplies all bytes."""
    rng = np.random.default_rng(seed)
    trials = [
        _measured(f"{name}(bits={bits},clip=12.85)|{codec}", bits, loss, size * scale, rng, seed)
        for name, loss in QUANTIZERS.items()
        for bits in (2, 3, 4, 5)
        for codec, size in CODECS.items()
    ]
    for index in range(n_extra):
        bits = float(rng.uniform(2.5, 5))
        recipe = f"gptq(bits=6,clip={20 - 2 * bits:.3f},seed={index})|rans"
        trials.append(_measured(recipe, bits, float(rng.uniform(1, 5)), scale, rng, seed))
    trials.append(_measured("preset-like|rans", 3.45, 0.9, 0.985 * scale, rng, seed, "pergroup-lrzip"))
    trials.append(_measured("baseline|zlib", 6.6, 30.0, 0.62 * scale, rng, seed, "baseline-int8-zlib"))
    trials.append(_failed("gptq(bits=1)|rans", 'RecipeError: gptq: bits = 1 <script>alert("no")</script>', seed))
    trials.append(_failed("rtn(bits=2)|zpaq", "ToolMissing: zpaq is not installed", seed))
    return by_size(trials)


def write_study(directory: Path, seed: int = 0, n_extra: int = 0, scale: float = 1.0) -> Study:
    """Write the synthetic study into `directory` and return it."""
    directory.mkdir(parents=True)
    (directory / "study.json").write_text(synthetic_meta().to_json())
    with Journal(directory / "trials.jsonl") as journal:
        lines = "".join(trial.to_json() + "\n" for trial in synthetic_trials(seed, n_extra, scale))
        journal.path.write_text(lines)
    return Study.load(directory)


def synthetic_anatomy(n_layers: int = 11) -> Anatomy:
    """A 36 M-parameter model at 3.4 bits."""
    shapes = {"attn.c_q": (512, 512), "attn.c_k": (256, 512), "attn.c_v": (256, 512), "attn.proj": (512, 512)}
    shapes |= {"mlp.fc": (2048, 512), "mlp.proj": (512, 2048)}
    tensors = [TensorAnatomy("tok_emb.weight", (8192, 512), 1_900_000, 4e-4)]
    for layer in range(n_layers):
        for index, (part, shape) in enumerate(shapes.items()):
            bits = 2.6 + 0.12 * index + 0.05 * layer
            n_bytes = int(shape[0] * shape[1] * bits / 8)
            loss = 1e-9 * shape[0] * shape[1] * 2 ** (0.1 * index - 0.05 * layer)
            tensors.append(TensorAnatomy(f"blocks.{layer}.{part}.weight", shape, n_bytes, loss))
        tensors.append(TensorAnatomy(f"blocks.{layer}.attn_scale", (512,), 700))
    total = sum(tensor.n_bytes for tensor in tensors)
    numel = sum(tensor.numel for tensor in tensors)
    sizes = (4 * numel, numel + 50_000, total + 20_000, total, total + 1200)
    names = ("fp32 weights", "quantized, as integers", "entropy coded", "byte codecs", "the whole file")
    stages = tuple(SizeStage(name, size) for name, size in zip(names, sizes, strict=True))
    return Anatomy("0" * 64, sizes[-1], tuple(tensors), stages, "nats per token")


def _recipe(body: str) -> str:
    return f"tok_emb.*=gptq(bits=7,clip=20)|brotli(quality=11); numel<=65536=cast(dtype=fp16)|raw; *={body}"


def _measured(
    body: str, bits: float, loss: float, size: float, rng: np.random.Generator, seed: int, label: str = ""
) -> Trial:
    kl = 0.55 * loss * 2.0 ** (-2.24 * bits + 4.6) * float(rng.lognormal(0, 0.02))
    excess = min(kl / (math.log(2) * 2.6), 6.8)
    recipe = _recipe(body)
    trial = Trial(
        **_identity(recipe, seed),
        status="ok",
        label=label,
        n_bytes=int(N_WEIGHTS * bits / 8 * size * float(rng.lognormal(0, 0.004))) + 60_000,
        bpb=FP32_BPB + excess,
        nats=(FP32_BPB + excess) * math.log(2) * 2.6,
        kl=kl,
        ideal_bits=N_WEIGHTS * bits,
        weights_digest=_digest(f"{bits} {loss}"),
        quantize_s=float(rng.uniform(2, 9)),
        encode_s=float(rng.uniform(0.4, 40)),
        decode_s=float(rng.uniform(0.2, 2)),
        eval_s=float(rng.uniform(6, 9)),
    )
    return _with_blocks(trial, excess)


def _with_blocks(trial: Trial, excess: float) -> Trial:
    """The trial with its loss split over the blocks of the text. Units: `excess` bits per byte."""
    n_bytes = np.array(BLOCK_BYTES)
    rng = np.random.default_rng(int(trial.recipe_digest[:8], 16))
    bits = n_bytes * np.random.default_rng(0).lognormal(0, 0.25, len(n_bytes)) * rng.lognormal(0, 0.03, len(n_bytes))
    bits *= excess * n_bytes.sum() / bits.sum()
    error = ratio(bits, n_bytes).standard_error
    assert error is not None
    packed = pack_floats((bits * math.log(2)).tolist())
    return dataclasses.replace(trial, bpb_se=error, kl_se=error * math.log(2) * 2.6, block_excess=packed)


def _failed(body: str, error: str, seed: int) -> Trial:
    return Trial(**_identity(_recipe(body), seed), status="failed", error=error, quantize_s=0.1)


def _identity(recipe: str, seed: int) -> dict[str, Any]:
    meta = synthetic_meta()
    digest = _digest(recipe)
    return {
        "key": trial_key(meta.checkpoint_digest, digest, f"{seed}", meta.evaluator_digest, "0.1.0"),
        "recipe": recipe,
        "recipe_digest": digest,
        "checkpoint_digest": meta.checkpoint_digest,
        "calibration_digest": _digest("calibration"),
        "evaluator_digest": meta.evaluator_digest,
        "created": CREATED,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
