"""The signals by which schedulers end a process: a fit that writes checkpoints saves itself first."""

from __future__ import annotations

import signal
import threading
from types import MethodType
from typing import Any

ENDING = [one for one in signal.Signals if one.name in ("SIGTERM", "SIGUSR1", "SIGUSR2")]


class EndingSignals:
    """Notes a signal, which would end the process, until the fit has saved itself."""

    def __init__(self) -> None:
        self.number = 0  # of the signal that has come; 0 for none
        self._old: dict[int, Any] = {}

    @property
    def status(self) -> int:
        """The exit status of a process that the signal has ended, as schedulers and shells know it."""
        return 128 + self.number

    def listen(self) -> None:
        """Take over from the handlers there are, except those that a script has set for SIGUSR1 and SIGUSR2.

        Python lets only the main thread set handlers. Inside the fit of another checkpoint its handlers stay: they end both.
        """
        self.number = 0
        if threading.current_thread() is not threading.main_thread():
            return
        for one in ENDING:
            current = signal.getsignal(one)
            is_noted = isinstance(current, MethodType) and current.__func__ is EndingSignals._note
            if not is_noted and (one is signal.SIGTERM or current is signal.SIG_DFL):
                self._old[one] = signal.signal(one, self._note) or signal.SIG_DFL

    def stop_listening(self) -> None:
        """Give the signals back to the handlers there were."""
        while self._old:
            signal.signal(*self._old.popitem())

    def _note(self, number: int, *_: object) -> None:
        self.number = number


def signal_of(status: object) -> str | None:
    """The name of the signal that an exit status stands for; None if it is none of these.

    Args:
        status: The exit status of a process.

    Examples:
        >>> signal_of(143), signal_of(1)
        ('SIGTERM', None)
    """
    return next((one.name for one in ENDING if status == 128 + one), None)
