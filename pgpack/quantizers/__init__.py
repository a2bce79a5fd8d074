"""The two tables of this room: what turns a matrix into symbols, and what may stand before it in a chain."""

from __future__ import annotations

from pgpack.stages import Table

QUANTIZERS = Table(
    __name__,
    {
        "cast": "cast:Cast",
        "rtn": "uniform:Rtn",
        "rtn_percentile": "uniform:RtnPercentile",
        "rtn_mse": "uniform:RtnMse",
        "sdclip": "uniform:SdClip",
        "gptq": "gptq:Gptq",
        "tcq": "tcq:Tcq",
        "kmeans": "codebook:KMeans",
        "product_kmeans": "codebook:ProductKMeans",
        "nf4": "codebook:Nf4",
        "ternary": "ternary:Ternary",
        "binary": "ternary:Binary",
    },
    group="pgpack.quantizers",
)

TRANSFORMS = Table(
    __name__,
    {
        "prune_magnitude": "pruning:PruneMagnitude",
        "prune_global": "pruning:PruneGlobal",
        "prune_threshold": "pruning:PruneThreshold",
        "prune_wanda": "pruning:PruneWanda",
        "prune_2_4": "pruning:Prune24",
        "prune_obs": "sparsegpt:PruneObs",
        "lqer": "low_rank:Lqer",
        "lqer_asym": "low_rank:LqerAsym",
        "svd": "low_rank:Svd",
    },
    group="pgpack.transforms",
)
