"""Where the bytes of an artifact went. A report always sums to the file size.

A stream that several tensors share through a byte codec or an entropy coder has one measured size; it is
divided among its tensors in proportion to their estimated cost, by largest remainder, so that whole bytes add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .layout import PREFIX_LEN


@dataclass(frozen=True)
class SizeReport:
    """Units: bytes. `tensors`: stored name -> its share of symbols and side information; `overhead`: everything
    else by name (header, integrity checks, companions, serialization)."""

    tensors: Mapping[str, int]
    overhead: Mapping[str, int]

    @property
    def n_bytes(self) -> int:
        return sum(self.tensors.values()) + sum(self.overhead.values())


def apportion(total: int, costs: Sequence[float]) -> list[int]:
    """Whole shares of `total` in proportion to `costs` that sum to `total` (largest remainder; ties to the first)."""
    if not costs:
        return []
    mass = sum(costs)
    ideal = [total * cost / mass if mass > 0 else total / len(costs) for cost in costs]
    shares = [int(share) for share in ideal]
    by_remainder = sorted(range(len(costs)), key=lambda i: (shares[i] - ideal[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


@dataclass(frozen=True)
class Charge:
    """One stream: its bytes, and whose they are in proportion to what."""

    n_bytes: int
    owners: Sequence[str]
    costs: Sequence[float]


def file_report(
    names: Iterable[str],
    charges: Iterable[Charge],
    n_bytes: int,
    n_header_bytes: int,
    n_companion_bytes: int = 0,
) -> SizeReport:
    """The report of a file of ours: `charges` shared out over its tensors, the rest is overhead."""
    shares = dict.fromkeys(names, 0)
    for charge in charges:
        for owner, share in zip(charge.owners, apportion(charge.n_bytes, charge.costs), strict=True):
            shares[owner] += share
    overhead = {"header": n_header_bytes, "integrity": PREFIX_LEN + 4}
    if n_companion_bytes:
        overhead["companions"] = n_companion_bytes
    if leftover := n_bytes - sum(shares.values()) - sum(overhead.values()):
        overhead["empty streams"] = leftover
    return SizeReport(shares, overhead)
