"""The two tables of this room: what turns a matrix into symbols, and what may stand before it in a chain."""

from __future__ import annotations

from typing import Any

from .cast import Cast
from .codebook import KMeans, Nf4, ProductKMeans
from .gptq import Gptq
from .low_rank import Lqer, LqerAsym, Svd
from .pruning import Prune24, PruneGlobal, PruneMagnitude, PruneThreshold, PruneWanda
from .sparsegpt import PruneObs
from .tcq import Tcq
from .ternary import Binary, Ternary
from .uniform import Rtn, RtnMse, RtnPercentile, SdClip

QUANTIZERS: dict[str, type[Any]] = {
    "cast": Cast,
    "rtn": Rtn,
    "rtn_percentile": RtnPercentile,
    "rtn_mse": RtnMse,
    "sdclip": SdClip,
    "gptq": Gptq,
    "tcq": Tcq,
    "kmeans": KMeans,
    "product_kmeans": ProductKMeans,
    "nf4": Nf4,
    "ternary": Ternary,
    "binary": Binary,
}

TRANSFORMS: dict[str, type[Any]] = {
    "prune_magnitude": PruneMagnitude,
    "prune_global": PruneGlobal,
    "prune_threshold": PruneThreshold,
    "prune_wanda": PruneWanda,
    "prune_2_4": Prune24,
    "prune_obs": PruneObs,
    "lqer": Lqer,
    "lqer_asym": LqerAsym,
    "svd": Svd,
}
