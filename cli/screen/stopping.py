"""Ctrl-C, SIGTERM and SIGHUP of commands that can go on later: the first stops them in order, the second at once.

What is on disk is whole at every moment (the journal takes rows whole, other files are replaced in one step), so
leaving at once loses nothing but the work in flight, and the system drops the lock.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pgpack.progress import SILENT_S

from .output import EXIT_RESUMABLE, note

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """What is said when a command stops: `sentence`, once, however often it is asked to; made at that moment, for
    what there is to go on with depends on it."""

    def __init__(self, sentence: Callable[[], str]) -> None:
        self.sentence = sentence
        self.n_asked = 0
        self._said = False

    def say(self) -> None:
        """The sentence on stderr; what asks to stop meanwhile waits until it is said."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        note(self.sentence())
        self._said = True
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _say_late(self) -> None:
        if not self._said:
            os.write(2, b"stopping; once more leaves at once\n")

    def asked(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises: KeyboardInterrupt the first time; does not return the second time."""
        self.n_asked += 1
        if self.n_asked == 1:
            late = threading.Timer(SILENT_S, self._say_late)  # what is under way may hold the program for a while
            late.daemon = True
            late.start()
            raise KeyboardInterrupt
        if not self._said:
            os.write(2, f"{self.sentence()}\n".encode())  # unbuffered: this may have come in the middle of a print
        os._exit(EXIT_RESUMABLE)


@contextmanager
def stopping(sentence: Callable[[], str]) -> Iterator[Stopping]:
    """While the block runs, the first of these signals is a KeyboardInterrupt and the second ends the process.

    Once asked to stop, the handlers stay until the process ends, so that no later signal can interrupt its end.
    A signal that the caller has this process ignore stays ignored.
    """
    state = Stopping(sentence)
    if threading.current_thread() is not threading.main_thread():  # only the main thread is told of signals
        yield state
        return
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, state.asked) for number in heeded}
    try:
        yield state
    finally:
        if not state.n_asked:
            for number, handler in before.items():
                signal.signal(number, handler)
