"""What a continued study already has of what a run asks for: the account that a sweep gives before it starts.

Owns the comparison of candidates with rows. Decides nothing: which rows count is `trial_key`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..search_space import Candidate
from .journal import Study


@dataclass(frozen=True)
class Reuse:
    """How a run's candidates meet the rows of its study.

    `n_measured` candidates have a row, `n_failed` of them one that failed; `n_stale` are missing although their
    recipe has a row, because another pgpack version or calibration measured it; `n_others` rows belong to no
    candidate and stay. `kept` names other work that is not repeated. Units: `torn_bytes` of a torn last line.
    """

    n_candidates: int
    n_measured: int
    n_failed: int
    n_stale: int
    n_others: int
    n_rows: int
    created: str
    kept: tuple[str, ...] = ()
    torn_bytes: int = 0

    def sentences(self) -> tuple[str, ...]:
        """The account in lines for people; a new study's is one line."""
        missing = self.n_candidates - self.n_measured
        if not self.n_rows:
            return (f"{self.n_candidates} recipes to measure in a new study",)
        lines = [
            f"going on with a study of {self.n_rows} trials, begun {self.created}",
            f"{self.n_candidates} recipes, {self.n_measured} of them measured before, {missing} to measure",
        ]
        if self.n_failed:
            lines.append(f"{self.n_failed} of those measured before failed; --retry-failed measures them again")
        if self.n_stale:
            lines.append(
                f"{self.n_stale} were measured by another pgpack or with another calibration: measured again"
            )
        if self.n_others:
            lines.append(f"{self.n_others} trials of other recipes stay in the study and on its frontier")
        if self.kept:
            lines.append(f"reused besides: {', '.join(self.kept)}")
        if self.torn_bytes:
            lines.append(
                f"a last line of {self.torn_bytes:,} bytes, torn by a crash, is cut off; that trial counts as new"
            )
        return tuple(lines)


def reuse(
    study: Study, candidates: Sequence[Candidate], missing: Sequence[Candidate], kept: Sequence[str], torn_bytes: int
) -> Reuse:
    """The account of `candidates`, of which `missing` have no row in `study`."""
    lacking = {candidate.recipe.digest for candidate in missing}
    asked = {candidate.recipe.digest for candidate in candidates}
    failed = {trial.recipe_digest for trial in study.trials if not trial.ok}
    rows = [trial.recipe_digest for trial in study.trials]
    return Reuse(
        n_candidates=len(candidates),
        n_measured=len(candidates) - len(missing),
        n_failed=len((asked - lacking) & failed),
        n_stale=len(lacking & set(rows)),
        n_others=sum(digest not in asked for digest in rows),
        n_rows=len(rows),
        created=study.meta.created,
        kept=tuple(kept),
        torn_bytes=torn_bytes,
    )
