"""How a text is cut when it is scored: sliding windows, documents apart, longer windows (findings 3 and 4, NTK)."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.found import Found
from experiments.replication.training import Trained
from pgpack.bench.options import BenchOptions
from pgpack.bench.workpiece import Workpiece as TextBench
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.loss.sliding import EvaluationWay

from .exports import FP16, exported, law
from .recipes import MatrixBench

TOKENS = 16_384
LONGER = 4  # times the window of training


def measure(trained: Trained, seed: int) -> Found:
    """Differences between ways of scoring one checkpoint."""
    found = Found(seed)
    path = trained.path("control", seed)
    checkpoint = load_checkpoint(path)
    text = TextBench(path, checkpoint, BenchOptions(max_tokens=TOKENS)).text
    tensors = dict(checkpoint.items())
    stride = text.seq_len // 8
    plain = text.evaluator().evaluate(tensors).bpb
    sliding = text.evaluator(way=EvaluationWay(stride=stride)).evaluate(tensors).bpb
    apart = text.evaluator(way=EvaluationWay(stride=stride, documents=True)).evaluate(tensors).bpb
    apart_whole = text.evaluator(way=EvaluationWay(documents=True)).evaluate(tensors).bpb
    found.values["windows.sliding"] = sliding - plain
    found.values["windows.documents_sliding"] = apart - sliding
    found.values["windows.documents"] = apart_whole - plain
    _longer_windows(found, trained.path("packed", seed))
    _before_and_after(found, trained.path("packed", seed))
    return found


def _longer_windows(found: Found, path: Path) -> None:
    """The same checkpoint at four times its window, with the NTK law and without."""
    checkpoint = load_checkpoint(path)
    tensors = dict(checkpoint.items())
    trained_len = TextBench(path, checkpoint, BenchOptions(max_tokens=TOKENS)).text.seq_len
    losses = {}
    for scaling in ("ntk", "none"):
        flags = BenchOptions(max_tokens=TOKENS, seq_len=LONGER * trained_len, set=(f"rope_scaling={scaling}",))
        losses[scaling] = TextBench(path, checkpoint, flags).text.evaluator().evaluate(tensors).bpb
    found.values["windows.ntk"] = losses["ntk"] - losses["none"]


def _before_and_after(found: Found, path: Path) -> None:
    """The source's step from 1.1949 to 1.1708: fp32 on whole windows, int6 on sliding ones."""
    bench = MatrixBench(path, 8192)
    way = EvaluationWay(stride=bench.text.text.seq_len // 4)
    evaluator = bench.text.text.evaluator(way=way)
    decoded = exported(bench, law(6, False), FP16).artifact.decoded.tensors()
    found.values["windows.int6_sliding_less_fp32_whole"] = evaluator.evaluate(decoded).bpb - bench.fp32_bpb
    found.values["windows.fp32_sliding_less_fp32_whole"] = evaluator.evaluate(bench.weights).bpb - bench.fp32_bpb
