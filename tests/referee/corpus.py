"""Small submission folders, one hazard each, with the verdict that is right: the public reports' kinds and siblings.

    python -m tests.referee.corpus OUT        writes them        python -m tests.referee.measure_corpus   judges them

Standard library only, so that an older referee can be measured on the same folders.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .corpus_claims import logged, written
from .corpus_code import fetched, imported, started
from .corpus_eighteenth import alone, of_seeds, own_layouts, packed_logs, priors
from .corpus_eighth_code import eighth
from .corpus_eleventh_refused import eleventh
from .corpus_fifteenth import layers
from .corpus_fifteenth_others import least, machines, shards, tables
from .corpus_fifth import fifth_code, fifth_fetching
from .corpus_fourteenth import ahead, other_names, scored_again
from .corpus_fourteenth_claims import beside, in_parts, looked_for, one_run, written_otherwise
from .corpus_fourteenth_learning import keyed, scheduled
from .corpus_fourteenth_others import dishonest, honest
from .corpus_fourth import fourth
from .corpus_hands_claims import hands_claims, hands_hidden
from .corpus_hands_layers import hands_layers, hands_scores
from .corpus_hands_learning import hands_learning, hands_packed
from .corpus_nineteenth import nineteenth
from .corpus_ninth_claims import ninth
from .corpus_ninth_weights import ninth_weights
from .corpus_reviewed import reviewed
from .corpus_reviewed_more import reviewed_more
from .corpus_second import second
from .corpus_seventeenth import stranger
from .corpus_seventeenth_layers import attending
from .corpus_seventeenth_losses import mixing
from .corpus_seventeenth_twins import looking_alike
from .corpus_seventh import seventh_code, seventh_learning, seventh_words
from .corpus_sixteenth_layers import mixers
from .corpus_sixteenth_learning import learns
from .corpus_sixteenth_losses import scores
from .corpus_sixteenth_others import elsewhere
from .corpus_sixteenth_scores import passes
from .corpus_sixth import sixth_learning, sixth_logs, sixth_texts, sixth_weights
from .corpus_tenth_learning import tenth
from .corpus_third import third
from .corpus_thirteenth import bytes_in_words
from .corpus_thirteenth_losses import better
from .corpus_thirteenth_reach import parts, reaching, repeated
from .corpus_twelfth import learning
from .corpus_twelfth_claims import claims
from .corpus_weights import scored, weighed
from .folder_case import Case


def cases() -> dict[str, Case]:
    """Name -> case."""
    batches = [
        started(),
        imported(),
        fetched(),
        written(),
        logged(),
        scored(),
        weighed(),
        second(),
        third(),
        fourth(),
    ]
    batches += [fifth_code(), fifth_fetching(), sixth_logs(), sixth_texts(), sixth_weights(), sixth_learning()]
    batches += [seventh_code(), seventh_learning(), seventh_words()]
    batches += [eighth(), ninth(), ninth_weights(), tenth(), eleventh(), learning(), claims()]
    batches += [bytes_in_words(), better(), reaching(), parts(), repeated()]
    batches += [other_names(), ahead(), scored_again(), looked_for(), one_run(), beside(), in_parts()]
    batches += [written_otherwise(), scheduled(), keyed(), dishonest(), honest()]
    batches += [layers(), shards(), least(), machines(), tables(), nineteenth()]
    batches += [
        mixers(),
        learns(),
        scores(),
        passes(),
        elsewhere(),
        stranger(),
        attending(),
        mixing(),
        looking_alike(),
    ]
    batches += [hands_learning(), hands_packed(), hands_layers(), hands_scores()]
    batches += [hands_hidden(), hands_claims(), reviewed(), reviewed_more()]
    batches += [own_layouts(), priors(), alone(), of_seeds(), packed_logs()]
    found = {name: case for batch in batches for name, case in batch.items()}
    assert len(found) == sum(map(len, batches)), "two folders have one name"
    return found


def main() -> None:
    """Writes every folder."""
    out = Path(sys.argv[1])
    for name, case in cases().items():
        case.write(out / name)


if __name__ == "__main__":
    main()
