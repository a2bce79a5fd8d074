"""Scripts with Python 3.12's f-strings are read by an older parser, and others stay as they are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pgpack.referee.older import as_older
from pgpack.referee.script import Script
from pgpack.referee.source import imports

NEW_AND_OLD = {
    'f"{h["lr"]}"': "f\"{h['lr']}\"",
    'f"{h["lr"]:.3f} {x!r} {{a}} {y:{w}.2f}"': "f\"{h['lr']:.3f} {x!r} {{a}} {y:{w}.2f}\"",
    'f"{f"{a["b"]}"}"': "f\"{f'''{a['b']}'''}\"",
    "print(f'{d['a']['b']}')  # it's": "print(f\"{d['a']['b']}\")",
    'f"{d["a:b"]:>{n["w"]}}"': "f\"{d['a:b']:>{n['w']}}\"",
    't"{a}"': 'f"{a}"',
    "type Pair[T] = tuple[T, T]\ntype = 1": "Pair = tuple[T, T]\ntype = 1",
    "def f[T: list[int], *Ts](x: T) -> T: ...": "def f(x: T) -> T: ...",
    "class A[T](B[T]): ...": "class A(B[T]): ...",
    "try: ...\nexcept E, F: ...": "try: ...\nexcept (E, F): ...",
    'x = rf"\\"{a["b"]}"\ny = r"\\""': "x = rf'''\\\"{a['b']}'''\ny = r'\\\"'",
}


@pytest.mark.parametrize("new", NEW_AND_OLD)
def test_a_newer_f_string_is_read_as_an_older_one(new: str) -> None:
    assert ast.dump(ast.parse(as_older(new.encode()))) == ast.dump(ast.parse(NEW_AND_OLD[new]))


def test_a_backslash_in_braces_does_not_hide_a_script() -> None:
    script = Script("train_gpt.py", b"import brotli\nprint(f\"{'\\n'.join(x)}\")\n")
    assert [module for module, _, _ in imports([script])] == ["brotli"]


@pytest.mark.parametrize("name", ["test_referee_older.py", "corpus_seventh.py", "referee_faults.py"])
def test_other_sources_stay_as_they_are(name: str) -> None:
    text = Path(__file__).with_name(name).read_bytes()
    assert ast.dump(ast.parse(as_older(text))) == ast.dump(ast.parse(text))


@pytest.mark.parametrize("text", [b'f"{a', b"x = 'a\n", b'"""a', b"f'{a:{b}'"])
def test_what_does_not_end_is_no_source(text: bytes) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        ast.parse(as_older(text))
