"""The systems of the challenge as a model source, registered with `pgpack.models`.

named preset, else model_config of the metadata, or what an earlier identification found, else names and shapes and a
little text --> GPTConfig --> model
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

import torch
from torch import nn

from pgpack.checkpoint.dialects import unbanked
from pgpack.errors import CheckpointError, DataError
from pgpack.loss.bpb import Build
from pgpack.models.evidence import FOUND_KEY, read_evidence
from pgpack.models.source import FoundModel, Wanted
from pgtrain.model.dialects import without_unused
from pgtrain.model.gpt import GPT
from pgtrain.model.gpt import build as build_gpt
from pgtrain.model.model_config import GPTConfig

from .changed_fields import changed_fields
from .identification.reader import Reader
from .identify import identify, named
from .presets import PRESETS


def find(wanted: Wanted) -> FoundModel | None:
    """The challenge's model of a checkpoint; None where the user named something else.

    Raises: CheckpointError for the tensors of no system, DataError for those of several or another vocabulary.
    """
    if wanted.spec is not None and wanted.spec not in PRESETS:
        return None
    changes, how, evidence = changed_fields(wanted.changes, GPTConfig()), "", ""
    if wanted.spec is not None:
        config = named(wanted.spec, wanted.shapes, changes)
    elif "model_config" in wanted.metadata:
        try:
            values = json.loads(wanted.metadata["model_config"])
        except (ValueError, RecursionError) as error:
            raise CheckpointError("the checkpoint's model_config metadata is not JSON") from error
        config = GPTConfig.from_mapping({**values, **changes})
    elif (found := read_evidence(wanted.metadata.get(FOUND_KEY))) is not None and "config" in found:
        config, evidence = GPTConfig.from_mapping({**found["config"], **changes}), wanted.metadata[FOUND_KEY]
    else:
        if table := wanted.shapes.get("tok_emb.weight"):
            _check_vocabulary(table[0], wanted.vocab_size)
        identified = identify(wanted.shapes, Reader(wanted.probe, builder), changes, wanted.seq_len)
        config, how, evidence = identified.config, identified.how, identified.to_json()
    _check_vocabulary(config.vocab_size, wanted.vocab_size)
    build = builder(config)
    return FoundModel(build, config.seq_len, how, config.to_json(), partial(with_loops, build), evidence=evidence)


def builder(config: GPTConfig) -> Build:
    """A builder of `config` from a public script's own tensors: banked or not, with what the script never reads."""
    return lambda tensors: build_gpt(config, without_unused(config, unbanked(tensors)))


def with_loops(build: Build, loops: int) -> Build:
    """`build` with the model's loop repeated `loops` times, whatever it was trained with.

    Raises: DataError (when it builds) for a model without a loop.
    """

    def looped(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        model = build(tensors)
        if not isinstance(model, GPT) or model.config.num_loops == 0:
            raise DataError(f"this model has no loop to repeat {loops} times; leave out --loops")
        model.set_loops_(loops)
        return model

    return looped


def _check_vocabulary(model: int, tokenizer: int) -> None:
    if model != tokenizer:
        raise DataError(
            f"the model has a vocabulary of {model} tokens, the tokenizer one of {tokenizer}; give the tokenizer "
            "that it was trained with as --tokenizer PATH, and shards that were made with it"
        )
