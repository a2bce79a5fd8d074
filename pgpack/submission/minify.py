"""Python source -> less of it with the same meaning, by python-minifier; an optional package.

Scripts keep their global names, asserts and literals in place: some look themselves up by name.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence

from pgpack.errors import SubmissionError, ToolMissing


def minified(source: str, keep: Sequence[str] = (), *, shared_names: bool = False) -> str:
    """The minified source; it parses. `shared_names`: global names may be shortened too, except those in `keep`.

    Raises SubmissionError when `source` does not parse, ToolMissing without python-minifier.
    """
    try:
        import python_minifier
    except ImportError:
        raise ToolMissing(
            "python-minifier is not installed, so that the code cannot be made smaller: pip install "
            "'pgpack[submission]', or ship the code as it is with --code raw"
        ) from None
    try:
        ast.parse(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text: str = python_minifier.minify(
                source,
                remove_literal_statements=True,
                rename_globals=shared_names,
                hoist_literals=shared_names,
                preserve_globals=list(keep),
                remove_asserts=False,
                remove_debug=False,
                preserve_shebang=False,
            )
    except (SyntaxError, ValueError) as error:
        raise SubmissionError(f"the script does not parse as Python: {error}") from None
    ast.parse(text)
    return text
