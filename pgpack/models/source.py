"""What a model source is asked and what it answers.

    Wanted (metadata, names and shapes, what the user said, a probe of losses) --source--> FoundModel or None

A source is a function `find(wanted: Wanted) -> FoundModel | None`; a package registers it in the entry-point group
`pgpack.models`. It answers None for a checkpoint that is not of its kind, and raises a PgpackError, naming the flag
to give, for one that it knows and cannot build.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgpack.loss.bpb import Build

    from .probe import Probe


@dataclass(frozen=True)
class Wanted:
    """A checkpoint whose model is wanted. `spec`: what the user named; `changes`: FIELD=VALUE of the model;
    `companions`: the checkpoint's (config.json, ...); `seq_len`: of its windows, where that is known."""

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    vocab_size: int
    probe: Probe
    spec: str | None = None
    changes: Sequence[str] = ()
    companions: Mapping[str, bytes] = field(default_factory=dict)
    seq_len: int | None = None


@dataclass(frozen=True)
class FoundModel:
    """How a model is built.

    `build`: state dict of torch tensors -> module in eval mode that gives logits. `seq_len`: of its windows, if it
    says so. `how`: one sentence on how it was found, '' when it was named. `config`: its settings as JSON, '' for
    code alone. `looped`: the same with its loop repeated so often, for a model with loops. `code`: everything,
    besides config and tensors, that its logits depend on, as text. `longest`: of the windows it can read, where there
    is a limit. `vocab_size`: rows of its table, where it says so; a tokenizer may know more tokens than those that a
    text holds. `evidence`: what decided each setting of a model that nobody named, as JSON.
    """

    build: Build
    seq_len: int | None = None
    how: str = ""
    config: str = ""
    looped: Callable[[int], Build] | None = None
    code: Callable[[], Sequence[str]] = tuple
    longest: int | None = None
    vocab_size: int | None = None
    evidence: str = ""


ModelSource = Callable[[Wanted], FoundModel | None]
