"""What a continued study already has of what a run asks for: the account that a sweep gives before it starts.

Owns the comparison of candidates with rows. Decides nothing: which rows count is `trial_key`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgpack.tables import counted

from .study import Study


@dataclass(frozen=True)
class Reuse:
    """How what a run asks for meets the rows of its study.

    `n_candidates` recipes on `n_checkpoints` are asked for; `n_measured` of these trials have a row, `n_failed` of
    them one that failed; `n_stale` are missing although their recipe has a row on that checkpoint, because another
    pgpack version or calibration measured it; `n_others` rows belong to no candidate and stay. `kept` names other
    work that is not repeated, `taken_out` what was damaged.
    """

    n_candidates: int
    n_measured: int
    n_failed: int
    n_stale: int
    n_others: int
    n_rows: int
    created: str
    kept: tuple[str, ...] = ()
    taken_out: tuple[str, ...] = ()
    n_checkpoints: int = 1

    @property
    def n_missing(self) -> int:
        return self.n_candidates * self.n_checkpoints - self.n_measured

    def sentences(self) -> tuple[str, ...]:
        """The account in lines for people; a new study's is one line."""
        several = f" on {self.n_checkpoints} checkpoints" if self.n_checkpoints > 1 else ""
        if not self.n_rows:
            return (f"{counted(self.n_candidates, 'recipe')} to measure{several} in a new study", *self.taken_out)
        lines = [
            f"going on with a study of {counted(self.n_rows, 'trial')}, begun {self.created}",
            f"{counted(self.n_candidates, 'recipe')}{several}, {self.n_measured} of them measured before, "
            f"{self.n_missing} to measure",
        ]
        if self.n_failed:
            lines.append(f"{self.n_failed} of those measured before failed; --retry-failed measures them again")
        if self.n_stale:
            lines.append(
                f"{self.n_stale} were measured by another pgpack or with another calibration: measured again"
            )
        if self.n_others:
            lines.append(f"{counted(self.n_others, 'trial')} of other recipes stay in the study and on its frontier")
        if self.kept:
            lines.append(f"reused besides: {', '.join(self.kept)}")
        return (*lines, *self.taken_out)


Asked = tuple[str, str, float]
"""The digests of a checkpoint and of a recipe, and the share of the text that is evaluated."""


def reuse(
    study: Study, asked: Sequence[Asked], missing: Sequence[Asked], kept: Sequence[str], taken_out: Sequence[str]
) -> Reuse:
    """The account of what is `asked`, of which `missing` has no row in `study`."""
    trials = (*study.trials, *study.partial)
    rows = [(trial.checkpoint_digest, trial.recipe_digest, trial.text_share) for trial in trials]
    failed = {row for row, trial in zip(rows, trials, strict=True) if not trial.ok}
    lacking, wanted = set(missing), set(asked)
    n_checkpoints = len({checkpoint for checkpoint, *_ in asked}) or 1
    return Reuse(
        n_candidates=len(asked) // n_checkpoints,
        n_measured=len(asked) - len(missing),
        n_failed=len((wanted - lacking) & failed),
        n_stale=len(lacking & set(rows)),
        n_others=sum(row not in wanted for row in rows),
        n_rows=len(rows),
        created=study.meta.created,
        kept=tuple(kept),
        taken_out=tuple(taken_out),
        n_checkpoints=n_checkpoints,
    )
