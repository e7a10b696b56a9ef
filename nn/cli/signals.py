"""Signals that end a run: it is interrupted where it can go on, and what it has learned is kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, NoReturn

from ..trainer import Trainer

#: Those by which the system, or a terminal that is closed, ends a program.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
#: Signals within so many seconds are one, as long as training is ending: a key that is hit twice, or SIGHUP and SIGTERM
#: together, as systems send them, must not cost the checkpoint of the first one.
PRESSED_ONCE = 1.0
#: Set in processes whose launcher would kill them by signals that end a program; it is told of these by others.
FORWARDED = "XPNET_FORWARDED_SIGNALS"
STANDS_FOR: dict[int, int] = (
    {} if sys.platform == "win32" else {signal.SIGUSR1: signal.SIGTERM, signal.SIGUSR2: signal.SIGINT}
)


class Ended(BaseException):
    """One of these signals, where there is no training that could be interrupted; Ctrl-C once training has begun.

    Attributes:
        signum: which.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(name_of(signum))
        self.signum = signum


def name_of(signum: int) -> str:
    """What a user calls a signal."""
    return "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


class Signals:
    """What signals do to a run. The first one interrupts training after the current batch, the second one the program.

    Attributes:
        caught: the signal that has interrupted training; 0 as long as none has.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._early, self._has_trained, self._caught_at = 0, False, 0.0
        self._trainer: Trainer | None = None

    @property
    def ends(self) -> bool:
        """Whether it is one that ends a program at once, so that there is no time for a report."""
        return self.caught in ENDING

    @contextmanager
    def training(self, trainer: Trainer) -> Iterator[None]:
        """It is ``trainer`` that signals interrupt meanwhile.

        Raises:
            KeyboardInterrupt, Ended: a signal has come before, and was lost in a library: Python drops what is raised
                while C code calls back.
        """
        if self._early:
            self._end(self._early)
        self._trainer, self._has_trained = trainer, True
        try:
            yield
        finally:
            self._trainer = None

    def handle(self, signum: int, frame: Any) -> None:
        """What Python calls when there is a signal."""
        signum = STANDS_FOR.get(signum, signum)
        if self._trainer is not None and self.caught and monotonic() - self._caught_at < PRESSED_ONCE:
            return  # the checkpoint of the first one is being written
        if self._trainer is not None and not self.caught:
            self.caught, self._caught_at = signum, monotonic()
            self._trainer.interrupt(f"{name_of(signum)} in epoch {self._trainer.epoch}")
        else:
            self._early = signum
            self._end(signum)

    def _end(self, signum: int) -> NoReturn:
        if signum == signal.SIGINT and not self._has_trained:
            raise KeyboardInterrupt
        raise Ended(signum)  # of a run that has begun: it is told how to go on


@contextmanager
def caught_signals(*, can_go_on: bool) -> Iterator[Signals]:
    """Signals are caught meanwhile, in the main thread: Ctrl-C, and those that end a program if the run can go on after
    them. One that is ignored, as under ``nohup``, stays so."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    caught = [signal.SIGINT, *(ENDING if can_go_on else [])]
    if FORWARDED in os.environ:
        caught += [signum for signum, other in STANDS_FOR.items() if other in caught]
    before = {signum: signal.getsignal(signum) for signum in caught}
    for signum, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, signals.handle)
    try:
        yield signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
