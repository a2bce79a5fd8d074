"""Which tokenizer a file, a folder or a checkpoint's companions hold.

Looked for in this order: tokenizer.json, tokenizer.model (SentencePiece), vocab.json with merges.txt (GPT-2's own).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pgpack.errors import DataError, ToolMissing

from .compressed import refuse_pointer
from .json_tokenizer import EXTRA, JsonTokenizer
from .sentence_piece import SentencePiece
from .tokenizer import Tokenizer
from .tokenizer_files import ADDED, JSON, MERGES, MODEL, SETTINGS, SPECIAL, VOCAB, files_of_tokenizer

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


def tokenizer_of(companions: Mapping[str, bytes], source: str = "the checkpoint") -> Tokenizer | None:
    """The tokenizer among a checkpoint's companions; None where there is none.

    Raises: DataError when it cannot be read, ToolMissing without the package that reads it.
    """
    return _made(companions, lambda name: f"{name} of {source}")


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a .model file, a tokenizer.json, or the folder of a model.

    A tokenizer_config.json beside a file counts too. Raises: DataError, ToolMissing as `tokenizer_of`.
    """
    files = files_of_tokenizer(path)
    for file in files.values():
        refuse_pointer(file)
    companions = {name: file.read_bytes() for name, file in files.items()}
    found = _made(companions, lambda name: str(path / name if path.is_dir() else path))
    if found is None:
        raise DataError(f"{path} holds no tokenizer: no {JSON}, no {MODEL}, no {VOCAB} with {MERGES}")
    return found


def _made(companions: Mapping[str, bytes], named: Callable[[str], str]) -> Tokenizer | None:
    """The tokenizer of these files; `named`: how a message calls one of them."""
    settings = _settings(companions, named)
    if JSON in companions:
        return JsonTokenizer(companions[JSON], named(JSON), settings)
    if MODEL in companions:
        return SentencePiece(companions[MODEL], named(MODEL), settings.get("add_bos_token") is not False)
    if VOCAB in companions and MERGES in companions:
        return JsonTokenizer(_from_merges(companions, settings, named(VOCAB)), named(VOCAB), settings)
    return None


def _settings(companions: Mapping[str, bytes], named: Callable[[str], str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (SPECIAL, SETTINGS):
        if name in companions:
            try:
                found |= json.loads(companions[name].removeprefix(b"\xef\xbb\xbf"))
            except (ValueError, TypeError, RecursionError) as error:
                raise DataError(f"{named(name)} is not a JSON object ({error})") from None
    return found


def _from_merges(companions: Mapping[str, bytes], settings: Mapping[str, Any], source: str) -> bytes:
    """A tokenizer.json of the two files that GPT-2's tokenizer came in. Source: its encoder.py."""
    try:
        from tokenizers import AddedToken, decoders, models, pre_tokenizers
        from tokenizers import Tokenizer as Backend
    except ImportError as error:
        raise ToolMissing(f"{source}: {EXTRA}") from error
    try:
        vocabulary = {str(piece): int(token) for piece, token in json.loads(companions[VOCAB]).items()}
        lines = companions[MERGES].decode("utf-8").split("\n")
        merges = [(pair[0], pair[1]) for line in lines if not line.startswith("#version") and (pair := line.split())]
        added = {str(piece): int(token) for piece, token in json.loads(companions.get(ADDED, b"{}")).items()}
        backend = Backend(models.BPE(vocabulary, merges))
    except Exception as error:  # noqa: BLE001 - the package raises nothing narrower
        raise DataError(f"{source} with {MERGES} is not a byte-level tokenizer ({error})") from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    given = [settings.get(name) for name in NAMED]
    contents = [each.get("content") if isinstance(each, Mapping) else each for each in given]
    special = dict.fromkeys(each for each in contents if isinstance(each, str) and each in vocabulary)
    backend.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in special])
    backend.add_tokens([AddedToken(each, normalized=False) for each in sorted(added, key=added.__getitem__)])
    return str(backend.to_str()).encode("utf-8")
