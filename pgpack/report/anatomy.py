"""The best artifact taken apart, as HTML: size waterfall, bits-per-weight heat map, bytes and loss per layer.

Owns these sections of the report; `anatomy` owns the numbers. All names are escaped; without scripts the heat map
shows bits per weight and the table keeps its order.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pgpack.inspect import SLOPE_BYTES, Anatomy, TensorAnatomy, slope_of

from .tables import heading

PALE, DEEP = (0xF1, 0xF6, 0xFB), (0x0B, 0x3D, 0x75)  # of the heat map
DARK = 0.68  # deeper cells carry white text, the others black: a contrast of 4.5 everywhere
MAX_PARTS = 12  # columns of the heat map; the rest of a layer is one column
SMALL = "small"
RELATIVE = "relative squared error"


def anatomy_sections(anatomy: Anatomy | None) -> str:
    """The sections of `anatomy`, '' without one."""
    if anatomy is None or not anatomy.tensors:
        return ""
    return "\n".join([_waterfall(anatomy), _heat_section(anatomy), _layer_section(anatomy)])


# --- stages --------------------------------------------------------------------------------------------


def _waterfall(anatomy: Anatomy) -> str:
    if not anatomy.stages:
        return ""
    first = max(stage.n_bytes for stage in anatomy.stages) or 1
    bars, before = [], anatomy.stages[0].n_bytes
    for stage in anatomy.stages:
        lost = max(0, before - stage.n_bytes)
        ratio = f" &middot; {anatomy.stages[0].n_bytes / stage.n_bytes:.1f}x smaller" if stage.n_bytes else ""
        bars.append(
            f'<span class="name">{html.escape(stage.name)}</span>'
            f'<span class="size">{stage.n_bytes:,} B{ratio if stage is not anatomy.stages[0] else ""}</span>'
            f'<span class="bar"><i style="width:{100 * stage.n_bytes / first:.2f}%"></i>'
            f'<i class="lost" style="width:{100 * lost / first:.2f}%"></i></span>'
        )
        before = stage.n_bytes
    return (
        '<section aria-labelledby="h-stages"><h2 id="h-stages">Size of the best artifact, stage by stage</h2>'
        '<p class="note">What is left after each stage; the pale part is what the stage took away.</p>'
        f'<div class="bars waterfall">\n{chr(10).join(bars)}\n</div></section>'
    )


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
        return (prefix, int(number)) if number.isdigit() else (layer, 0)

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


def _heat_section(anatomy: Anatomy) -> str:
    layers = _layers(anatomy)
    columns = _columns(layers)
    alone = [tensor for tensor in layers.get("", []) if tensor.numel]
    rows = [(tensor.part, {"": _Group((tensor,))}) for tensor in sorted(alone, key=lambda t: -t.numel)[:MAX_PARTS]]
    named = {layer: _by_column(tensors, columns) for layer, tensors in layers.items() if layer}
    groups = [group for _, cells in (*rows, *named.items()) for part, group in cells.items() if part != SMALL]
    span = _extent([group.bits_per_weight for group in groups if group.numel])
    body = [_heat_row(layer, cells, columns, anatomy, span) for layer, cells in named.items()]
    outside = [_heat_row(name, cells, [""], anatomy, span) for name, cells in rows]
    tables = [_heat_table(["layer", *columns], body)] if body else []
    tables += [_heat_table(["tensor", "outside of layers"], outside)] if outside else []
    return (
        '<section aria-labelledby="h-heat"><h2 id="h-heat">Bits per weight, tensor by tensor</h2>'
        f'<p class="note" id="heat-note">{_bits_note(anatomy)}</p>'
        '<div id="heat-controls" class="controls" role="group" aria-label="What the heat map shows" hidden></div>'
        f'<div class="heat-box">{"".join(tables)}</div></section>'
    )


def _bits_note(anatomy: Anatomy) -> str:
    numel = sum(tensor.numel for tensor in anatomy.tensors)
    return f"Of the best artifact; {8 * anatomy.n_bytes / max(1, numel):.3f} bits per weight for the whole file."


def _by_column(tensors: Sequence[TensorAnatomy], columns: Sequence[str]) -> dict[str, _Group]:
    cells: dict[str, list[TensorAnatomy]] = {}
    for tensor in tensors:
        known = tensor.part in columns and len(tensor.shape) >= 2
        cells.setdefault(tensor.part if known else SMALL, []).append(tensor)
    return {column: _Group(tuple(found)) for column, found in cells.items()}


def _extent(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 0.0)


def _heat_row(
    name: str, cells: dict[str, _Group], columns: Sequence[str], anatomy: Anatomy, span: tuple[float, float]
) -> str:
    head = f'<th scope="row">{html.escape(name)}</th>'
    return f"<tr>{head}{''.join(_heat_cell(column, cells.get(column), anatomy, span) for column in columns)}</tr>"


def _heat_cell(column: str, group: _Group | None, anatomy: Anatomy, span: tuple[float, float]) -> str:
    """A cell; the column of small tensors, stored whole, takes no part in the scale of colours."""
    if group is None or not group.numel:
        return "<td></td>"
    back, ink = cell_colours(_depth(group.bits_per_weight, span))
    values = {"bits": group.bits_per_weight, "share": 100 * group.n_bytes / max(1, anatomy.n_bytes)}
    if group.loss is not None and group.slope is not None:
        values |= {"loss": group.loss, "slope": group.slope}
    data = "".join(f' data-{name}="{value:.6g}"' for name, value in values.items())
    data += " data-small" if column == SMALL else ""
    title = html.escape("; ".join(tensor.name for tensor in group.tensors[:4]), quote=True)
    more = f" and {len(group.tensors) - 4} more" if len(group.tensors) > 4 else ""
    hint = f"{title}{more}: {group.numel:,} weights, {group.n_bytes:,} B"
    return f'<td style="background:{back};color:{ink}" title="{hint}"{data}>{group.bits_per_weight:.2f}</td>'


def _depth(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


def cell_colours(depth: float) -> tuple[str, str]:
    """(background, text) of a heat map cell; `depth` from 0 to 1. The page's script does the same."""
    shade = [round(pale + (deep - pale) * depth) for pale, deep in zip(PALE, DEEP, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in shade), "#ffffff" if depth > DARK else "#000000"


def _heat_table(names: Sequence[str], rows: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    return f'<table class="heat"><thead><tr>{heads}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table>'


# --- layers --------------------------------------------------------------------------------------------


def _layer_section(anatomy: Anatomy) -> str:
    rows = []
    for layer, tensors in _layers(anatomy).items():
        if layer:
            rows.append((layer, _Group(tuple(tensors))))
        else:
            rows += [(tensor.part, _Group((tensor,))) for tensor in tensors if tensor.numel]
    total = _Group(anatomy.tensors)
    most = _Most(
        max((group.n_bytes for _, group in rows), default=0) or 1,
        max((group.loss or 0.0 for _, group in rows), default=0.0) or 1.0,
    )
    names = ["name", "weights", "bytes", "bits/weight", *_loss_names(anatomy)]
    heads = "".join(heading(name, "name" if name == "name" else "n") for name in names)
    body = "\n".join(_layer_row(name, group, total, most, anatomy) for name, group in rows)
    return (
        '<section aria-labelledby="h-layers"><h2 id="h-layers">Bytes and loss, layer by layer</h2>'
        f'<p class="note">{_loss_note(anatomy)}</p>'
        f'<div class="table-box"><table class="sortable layers"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div></section>"
    )


def _loss_names(anatomy: Anatomy) -> list[str]:
    if not anatomy.loss_unit:
        return []
    return ["relative error"] if anatomy.loss_unit == RELATIVE else ["loss", "% of loss", "saved by 1 kB"]


def _loss_note(anatomy: Anatomy) -> str:
    if not anatomy.loss_unit:
        return "What quantizing each layer costs is known after a sweep that packs the best artifact itself."
    if anatomy.loss_unit == RELATIVE:
        return "Relative error: squared error of the decoded weights over their squared norm (no calibration)."
    return (
        "Loss: expected nats per token that quantizing the layer adds, from Hessians and Fisher weights. Saved by "
        f"1 kB: the loss that {SLOPE_BYTES:,} more bytes there would save; where it is equal, bytes are well spent."
    )


@dataclass(frozen=True)
class _Most:
    """The largest values of the table, whose bars are full."""

    n_bytes: int
    loss: float


def _layer_row(name: str, group: _Group, total: _Group, most: _Most, anatomy: Anatomy) -> str:
    cells: list[tuple[str, str, float | None, float | None]] = [
        ("weights", f"{group.numel:,}", group.numel, None),
        ("bytes", f"{group.n_bytes:,}", group.n_bytes, group.n_bytes / most.n_bytes),
        ("bits/weight", f"{group.bits_per_weight:.3f}", group.bits_per_weight, None),
    ]
    loss, whole = group.loss, total.loss or 0.0
    if anatomy.loss_unit == RELATIVE:
        known = [(t.loss, t.numel) for t in group.tensors if t.loss is not None]
        mean = sum(error * numel for error, numel in known) / max(1, sum(numel for _, numel in known))
        cells.append(("relative error", f"{mean:.3g}" if known else "", mean if known else math.inf, None))
    elif anatomy.loss_unit:
        share = loss / whole if loss is not None and whole else 0.0
        slope = group.slope
        cells += [
            ("loss", "" if loss is None else f"{loss:.3g}", loss, None),
            ("% of loss", "" if loss is None else f"{100 * share:.1f}", 100 * share, (loss or 0.0) / most.loss),
            ("saved by 1 kB", "" if slope is None else f"{slope:.2g}", slope, None),
        ]
    markup = "".join(
        f'<td class="n" data-l="{html.escape(label)}" data-v="{"" if value is None else f"{value:.9g}"}">{text}'
        + ("" if part is None else f'<i class="mini" style="width:{100 * part:.1f}%"></i>')
        + "</td>"
        for label, text, value, part in cells
    )
    return f'<tr><td class="name">{html.escape(name)}</td>{markup}</tr>'
