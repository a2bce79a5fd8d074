"""The coding stages by name: three literal tables, and nothing else. A name belongs to a byte layout for good.

symbols --SYMBOL_TRANSFORMS*--> symbols --CODERS--> bytes --BYTE_CODECS*--> bytes
"""

from __future__ import annotations

from typing import Any

from .external import Lrzip, Zpaq
from .fixed_width import BitPack, BitPlanes, Raw
from .order import RowSort, Transpose
from .rans import Rans
from .rans_scaled import RansScaled
from .shuffle import Shuffle
from .streams import Brotli, Bz2, Lzma, Zlib, Zstd

SYMBOL_TRANSFORMS: dict[str, type[Any]] = {
    "transpose": Transpose,
    "row_sort": RowSort,
}

CODERS: dict[str, type[Any]] = {
    "raw": Raw,
    "bitpack": BitPack,
    "bitplanes": BitPlanes,
    "rans": Rans,
    "rans_scaled": RansScaled,
}

BYTE_CODECS: dict[str, type[Any]] = {
    "zlib": Zlib,
    "bz2": Bz2,
    "lzma": Lzma,
    "zstd": Zstd,
    "brotli": Brotli,
    "lrzip": Lrzip,
    "zpaq": Zpaq,
    "shuffle": Shuffle,
}
