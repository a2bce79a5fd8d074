"""README.md of a submission: the measured tables, and gaps that say *fill in*.

Every number comes from `Submission`; nothing is said about what was not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from pgpack.version import __version__

from .submission import Submission

GAP = "*fill in*"


def readme(submission: Submission) -> str:
    """The whole text."""
    about = submission.about
    parts = [
        f"# {about.name or GAP}",
        about.blurb or f"{GAP}: what is new here, in two sentences.",
        "## Result",
        _summary(submission),
        _results(submission),
        "![size against loss](frontier.svg)" if submission.figure else "",
        "## Bytes",
        _bytes(submission),
        "## Model and training",
        f"{GAP}: architecture, data, schedule, time, hardware ({about.hardware or GAP}).",
        "## Packing",
        _packing(submission),
        "## Reproduce",
        _reproduce(submission),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(submission: Submission) -> str:
    bpb = [loss.bpb for loss in submission.losses]
    if not bpb:
        text = f"val_bpb {GAP} (it was not measured when this was packed)"
    elif len(bpb) == 1:
        text = f"val_bpb {bpb[0]:.6f}"
    else:
        mean, std = statistics.fmean(bpb), statistics.stdev(bpb)
        text = f"val_bpb {mean:.6f}, mean of {len(bpb)} seeds, standard deviation {std:.6f}"
    size = f"{submission.n_total:,} bytes in all, {submission.spare:,} under the cap of {submission.budget:,}"
    if len(submission.runs) > 1:
        size += f"; artifacts differ by {submission.spread:,} bytes between seeds"
    return f"{text}; {size}."


def _results(submission: Submission) -> str:
    rows = []
    for run in submission.runs:
        seed = "-" if run.seed is None else str(run.seed)
        total = len(run.artifact) + submission.n_code
        before = f"{run.before.bpb:.6f}" if run.before else "-"
        loss = f"{run.loss.bpb:.6f}" if run.loss else GAP
        rows.append((seed, before, loss, f"{len(run.artifact):,}", f"{total:,}"))
    heads = ("seed", "val_bpb before packing", "val_bpb of the artifact", "artifact bytes", "with code")
    n_tokens = max((loss.n_tokens for loss in submission.losses), default=0)
    note = (
        f"\n\nMeasured on {n_tokens:,} tokens, before packing and on the tensors that decode from the artifact alike."
        if n_tokens
        else ""
    )
    return markdown(heads, rows) + note


def _bytes(submission: Submission) -> str:
    rows: list[tuple[str, ...]] = []
    for code in submission.code:
        found = code.conventions
        rows.append((f"`{code.name}` ({code.form})", *(f"{n:,}" for n in (len(code.given), *found.values()))))
    total = submission.conventions
    largest = submission.n_model
    readable = sum(len(code.given) for code in submission.code)
    rows.append(("code", *(f"{n:,}" for n in (readable, *total.values()))))
    rows.append(("with the largest artifact", "", *(f"{n + largest:,}" for n in total.values())))
    heads = ("", "as written, not counted", *total)
    return (
        markdown(heads, rows)
        + "\n\n**As shipped** is what counts: the bytes of the files in this folder. Raw is the code that runs, "
        "after extraction; wrapped is the same in a self-extracting file where that is smaller."
    )


def _packing(submission: Submission) -> str:
    recipes = dict.fromkeys(run.recipe for run in submission.runs)
    shown = "\n".join(recipes)
    bits = [8 * len(run.artifact) / max(1, run.n_params) for run in submission.runs]
    params = submission.runs[0].n_params
    return f"{params:,} parameters at {max(bits):.3f} bits each, packed by pgpack {__version__}:\n\n```\n{shown}\n```"


def _reproduce(submission: Submission) -> str:
    model = submission.runs[0].model_name
    libraries = ", ".join(["numpy", *submission.decoder.modules])
    return (
        f"`python decode.py {model} weights.npz` rebuilds the state dict with the standard library and {libraries}; "
        "it stops with an error unless the weights have the digest that the packer recorded. `decode_readable.py` is "
        "the same program before minification.\n\n"
        f"`pgpack verify . --budget {submission.budget}` checks this folder.\n\n"
        + _programs(submission)
        + f"{GAP}: the training command."
    )


def _programs(submission: Submission) -> str:
    """What must be installed beside Python, '' when nothing is."""
    needed = [name for name in ("lrzip", "zpaq") if f'"{name}"' in submission.decoder.readable]
    return f"The target must have `{'` and `'.join(needed)}` installed beforehand.\n\n" if needed else ""


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
