"""The files that a submission becomes (FOLDER.md), and the folder that holds them.

    Submission --folder_files--> name -> bytes --write_folder--> DIR

A folder appears whole or not at all: it is made beside DIR and renamed. Refuses a DIR that exists, and a total above
the budget.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgpack.errors import SubmissionError
from pgpack.files import replacing_folder

from .readme import readme
from .submission import RunResult, Submission

CHECKPOINT = "pgpack_checkpoint"  # the referee knows that what stands here is measured as what was decoded
MARK = "pgpack: the lines below describe the artifact of this folder"


def folder_files(submission: Submission) -> dict[str, bytes]:
    """File name -> contents. Raises BudgetExceeded."""
    submission.require_budget()
    found = {each.name: each.shipped for each in submission.code}
    if submission.train.given != submission.train.shipped:
        found["train_gpt_readable.py"] = submission.train.given
    found["decode_readable.py"] = submission.decoder.readable.encode()
    for run in submission.runs:
        found[run.model_name] = run.artifact
        found[run.log_name] = _log(run, submission.n_code).encode()
    if submission.figure:
        found["frontier.svg"] = submission.figure.encode()
    lines = _with_lacking(submission.requirements, {*submission.decoder.modules, "numpy"})
    found["requirements.txt"] = "".join(f"{line}\n" for line in lines).encode()
    found["submission.json"] = (json.dumps(submission.document(), indent=2, allow_nan=False) + "\n").encode()
    found["README.md"] = readme(submission).encode()
    return found


def _log(run: RunResult, n_code: int) -> str:
    """The training log as it was given, and behind it what packing measured, marked as ours: the lines that the
    public scripts write and reviewers look for. Source of their formats: openai/parameter-golf train_gpt.py."""
    n_model, loss = len(run.artifact), run.loss
    lines = [MARK] if run.seed is None else [MARK, f"seed:{run.seed}"]
    lines.append(f"Code size: {n_code} bytes")
    lines.append(f"Serialized model pgpack: {n_model} bytes")
    lines.append(f"Total submission size pgpack: {n_model + n_code} bytes")
    if loss is not None:
        lines.append(f"pgpack_text val_tokens:{loss.n_tokens} text_bytes:{loss.n_text_bytes}")
        if run.before is not None:
            lines.append(f"{CHECKPOINT} pre-quantization val_loss:{run.before.nats:.8f} val_bpb:{run.before.bpb:.8f}")
        lines.append(f"pgpack_decoded val_loss:{loss.nats:.8f} val_bpb:{loss.bpb:.8f}")
    head = (run.log or "").rstrip("\n")
    return "\n".join([*([head] if head else []), *lines, ""])


def _with_lacking(given: Sequence[str], needed: set[str]) -> list[str]:
    """The given requirement lines, and the distributions that they lack."""
    lines = [line.rstrip() for line in given if line.strip()]
    named = {
        found[0].replace("_", "-")
        for line in lines
        if (found := re.match(r"[\w.-]+", line.strip().lower())) is not None
    }
    return [*lines, *sorted(needed - named)]


def write_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder whole: it is made beside its place and renamed.

    Raises SubmissionError when something is there already, OSError when the disk refuses.
    """
    require_new(directory)
    with replacing_folder(directory) as made:
        for name, data in files.items():
            (made / name).write_bytes(data)


def require_new(directory: Path) -> None:
    """Raises SubmissionError unless `directory` is not there, or empty."""
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise SubmissionError(f"{directory} exists and is not an empty folder; give another --submission DIR")
