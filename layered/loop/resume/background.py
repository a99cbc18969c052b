"""Writing while training continues: a copy of what is to be written, and a thread that writes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from torch import Tensor

from layered.files import untied


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, which do not change while training continues; tied tensors are copied once, and stay tied."""
    stored, tied = untied(tensors)
    copies = {name: x.detach().to("cpu", copy=True) for name, x in stored.items()}
    return copies | {alias: copies[name] for alias, name in tied.items()}


class Writer:
    """Runs one job at a time in its own thread. What a job raises is raised by the next call of a method.

    Examples:
        >>> writer = Writer()
        >>> writer.start(lambda: 1 / 0)
        >>> writer.wait()
        Traceback (most recent call last):
        ZeroDivisionError: division by zero
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], object]) -> None:
        """Start `job` once the previous one is done."""
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(job,), name="layered-writer")
        self._thread.start()

    def check(self) -> None:
        """Raise what has failed so far, without waiting."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Wait until nothing is being written."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self.check()

    def _do(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            self._error = error
