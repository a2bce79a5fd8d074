"""The two tables of this room: what turns a matrix into symbols, and what may stand before it in a chain."""

from __future__ import annotations

from typing import Any

from .cast import Cast
from .gptq import Gptq
from .uniform import Rtn, RtnMse, RtnPercentile, SdClip

QUANTIZERS: dict[str, type[Any]] = {
    "cast": Cast,
    "rtn": Rtn,
    "rtn_percentile": RtnPercentile,
    "rtn_mse": RtnMse,
    "sdclip": SdClip,
    "gptq": Gptq,
}

TRANSFORMS: dict[str, type[Any]] = {}
