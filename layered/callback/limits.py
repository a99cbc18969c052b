"""Callbacks that end a fit, or its passes, early: by time, by a share of the batches, by a function's decision."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from layered.callback.logging import row_of
from layered.callback.progress import say
from layered.foundation import BadValue, OutOfRange
from layered.loop import (
    Callback,
    CancelFitException,
    CancelTrainException,
    CancelValidException,
    Checkpoint,
    Count,
    Duration,
    any_process,
)


class TimeLimit(Callback):
    """Ends the fit when it has run for `limit`, counted from its start in this process.

    If the fit writes checkpoints, one is written where it ends, and `resume="auto"` continues from there, bit for bit. Several
    processes end together, when the first of them reaches the limit.

    Args:
        limit: "30 min", "2 h", "90 sec".
        after: "batch": end after the current training batch; "epoch": after the current epoch.

    Raises:
        BadValue: `limit` is not a time, or `after` is neither.
    """

    order = 1001  # after all other callbacks, so that the checkpoint has their final state
    transient = ("began",)
    observes = True
    state_kinds = ()

    def __init__(self, limit: str, after: str = "batch") -> None:
        duration = Duration.of(limit)
        if duration.unit != "seconds":
            raise BadValue("the limit must be a time", got=repr(limit), expected="'30 min', '2 h', '90 sec'")
        if after not in ("batch", "epoch"):
            raise BadValue("unknown point to end the fit after", got=repr(after), expected="'batch' or 'epoch'")
        self.limit, self.after, self.seconds, self.began = limit, after, duration.count, 0.0

    def before_fit(self) -> None:
        self.began = time.monotonic()

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training and self.after == "batch" and learn.iter + 1 != learn.n_iter:
            self._end_if_over(learn.epoch, learn.iter + 1)

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.fitting and learn.epoch + 1 < learn.n_epoch:
            self._end_if_over(learn.epoch + 1, 0)

    def _end_if_over(self, epoch: int, batch: int) -> None:
        learn = self.learn
        # `any_process` communicates, so all processes must call it at the same batch
        if learn.peeking or not any_process(time.monotonic() - self.began >= self.seconds):
            return
        for checkpoint in (cb for cb in learn.cbs if isinstance(cb, Checkpoint)):
            checkpoint.end_at(epoch, batch)
        say(learn, f"Time limit of {self.limit} reached: ending the fit before batch {batch} of epoch {epoch}")
        raise CancelFitException

    def __repr__(self) -> str:
        return f"TimeLimit('{self.limit}', after='{self.after}')"


class ShortEpochCallback(Callback):
    """Ends each pass after a fraction of its batches (at least one): to try whether everything runs.

    Args:
        pct: The fraction, in (0, 1].
        short_valid: Shorten validation passes too.

    Raises:
        OutOfRange: `pct` is outside (0, 1].
        BadValue: During the fit: the number of batches is unknown.
    """

    order = 1002  # after all other callbacks, so that they treat the last batch like any other
    state_kinds = ()

    def __init__(self, pct: float = 0.01, short_valid: bool = True) -> None:
        if not 0 < pct <= 1:
            raise OutOfRange("pct must be a fraction of the batches", got=pct, expected="more than 0, at most 1")
        self.pct, self.short_valid = pct, short_valid

    def after_batch(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.nested or learn.peeking or not (learn.training or self.short_valid):
            return
        if learn.n_iter is None:
            raise BadValue(
                "cannot take a fraction of an unknown number of batches",
                fix="pass fit n_iter=, or a loader with a length",
            )
        if learn.iter + 1 >= math.ceil(self.pct * learn.n_iter - 1e-9):
            raise CancelTrainException if learn.training else CancelValidException


class StopWhen(Callback):
    """Ends the fit after an epoch when a function says so: how a search drops an unpromising trial.

    Args:
        on_epoch: Called with the row of the table by name, `{"epoch": 0, "train_loss": …, "valid_loss": …, "accuracy": …}`;
            returns whether to stop. An exception that it raises ends the fit too, and is raised.

    Examples:
        >>> StopWhen(lambda metrics: metrics["epoch"] >= 3 and metrics["valid_loss"] > 1.0)
        StopWhen
    """

    order = 64
    state_kinds = (("seen", Count),)

    def __init__(self, on_epoch: Callable[[dict[str, Any]], Any]) -> None:
        self.on_epoch, self.seen = on_epoch, 0

    def before_fit(self) -> None:
        self.seen = 0

    def after_validate(self) -> None:
        if self.learn.adds_row:  # validation in the middle of a training pass
            self.after_epoch()

    def after_epoch(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.peeking or len(learn.recorder.values) == self.seen:
            return
        self.seen = len(learn.recorder.values)
        if self.on_epoch(row_of(learn)):
            say(learn, f"Stopped after epoch {learn.epoch} by {self.on_epoch!r}")
            raise CancelFitException
