"""The single-file decoder of some artifacts: readable, minified, and how it is proven.

    artifacts --header--> stages and grids in use --assemble, specialise--> readable source --minify--> decode.py

The source is this package's own (`program` and what it reads an artifact with), so that it cannot drift from
`pgpack.unpack`; only tables of names are replaced, by the ones in use.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pgpack.codecs import BYTE_CODECS, CODERS, SYMBOL_TRANSFORMS
from pgpack.errors import RoundTripError, SubmissionError
from pgpack.files import workplace
from pgpack.formats.own.header import Header
from pgpack.formats.own.layout import MAGIC, unframe
from pgpack.formats.own.needs import UNLIMITED
from pgpack.referee.source import libraries
from pgpack.tensors.trellis import POLYNOMIALS
from pgpack.unpack import unpack
from pgpack.version import __version__

from .assemble import Key, Override, assemble, defined_names
from .minify import minified
from .specialise import namespace_of, specialise, without_annotations

PACKAGE = __package__.rpartition(".")[0]
PROGRAM, STREAMS = f"{PACKAGE}.submission.program", f"{PACKAGE}.submission.byte_streams"
RANS = ("rans", "rans_scaled", "rans_wide")  # in a module of their own
UNDO = {  # byte codec -> what decodes it
    **{name: f"un{name}" for name in ("zlib", "bz2", "lzma", "zstd", "brotli")},
    "shuffle": "shuffle",
    **{"lrzip": "Lrzip", "zpaq": "Zpaq"},
}
PROGRAMS = ("Lrzip", "Zpaq")  # external programs, run by the package's own classes
GRIDS = {"raw": "raw_values"}
ROOTS = ("state_dict", "main")
WORKPLACE = """
def workplace(kind):
    import tempfile
    return tempfile.TemporaryDirectory(prefix=f"pgpack-{kind}-")
"""
FUTURE = "from __future__ import annotations\n"
START = 'if __name__ == "__main__":\n    main()\n'
INTRO = '''"""Decoder of {n} (pgpack {version}): python decode.py ARTIFACT OUT.npz

