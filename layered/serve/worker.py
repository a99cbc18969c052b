"""The one thread that predicts, and the bounded queue before it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

Answering = Callable[[Sequence[Any]], Sequence[Any]]


class Job(Future[list[Any]]):
    """Items of one request, and in the end an answer to each.

    Args:
        items: The items.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        super().__init__()
        self.items = items


class Worker:
    """Answers jobs in a thread. Those that came while it was busy are answered as one batch.

    Args:
        answer: Gives an answer to each of some items.
        bs: How many items are gathered from several jobs.
        most_waiting: How many jobs may wait.

    Examples:
        >>> Worker(lambda items: [2 * item for item in items]).put([1, 2]).result()
        [2, 4]
    """

    def __init__(self, answer: Answering, bs: int = 32, most_waiting: int = 64) -> None:
        self.answer, self.bs = answer, bs
        self.waiting: queue.Queue[Job] = queue.Queue(most_waiting)
        self.thread = threading.Thread(target=self._work, name="predicting", daemon=True)
        self.thread.start()

    def put(self, items: Sequence[Any]) -> Job:
        """Add a job.

        Args:
            items: Its items.

        Raises:
            queue.Full: Too many jobs wait.
        """
        job = Job(items)
        self.waiting.put_nowait(job)
        return job

    def _work(self) -> None:
        while True:
            jobs = [self.waiting.get()]
            while sum(len(job.items) for job in jobs) < self.bs and not self.waiting.empty():
                jobs.append(self.waiting.get())
            self._answer([job for job in jobs if job.set_running_or_notify_cancel()])

    def _answer(self, jobs: Sequence[Job]) -> None:
        try:
            answers = list(self.answer([item for job in jobs for item in job.items])) if jobs else []
        except Exception as error:
            for job in jobs:
                job.set_exception(error)
            return
        for job in jobs:
            job.set_result(answers[: len(job.items)])
            del answers[: len(job.items)]
