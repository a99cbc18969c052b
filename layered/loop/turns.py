"""Whose turn it is: a loop has one state, so one thread at a time trains, validates or predicts a loader with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from layered.foundation import CannotTrain


class Turns:
    """Lets one thread at a time use the state of a loop.

    Passes in other threads wait for a validation or prediction, and are refused during a fit, which they could change.
    Predictions of single items, which keep nothing on the loop, run side by side, but not beside a fit.

    Examples:
        >>> turns = Turns()
        >>> with turns.of_pass(), turns.of_pass():
        ...     print(turns.owner == threading.get_ident())
        True
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self.owner: int | None = None  # the thread that uses the loop's state
        self.depth = 0  # how many passes of the owner are inside each other
        self.fits = False  # the owner trains
        self.guests = 0  # predictions of single items that are running

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()  # a copy of a loop is not in use

    @contextmanager
    def of_pass(self, fits: bool = False) -> Iterator[None]:
        """Inside the `with` no other thread uses the state of the loop.

        Args:
            fits: Whether it is a fit, which changes the model and therefore waits for predictions that are running.

        Raises:
            CannotTrain: Another thread trains.
        """
        me, entered, before = threading.get_ident(), False, False
        try:
            with self._changed:
                while self.owner != me and (self.owner is not None or (fits and self.guests)):
                    self._refuse_beside_fit()
                    self._changed.wait()
                self.owner, self.depth, self.fits, before, entered = (
                    me,
                    self.depth + 1,
                    self.fits or fits,
                    self.fits,
                    True,
                )
            yield
        finally:
            if entered:
                with self._changed:
                    self.depth, self.fits = self.depth - 1, before
                    if not self.depth:
                        self.owner = None
                        self._changed.notify_all()

    @contextmanager
    def of_item(self) -> Iterator[None]:
        """Inside the `with` no other thread trains.

        Raises:
            CannotTrain: Another thread trains.
        """
        with self._changed:
            if self.owner != threading.get_ident():
                self._refuse_beside_fit()
            self.guests += 1
        try:
            yield
        finally:
            with self._changed:
                self.guests -= 1
                self._changed.notify_all()

    def _refuse_beside_fit(self) -> None:
        if self.fits:
            raise CannotTrain(
                "the learner is training in another thread, which a second pass or a prediction would disturb",
                fix="wait until fit returns, call it from a callback of that fit, or use a copy: copy.deepcopy(learn)",
            )
