"""Whether bytes are a text, in which encoding, and whether a person reads it: no noise, nothing encoded."""

from __future__ import annotations

import codecs
import re

MOSTLY = 0.7  # of a text's bytes are printed in ASCII
_PRINTED = frozenset("\t\n\r\f\x1b\b") | frozenset(map(chr, range(32, 127)))
_ENCODED = re.compile(  # base64 or hex, in one or in lines
    rb"(?:[A-Za-z0-9][+/_-]{0,3}){750}|(?:(?:[A-Za-z0-9][+/_-]{0,3}){36,}={0,2}\r?\n){10}"
)


def is_plain_text(head: bytes) -> bool:
    """Whether the start of a file reads as text in any encoding: no noise, and nothing encoded."""
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    characters = head.decode("utf-8", "ignore")
    printed = sum(c in _PRINTED or (c > "\x7f" and not c.isalpha()) for c in characters)  # bars, arrows and signs
    skipped = len(head) - len(characters.encode())
    return not _ENCODED.search(head) and (wide or printed >= MOSTLY * (len(characters) + skipped))


def is_text(head: bytes) -> bool:
    """Whether the start of a file is text, in UTF-8 or, with a mark of order, UTF-16."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c in "\t\r\n\f\x1b\b\ufeff" for c in text[:1024])


def as_text(data: bytes) -> str:
    """Bytes as text: UTF-16 where a mark of order says so, else UTF-8 with or without one."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", "replace")
