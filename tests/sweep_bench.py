"""A bench for tests of executors that any process can open: one matrix, and the error of its weights for a loss.

`plague`: recipes that contain this text kill the process that packs them, `deaths` times in all (a file in the
folder for each). `pause_s`: how long an evaluation takes besides.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pgpack.cache.store import Cache, Disk
from pgpack.checkpoint.checkpoint import Checkpoint, from_tensors
from pgpack.loss.evaluator import BitsPerByte, Tensors
from pgpack.measure import Measurer
from pgpack.pack import Artifact
from pgpack.recipe.recipe import Recipe
from pgpack.recipe.spaces import Candidate, read_space
from pgpack.study.card import StudyMeta
from pgpack.sweep.executors.jobs import Setting

SPACE = "ndim<=1=cast; *=rtn(bits={3:6})|{zlib,rans,bitpack}\nndim<=1=cast; *=gptq|rans"
N_TRIALS, N_FAILED = 13, 1


def candidates(space: str = SPACE) -> list[Candidate]:
    return read_space(space)


def matrix(seed: int = 0) -> Checkpoint:
    rng = np.random.default_rng(seed)
    tensors = {"w": rng.standard_normal((96, 80)).astype(np.float32), "g": np.ones(9, np.float32)}
    return from_tensors(tensors)


@dataclass
class ErrorOfWeights:
    """Counts its evaluations as files in `folder`."""

    checkpoint: Checkpoint
    folder: Path
    pause_s: float
    digest: str = "error of the weights"

    def evaluate(self, tensors: Tensors) -> BitsPerByte:
        time.sleep(self.pause_s)
        (self.folder / f"evaluated-{os.getpid()}-{time.monotonic_ns()}").touch()
        error = float(sum(np.abs(tensors[name] - array).sum() for name, array in self.checkpoint.items()))
        return BitsPerByte(error, error / 2, error / 4, 10, 20, 0.0)


class PlagueMeasurer(Measurer):
    """A measurer whose process dies of some recipes."""

    plague: str = ""
    deaths: int = 0
    folder: Path = Path()

    def pack(self, recipe: Recipe) -> Artifact:
        if self.plague and self.plague in str(recipe):
            died = len(list(self.folder.glob("death-*")))
            if died < self.deaths:
                (self.folder / f"death-{died}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().pack(recipe)


@dataclass(frozen=True)
class OpenBench:
    """Opens the bench, in any process."""

    folder: Path
    plague: str = ""
    deaths: int = 0
    pause_s: float = 0.0
    seed: int = 0
    cached: bool = True
    word: Path = Path()
    word_in: Path | None = None

    def __call__(self, setting: Setting) -> PlagueMeasurer:
        if self.word_in is not None:
            (self.folder / f"read-{os.getpid()}").write_bytes((self.word_in / "word.txt").read_bytes())
        (self.folder / f"opened-{os.getpid()}").touch()
        checkpoint = matrix(self.seed)
        cache = Cache(Disk(self.folder / "cache", reserve=0) if self.cached else None)
        evaluator = ErrorOfWeights(checkpoint, self.folder, self.pause_s)
        measurer = PlagueMeasurer(checkpoint, evaluator, lambda recipe: None, cache, model_digest="m", strict=True)
        measurer.plague, measurer.deaths, measurer.folder = self.plague, self.deaths, self.folder
        return measurer

    @property
    def files(self) -> dict[str, Path]:
        """What a cluster's worker needs: here, a word in a file."""
        return {"words/word.txt": self.word}

    def moved(self, folder: Path) -> OpenBench:
        """The same with the word that lies below `folder`."""
        return dataclasses.replace(self, word_in=folder / "words")

    @property
    def local(self) -> Callable[[Setting], Measurer]:
        """The driver's own, which opens once."""
        measurer = self(Setting())
        return lambda setting: measurer


def card() -> StudyMeta:
    return StudyMeta(
        checkpoint="w",
        checkpoint_digest=matrix().digest,
        evaluator_digest=ErrorOfWeights.digest,
        pgpack_version="1",
        created="2000-01-01T00:00:00+00:00",
    )


def pids(folder: Path) -> set[int]:
    """Processes that opened the bench, this one aside."""
    return {int(path.name.split("-")[1]) for path in folder.glob("opened-*")} - {os.getpid()}
