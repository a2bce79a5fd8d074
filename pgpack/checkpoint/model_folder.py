"""Weights and companions -> a model folder as transformers reads it.

    model.safetensors, or shards of 5 GB with their index | config.json, tokenizer.json, ...

Owns what the config says of the weights: the type they are stored in, whether the head is tied, and that no code
comes with them. A head that is tied to the input embedding is left out of the file and named in the config; other
tied tensors are written under each name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pgpack.errors import CheckpointError
from pgpack.files import replacing_folder

from .folders import COMPANIONS, CONFIG, LICENCES, config_of
from .ties import head_tie
from .tokenizer_files import with_tokenizer_files
from .writing import Outgoing, write_safetensors

SHARD_BYTES = 5 * 10**9
TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
STALE = ("torch_dtype", "quantization_config", "auto_map")  # of a config, once the weights are stored plainly
TELL_CODE = ("tokenizer_config.json", "generation_config.json")
OURS = (
    "model*.safetensors",
    "model.safetensors.index.json",
    *COMPANIONS,
    *LICENCES,
)  # what a folder of ours may hold


def write_folder(
    path: Path,
    tensors: Sequence[Outgoing],
    companions: Mapping[str, bytes],
    aliases: Mapping[str, str],
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the folder aside and put it in its place in one step.

    `aliases`: tied name -> stored name. Raises: CheckpointError without a config.json; FileExistsError when `path`
    holds anything, with `force` when it holds what no model folder does; OSError when it cannot be written.
    """
    config = config_of(companions)
    if not config:
        raise CheckpointError(
            "no config.json came with the weights, and a model folder needs one; write a file instead"
        )
    tied = _tied_head([tensor.name for tensor in tensors], aliases, config)
    kept = [tensor for tensor in tensors if tensor.name not in tied]
    kinds = {tensor.kind for tensor in kept} & TORCH_NAMES.keys()
    with replacing_folder(path, OURS if force else ()) as aside:
        for name, contents in with_tokenizer_files(companions).items():
            (aside / name).write_bytes(_without_code(contents) if name in TELL_CODE else contents)
        described = _described(config, TORCH_NAMES[kinds.pop()] if len(kinds) == 1 else "float32", bool(tied))
        (aside / CONFIG).write_bytes(_json(described))
        _write_shards(aside, kept, shard_bytes)


def _tied_head(names: Sequence[str], aliases: Mapping[str, str], config: Mapping[str, Any]) -> set[str]:
    """The name of the head, where it is tied to the input embedding and the config does not say otherwise."""
    pairs = {(name, stored) for pair in aliases.items() for name, stored in (pair, pair[::-1])}
    for head, table in pairs:
        if head_tie([name for name in names if name != head], config) == {head: table}:
            return {head}
    return set()


def _described(config: Mapping[str, Any], dtype: str, tied: bool) -> dict[str, Any]:
    """The config of weights that are stored plainly in `dtype`."""
    found = {key: value for key, value in config.items() if key not in STALE} | {"dtype": dtype}
    return found | ({"tie_word_embeddings": True} if tied else {})


def _without_code(contents: bytes) -> bytes:
    """A JSON file without the names of code that would have to come with it."""
    try:
        found = json.loads(contents)
    except (ValueError, RecursionError):
        return contents
    if not isinstance(found, dict) or "auto_map" not in found:
        return contents
    return _json({key: value for key, value in found.items() if key != "auto_map"})


def _json(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # halves of a character, which JSON can only escape
        return (json.dumps(document, indent=2) + "\n").encode()


def _write_shards(folder: Path, tensors: Sequence[Outgoing], shard_bytes: int) -> None:
    shards = list(_shards(tensors, shard_bytes))
    if len(shards) == 1:
        write_safetensors(folder / "model.safetensors", shards[0], {"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / name, shard, {"format": "pt"})
        weight_map |= {tensor.name: name for tensor in shard}
    total = sum(tensor.n_bytes for tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_bytes(_json(index))


def _shards(tensors: Iterable[Outgoing], shard_bytes: int) -> Iterable[list[Outgoing]]:
    """Tensors in their order, cut before what would go beyond `shard_bytes`."""
    shard: list[Outgoing] = []
    size = 0
    for tensor in tensors:
        if shard and size + tensor.n_bytes > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(tensor)
        size += tensor.n_bytes
    yield shard
