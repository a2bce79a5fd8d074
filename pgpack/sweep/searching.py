"""A search through a space, answered by a study: from its rows where it has them, else by measuring.

    sampler --ask--> batch --rows of the study, new trials--> one row for each recipe --tell--> sampler

Asked again from its beginning, a sampler asks for the same recipes; so the journal is all that a search must keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgpack.study.journal import Journal
from pgpack.study.seeds import together
from pgpack.study.study import Study
from pgpack.study.trial import Trial
from pgpack.sweep.executors.jobs import Executor, Job, Subjects, job_key
from pgpack.sweep.samplers.base import Batch, Sampler

from .pace import Pace
from .runner import OnTrial, jobs_of, new_jobs, record


def rows_of(subjects: Subjects, batch: Batch, study: Study) -> list[Trial] | None:
    """What the study knows of a batch: for each recipe the row that stands for its rows on all checkpoints; None
    when a row is missing."""
    rows = {trial.key: trial for trial in (*study.trials, *study.partial)}
    settings, found = subjects.settings(batch.text_share), []
    for candidate in batch.candidates:
        keys = [job_key(subjects(setting), Job(candidate, setting)) for setting in settings]
        if not rows.keys() >= set(keys):
            return None
        found.append(together([rows[key] for key in keys], study.meta.block_bytes))
    return found


def asked_first(subjects: Subjects, sampler: Sampler, study: Study) -> list[Job]:
    """What a search asks for until it needs something that the study does not know, that batch included."""
    asked: list[Job] = []
    while (batch := sampler.ask()).candidates:
        asked += jobs_of(batch.candidates, subjects.settings(batch.text_share))
        rows = rows_of(subjects, batch, study)
        if rows is None:
            break
        sampler.tell(rows)
    return asked


@dataclass
class Answers:
    """Answers a sampler's batches; `on_trial` is told what is new."""

    subjects: Subjects
    study: Study
    journal: Journal
    executor: Executor
    pace: Pace
    on_trial: OnTrial

    def __call__(self, batch: Batch) -> Sequence[Trial]:
        """A row for each recipe of the batch."""
        jobs = jobs_of(batch.candidates, self.subjects.settings(batch.text_share))
        new = list(new_jobs(self.subjects, jobs, self.study))
        self.pace.expect(new, n_spared=len(jobs) - len(new))
        self.study = self.study.with_rows(record(self.executor, new, self.journal, self.on_trial))
        answers = rows_of(self.subjects, batch, self.study)
        assert answers is not None
        return answers
