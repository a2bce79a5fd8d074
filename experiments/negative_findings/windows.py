"""How a text is cut when it is scored: sliding windows, documents apart, longer windows (findings 3 and 4, NTK)."""

from __future__ import annotations

from pathlib import Path

from experiments.replication.rows import Found
from experiments.replication.training import Trained
from pgpack.bench.options import BenchOptions
from pgpack.bench.text import open_text
from pgpack.checkpoint.checkpoint import load_checkpoint
from pgpack.loss.sliding import EvaluationWay

from .exports import FP16, exported, law
from .recipes import MatrixBench

TOKENS = 16_384
LONGER = 4  # times the window of training


def measure(trained: Trained, seed: int) -> Found:
    """Differences between ways of scoring one checkpoint."""
    found, path = Found(seed), trained.path("packed", seed)
    _ways(found, trained.path("control", seed))
    found.values["windows.ntk"] = _at_longer_windows(path, "ntk") - _at_longer_windows(path, "none")
    _before_and_after(found, path)
    return found


def _ways(found: Found, path: Path) -> None:
    checkpoint = load_checkpoint(path)
    text, tensors = open_text(path, checkpoint, BenchOptions(max_tokens=TOKENS)), dict(checkpoint.items())

    def bpb(stride: int = 0, documents: bool = False) -> float:
        return float(text.evaluator(way=EvaluationWay(stride, documents)).evaluate(tensors).bpb)

    stride = text.seq_len // 8
    plain, sliding = bpb(), bpb(stride)
    found.values["windows.sliding"] = sliding - plain
    found.values["windows.documents_sliding"] = bpb(stride, True) - sliding
    found.values["windows.documents"] = bpb(documents=True) - plain


def _at_longer_windows(path: Path, scaling: str) -> float:
    """The loss of a checkpoint at four times its window."""
    checkpoint = load_checkpoint(path)
    length = LONGER * open_text(path, checkpoint, BenchOptions()).seq_len
    options = BenchOptions(max_tokens=TOKENS, seq_len=length, set=(f"rope_scaling={scaling}",))
    return float(open_text(path, checkpoint, options).evaluator().evaluate(dict(checkpoint.items())).bpb)


def _before_and_after(found: Found, path: Path) -> None:
    """The source's step from 1.1949 to 1.1708: fp32 on whole windows, int6 on sliding ones."""
    bench = MatrixBench(path, 8192)
    way = EvaluationWay(stride=bench.text.seq_len // 4)
    evaluator = bench.text.evaluator(way=way)
    decoded = exported(bench, law(6, False), FP16).artifact.decoded.tensors()
    found.values["windows.int6_sliding_less_fp32_whole"] = evaluator.evaluate(decoded).bpb - bench.fp32_bpb
    found.values["windows.fp32_sliding_less_fp32_whole"] = evaluator.evaluate(bench.tensors).bpb - bench.fp32_bpb
