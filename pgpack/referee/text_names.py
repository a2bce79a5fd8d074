"""What a script calls its evaluated text and its training text: names, paths, splits."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from functools import lru_cache

EVALUATED_FILE, TRAINING_FILE = "fineweb_val_000000.bin", "fineweb_train_000000.bin"
SPLITS = ("val", "valid", "validation", "holdout", "heldout")
_NOUNS = (
    "tokens?|toks|data|datasets?|ds|dl|loaders?|files?|pattern|glob|paths?|shards?|text|texts|corpus|stream|bin|ids|"
    "x|y|xs|ys|xy|xb|yb|xys|seqs?|sequences?|batch|batches|docs?|documents?|inputs?|targets?|bytes|split|set|iter|"
    "iterator|windows?|chunks?|examples?|samples?"
)
_EVALUATED = re.compile(
    rf"(?:^|_)(?:val|valid|validation|eval|holdout|held_?out)_?(?:{_NOUNS})(?:_|$)|^validation$|"
    rf"(?:^|_)(?:{_NOUNS})_(?:val|valid|validation|holdout|held_?out)$"
)
_MASK = re.compile(r"mask|loss|bpb|every|step|count|num|^n_|_n$|size|_len|length|time|ratio|lut")
_TRAIN = re.compile(
    rf"fineweb_train|^(?:train|training|trn)$|(?:^|[_/])(?:train|training|trn)_?(?:{_NOUNS})(?:_|$)|"
    rf"(?:^|_)(?:{_NOUNS})_(?:train|training|trn)$|(?:^|/)train[\w*-]*\.\w+$"
)
_SIZE = re.compile(r"_len$|_size$|batch_tokens$|_steps?$|_seconds$")  # train_seq_len, train_batch_tokens
_NUMBER = re.compile(
    r"loss|bpb|nll|ppl|perplexity|acc(?:uracy)?$|score|metric|result|time|(?:^|_)(?:best|total|step)(?:_|$)"
)
_PATH = re.compile(
    r"fineweb_val|(?:^|[_/\-.])(?:val|valid|validation|holdout|heldout)(?:[_\-.*\d][^\s/]*)?"
    r"(?:\.(?:bin|npy|npz|pt|txt|jsonl|parquet|idx|tok|dat|mmap|u16)\b|[*/])",
    re.I,
)


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A name in small letters with words parted: valTokens, VAL_TOKENS -> val_tokens."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


@lru_cache(maxsize=4096)
def names_evaluated(name: str) -> bool:
    """Whether a variable is called as evaluated text is: val_tokens, x_val, eval_loader; no val_loss, valid_mask."""
    name = plain(name)
    return bool(_EVALUATED.search(name)) and not _MASK.search(name) and not _TRAIN.search(name)


@lru_cache(maxsize=4096)
def names_number(name: str) -> bool:
    """Whether a variable or key is called as a result of an evaluation is."""
    return bool(_NUMBER.search(plain(name)))


@lru_cache(maxsize=4096)
def names_training(name: str) -> bool:
    """Whether a variable, key or path speaks of training."""
    return bool(_TRAIN.search(plain(name))) and not _SIZE.search(plain(name))


@lru_cache(maxsize=4096)
def is_evaluated_path(text: str) -> bool:
    """Whether a text names files of the validation split, or is a pattern of the challenge's files with those in."""
    if len(text) >= 400 or not takes_evaluated_in(text):
        return len(text) < 400 and bool(_PATH.search(text))
    return bool(_PATH.search(text)) or "fineweb" in _base(text) or not fnmatch(TRAINING_FILE, _base(text))


def takes_evaluated_in(pattern: str) -> bool:
    """Whether a pattern of files takes the validation split in, beside whatever else."""
    base = _base(pattern)
    return "*" in base and fnmatch(EVALUATED_FILE, base)


def _base(path: str) -> str:
    return path.rpartition("/")[2]
