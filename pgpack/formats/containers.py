"""Which file format an artifact is written in: `@container=NAME(...)|codec|...` of a recipe.

    pgpack           our own (FORMAT.md); the codecs after it compress the side information
    torch_baseline   the challenge's own dictionary of int8 rows (torch.save), then the codecs
    torch_sdclip     {'w', 'm'} of the SDClip records (torch.save), byte-shuffled behind a BSHF mark, then the codecs
    pergroup         PGRP: one stream per kind of matrix, each through lrzip

The field's three exist to be measured against and to be read; they fix the coding of every tensor, so a recipe
for them may not name coders.
"""

from __future__ import annotations

from pgpack.stages import Table

CONTAINERS = Table(
    __package__,
    {
        "pgpack": "own.writer:Pgpack",
        "torch_baseline": "field.torch_baseline:TorchBaseline",
        "torch_sdclip": "field.torch_sdclip:TorchSdclip",
        "pergroup": "field.pergroup:Pergroup",
    },
)
