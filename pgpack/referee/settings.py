"""Settings of a run as its log prints them, and which of them seeds of one claim do not share (#2124).

    num_layers: 11        train_batch_tokens:524288 train_seq_len:2048        "matrix_lr": 0.02,

Owns what is a setting that makes another model or another training. None are seeds, names, paths, how often something
is printed, and how a test-time training is done: the same weights may be evaluated in several ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

_PAIR = re.compile(
    r"(?<![\w.])['\"]?(?P<key>[A-Za-z]\w{1,40})['\"]?\s{0,3}[:=]\s{0,3}"
    r"(?P<value>-?\d[\w.+\-]{0,24}|True|False)(?=[\s,;)}]|$)"
)
_SETTING = re.compile(
    r"^(?:(?:num_|n_)?(?:physical_|virtual_)?(?:layers?|heads?|kv_heads?|blocks?|loops?)|(?:model|embed\w*|mlp|ffn|head|kv)_(?:dim|mult|ratio)|"
    r"vocab_size|(?:\w+_)?(?:lr|wd|weight_decay|momentum)|(?:train_)?(?:batch_tokens|seq_len|batch_size)|iterations|"
    r"warmdown\w*|(?:ema|swa|gptq|qat)_\w+|(?:\w+_)?(?:bits|clip_sigmas|clip_range|stride|softcap)|"
    r"qk_gain\w*|rope_\w+|xsa_\w+|model_params|(?:bigram|trigram|ngram)_\w+)$"
)
_NO_SETTING = re.compile(
    r"^ttt|^slot|^lora|^eval|enabled|time|_ms$|_s$|seconds|every|loss|bpb|path|bytes|_step$|_at$|chunk$"
)
HEAD = 600  # lines of a log in which settings are printed


def settings(lines: Sequence[str]) -> dict[str, str]:
    """Setting -> its value as it is printed first, of those that are printed with one value alone."""
    found: dict[str, set[str]] = {}
    for line in lines[:HEAD]:
        for pair in _PAIR.finditer(line):
            key = pair["key"].lower()
            if _SETTING.match(key) and not _NO_SETTING.search(key):
                found.setdefault(key, set()).add(_plain(pair["value"]))
    return {key: next(iter(values)) for key, values in found.items() if len(values) == 1}


def unlike(runs: Iterable[tuple[int, Mapping[str, str]]]) -> dict[str, tuple[str, ...]]:
    """Setting -> its values, of those that two seeds never print alike. `runs`: (seed, its settings) of every log; of
    one seed there may be several."""
    found: dict[str, dict[int, set[str]]] = {}
    for seed, run in runs:
        for key, value in run.items():
            found.setdefault(key, {}).setdefault(seed, set()).add(value)
    apart = (
        (key, values)
        for key, values in found.items()
        if any(not one & other for one, other in combinations(values.values(), 2))
    )
    return {key: tuple(sorted({value for each in values.values() for value in each})) for key, values in apart}


def _plain(value: str) -> str:
    """One spelling of a number: 0.020 is 2e-2."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value
