"""One number, written with more or fewer digits; and many, of which some differ.

Two written numbers are the same when the shorter one is the longer one, rounded or cut to its digits, of which there
must be `FEWEST`. 1.0812 is 1.08123, 1.08118 and 1.08128, but neither 1.08114 nor 1.0813. Units: none; digits are
those behind the point.
"""

from __future__ import annotations

from collections.abc import Mapping

FEWEST = 3  # digits behind the point that can support a loss
EDGE = 1e-7  # of a last digit: a float that was written as a decimal
JSON_DIGITS = 4  # 1.08 in JSON may be 1.0800: a float loses its zeros


def digits_of(value: float) -> int:
    """The digits behind the point that a float is written with."""
    text = f"{value:.10f}".rstrip("0")
    return len(text.partition(".")[2])


def same(one: float, its_digits: int, other: float, other_digits: int) -> bool:
    """Whether two written numbers are one: the shorter is the other, rounded (halves either way) or cut."""
    digits = min(its_digits, other_digits)
    short, long = (one, other) if its_digits <= other_digits else (other, one)
    units = (long - short) * 10.0**digits  # of the last digit of the shorter one; losses are positive
    return digits >= FEWEST and (abs(units) <= 0.5 + EDGE or 0 <= units < 1 - EDGE)


def claimed_same(measured: float, its_digits: int, claimed: float) -> bool:
    """As `same`, of a number from JSON: 1.081 has three digits, or four of which the last, a zero, is lost."""
    written = digits_of(claimed)
    return any(same(measured, its_digits, claimed, digits) for digits in {written, max(JSON_DIGITS, written)})


def mean_same(mean: float, its_digits: int, claimed: float) -> bool:
    """Whether a number from JSON is a mean of numbers with these digits, rounded or cut: they may be rounded too."""
    slack, written = 0.5 * 10.0**-its_digits, digits_of(claimed)
    units = [10.0**-digits for digits in {written, max(JSON_DIGITS, written)} if digits >= FEWEST]
    return any(-(unit / 2 + slack) - EDGE * unit <= mean - claimed <= unit + slack for unit in units)


def tolerance(*digits: int) -> float:
    """What a deviation of numbers with these digits may be off by."""
    return 10.0 ** -max(FEWEST, min(digits)) * (1 + EDGE)


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
