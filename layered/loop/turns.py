"""Whose turn it is: a loop has one state, so one thread at a time trains, validates or predicts a loader with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from layered.foundation import CannotTrain


class Turns:
    """Lets one thread at a time use the state of a loop.

    Passes in other threads wait for a validation or prediction, and are refused during a fit, which they could change.
    What keeps nothing on the loop, such as predictions of single items and saving, runs side by side, but not beside a fit.

    Examples:
        >>> turns = Turns()
        >>> with turns.of_pass(), turns.of_pass():
        ...     print(turns.owner == threading.get_ident())
        True
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self.owner: int | None = None  # the thread that uses the loop's state
        self.depth = 0  # how many passes of the owner are inside each other
        self.fits = False  # the owner trains
        self.guests = 0  # predictions of single items and the like that are running

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()  # a copy of a loop is not in use

    def of_pass(self, fits: bool = False, waits: bool = False) -> AbstractContextManager[None]:
        """Inside the `with` no other thread uses the state of the loop.

        Args:
            fits: Whether it is a fit, which changes the model and therefore waits for predictions that are running.
            waits: Whether it waits for another thread that trains too, where it must be done.

        Raises:
            CannotTrain: Another thread trains, unless it `waits`.
        """
        me = threading.get_ident()

        def begin(before: list[bool]) -> None:
            while self.owner != me and (self.owner is not None or (fits and self.guests)):
                if not waits:
                    self._refuse_beside_fit()
                self._changed.wait()
            was = [self.fits]
            self.owner, self.depth, self.fits, before[:] = me, self.depth + 1, self.fits or fits, was

        def end(before: list[bool]) -> None:
            if before:
                self.depth, self.fits = self.depth - 1, before.pop()
            if not self.depth and self.owner == me:
                self.owner = None

        return self._turn(begin, end)

    def of_item(self) -> AbstractContextManager[None]:
        """Inside the `with` no other thread trains.

        Raises:
            CannotTrain: Another thread trains.
        """

        def begin(counted: list[bool]) -> None:
            if self.owner != threading.get_ident():
                self._refuse_beside_fit()
            self.guests, counted[:] = self.guests + 1, [True]

        def end(counted: list[bool]) -> None:
            if counted:
                self.guests -= counted.pop()

        return self._turn(begin, end)

    @contextmanager
    def _turn(self, begin: Callable[[list[bool]], None], end: Callable[[list[bool]], None]) -> Iterator[None]:
        """Have a turn, and end it wherever an interrupt strikes: `end` undoes once what `begin` noted in the list."""
        noted: list[bool] = []
        self._unlock()
        try:
            try:
                with self._changed:
                    begin(noted)
                yield
            finally:
                self._end(end, noted)
        finally:  # once more, should an interrupt have struck just there
            try:
                self._end(end, noted)
            finally:
                self._unlock()

    def _end(self, end: Callable[[list[bool]], None], noted: list[bool]) -> None:
        with self._changed:
            end(noted)
            self._changed.notify_all()

    def _unlock(self) -> None:
        """Open what this thread has left locked: an interrupt may strike between the last line of a `with` and its end."""
        with suppress(RuntimeError):  # this thread holds nothing
            self._changed.release()

    def _refuse_beside_fit(self) -> None:
        if self.fits:
            raise CannotTrain(
                "the learner is training in another thread: its weights are changing, and a second pass would disturb it",
                fix="wait until fit returns, call it from a callback of that fit, or use a copy: copy.deepcopy(learn)",
            )
