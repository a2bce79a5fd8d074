"""The coding stages by name: three literal tables, and nothing else. A name belongs to a byte layout for good.

symbols --SYMBOL_TRANSFORMS*--> symbols --CODERS--> bytes --BYTE_CODECS*--> bytes
"""

from __future__ import annotations

from pgpack.stages import Table

SYMBOL_TRANSFORMS = Table(
    __name__,
    {
        "transpose": "order:Transpose",
        "row_sort": "order:RowSort",
    },
    group="pgpack.symbol_transforms",
)

CODERS = Table(
    __name__,
    {
        "raw": "fixed_width:Raw",
        "bitpack": "fixed_width:BitPack",
        "bitplanes": "fixed_width:BitPlanes",
        "rans": "rans.coder:Rans",
        "rans_scaled": "rans.scaled:RansScaled",
        "rans_wide": "rans.wide:RansWide",
    },
    group="pgpack.coders",
)

BYTE_CODECS = Table(
    __name__,
    {
        "zlib": "streams:Zlib",
        "bz2": "streams:Bz2",
        "lzma": "streams:Lzma",
        "zstd": "streams:Zstd",
        "brotli": "streams:Brotli",
        "lrzip": "external:Lrzip",
        "zpaq": "external:Zpaq",
        "shuffle": "shuffle:Shuffle",
    },
    group="pgpack.byte_codecs",
)
