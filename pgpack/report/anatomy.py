"""The best artifact taken apart for a report: size waterfall, bits over depth, bytes and loss by kind, heat map of
bits per weight, bytes and loss per layer.

Owns what these sections show, `assets/anatomy.html` how; `inspect` owns the numbers. Without scripts the heat map
shows bits per weight and the table keeps its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pgpack.inspect import SLOPE_BYTES, Anatomy, TensorAnatomy, slope_of

from .anatomy_plot import RELATIVE
from .inline_picture import anatomy_pictures
from .tables import Cell, number_cell
from .templates import filled

PALE, DEEP = (0xF1, 0xF6, 0xFB), (0x0B, 0x3D, 0x75)  # of the heat map
DARK = 0.68  # deeper cells carry white text, the others black: a contrast of 4.5 everywhere
MAX_PARTS = 12  # columns of the heat map; the rest of a layer is one column
SMALL = "small"


def anatomy_sections(anatomy: Anatomy | None) -> Markup | str:
    """The sections of `anatomy`, '' without one."""
    if anatomy is None or not anatomy.tensors:
        return ""
    layers = _layers(anatomy)
    rows = [(tensor.part, _Group((tensor,))) for tensor in layers.get("", []) if tensor.numel]  # in no layer
    rows += [(layer, _Group(tuple(tensors))) for layer, tensors in layers.items() if layer]
    columns = _layer_columns(anatomy, [group for _, group in rows])
    values = {
        "anatomy": anatomy,
        "bits_per_weight": 8 * anatomy.n_bytes / max(1, _Group(anatomy.tensors).numel),
        "pictures": anatomy_pictures(anatomy),
        "heat": _heat_tables(layers, anatomy),
        "slope_bytes": SLOPE_BYTES,
        "columns": list(columns),
        "layers": [(name, {label: cell(group) for label, cell in columns.items()}) for name, group in rows],
    }
    return filled("anatomy.html", values)


# --- heat map ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Tensors that one cell or row stands for."""

    tensors: tuple[TensorAnatomy, ...]

    @property
    def numel(self) -> int:
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def n_bytes(self) -> int:
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.n_bytes / max(1, self.numel)

    @property
    def loss(self) -> float | None:
        known = [tensor.loss for tensor in self.tensors if tensor.loss is not None]
        return sum(known) if known else None

    @property
    def slope(self) -> float | None:
        """Loss that one more kilobyte saves when it is spread evenly over the group's weights."""
        loss = self.loss
        return None if loss is None else slope_of(loss, self.numel)


def _layers(anatomy: Anatomy) -> dict[str, list[TensorAnatomy]]:
    """Layer name -> its tensors, layers by their numbers; '' first: tensors that are in no layer."""
    found: dict[str, list[TensorAnatomy]] = {}
    for tensor in anatomy.tensors:
        found.setdefault(tensor.layer, []).append(tensor)

    def order(layer: str) -> tuple[str, int]:
        prefix, _, number = layer.rpartition(".")
        return (prefix, int(number)) if number.isdecimal() else (layer, 0)

    return {layer: found[layer] for layer in sorted(found, key=order)}


def _columns(layers: dict[str, list[TensorAnatomy]]) -> list[str]:
    """Parts that get a column: those with at least two dimensions, in order of appearance, and SMALL for the rest."""
    weights: dict[str, int] = {}
    rest = False
    for layer, tensors in layers.items():
        for tensor in tensors if layer else ():
            if len(tensor.shape) >= 2 and tensor.role != "control":
                weights[tensor.part] = weights.get(tensor.part, 0) + tensor.numel
            else:
                rest = True
    kept = set(sorted(weights, key=lambda part: -weights[part])[:MAX_PARTS])
    return [part for part in weights if part in kept] + ([SMALL] if rest or len(kept) < len(weights) else [])


@dataclass(frozen=True)
class _HeatCell:
    """A cell with the values of its faces (bits, share, loss, slope); small tensors, stored whole, take no part in
    the scale of colours."""

    group: _Group
    colours: tuple[str, str]
    faces: dict[str, float]
    is_small: bool


@dataclass(frozen=True)
class _HeatTable:
    """Headings, and rows with their names; no cell where a layer has no such weights."""

    names: tuple[str, ...]
    rows: list[tuple[str, list[_HeatCell | None]]]


