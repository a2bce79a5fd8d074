"""How fast this machine packs and runs models, measured in some seconds on a made-up matrix."""

from __future__ import annotations

import time

import numpy as np

from pgpack.calibration.coverage import covered
from pgpack.checkpoint.checkpoint import from_tensors
from pgpack.pack import pack_applied
from pgpack.recipe.recipe import parse_recipe
from pgpack.text.sentence_piece import train_tokenizer

from .rates import Rates

ROWS, COLUMNS = 512, 1024
TOKENS, WIDTH = 512, 1024
REPEATS = 3
N_WORDS, N_LINES, PIECES = 4096, 1500, 1024


def measured_rates() -> Rates:
    """The best of some runs each, the first of which, that compiles, does not count."""
    return Rates(_trellis_rate(), _model_rate(), _text_rate(), measured=True)


def _trellis_rate() -> float:
    weight = (np.random.default_rng(0).standard_normal((ROWS, COLUMNS)) * 0.02).astype(np.float32)
    checkpoint = from_tensors({"layer.weight": weight}, source="a made-up matrix")
    whole = covered(checkpoint, parse_recipe("*=tcq(step=0.001,states=64)|rans_scaled(states=64)"), None)
    seconds = []
    for _ in range(1 + REPEATS):
        artifact = pack_applied(checkpoint, whole.applied, whole.calibration)
        seconds.append(artifact.quantize_s + artifact.encode_s)
    return weight.size / min(seconds[1:])


def _model_rate() -> float:
    import torch

    layer, tokens = torch.nn.Linear(WIDTH, WIDTH), torch.zeros(TOKENS, WIDTH)
    seconds = []
    with torch.no_grad():
        for _ in range(1 + REPEATS):
            started = time.perf_counter()
            layer(tokens)
            seconds.append(time.perf_counter() - started)
    return TOKENS * WIDTH * WIDTH / min(seconds[1:])


def _text_rate() -> float:
    """Of a tokenizer trained on made-up sentences of a few thousand words, and of its work on them."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    words = ["".join(rng.choice(letters, n)) for n in rng.integers(2, 10, N_WORDS)]
    lines = [" ".join(words[i] for i in np.minimum(rng.zipf(1.3, 100), N_WORDS) - 1) for _ in range(N_LINES)]
    started = time.perf_counter()
    train_tokenizer(lines, PIECES).encode_documents(lines)
    return sum(map(len, lines)) / (time.perf_counter() - started)