Joined from the modules of pgpack that these artifacts need, without what they do not use; decode.py is this file,
minified. The weights' SHA-256 is checked at the end.
"""
'''


@dataclass(frozen=True)
class Decoder:
    """`readable`: the source for people; `code`: the same minified; `modules`: libraries that it imports beyond the
    standard library and numpy."""

    readable: str
    code: str
    modules: tuple[str, ...]


def make_decoder(artifacts: Sequence[bytes]) -> Decoder:
    """The decoder of these artifacts, proven on each of them.

    Raises SubmissionError for an artifact in another format than ours, RoundTripError when a decoded tensor differs
    from that of `pgpack.unpack`, ToolMissing without the minifier.
    """
    overrides = _tables([_header(data) for data in artifacts])
    tree, origin = assemble([(PROGRAM, name) for name in ROOTS], overrides)
    with workplace("decoder") as folder:
        paths = [Path(folder, f"{i}") for i in range(len(artifacts))]
        for path, data in zip(paths, artifacts, strict=True):
            path.write_bytes(data)

        def run(namespace: dict[str, Any]) -> None:
            for path in paths:
                namespace["state_dict"](str(path))

        tree = specialise(tree, ROOTS, run)
        readable = _readable(tree, origin, len(artifacts))
        plain = ast.unparse(without_annotations(ast.parse(readable.replace(FUTURE, "", 1))))
        code = minified(plain, keep=("state_dict",), shared_names=True)
        programs = [namespace_of(ast.parse(source))["state_dict"] for source in (readable, code)]
        for path, data in zip(paths, artifacts, strict=True):
            expected = unpack(data, UNLIMITED).tensors()
            for program in programs:
                _compare(program(str(path)), expected)
    return Decoder(readable, code, tuple(sorted(libraries(readable) - {"numpy"})))


def _header(data: bytes) -> Header:
    if data[:4] != MAGIC:
        raise SubmissionError(
            "a decoder is made for artifacts in pgpack's own format; a field container is decoded by the field's "
            "script: choose a recipe without @container"
        )
    header = Header.from_json(unframe(data)[0])
    coders, codecs, transforms = _stage_texts([header])
    for texts, table in ((coders, CODERS), (codecs, BYTE_CODECS), (transforms, SYMBOL_TRANSFORMS)):
        for name in (text.partition("(")[0] for text in texts):
            if name not in table.built_in:
                raise SubmissionError(
                    f"the single-file decoder is made of pgpack's own code, and {name} is of another package; "
                    "choose a recipe without it"
                )
    return header


def _stage_texts(headers: Sequence[Header]) -> tuple[list[str], list[str], list[str]]:
    """Coders, byte codecs and symbol transforms as they stand in the headers."""
    return (
        [stream.coder for header in headers for stream in header.streams],
        [text for header in headers for stream in (*header.streams, header.side) for text in stream.codecs],
        [text for header in headers for _, part in header.parts for text in part.transforms],
    )


def _tables(headers: Sequence[Header]) -> dict[Key, Override]:
    """The tables of `program` with what the artifacts use, keyed by the texts that stand in their headers."""
    parts = [part for header in headers for _, part in header.parts]
    coders, codecs, transforms = _stage_texts(headers)
    tables = {
        "CODERS": _table(coders, {}),
        "BYTE_CODECS": _table(codecs, UNDO),
        "TRANSFORMS": _table(transforms, {}),
        "GRIDS": _table([part.grid for part in parts], GRIDS),
    }
    coded = {int(n) for coder in coders for n in re.findall(r"states=(\d+)", coder)}
    used = sorted(coded | {part.params["states"] for part in parts if "states" in part.params})
    polynomials = {states: POLYNOMIALS[states] for states in used}
    made = {(PROGRAM, name): Override(f"{name} = {table}", uses) for name, (table, uses) in tables.items()}
    others = {
        (f"{PACKAGE}.tensors.trellis", "POLYNOMIALS"): f"POLYNOMIALS = {polynomials}",
        (f"{PACKAGE}.files", "workplace"): WORKPLACE,
    }
    return made | {key: Override(source) for key, source in others.items()}


def _table(texts: Sequence[str], functions: Mapping[str, str]) -> tuple[str, dict[str, Key]]:
    """({text: function} as source, what its names mean). A text is a stage: `name(key=value,...)`."""
    uses: dict[str, Key] = {}
    entries = []
    for text in sorted(set(texts)):
        name, _, settings = text.rstrip(")").partition("(")
        function = functions.get(name, name)
        if function in PROGRAMS:
            uses[function] = (f"{PACKAGE}.codecs.external", function)
            entries.append(f"{text!r}: {function}().decode")
            continue
        home = f"{PROGRAM}_rans" if function in RANS else PROGRAM
        uses[function] = (STREAMS if function in UNDO.values() else home, function)
        if settings:
            function = f"lambda *given: {function}(*given, {settings})"
        entries.append(f"{text!r}: {function}")
    return f"{{{', '.join(entries)}}}", uses


def _readable(tree: ast.Module, origin: dict[str, str], n: int) -> str:
    """The source with a heading for every module that it came from."""
    title = "one artifact" if n == 1 else f"{n} artifacts"
    parts = [INTRO.format(n=title, version=__version__), FUTURE]
    module = ""
    for node in tree.body:
        home = origin.get(min(defined_names(node), default=""), module)
        if home != module:
            module = home
            parts.append(f"\n# {home.replace('.', '/')}.py\n")
        gap = "\n" if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ""
        parts.append(f"{gap}{ast.unparse(node)}\n")
    return "".join([*parts, "\n\n", START])


def _compare(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises RoundTripError unless `found` is what `unpack` gives, bit for bit."""
    if list(found) != list(expected):
        raise RoundTripError("the single-file decoder gives other tensor names than pgpack.unpack")
    for name, values in expected.items():
        same = found[name].dtype == values.dtype and found[name].shape == values.shape
        if not same or found[name].tobytes() != np.ascontiguousarray(values).tobytes():
            raise RoundTripError(f"the single-file decoder gives another {name} than pgpack.unpack")
