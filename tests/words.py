"""Words that made-up documents of the tests are drawn from."""

from __future__ import annotations

WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "runs",
    "to",
    "an",
    "old",
    "river",
)
