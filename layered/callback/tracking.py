"""Callbacks that watch a number of each epoch and act on it: save the best, stop early, lower the rate."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

from layered.foundation.errors import BadValue, unknown_name
from layered.loop.callback import Callback
from layered.loop.events import CancelFitException


class TerminateOnNaNCallback(Callback):
    """Ends the fit at the first loss that is not finite, and says where. Waits for the device at each batch."""

    order = -9

    def after_batch(self) -> None:
        learn = self.learn
        if learn.loss is not None and not math.isfinite(loss := float(learn.loss.mean())):
            warnings.warn(f"the loss is {loss} in epoch {learn.epoch}, batch {learn.iter}: the fit ends", stacklevel=2)
            raise CancelFitException


class TrackerCallback(Callback):
    """Watches a column of the table: `best` is its best value yet, `new_best` whether the last epoch gave it.

    monitor       name of the column
    comp          comp(new, best) is whether new is better; by default smaller for names with "loss" or "error",
                  else larger
    min_delta     an improvement is at least this large
    reset_on_fit  forget the best when a fit begins
    """

    order = 60

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[Any, Any], Any] | None = None,
        min_delta: float = 0.0,
        reset_on_fit: bool = True,
    ) -> None:
        smaller = "loss" in monitor or "error" in monitor
        self.monitor, self.comp = monitor, comp or (operator.lt if smaller else operator.gt)
        self.min_delta, self.reset_on_fit = min_delta, reset_on_fit
        self.best: float | None = None
        self.new_best = False
        self.column = 0

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.peeking:
            self.run = False
            return
        names = learn.recorder.metric_names[1:]
        if self.monitor not in names:
            raise unknown_name("column of the table", self.monitor, names)
        self.column = names.index(self.monitor)
        if self.reset_on_fit:
            self.best = None

    def after_epoch(self) -> None:
        self.look()

    def look(self) -> None:
        """Compare the value of the epoch that has ended with the best."""
        values = self.learn.recorder.values
        self.new_best = False
        if not values:
            return
        value = values[-1][self.column]
        if value is None:
            raise BadValue(
                f"'{self.monitor}' has no value", fix="give the fit a validation loader, or monitor='train_loss'"
            )
        better = 1 if self.comp(1, 0) else -1
        if self.best is None or self.comp(value - better * self.min_delta, self.best):
            self.best, self.new_best = value, True


class EarlyStoppingCallback(TrackerCallback):
    """Ends the fit after `patience` epochs without improvement. The other arguments are `TrackerCallback`'s."""

    order = 63

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[Any, Any], Any] | None = None,
        min_delta: float = 0.0,
        patience: int = 1,
        reset_on_fit: bool = True,
    ) -> None:
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        self.patience, self.wait = patience, 0

    def before_fit(self) -> None:
        self.wait = 0
        super().before_fit()

    def after_epoch(self) -> None:
        self.look()
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait >= self.patience:
            print(f"No improvement since epoch {self.learn.epoch - self.wait}: early stopping")
            raise CancelFitException


class ReduceLROnPlateau(TrackerCallback):
    """Divides the rates by `factor` after `patience` epochs without improvement, down to `min_lr`."""

    order = 62

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[Any, Any], Any] | None = None,
        min_delta: float = 0.0,
        patience: int = 1,
        factor: float = 10.0,
        min_lr: float = 0,
        reset_on_fit: bool = True,
    ) -> None:
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        self.patience, self.factor, self.min_lr, self.wait = patience, factor, min_lr, 0

    def before_fit(self) -> None:
        self.wait = 0
        super().before_fit()

    def after_epoch(self) -> None:
        self.look()
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait >= self.patience:
            for hyper in self.learn.opt.hypers:
                hyper["lr"] = max(hyper["lr"] / self.factor, self.min_lr)
            self.wait = 0


class SaveModelCallback(TrackerCallback):
    """Saves the best model under `fname` and loads it when the fit ends.

    every_epoch  save `fname_<epoch>` after each epoch instead (or each so many)
    at_end       save when the fit ends instead of loading the best
    with_opt     the optimizer's state too
    """

    order = 61

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[Any, Any], Any] | None = None,
        min_delta: float = 0.0,
        fname: str = "model",
        every_epoch: bool | int = False,
        at_end: bool = False,
        with_opt: bool = False,
        reset_on_fit: bool = True,
    ) -> None:
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        self.fname, self.every_epoch, self.at_end, self.with_opt = fname, every_epoch, at_end, with_opt
        self.saved = False

    def before_fit(self) -> None:
        self.saved = False
        super().before_fit()

    def after_epoch(self) -> None:
        learn = self.learn
        if self.every_epoch:
            if learn.epoch % int(self.every_epoch) == 0:
                learn.save(f"{self.fname}_{learn.epoch}", with_opt=self.with_opt)
            return
        self.look()
        if self.new_best:
            print(f"Better model found at epoch {learn.epoch} with {self.monitor} value: {self.best}.")
            learn.save(self.fname, with_opt=self.with_opt)
            self.saved = True

    def after_fit(self) -> None:
        if self.at_end:
            self.learn.save(self.fname, with_opt=self.with_opt)
        elif self.saved:
            self.learn.load(self.fname, with_opt=self.with_opt)
