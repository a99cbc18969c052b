"""What a fit leaves behind: losses, rates and metrics as plain lists of numbers."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from layered.foundation.optional import lazy
from layered.foundation.tree import find_bs
from layered.loop.callback import Callback

plt = lazy("matplotlib.pyplot")

SETTLE_EVERY = 1024  # losses kept on the device at most, before they are read in one go


class Recorder(Callback):
    """Records every training batch and every epoch. Nothing waits for the device until somebody reads a loss.

    add_time       a column with the time of each epoch
    train_metrics  compute the metrics on training batches too
    valid_metrics  compute them on validation batches
    beta           smoothing of the training loss: 0.98 * old + 0.02 * new, divided by 1 - 0.98^count;
                   it runs through the epochs and begins anew with each fit

    lrs, losses    of each training batch: learning rate (last group's), smooth loss
    iters          batches done at the end of each epoch
    values         of each epoch: what the columns `metric_names` hold, without epoch and time
    log            the row of the epoch at hand
    hps            of each training batch, by name, what a scheduled fit set
    """

    order = 50
    transient = ("_epoch_began",)
    remove_on_fetch = True

    def __init__(
        self, add_time: bool = True, train_metrics: bool = False, valid_metrics: bool = True, beta: float = 0.98
    ) -> None:
        self.add_time, self.train_metrics, self.valid_metrics, self.beta = add_time, train_metrics, valid_metrics, beta
        self.metric_names: list[str] = []
        self.hps: dict[str, list[float]] = {}
        self._clear()

    def _clear(self) -> None:
        self.lrs: list[float] = []
        self.iters: list[int] = []
        self.values: list[list[Any]] = []
        self.log: list[Any] = []
        self._losses: list[float] = []
        self._pending: list[Tensor] = []
        self._average = 0.0
        self._loss_sum: Tensor | float = 0.0
        self._samples = 0

    def before_fit(self) -> None:
        learn = self.learn
        if learn.fitting:
            self._clear()
        names, both = learn.metric_set.names, self.train_metrics and self.valid_metrics
        train = ["train_loss", *(f"train_{n}" if both else n for n in names if self.train_metrics)]
        valid = ["valid_loss", *(f"valid_{n}" if both else n for n in names)] if self.valid_metrics else []
        self.metric_names = ["epoch", *train, *valid, *(["time"] if self.add_time else [])]

    def before_epoch(self) -> None:
        self.log, self._epoch_began = [self.learn.epoch], time.perf_counter()

    def before_train(self) -> None:
        if self.train_metrics:
            self.learn.metric_set.reset()

    def before_validate(self) -> None:
        self._loss_sum, self._samples = 0.0, 0
        if self.valid_metrics:
            self.learn.metric_set.reset()

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            if learn.loss is not None:
                self._pending.append(learn.loss if learn.loss.ndim == 0 else learn.loss.mean())
                self.lrs.append(learn.opt.hypers[-1]["lr"])
                if len(self._pending) >= SETTLE_EVERY:
                    self._settle()
        elif learn.loss is not None and self.valid_metrics:
            rows = find_bs(learn.yb or learn.xb)
            self._loss_sum = self._loss_sum + learn.loss.mean() * rows
            self._samples += rows
        if (self.train_metrics if learn.training else self.valid_metrics) and learn.yb:
            learn.metric_set.accumulate(learn)

    def after_train(self) -> None:
        self.log.append(self.smooth_loss if self._count else None)
        if self.train_metrics:
            self.log += self.learn.metric_set.values

    def after_validate(self) -> None:
        if not self.valid_metrics:
            return
        loss = float(self._loss_sum / self._samples) if self._samples else None
        values = [loss, *self.learn.metric_set.values]
        if self.learn.nested:
            self.learn.final_record = values
        else:
            self.log += values

    def after_epoch(self) -> None:
        learn = self.learn
        learn.final_record = self.log[1:]
        if not learn.fitting or len(self.log) == 1:
            return
        width = len(self.metric_names) - 1 - self.add_time
        learn.final_record += [None] * (width - len(learn.final_record))
        self.values.append(learn.final_record)
        self.log = [learn.epoch, *learn.final_record]
        if self.add_time:
            self.log.append(format_time(time.perf_counter() - self._epoch_began))
        self.iters.append(self._count)
        learn.logger(self.log)

    @property
    def _count(self) -> int:
        return len(self._losses) + len(self._pending)

    def _settle(self) -> None:
        """Read the losses that still lie on the device, and smooth them."""
        if self._pending:
            for loss in torch.stack(self._pending).double().tolist():
                self._average = self.beta * self._average + (1 - self.beta) * loss
                self._losses.append(self._average / (1 - self.beta ** (len(self._losses) + 1)))
            self._pending = []

    def state_dict(self) -> dict[str, Any]:
        self._settle()
        return super().state_dict()

    @property
    def losses(self) -> list[float]:
        """The smooth loss after each training batch."""
        self._settle()
        return self._losses

    @property
    def smooth_loss(self) -> float:
        """The smooth loss after the last training batch; 0 before the first."""
        return self.losses[-1] if self._count else 0.0

    def plot_loss(
        self, skip_start: int = 5, with_valid: bool = True, log: bool = False, show_epochs: bool = False, ax: Any = None
    ) -> Any:
        """Plot the smooth training loss by batch, and the validation loss at the end of each epoch; returns the axes.

        skip_start   leave out the first batches
        log          a logarithmic axis of losses
        show_epochs  mark where epochs begin
        """
        ax = plt.subplots()[1] if ax is None else ax
        ax.plot(range(skip_start, len(self.losses)), self.losses[skip_start:], label="train")
        valid_column = self.metric_names.index("valid_loss") - 1 if "valid_loss" in self.metric_names else None
        if with_valid and valid_column is not None:
            points = [(i, v[valid_column]) for i, v in zip(self.iters, self.values, strict=False) if i >= skip_start]
            points = [(i, v) for i, v in points if v is not None]
            ax.plot([i for i, _ in points], [v for _, v in points], label="valid", marker="o")
        if show_epochs:
            for i in (0, *self.iters[:-1]):
                ax.axvline(i, linestyle=":", color="grey")
        if log:
            ax.set_yscale("log")
        ax.set_xlabel("batch")
        ax.set_ylabel("loss")
        ax.legend()
        return ax

    def plot_sched(self, keys: Any = None, figsize: tuple[float, float] | None = None) -> Any:
        """Plot what a scheduled fit set, batch by batch: the hypers named in `keys`, or all; returns the figure."""
        names = list(self.hps) if keys is None else [keys] if isinstance(keys, str) else list(keys)
        figure, axes = plt.subplots(1, len(names), figsize=figsize or (6 * len(names), 4), squeeze=False)
        for name, ax in zip(names, axes[0], strict=True):
            ax.plot(self.hps[name])
            ax.set_ylabel(name)
            ax.set_xlabel("batch")
        return figure


def format_time(seconds: float) -> str:
    """Seconds as mm:ss, or h:mm:ss.

    >>> format_time(75), format_time(3700)
    ('01:15', '1:01:40')
    """
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes:02d}:{secs:02d}"
