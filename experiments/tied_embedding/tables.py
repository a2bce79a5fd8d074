"""The tables of the page, from results/ alone: a test forms them again and compares."""

from __future__ import annotations

from statistics import fmean

from experiments.replication.command import named
from experiments.replication.pages import markdown_table
from experiments.replication.results import Results
from experiments.replication.rows import by

from .one_seed import REMOVED_FROM, STARTS


def runs_table(results: Results) -> str:
    header = ("run", "what it is", "parameters", "bpb less tied", "total", "max / min", "first / middle",
              "last / middle")  # fmt: skip
    shapes = ("total", "ratio", "first_over_middle", "last_over_middle")
    rows = []
    for run, purpose in results.study.purposes.items():
        (loss,) = results.shown(4, "tied.bpb" if run == "tied" else f"{run}.bpb_less_tied")
        loss = f"(bpb {loss})" if run == "tied" else loss
        parameters = f"{results.measures[f'{run}.parameters'].mean:,.0f}"
        rows.append((run, purpose, parameters, loss, *results.shown(2, *(f"{run}.{name}" for name in shapes))))
    return markdown_table(header, rows, "llrrrrrr")


def removals_table(results: Results) -> str:
    """Loss that rises when a block adds nothing, beside what its weights contribute: means over seeds."""
    header = ("block", *(f"{run}: {what}" for run in REMOVED_FROM for what in ("contribution", "bpb without it")))
    contributions, rises = (
        by(results.rows("removals"), ("run", "block"), name) for name in ("contribution", "bpb_rise")
    )
    rows = [
        [str(block), *(cell for run in REMOVED_FROM for cell in
                       (f"{fmean(contributions[run, block]):.2f}", f"{fmean(rises[run, block]):+.4f}"))]
        for block in sorted({block for _, block in rises})
    ]  # fmt: skip
    ranks = [cell for run in REMOVED_FROM for cell in ("", *results.shown(2, f"{run}.agreement"))]
    return markdown_table(header, [*rows, ["rank correlation", *ranks]], "lrrrrrr")


def rotations_table(results: Results) -> str:
    header = ("projections", "mean singular value", "std / mean", "from the identity", "less that of unrelated ones")
    values = ("singular_mean", "singular_spread", "roundtrip", "roundtrip_less_unrelated")
    rows = [
        (f"{run}, {when}", *results.shown(3, *(f"{name}.{value}" for value in values)))
        for run in STARTS
        for when, name in (("start", f"{run}-start"), ("end", run))
    ]
    return markdown_table(header, rows, "lrrrr")


def clips_table(results: Results) -> str:
    sizes, kls, losses = (by(results.rows("clips"), ("clip",), name) for name in ("n_bytes", "kl", "bpb"))
    rows = [
        (f"{clip:g}", f"{fmean(values):,.0f}", f"{1000 * fmean(kls[(clip,)]):.3f}", f"{fmean(losses[(clip,)]):.4f}")
        for (clip,), values in sizes.items()
    ]
    return markdown_table(("k", "bytes", "KL, millinats per token", "bpb"), rows, "rrrr")


def coverage_table(results: Results) -> str:
    named = {
        "both as fp16, bytes before the codec": (0, "passthrough_bytes"),
        "saved by int6 GPTQ, bytes of the artifact": (0, "saved_bytes"),
        "the same as a share of the artifact": (4, "saved_of_artifact"),
        "what it costs, bits per byte": (4, "covered_bpb_less_raw"),
    }
    rows = [(what, *results.shown(digits, f"cover.{name}")) for what, (digits, name) in named.items()]
    return markdown_table(("projections of `narrow-12`", "mean of three seeds"), rows, "lr")


def learning_table(results: Results) -> str:
    header = ("test-time training of `combination`", "bpb less that without", "less `everything learns`")
    rows = [
        ("everything learns", *results.shown(4, "combination.learning_all_learn"), ""),
        ("blocks 0 and 1 frozen",
         *results.shown(4, "combination.learning_frozen", "learning.frozen_less_all")),
        ("their scalars frozen (the freeze of #1546)",
         *results.shown(4, "combination.learning_scalars_frozen", "learning.scalars_less_all")),
        ("`tied`, everything learns", *results.shown(4, "tied.learning_all_learn"), ""),
    ]  # fmt: skip
    return markdown_table(header, rows, "lrr")


TABLES = named(runs_table, removals_table, rotations_table, clips_table, coverage_table, learning_table)
