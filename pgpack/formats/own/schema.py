"""The values of a header: types and ranges, each as FORMAT.md states it.

A JSON value -> the value it stands for, or a ValueError of one sentence. Every list has a most; nothing is converted
in silence: a number is no text, true is no number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from pgpack.tensors.layout import SymbolLayout

SYMBOL_DTYPES = ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8")
ARRAY_DTYPES = (*SYMBOL_DTYPES, "<f2", "<f4")
MAX_DIMENSIONS = 32
MAX_SIZE = 1 << 40  # of a dimension, of a shape whose zeros count as one, of a stream's bytes
MAX_TENSORS = 1 << 15  # as many aliases
MAX_STREAMS = 1 << 8
MAX_STAGES = 16  # codecs of a stream, transforms of a part
MAX_ARRAYS = 32  # of a part
MAX_STAGE_TEXT = 200  # characters
MAX_NAME = 1024  # bytes of UTF-8
RESERVED = "__metadata__"  # what safetensors calls no tensor

_DIGEST = re.compile(r"[0-9a-f]{16}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_STAGE = re.compile(r"[ -~]*")


def clipped(value: Any) -> str:
    """A value as a message shows it: escaped, at most 80 characters."""
    text = ascii(value[:120] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:78] + ".."


def as_list(value: Any, least: int = 0, most: int | None = None) -> list[Any]:
    """A list of `least` to `most` items; of exactly `least` where that is given alone."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {type(value).__name__}")
    most = most if most is not None else least or len(value)
    if not least <= len(value) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"a list of {len(value)} items, expected {wanted}")
    return value


def as_name(value: Any) -> str:
    """The name of a tensor, an alias or an array."""
    if not isinstance(value, str):
        raise ValueError(f"a name is {type(value).__name__}, expected text")
    try:
        n_bytes = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"the name {clipped(value)} is not UTF-8 text") from None
    if n_bytes > MAX_NAME:
        raise ValueError(f"the name {clipped(value)} takes {n_bytes} bytes, at most {MAX_NAME} are allowed")
    if _CONTROL.search(value) or value == RESERVED:
        raise ValueError(f"the name {clipped(value)} is reserved, or holds control characters")
    return value


def as_aliases(value: Any) -> dict[str, str]:
    """Tied name -> stored name."""
    if not isinstance(value, dict) or len(value) > MAX_TENSORS:
        raise ValueError(f"aliases are an object of at most {MAX_TENSORS} names")
    return {as_name(name): as_name(stored) for name, stored in value.items()}


def as_digest(value: Any) -> str:
    """16 hex digits."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError(f"the digest is {clipped(value)}, expected 16 hex digits in lower case")
    return value


def as_lengths(value: Any) -> tuple[int, ...]:
    """Whole numbers of bytes before, between and after the codecs of a stream."""
    lengths = tuple(as_list(value, 1, MAX_STAGES + 1))
    if any(type(length) is not int or not 0 <= length <= MAX_SIZE for length in lengths):
        raise ValueError(f"{clipped(value)} are not numbers of bytes")
    return lengths


def as_shape(value: Any) -> tuple[int, ...]:
    """The shape of an array, whose size no machine word overflows."""
    shape = tuple(as_list(value, 0, MAX_DIMENSIONS))
    if any(type(length) is not int or not 0 <= length <= MAX_SIZE for length in shape):
        raise ValueError(f"{clipped(value)} is not a shape")
    if math.prod(max(1, length) for length in shape) > MAX_SIZE:
        raise ValueError(f"a shape of {clipped(value)} is larger than {MAX_SIZE:,} values")
    return shape


def as_layout(shape: Any, dtype: Any, allowed: Sequence[str]) -> SymbolLayout:
    """Shape and dtype of an array."""
    if not isinstance(dtype, str) or dtype not in allowed:
        raise ValueError(f"dtype {clipped(dtype)} is not allowed here")
    return SymbolLayout(as_shape(shape), dtype)


def stage_texts(value: Any) -> tuple[str, ...]:
    """Stages as a recipe writes them; whether there are such stages is not asked here."""
    texts = tuple(as_list(value, 0, MAX_STAGES))
    for text in texts:
        if not isinstance(text, str) or len(text) > MAX_STAGE_TEXT or not _STAGE.fullmatch(text):
            raise ValueError(f"{clipped(text)} is no stage: at most {MAX_STAGE_TEXT} printable characters of ASCII")
    return texts
