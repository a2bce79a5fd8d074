"""Small submission folders, one hazard each, with the verdict that is right: the public reports' kinds and siblings.

    python -m tests.referee.corpus OUT        writes them        python -m tests.referee.measure_corpus   judges them

Standard library only, so that an older referee can be measured on the same folders.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .corpus_claims import logged, written
from .corpus_code import fetched, imported, started
from .corpus_fourth import fourth
from .corpus_second import second
from .corpus_third import third
from .corpus_weights import scored, weighed
from .folder_case import Case


def cases() -> dict[str, Case]:
    """Name -> case."""
    return {
        **started(),
        **imported(),
        **fetched(),
        **written(),
        **logged(),
        **scored(),
        **weighed(),
        **second(),
        **third(),
        **fourth(),
    }


def main() -> None:
    """Writes every folder."""
    out = Path(sys.argv[1])
    for name, case in cases().items():
        case.write(out / name)


if __name__ == "__main__":
    main()
