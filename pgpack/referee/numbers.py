"""One number, written with more or fewer digits; and many, of which some differ.

Two written numbers are the same when they agree, rounded or cut, to the digits of the shorter one, of which there
must be `FEWEST`. Units: none; digits are those behind the point.
"""

from __future__ import annotations

from collections.abc import Mapping

FEWEST = 3  # digits behind the point that can support a loss
EDGE = 1 + 1e-7  # of a float that was written as a decimal
JSON_DIGITS = 4  # 1.08 in JSON may be 1.0800: a float drops its zeros


def digits_of(value: float) -> int:
    """The digits behind the point that a float is written with."""
    text = f"{value:.10f}".rstrip("0")
    return len(text.partition(".")[2])


def same(one: float, its_digits: int, other: float, other_digits: int) -> bool:
    """Whether two written numbers may be one. Cutting and rounding differ by one unit of the last digit."""
    digits = min(its_digits, other_digits)
    return digits >= FEWEST and abs(one - other) < 10.0**-digits * EDGE


def claimed_same(measured: float, its_digits: int, claimed: float) -> bool:
    """As `same`, of a number from JSON, whose trailing zeros are lost."""
    return same(measured, its_digits, claimed, max(JSON_DIGITS, digits_of(claimed)))


def tolerance(*digits: int) -> float:
    """What a mean of numbers with these digits may be off by."""
    return 10.0 ** -max(FEWEST, min(digits)) * EDGE


def apart(*values: float) -> list[str]:
    """Numbers with enough digits to tell those that differ from each other."""
    for digits in range(5, 13):
        texts = [f"{value:.{digits}f}".rstrip("0").rstrip(".") for value in values]
        if len({*texts}) == len({*values}):
            break
    return texts if values else []


def grouped(named: Mapping[str, float], close: float) -> str:
    """`value who, who` of each distinct value, the rarest first, so that who differs is seen. `close`: relative."""
    groups: list[list[str]] = []
    values: list[float] = []
    for name, value in sorted(named.items(), key=lambda item: item[1]):
        if values and abs(value / values[-1] - 1) <= close:
            groups[-1].append(name)
        else:
            groups.append([name])
            values.append(value)
    told = zip(apart(*values), groups, strict=True)
    return "; ".join(
        f"{value} {', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"
        for value, names in sorted(told, key=lambda pair: len(pair[1]))
    )
