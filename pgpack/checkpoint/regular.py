"""Whether the weights of a model folder look whole by names and shapes alone, before transformers is asked.

Every layer has the tensors that the others have, in the shapes that they have there; there are as many layers, rows
of the table, columns and hidden units as config.json says. What looks whole may lack what no layer has; what does not
may be whole.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

LAYER = re.compile(r"(.*?\.)(\d+)(\..+)")
N_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model")
INNER = ("intermediate_size", "n_inner", "ffn_dim")
TABLE = re.compile(r"embed|wte|word_embeddings|shared")
NORM = re.compile(r"norm|ln_")
HEAD = re.compile(r"head|embed_out|output|score|classifier")

Shapes = Mapping[str, tuple[int, ...]]


def looks_whole(shapes: Shapes, config: Mapping[str, Any]) -> bool:
    """Whether nothing tells that a tensor lacks, or is of another shape."""
    outside = {name: shape for name, shape in shapes.items() if LAYER.fullmatch(name) is None}
    tables = [shape for name, shape in outside.items() if TABLE.search(name)]
    told = (config.get("vocab_size"), next((config[width] for width in WIDTHS if width in config), None))
    has_head = any(HEAD.search(name) for name in outside) or config.get("tie_word_embeddings", True) is not False
    return told in tables and any(NORM.search(name) for name in outside) and has_head and _are_alike(shapes, config)


def _are_alike(shapes: Shapes, config: Mapping[str, Any]) -> bool:
    """Whether all layers hold the same tensors, and are as many as they are to be."""
    layers: dict[str, dict[int, dict[str, tuple[int, ...]]]] = defaultdict(lambda: defaultdict(dict))
    for name, shape in shapes.items():
        if (found := LAYER.fullmatch(name)) is not None:
            layers[found[1]][int(found[2])][found[3]] = shape
    counts = {len(each) for each in layers.values()}
    told = next((config[name] for name in N_LAYERS if name in config), None)
    inner = next((config[name] for name in INNER if isinstance(config.get(name), int)), None)
    sides = {side for each in layers.values() for shape in each.get(0, {}).values() for side in shape}
    alike = all(
        sorted(each) == list(range(len(each))) and all(layer == each[0] for layer in each.values())
        for each in layers.values()
    )
    return alike and told in counts and (inner is None or inner in sides or 2 * inner in sides)
