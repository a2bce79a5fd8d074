"""The tables of the page, from results/ alone: a test forms them again and compares."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from experiments.replication.command import Table
from experiments.replication.pages import markdown_table
from experiments.replication.results import Results

from .measuring import CLIPS, FREEZES
from .one_seed import REMOVED_FROM, STARTS

FREEZE_NAMES = {
    "all_learn": "everything learns",
    "frozen": "blocks 0 and 1 frozen",
    "scalars_frozen": "their scalars frozen (the freeze of #1546)",
}


def runs_table(results: Results) -> str:
    measures = results.measures
    header = (
        "run",
        "what it is",
        "parameters",
        "bpb less tied",
        "total",
        "max / min",
        "first / middle",
        "last / middle",
    )
    rows = []
    for run, purpose in results.study.purposes.items():
        loss = measures["tied.bpb"].shown(4) if run == "tied" else measures[f"{run}.bpb_less_tied"].shown(4)
        loss = f"(bpb {loss})" if run == "tied" else loss
        parts = [measures[f"{run}.{name}"].shown(2) for name in
                 ("total", "ratio", "first_over_middle", "last_over_middle")]  # fmt: skip
        rows.append((run, purpose, f"{measures[f'{run}.parameters'].mean:,.0f}", loss, *parts))
    return markdown_table(header, rows, "llrrrrrr")


def removals_table(results: Results) -> str:
    """Loss that rises when a block adds nothing, beside what its weights contribute: means over seeds."""
    found = results.rows("removals")
    header = ("block", *(f"{run}: {what}" for run in REMOVED_FROM for what in ("contribution", "bpb without it")))
    rows = []
    for block in sorted({int(row["block"]) for row in found}):
        cells = [str(block)]
        for run in REMOVED_FROM:
            own = [row for row in found if row["run"] == run and row["block"] == block]
            cells.append(f"{statistics.fmean(float(row['contribution']) for row in own):.2f}")
            cells.append(f"{statistics.fmean(float(row['bpb_rise']) for row in own):+.4f}")
        rows.append(cells)
    ranks = [cell for run in REMOVED_FROM for cell in ("", results.measures[f"{run}.agreement"].shown(2))]
    return markdown_table(header, [*rows, ["rank correlation", *ranks]], "lrrrrrr")


def rotations_table(results: Results) -> str:
    header = ("projections", "mean singular value", "std / mean", "from the identity", "less that of unrelated ones")
    rows = []
    for run in STARTS:
        for when, name in (("start", f"{run}-start"), ("end", run)):
            cells = [results.measures[f"{name}.{value}"].shown(3) for value in
                     ("singular_mean", "singular_spread", "roundtrip", "roundtrip_less_unrelated")]  # fmt: skip
            rows.append((f"{run}, {when}", *cells))
    return markdown_table(header, rows, "lrrrr")


def clips_table(results: Results) -> str:
    found = results.rows("clips")
    rows = []
    for clip in CLIPS:
        own = [row for row in found if row["clip"] == clip]
        sizes, kls, losses = ([float(row[name]) for row in own] for name in ("n_bytes", "kl", "bpb"))
        rows.append((f"{clip:g}", f"{statistics.fmean(sizes):,.0f}", f"{1000 * statistics.fmean(kls):.3f}",
                     f"{statistics.fmean(losses):.4f}"))  # fmt: skip
    return markdown_table(("k", "bytes", "KL, millinats per token", "bpb"), rows, "rrrr")


def coverage_table(results: Results) -> str:
    measures = results.measures
    rows = [
        ("both as fp16, bytes before the codec", measures["cover.passthrough_bytes"].shown(0)),
        ("saved by int6 GPTQ, bytes of the artifact", measures["cover.saved_bytes"].shown(0)),
        ("the same as a share of the artifact", measures["cover.saved_of_artifact"].shown(4)),
        ("what it costs, bits per byte", measures["cover.covered_bpb_less_raw"].shown(4)),
    ]
    return markdown_table(("projections of `narrow-12`", "mean of three seeds"), rows, "lr")


def learning_table(results: Results) -> str:
    measures = results.measures
    header = ("test-time training of `combination`", "bpb less that without", "less `everything learns`")
    differences = {"all_learn": "", "frozen": "frozen_less_all", "scalars_frozen": "scalars_less_all"}
    rows = [
        (FREEZE_NAMES[name], measures[f"combination.learning_{name}"].shown(4),
         measures[f"learning.{differences[name]}"].shown(4) if differences[name] else "")
        for name in FREEZES
    ]  # fmt: skip
    rows.append(("`tied`, everything learns", measures["tied.learning_all_learn"].shown(4), ""))
    return markdown_table(header, rows, "lrr")


TABLES: Mapping[str, Table] = {
    "runs": runs_table,
    "removals": removals_table,
    "rotations": rotations_table,
    "clips": clips_table,
    "coverage": coverage_table,
    "learning": learning_table,
}
