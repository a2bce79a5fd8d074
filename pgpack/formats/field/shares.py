"""Who pays for the bytes of a field artifact: tensors by their order-0 entropy, serialization by measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pgpack.formats.own.size_report import SizeReport, apportion


def measured_report(n_bytes: int, n_serialization: int, costs: Mapping[str, float]) -> SizeReport:
    """A report that sums to `n_bytes`.

    `n_serialization` is what the same stream compresses to with every tensor's contents cut out; the rest is
    divided among the tensors in proportion to `costs`.
    """
    serialization = min(n_serialization, n_bytes) if costs else n_bytes
    shares = apportion(n_bytes - serialization, list(costs.values()))
    return SizeReport(dict(zip(costs, shares, strict=True)), {"serialization": serialization})


def merged(reports: list[SizeReport]) -> SizeReport:
    """The sum of several reports, entry by entry."""
    tensors, overhead = Counter[str](), Counter[str]()
    for report in reports:
        tensors.update(report.tensors)
        overhead.update(report.overhead)
    return SizeReport(dict(tensors), dict(overhead))
