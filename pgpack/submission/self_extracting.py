"""A Python file that carries its own source packed: LZMA in base 85, behind two lines that execute it.

    import lzma,base64
    exec(lzma.decompress(base64.b85decode("...")))

The source runs in the file's own globals, so that `__name__` and `__file__` are what they would be without packing.
What reads its own source through `inspect` finds none there; `reads_itself` says where a script does.
Source: the form is openai/parameter-golf's; we use LZMA's "alone" header, which needs no filter list to decode.
"""

from __future__ import annotations

import ast
import base64
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from pgpack.errors import RoundTripError, SubmissionError
from pgpack.referee.source import wrapped_size

from .minify import minified

HEAD, TAIL = b'import lzma,base64\nexec(lzma.decompress(base64.b85decode("', b'")))\n'
PACKED, MINIFIED, RAW = "packed", "minified", "raw"
_SOURCE_READERS = ("inspect.getsource", "inspect.getsourcelines", "triton.jit", "triton.autotune", "torch.jit.script")


@dataclass(frozen=True)
class CodeFile:
    """A counted Python file. `given`: what its author wrote; `running`: the code that runs; `shipped`: the file as it
    lies in the folder; `form`: packed, minified or raw."""

    name: str
    given: bytes
    running: bytes
    shipped: bytes
    form: str

    @property
    def conventions(self) -> dict[str, int]:
        """Bytes under each of FOLDER.md's three conventions."""
        wrapped = min(len(self.running), wrapped_size([self.running]))
        return {"raw": len(self.running), "as shipped": len(self.shipped), "wrapped": wrapped}


def code_file(name: str, source: str, *, raw: bool = False) -> CodeFile:
    """A script in the smallest form that works: packed, minified when it reads its own source, as it is if `raw`.

    Raises SubmissionError when it is not Python, RoundTripError when packing does not give back what went in.
    """
    given = source.encode()
    try:
        ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise SubmissionError(f"{name} does not parse as Python: {error}") from None
    if raw:
        return CodeFile(name, given, given, given, RAW)
    return smallest(name, given, minified(source).encode(), packable=not list(reads_itself(source)))


def smallest(name: str, given: bytes, running: bytes, *, packable: bool = True) -> CodeFile:
    """`running` as a self-extracting file where that is allowed and smaller; the round trip is executed."""
    packed = self_extracting(running)
    if not packable or len(packed) >= len(running):
        return CodeFile(name, given, running, running, MINIFIED)
    back = extracted(packed)
    if back != running or ast.dump(ast.parse(back)) != ast.dump(ast.parse(running)):
        raise RoundTripError(f"{name} does not extract to the code that was packed")
    compile(back, name, "exec", dont_inherit=True)
    return CodeFile(name, given, running, packed, PACKED)


def self_extracting(source: bytes) -> bytes:
    """The smallest self-extracting file of `source` over the settings of LZMA."""
    return min((HEAD + base64.b85encode(body) + TAIL for body in _bodies(source)), key=len)


def _bodies(source: bytes) -> Iterator[bytes]:
    size = max(4096, 1 << max(0, len(source) - 1).bit_length())
    search = {"mode": lzma.MODE_NORMAL, "nice_len": 273, "mf": lzma.MF_BT4, "depth": 1000}
    for literal_context, position in product(range(5), range(3)):
        settings = {"dict_size": size, "lc": literal_context, "lp": 0, "pb": position}
        filters = [{"id": lzma.FILTER_LZMA1, **settings, **search}]
        yield lzma.compress(source, format=lzma.FORMAT_ALONE, filters=filters)


def extracted(packed: bytes) -> bytes:
    """What a self-extracting file of ours would execute: the file is run, with `exec` handing the code over."""
    found: list[bytes] = []
    exec(compile(packed, "<packed>", "exec", dont_inherit=True), {"exec": found.append})
    return found[0]


def reads_itself(source: str) -> Iterator[str]:
    """`line N: name` for everything that needs its source in a file, which packed code has not.

    Names are followed through imports: `from triton import jit` and `import triton as t` are `triton.jit`.
    """
    tree = ast.parse(source)
    origins = _origins(tree)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Attribute, ast.Name)) or isinstance(node.ctx, ast.Store):
            continue
        root, dot, rest = ast.unparse(node).partition(".")
        name = origins.get(root, root) + dot + rest
        if name in _SOURCE_READERS:
            yield f"line {node.lineno}: {name}"


def _origins(tree: ast.AST) -> dict[str, str]:
    """Local name -> what was imported under it, dotted."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found
