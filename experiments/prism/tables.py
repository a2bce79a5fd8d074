"""The tables of the page, from results/ alone: a test forms them again and compares."""

from __future__ import annotations

from experiments.replication.command import named
from experiments.replication.pages import markdown_table
from experiments.replication.plan import SCALES
from experiments.replication.results import Measured, Measures, Results
from pgtrain.model.tensor_table import count_parameters

from .one_seed import EQUAL_BYTES, MODELS, PACKED

THEIR_GAPS = {"standard": 8.8, "albert": 37.3, "naive": 22.7, "wo": 20.2, "wt": 21.5, "adapt": 21.0}
THEIR_BPB = {"standard": 1.1274, "albert": 1.2844, "naive": 1.2359, "wo": 1.2310, "wt": 1.2353, "adapt": 1.2328}
BUILT = (
    ("skips alone", "naive", "naive-skips"),
    ("norms by depth alone", "naive", "naive-norms"),
    ("adapters alone", "naive", "naive-adapters"),
    ("skips and norms, no adapters", "naive", "wo-bare"),
    ("adapters on top of these", "wo-bare", "wo"),
    ("all three (what #2090 compares)", "naive", "wo"),
)
ADDED = (
    ("channels permuted inside heads", "wo", "wt-channels"),
    ("heads of q and k shuffled apart", "wo", "wt-heads"),
    ("channels, and heads of q, k, v in one order", "wo", "wt-consistent"),
    ("channels, and heads of q and k apart (#2090's wt)", "wo", "wt"),
    ("a gate to wt, held at 0.5 (#2090's adapt)", "wo", "adapt"),
    ("that gate, not held", "wo", "adapt-free"),
    ("that gate, not held, from 0.9", "wo", "adapt-free-high"),
)
PROBES = {
    "q_condition": ("condition number of Q", 0, (2618, 5245, 27649, 4825, 13621, 3163)),
    "head_cosine": ("cosine of query heads", 3, (0.008, None, 0.014, 0.019, 0.057, 0.054)),
    "first_last_cosine": ("cosine of first and last layer", 3, (0.056, 0.325, 0.093, 0.051, 0.046, -0.047)),
    "adjacent_cosine": ("cosine of adjacent layers", 3, (0.765, 0.974, 0.933, 0.849, 0.790, 0.831)),
    "last_entropy": ("entropy of the last attention, nats", 2, (3.40, 3.02, 3.16, 2.99, 3.24, 4.32)),
    "rare_over_common": ("loss of rare over common tokens", 2, (1.13, 1.16, 1.19, 1.24, 1.21, 1.07)),
}
GATED = ("adapt", "adapt-free", "adapt-free-high")


def models_table(results: Results) -> str:
    measures = results.measures
    header = ("run", "what it is", "parameters", "at full scale", "bpb", "mBPB above wo", "there")
    rows = []
    for run, purpose in results.study.purposes.items():
        above = "" if run == "wo" else f"{1000 * (measures[f'{run}.bpb'].mean - measures['wo.bpb'].mean):+.1f}"
        there = f"{1000 * (THEIR_BPB[run] - THEIR_BPB['wo']):+.1f}" if run in THEIR_BPB and run != "wo" else ""
        counts = [f"{count_parameters(results.study.run(run, 1, scale).model):,}" for scale in SCALES]
        rows.append((f"`{run}`", purpose, *counts, measures[f"{run}.bpb"].shown(4), above, there))
    return markdown_table(header, rows, "llrrrrr")


def gains(measures: Measures, before: str, after: str, loss: str = "bpb") -> Measured:
    """What going from one run to the other lowers the loss by, seed by seed, in mBPB."""
    pairs = zip(measures[f"{before}.{loss}"].values, measures[f"{after}.{loss}"].values, strict=True)
    return Measured(tuple(1000 * (old - new) for old, new in pairs))


def changes_table(results: Results) -> str:
    """What each change lowers the loss by, paired by seed."""
    header = ("from → to", "what is added", "gain, mBPB", "by seed")
    rows = []
    for what, before, after in (*BUILT, *ADDED):
        gain = gains(results.measures, before, after)
        seeds = ", ".join(f"{value:+.1f}" for value in gain.values)
        rows.append((f"`{before}` → `{after}`", what, gain.shown(1, "+"), seeds))
    return markdown_table(header, rows, "llrr")


def packed_table(results: Results) -> str:
    measures = results.measures
    header = ("run", "bytes", "of wo's", "loss by packing, mBPB", "there", "bpb packed", "mBPB above wo")
    rows = []
    for run in PACKED:
        compared = run in EQUAL_BYTES
        above = measures[f"{run}-less-wo.quantized_mbpb"].shown(1, "+") if compared else ""
        share = measures[f"{run}.bytes"].mean / measures["wo.bytes"].mean
        there = f"{THEIR_GAPS[run]:.1f}" if run in THEIR_GAPS else ""
        rows.append((f"`{run}`", f"{measures[f'{run}.bytes'].mean:,.0f}", f"{100 * share:.1f} %",
                     measures[f"{run}.gap_mbpb"].shown(2), there, measures[f"{run}.quantized_bpb"].shown(4),
                     above))  # fmt: skip
    return markdown_table(header, rows, "lrrrrrr")


def probes_table(results: Results) -> str:
    """Ours above, theirs below."""
    rows = []
    for name, (what, digits, theirs) in PROBES.items():
        rows.append((what, *results.shown(digits, *(f"{run}.{name}" for run in MODELS))))
        rows.append(("there", *("" if value is None else f"{value:g}" for value in theirs)))
    return markdown_table(("probe", *(f"`{run}`" for run in MODELS)), rows, "lrrrrrr")


def gates_table(results: Results) -> str:
    header = ("run", "began at", "penalty", "mean gate", "std over tokens", "layer furthest from 1/2 by")
    rows = []
    for run in GATED:
        model = results.study.run(run, results.study.seeds[0], "tiny").model
        gates = results.shown(3, f"{run}.gate", f"{run}.gate_token_std", f"{run}.gate_off_half")
        rows.append((f"`{run}`", f"{model.repartition_start:g}", f"{model.repartition_penalty:g}", *gates))
    return markdown_table(header, rows, "lrrrrr")


TABLES = named(models_table, changes_table, packed_table, probes_table, gates_table)
