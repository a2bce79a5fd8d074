"""Trainings against their controls, seed by seed (findings 1, 11, 12, 13, 14, 16, 25).

Losses are those that each run ended with, on all of the validation text and before any packing.
"""

from __future__ import annotations

from experiments.replication.packing import logged_bpb
from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgtrain.model.tensor_table import count_parameters

from .exports import FP16, ZLIB, exported, law
from .recipes import MatrixBench

PAIRS = (
    ("mtp", "control"),
    ("factorized", "control"),
    ("curriculum", "control"),
    ("hashed", "control"),
    ("forgotten", "hashed"),
    ("forgotten", "control"),
    ("loop", "deep"),
    ("loop_skips", "deep"),
    ("loop", "shallow"),
    ("loop_skips", "shallow"),
    ("shallow", "deep"),
)
WIDER = ("shallow", "deep")  # 3x MLPs, one of them as deep as the control
TOKENS = 16_384


def measure(trained: Trained, seed: int) -> Found:
    """Losses of all runs, their differences, and two comparisons after packing."""
    found = Found(seed)
    losses = {}
    for run in trained.study.purposes:
        losses[run] = logged_bpb(load_checkpoint(trained.path(run, seed)))
        parameters = count_parameters(trained.study.run(run, seed, trained.scale).model)
        found.add("trainings", seed=seed, run=run, parameters=parameters, bpb=losses[run])
    for of, less in PAIRS:
        found.values[f"{of}.less_{less}"] = losses[of] - losses[less]
    _after_packing(found, trained)
    return found


def _after_packing(found: Found, trained: Trained) -> None:
    """int8 QAT against rounding a model that never saw the grid, both on the grid that QAT trained for; and a 3x MLP
    at int6 against a 2x MLP at int8, through their own codecs, with the table in fp16 in both.

    A table is a third of our small models and a thirtieth of the source's: it would hide the matrices otherwise.
    """
    control, qat = (MatrixBench(trained.path(run, found.seed), TOKENS) for run in ("control", "qat"))
    with_qat, without = (exported(bench, "rtn(bits=8)", "rtn(bits=8)").bpb for bench in (qat, control))
    found.values["qat.int8_less_control_int8"] = with_qat - without
    found.values["control.int8_cost"] = without - control.fp32_bpb
    layers = {run: trained.study.run(run, found.seed, trained.scale).model.num_layers for run in ("control", *WIDER)}
    wider = next(run for run in WIDER if layers[run] == layers["control"])
    wide = exported(MatrixBench(trained.path(wider, found.seed), TOKENS), law(6, False), FP16)
    narrow = exported(control, law(8, False), FP16, ZLIB)
    found.values["wide_int6.bpb_less_int8"] = wide.bpb - narrow.bpb
    found.values["wide_int6.size_ratio"] = wide.n_bytes / narrow.n_bytes
