"""Tensors that a model has under two names and a file holds under one.

    model.embed_tokens.weight <-- lm_head.weight      config.json: tie_word_embeddings, or no head in the file
    kept.name <-- removed.name                        metadata of `safetensors.torch.save_model`

Owns names. A file that leaves a name out says so nowhere in its tensors: it is read off the metadata and the config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

HEAD_OF = {  # the end of the name of an input embedding -> the output matrix that may be tied to it
    "embed_tokens.weight": "lm_head.weight",
    "wte.weight": "lm_head.weight",
    "word_embeddings.weight": "lm_head.weight",
    "backbone.embeddings.weight": "lm_head.weight",
    "embed_in.weight": "embed_out.weight",
}
HEADS = frozenset(HEAD_OF.values()) | {"output.weight"}
CAUSAL = ("ForCausalLM", "LMHeadModel")  # ends of the names of classes that have a head


def told_ties(names: Iterable[str], metadata: Mapping[str, str]) -> dict[str, str]:
    """Name that the file left out -> the name that holds it, by its metadata, which may name another left out one."""
    known = frozenset(names)
    found: dict[str, str] = {}
    nowhere: set[str] = set()
    for at in metadata:
        way: dict[str, None] = {}
        while at in metadata and not (at in known or at in way or at in found or at in nowhere):
            way[at] = None
            at = metadata[at]
        kept = at if at in known else found.get(at)
        if kept is None:
            nowhere |= way.keys()
        else:
            found |= dict.fromkeys(way, kept)
    return found


def head_tie(names: Iterable[str], config: Mapping[str, object]) -> dict[str, str]:
    """The head that `config` ties to the input embedding and the file leaves out; nothing where there is none."""
    classes = config.get("architectures")
    causal = isinstance(classes, list) and any(str(name).endswith(CAUSAL) for name in classes)
    if not causal or config.get("tie_word_embeddings") is False:
        return {}
    known = list(names)
    if any(name.rpartition(".")[0].split(".")[-1] + ".weight" in HEADS for name in known):
        return {}
    for name in known:
        head = next((head for end, head in HEAD_OF.items() if f".{name}".endswith(f".{end}")), None)
        if head is not None:
            return {head: name}
    return {}


def with_ties(
    shapes: Mapping[str, tuple[int, ...]], load: Callable[[str], NDArray[Any]], tied: Mapping[str, str]
) -> tuple[dict[str, tuple[int, ...]], Callable[[str], NDArray[Any]]]:
    """(shapes, load) with the tied names behind the others."""
    added = {name: kept for name, kept in tied.items() if kept in shapes and name not in shapes}
    found = {**shapes, **{name: shapes[kept] for name, kept in added.items()}}
    return found, lambda name: load(added.get(name, name))
