"""What a command says of a checkpoint that it shows and does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgpack.checkpoint.folders import config_of
from pgpack.checkpoint.regular import looks_whole

if TYPE_CHECKING:
    from pgpack.checkpoint.checkpoint import Checkpoint


def said_of_config(checkpoint: Checkpoint) -> tuple[str, ...]:
    """A sentence on tensors that config.json asks for and that are not there; none where that is nothing.

    Transformers, which takes seconds to load, is asked only where names and shapes do not look whole.
    """
    config = config_of(checkpoint.companions)
    if "model_type" not in config or looks_whole(checkpoint.shapes, config):
        return ()
    from pgpack.models.completeness import no_model

    said = no_model(checkpoint.companions, checkpoint.shapes)
    return (said,) if said else ()