def _heat_tables(layers: dict[str, list[TensorAnatomy]], anatomy: Anatomy) -> list[_HeatTable]:
    """The layers, and the largest tensors outside of them; without a table that has no rows."""
    columns = _columns(layers)
    named = {layer: _by_column(tensors, columns) for layer, tensors in layers.items() if layer}
    alone = sorted((tensor for tensor in layers.get("", []) if tensor.numel), key=lambda tensor: -tensor.numel)
    outside = [(tensor.part, _Group((tensor,))) for tensor in alone[:MAX_PARTS]]
    coloured = [group for cells in named.values() for part, group in cells.items() if part != SMALL and group.numel]
    bits = [group.bits_per_weight for group in (*coloured, *(group for _, group in outside))]
    low, high = min(bits, default=0.0), max(bits, default=0.0)

    def cell(group: _Group | None, is_small: bool = False) -> _HeatCell | None:
        if group is None or not group.numel:
            return None
        depth = min(1.0, max(0.0, (group.bits_per_weight - low) / (high - low))) if high > low else 0.0
        return _HeatCell(group, cell_colours(depth), _faces(group, anatomy), is_small)

    inside = [(layer, [cell(cells.get(part), part == SMALL) for part in columns]) for layer, cells in named.items()]
    tables = [
        _HeatTable(("layer", *columns), inside),
        _HeatTable(("tensor", "outside of layers"), [(name, [cell(group)]) for name, group in outside]),
    ]
    return [table for table in tables if table.rows]


def _by_column(tensors: Sequence[TensorAnatomy], columns: Sequence[str]) -> dict[str, _Group]:
    cells: dict[str, list[TensorAnatomy]] = {}
    for tensor in tensors:
        known = tensor.part in columns and len(tensor.shape) >= 2
        cells.setdefault(tensor.part if known else SMALL, []).append(tensor)
    return {column: _Group(tuple(found)) for column, found in cells.items()}


def _faces(group: _Group, anatomy: Anatomy) -> dict[str, float]:
    faces = {"bits": group.bits_per_weight, "share": 100 * group.n_bytes / max(1, anatomy.n_bytes)}
    if group.loss is not None and group.slope is not None:
        faces |= {"loss": group.loss, "slope": group.slope}
    return faces


def cell_colours(depth: float) -> tuple[str, str]:
    """(background, text) of a heat map cell; `depth` from 0 to 1. The page's script does the same."""
    shade = [round(pale + (deep - pale) * depth) for pale, deep in zip(PALE, DEEP, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in shade), "#ffffff" if depth > DARK else "#000000"


# --- layers --------------------------------------------------------------------------------------------


def _layer_columns(anatomy: Anatomy, rows: Sequence[_Group]) -> dict[str, Callable[[_Group], Cell]]:
    """The columns by their headings; a bar is full in the row that has most."""
    most_bytes = max((group.n_bytes for group in rows), default=0) or 1
    columns: dict[str, Callable[[_Group], Cell]] = {
        "weights": lambda group: number_cell(group.numel, ","),
        "bytes": lambda group: number_cell(group.n_bytes, ",", group.n_bytes / most_bytes),
        "bits/weight": lambda group: number_cell(group.bits_per_weight, ".3f"),
    }
    if anatomy.loss_unit == RELATIVE:
        columns["relative error"] = _relative_error
    elif anatomy.loss_unit:
        most_loss = max((group.loss or 0.0 for group in rows), default=0.0) or 1.0
        whole = _Group(anatomy.tensors).loss or 1.0
        columns |= {
            "loss": lambda group: number_cell(group.loss, ".3g"),
            "% of loss": lambda group: _loss_share(group.loss, whole, most_loss),
            "saved by 1 kB": lambda group: number_cell(group.slope, ".2g"),
        }
    return columns


def _loss_share(loss: float | None, whole: float, most: float) -> Cell:
    return Cell("", "0", 0.0) if loss is None else number_cell(100 * loss / whole, ".1f", loss / most)


def _relative_error(group: _Group) -> Cell:
    """The mean over the group's weights; rows without one come last."""
    known = [(tensor.loss, tensor.numel) for tensor in group.tensors if tensor.loss is not None]
    if not known:
        return Cell("", "inf")
    mean = sum(loss * numel for loss, numel in known) / max(1, sum(numel for _, numel in known))
    return number_cell(mean, ".3g")
