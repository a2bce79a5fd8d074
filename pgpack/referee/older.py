"""Newer Python for a parser that is older: 3.12's f-strings, whose braces may hold the string's own quotes, and
type parameters; 3.14's `except` without parentheses, and t-strings.

    f"{h["lr"]}"   ->   f\"\"\"{h["lr"]}\"\"\"        type Pair[T] = tuple[T, T]   ->   Pair = tuple[T, T]

Lines stay where they are. What no quotes can save (a backslash in braces) is put aside, so that the text can be read,
not run.
"""

from __future__ import annotations

import io
import re
import tokenize

_STRING = re.compile(r"(?P<prefix>(?<![A-Za-z0-9_])[A-Za-z]{0,2})(?P<quote>\"\"\"|'''|\"|')|#[^\n]*")
_NEWER = tuple(
    (re.compile(pattern, re.M), older)
    for pattern, older in (
        (r"^([ \t]*)type[ \t]+(\w+)[ \t]*(?:\[[^\n]{0,400}?\])?[ \t]*=(?!=)", r"\1\2 ="),
        (r"^([ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+\w+)[ \t]*\[[^\n]{0,400}?\](?=[ \t]*[(:])", r"\1"),
        (r"^([ \t]*except\*?)[ \t]+([\w.]+(?:[ \t]*,[ \t]*[\w.]+)+)[ \t]*:", r"\1 (\2):"),
    )
)
DEPTH = 6  # of f-strings in each other
OTHER = {'"""': "'''", "'''": '"""'}


def as_older(text: bytes) -> str:
    """A source without what is newer, f-strings in three quotes. Raises ValueError where a string does not end."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(text).readline)
    source = text.decode(encoding, "replace")
    for pattern, older in _NEWER:
        source = pattern.sub(older, source)
    return _rewritten(source, "", 0)[0]


def _rewritten(text: str, outer: str, depth: int) -> tuple[str, int]:
    """(code up to its end or to the brace that closes it, where that is)."""
    if depth > DEPTH:
        raise ValueError(f"f-strings stand more than {DEPTH} deep in each other")
    out: list[str] = []
    at = level = 0
    while at < len(text):
        found = _STRING.match(text, at)
        if found is not None and found["quote"]:
            string, at = _string(text, found, outer, depth)
            out.append(string)
        elif found is not None and not outer:
            out.append(found[0])
            at = found.end()
        else:
            character = text[at]
            level += (character in "([{") - (character in ")]}")
            if outer and level < 0:
                return "".join(out), at
            if outer and level == 0 and character == ":":
                break  # a format follows
            out.append(" " if outer and character == "\\" else character)
            at += 1
    return "".join(out), at


def _string(text: str, found: re.Match[str], outer: str, depth: int) -> tuple[str, int]:
    """(a string as it is read here, where it ends); `outer`: the three quotes around it."""
    given, quote = found["prefix"], found["quote"]
    given = given if given.lower() not in ("t", "rt", "tr") else re.sub("[tT]", "f", given)
    prefix = given.lower()
    wide = quote if len(quote) == 3 else quote * 3
    if wide == outer:
        wide = OTHER[wide]
    out, at = list[str](), found.end()
    while not text.startswith(quote, at):
        if at >= len(text) or (text[at] == "\n" and len(quote) == 1):
            raise ValueError("a string does not end")
        if text[at] == "\\":
            out.append("  " if outer else text[at : at + 2])
            at += 2
        elif "f" in prefix and text.startswith(("{{", "}}"), at):
            out.append(text[at : at + 2])
            at += 2
        elif "f" in prefix and text[at] == "{":
            inner, end = _rewritten(text[at + 1 :], wide, depth + 1)
            out.append("{" + inner)
            at += 1 + end
            if text.startswith(":", at):
                stop = text.find("}", at)
                while (format_ := text[at:stop]).count("{") > format_.count("}") and stop >= 0:
                    stop = text.find("}", stop + 1)
                out.append(format_)
                at = stop if stop >= 0 else len(text)
        else:
            out.append(text[at])
            at += 1
    body = "".join(out)
    if "f" not in prefix:
        return f"{given}{quote}{body}{quote}", at + len(quote)
    return f"{given}{wide}{body}{wide}", at + len(quote)
