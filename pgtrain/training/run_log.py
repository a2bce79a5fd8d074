"""What a run tells while it lasts: a row of JSON per step; and what tells it to stop.

Owns the log file beside the checkpoint (`OUT.log.jsonl`) and the signals of a run.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepRow:
    """One line of the log. Units: loss in nats per token, lr is Muon's, elapsed_s over all sessions of the run."""

    step: int
    loss: float
    lr: float
    tokens: int
    elapsed_s: float
    val_bpb: float | None = None

    def as_json(self) -> str:
        row = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return json.dumps(row)


def log_path(checkpoint: Path) -> Path:
    """Where the run that writes `checkpoint` keeps its log: OUT.log.jsonl."""
    return checkpoint.with_suffix(".log.jsonl")


@contextmanager
def open_log(path: Path, step: int) -> Iterator[Callable[[StepRow], None]]:
    """A writer of log rows. Rows after `step` are dropped first: a resumed run writes them again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if step and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except ValueError:  # the half line of a killed run
                break
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in kept)

        def write(row: StepRow) -> None:
            file.write(row.as_json() + "\n")
            file.flush()

        yield write


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that a step is never cut in half; a second Ctrl-C interrupts."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
