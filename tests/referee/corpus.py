"""Small submission folders, one hazard each, with the verdict that is right: the public reports' kinds and siblings.

    python -m tests.referee.corpus OUT        writes them        python -m tests.referee.measure_corpus   judges them

Standard library only, so that an older referee can be measured on the same folders.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .corpus_claims import logged, written
from .corpus_code import fetched, imported, started
from .corpus_eighth_code import eighth
from .corpus_eleventh_refused import eleventh
from .corpus_fifth import fifth_code, fifth_fetching
from .corpus_fourth import fourth
from .corpus_ninth_claims import ninth
from .corpus_ninth_weights import ninth_weights
from .corpus_second import second
from .corpus_seventh import seventh_code, seventh_learning, seventh_words
from .corpus_sixth import sixth_learning, sixth_logs, sixth_texts, sixth_weights
from .corpus_tenth_learning import tenth
from .corpus_third import third
from .corpus_thirteenth_claims import claimed_in_words
from .corpus_twelfth import learning
from .corpus_twelfth_claims import claims
from .corpus_weights import scored, weighed
from .folder_case import Case


def cases() -> dict[str, Case]:
    """Name -> case."""
    parts = [started(), imported(), fetched(), written(), logged(), scored(), weighed(), second(), third(), fourth()]
    parts += [fifth_code(), fifth_fetching(), sixth_logs(), sixth_texts(), sixth_weights(), sixth_learning()]
    parts += [seventh_code(), seventh_learning(), seventh_words()]
    parts += [eighth(), ninth(), ninth_weights(), tenth(), eleventh(), learning(), claims(), claimed_in_words()]
    found = {name: case for part in parts for name, case in part.items()}
    assert len(found) == sum(map(len, parts)), "two folders have one name"
    return found


def main() -> None:
    """Writes every folder."""
    out = Path(sys.argv[1])
    for name, case in cases().items():
        case.write(out / name)


if __name__ == "__main__":
    main()
