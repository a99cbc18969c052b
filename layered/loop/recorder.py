"""What a fit leaves behind: losses, rates and metrics as plain lists of numbers."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import torch
from torch import Tensor

from layered.foundation import CannotRestore, OutOfRange, assigned, find_bs, lazy, unknown_name, warn
from layered.loop.callback import Callback, bad_state
from layered.loop.kept import Count, Numbers, alike, fits
from layered.loop.logged import Logged, settle, take_means
from layered.loop.metric_state import accumulated, keepers
from layered.loop.processes import any_process, gathered, merge_metrics
from layered.metrics import Metric, MetricSet, unique_names, unique_parts
from layered.nn import Shares, combined, counted, how_batches_combine, is_built_in, reduction_of

plt = lazy("matplotlib.pyplot")
pd = lazy("pandas")

ClockTime: TypeAlias = Annotated[str, re.compile(r"(\d+:)?\d\d:\d\d", re.ASCII).fullmatch]
WAYS = frozenset({"parts", "rows", "sum"})  # in which the validation losses of batches may combine
SETTLE_EVERY = 1024  # how many losses may stay on the device before they are read in one go
_TAKEN = ("epoch", "train_loss", "valid_loss", "time", "step")  # names of columns and of what loggers add to them


class Recorder(Callback):
    """Records every training batch and every epoch. Nothing waits for the device until somebody reads a loss.

    Validation in the middle of an epoch (`fit(valid_every="500 batches")`) makes a row of its own, with the same epoch.

    `history` and `to_frame()` have the values by name. The validation loss is that of the whole set, however it is split into
    batches: class weights and ignored targets count as in the loss, and losses that are sums add up. With several processes
    the values combine all of them; `losses` are those of this process.

    Args:
        add_time: A column with the time of each epoch.
        train_metrics: Compute the metrics on training batches too.
        valid_metrics: Compute them on validation batches.
        beta: Smoothing of the training loss: 0.98 * old + 0.02 * new, divided by 1 - 0.98^count; it continues from epoch to
            epoch and restarts with each fit. A loss that is not finite is recorded as it is and left out of later ones.

    Attributes:
        metric_names: The columns of the table: epoch, losses, metrics, time. A metric whose name is taken has a number.
        lrs: The learning rate of each training batch (the last group's).
        losses: The smooth loss after each training batch.
        iters: Training batches done at the end of each epoch.
        epochs: The number of each epoch.
        values: The losses and metrics of each epoch; None for what was not computed in it.
        log: The row of the current epoch.
        logged_names: Of values that the model or a callback reports by `note`; their columns stand behind those of the metrics.
        numbers: What `learn.log` has logged since the last row, by name.
        is_validating: A validation pass is going on.
        hps: What a scheduled fit set, by name, for each training batch.

    Raises:
        OutOfRange: For a `beta` outside [0, 1).
    """

    order = 50
    transient = (
        "_epoch_began",
        "_directions",
        "_train_set",
        "_finite",
        "_valid_shares",
        "_tried_loss",
        "logged",
        "is_validating",
        "_awaits_row",
        "_heard",
    )
    remove_on_fetch = True
    observes = True
    state_kinds = (
        ("hps", dict[str, list[float]]),
        ("lrs", list[float]),
        ("iters", list[Count]),
        ("epochs", list[Count]),
        ("values", list[list[Numbers]]),
        ("log", list[Numbers | ClockTime]),
        ("logged_names", list[str]),
        ("_losses", list[float]),
        ("_pending", list[Tensor]),
        ("_average", float),
        ("_combines_by", Annotated[set, WAYS.issuperset]),
        ("_tries", Count),
        ("numbers", dict[str, list[float]]),
    )
    unread_state = ("metric_names", "_valid_losses", "_valid_rows")

    def __init__(
        self, add_time: bool = True, train_metrics: bool = False, valid_metrics: bool = True, beta: float = 0.98
    ) -> None:
        if not 0 <= beta < 1:
            raise OutOfRange(
                "beta must be the weight of older losses in the smooth one", got=beta, expected="0 <= beta < 1"
            )
        self.add_time, self.train_metrics, self.valid_metrics, self.beta = add_time, train_metrics, valid_metrics, beta
        self.metric_names: list[str] = []
        self._directions: dict[str, bool | None] = {}
        self.hps: dict[str, list[float]] = {}
        self.logged_names: list[str] = []
        self.logged: dict[str, Any] = {}  # of the current row
        self.is_validating = self._awaits_row = False
        self._heard: tuple[int, int] | None = None  # the epoch and the number of the last training batch
        # how batches of a loss that is not built in combine, which is tried on the first ones, and how many tries are left
        self._tried_loss: object = None
        self._combines_by: set[str] = set()
        self._tries = 0
        self._clear()

    def _clear(self) -> None:
        self.lrs: list[float] = []
        self.iters: list[int] = []
        self.epochs: list[int] = []
        self.values: list[list[Any]] = []
        self.log: list[Any] = []
        self._losses: list[float] = []
        self._pending: list[Tensor] = []
        self._average, self._finite = 0.0, 0  # of the finite losses, and how many there are
        self.numbers: Logged = {}
        self._valid_shares: list[Shares] = []  # of each batch: the parts of its loss, and what their means divide by

    def before_fit(self) -> None:
        if self.learn.fitting:
            self._clear()
        metrics, both = self.learn.metric_set, self.train_metrics and self.valid_metrics
        # validation in the middle of a training pass resets its own metrics
        self._train_set = MetricSet(metrics) if both else metrics
        self._name_columns()
        self._begin_tries()

    def _name_columns(self) -> None:
        metrics, both = self.learn.metric_set, self.train_metrics and self.valid_metrics
        parts = [part for part, has in (("train_", self.train_metrics), ("valid_", self.valid_metrics)) if has]
        own = [part * both + name for part in parts for name in metrics.names]
        names = unique_names([*own, *self.logged_names], _TAKEN)
        names, logged = names[: len(own)], names[len(own) :]
        self._directions = dict(zip(names, metrics.higher_is_better * len(parts), strict=True))
        self._directions |= {name: False for name in ("train_loss", "valid_loss", *logged) if "loss" in name}
        in_training = len(metrics) * self.train_metrics
        valid = ["valid_loss", *names[in_training:]] if self.valid_metrics else []
        train = ["train_loss", *names[:in_training]]
        self.metric_names = ["epoch", *train, *valid, *logged, *(["time"] if self.add_time else [])]

    def expect(self, names: Iterable[str]) -> None:
        """Add columns for values that will be noted.

        Args:
            names: Their names.
        """
        new = [name for name in names if name not in self.logged_names]
        self.logged_names = [*self.logged_names, *new]
        self.values = [[*row, *[None] * len(new)] for row in self.values]
        self._name_columns()

    def note(self, values: Mapping[str, Any]) -> None:
        """Report values of this epoch, or of this validation pass, which stand in the next row of the table.

        Args:
            values: Numbers by name. One that has no column gets it, empty in earlier rows.
        """
        self.expect(values)
        self.logged |= values

    def collect(self, name: str, number: float | Tensor) -> None:
        """Add a number to those whose mean is noted in the next row of the epoch; once that is made, nothing.

        Args:
            name: Of the column.
            number: A number, or a tensor of one, which is read when the row is made.
        """
        if self._awaits_row:
            self.numbers.setdefault(name, []).append(number)

    @property
    def step(self) -> int:
        """The number, from 1, of the training batch that is going on, or else of the last one; cancelled ones do not count."""
        learn = self.learn
        goes_on = learn.training and learn.batch is not None and self._heard != (learn.epoch, learn.iter)
        return self._count + goes_on

    def before_epoch(self) -> None:
        self.logged = {}
        self.log, self._epoch_began, self._awaits_row = [self.learn.epoch], time.perf_counter(), True
        self.is_validating = False  # where a cancelled fit has left it

    def before_train(self) -> None:
        if self.train_metrics:
            self._train_set.reset()

    def before_validate(self) -> None:
        self._valid_shares, self.is_validating = [], True
        if self.valid_metrics:
            self.learn.metric_set.reset()

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            self._heard = learn.epoch, learn.iter
        if not learn.has_learned:  # cancelled before there was a loss: what is there is of the batch before
            return
        if learn.training:
            if learn.loss is not None:
                self._pending.append(learn.loss if learn.loss.ndim == 0 else learn.loss.mean())
                self.lrs.append(learn.opt.hypers[-1]["lr"])
                if len(self._pending) >= SETTLE_EVERY:
                    self._settle()
        elif learn.loss is not None and self.valid_metrics:
            self._keep_shares()
            if len(self._valid_shares) >= SETTLE_EVERY:
                self._settle_valid()
        if (self.train_metrics if learn.training else self.valid_metrics) and learn.yb:
            (self._train_set if learn.training else learn.metric_set).accumulate(learn)

    def after_train(self) -> None:
        any_batch = any_process(self.learn.batch is not None or self.learn.first_batch > 0)
        self.log.append(self._train_loss() if any_batch else None)
        if self.train_metrics:
            self.log += self._values_of(self._train_set, any_batch)

    def _train_loss(self) -> float | None:
        losses = [loss for loss in gathered(self.smooth_loss if self._count else None) if loss is not None]
        return sum(losses) / len(losses) if losses else None

    def after_validate(self) -> None:
        self.is_validating = False
        if not self.valid_metrics:
            return
        learn = self.learn
        any_batch = any_process(learn.batch is not None)
        if not any_batch:  # cancelled, perhaps before this callback could begin: what it holds is of the pass before
            self.before_validate()
            self.is_validating = False
        values = [self._valid_loss(), *self._values_of(learn.metric_set, any_batch)]
        if not learn.nested:
            self.log += values
            return
        learn.final_record = values
        if learn.adds_row:
            # the metrics of the training pass
            not_yet = [None] * (len(self.metric_names) - 2 - self.add_time - len(values) - len(self.logged_names))
            self._add_row([self._train_loss(), *not_yet, *values])

    def after_epoch(self) -> None:
        learn = self.learn
        if learn.fitting and self.log[:1] != [learn.epoch]:  # cancelled before this callback could begin
            return
        learn.final_record = self.log[1:]
        if not learn.fitting:
            learn.final_record += self.logged.values()
        if not learn.fitting or len(self.log) == 1:
            return
        width = len(self.metric_names) - 1 - self.add_time - len(self.logged_names)
        learn.final_record += [None] * (width - len(learn.final_record))
        self.log = self._add_row(learn.final_record)
        self._awaits_row = False

    def _add_row(self, values: list[Any]) -> list[Any]:
        learn = self.learn
        self.note(take_means(self.numbers))
        values += [self.logged.get(name) for name in self.logged_names]
        self.logged = {}
        self.values.append(values)
        self.epochs.append(learn.epoch)
        self.iters.append(self._count)
        row = [learn.epoch, *values]
        if self.add_time:
            row.append(format_time(time.perf_counter() - self._epoch_began))
        learn.logger(row)
        return row

    def _begin_tries(self) -> None:
        if self._tried_loss is not self.learn.loss_func:
            self._tried_loss, self._combines_by, self._tries = self.learn.loss_func, set(WAYS), 4

    @property
    def _count(self) -> int:
        return len(self._losses) + len(self._pending)

    def _settle(self) -> None:
        """Read the losses that are still on the device, and smooth them."""
        if self._pending:
            for loss in torch.stack(self._pending).double().tolist():
                if math.isfinite(loss):
                    self._average = self.beta * self._average + (1 - self.beta) * loss
                    self._finite += 1
                    loss = self._average / (1 - self.beta**self._finite)
                self._losses.append(loss)
            self._pending = []

    def _keep_shares(self) -> None:
        """Keep the validation loss of this batch, in the parts by which batches combine."""
        learn = self.learn
        shares = learn.loss_shares if self._combines_by_parts() else []
        rows = 1 if self._is_sum else find_bs(learn.yb or learn.xb)
        if len(shares) > 1:
            self._valid_shares.append(counted(shares, rows))
        else:
            count = shares[0][1] if shares else None
            loss = learn.loss if learn.loss.ndim == 0 else learn.loss.mean()
            self._valid_shares.append(counted([(loss, count)], rows))

    def _combines_by_parts(self) -> bool:
        """Whether the parts of the loss say how batches combine; a loss for which nothing does is named once."""
        learn = self.learn
        if not learn.loss_shares or learn.loss_func is None or is_built_in(learn.loss_func):
            return True
        self._begin_tries()
        if self._combines_by and self._tries and find_bs(learn.yb or learn.xb) > 1:
            self._tries -= 1
            self._combines_by &= how_batches_combine(learn.loss_func, learn.pred, learn.yb)
            if not self._combines_by:
                warn(
                    "valid_loss depends on the batch size, because this loss is not a mean over samples, nor a sum: its "
                    "value for a batch is not that of two parts of the batch, weighted by their sizes; compare runs by a metric"
                )
        return "parts" in self._combines_by

    @property
    def _is_sum(self) -> bool:
        is_tried = self._tried_loss is self.learn.loss_func and self._combines_by == {"sum"}
        return self.learn.step is None and (is_tried or reduction_of(self.learn.loss_func) == "sum")

    def _settle_valid(self) -> None:
        """Combine the validation losses of batches into one, part by part, weighted by what their means divide by."""
        if self._valid_shares:
            self._valid_shares = [combined(self._valid_shares)]

    def _valid_loss(self) -> float | None:
        """The validation loss of all processes; None if there was nothing to count."""
        self._settle_valid()
        parts = combined([batch for part in gathered(self._valid_shares) for batch in part])
        if not parts or any(count == 0 for _, count in parts):
            return None
        return float(sum(loss * count if self._is_sum else loss for loss, count in parts))

    def _values_of(self, metrics: MetricSet, any_batch: bool) -> list[Any]:
        merge_metrics(metrics)
        return metrics.values if any_batch else [None] * len(metrics)

    def state_dict(self) -> dict[str, Any]:
        self._settle()
        settle(self.numbers)
        state = super().state_dict()
        if self.train_metrics and self.learn.training:
            state["seen"] = [[part.name, [accumulated(keeper) for keeper in keepers(part)]] for part in self._parts]
        return state

    def check_state(self, state: Mapping[str, Any]) -> None:
        self.check_attributes({name: value for name, value in state.items() if name != "seen"})
        sizes = {name: len(value) for name, value in state.items() if isinstance(value, list) and name != "seen"}
        batches = sizes.get("_losses", 0) + sizes.get("_pending", 0)
        if len({sizes.get(name, 0) for name in ("iters", "epochs", "values")}) > 1:
            raise bad_state(self, "iters, epochs and values of different lengths")
        if sizes.get("lrs", 0) != batches or any(count > batches for count in state.get("iters", ())):
            raise bad_state(self, f"{sizes.get('lrs', 0)} rates for {batches} losses")
        if not fits(state.get("seen", []), list[list[Any]]):
            raise bad_state(self, "seen")
        if "seen" in state:
            self._check_seen(state["seen"])

    def _check_seen(self, seen: list[list[Any]]) -> None:
        current, saved = [part.name for part in self._parts], [part[0] for part in seen]
        if current != saved:
            raise CannotRestore(
                "the metrics of the training batches differ from those in the file", got=current, expected=saved
            )
        for part, (_, kept) in zip(self._parts, seen, strict=True):
            for keeper, values in zip(keepers(part), kept, strict=True):
                own = accumulated(keeper)
                for name, value in values.items():
                    is_known = alike(own[name], value) if name in own else name in assigned(type(keeper))
                    if not is_known or not fits(value, Numbers):
                        raise bad_state(self, f"{name} of the metric {type(keeper).__name__}")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_state(state)
        super().load_state_dict({name: value for name, value in state.items() if name != "seen"})
        self._name_columns()
        self._finite = sum(map(math.isfinite, self._losses))
        if "seen" not in state:
            return
        for part, (_, kept) in zip(self._parts, state["seen"], strict=True):
            part.reset()
            for keeper, values in zip(keepers(part), kept, strict=True):
                for name, value in values.items():
                    setattr(keeper, name, value)

    @property
    def _parts(self) -> list[Metric]:
        return unique_parts(vars(self).get("_train_set", self.learn.metric_set))

    def higher_is_better(self, column: str) -> bool | None:
        """Whether larger values of a column are better; None where its metric does not say."""
        return self._directions.get(column)

    @property
    def losses(self) -> list[float]:
        """The smooth loss after each training batch."""
        self._settle()
        return self._losses

    @property
    def smooth_loss(self) -> float:  # type: ignore[override]  # hides the loop's, which is a tensor
        """The smooth loss after the last training batch; nan before the first."""
        return self.losses[-1] if self._count else math.nan

    @property
    def history(self) -> list[dict[str, Any]]:
        """A dict for each epoch: its number, losses and metrics by the names of their columns."""
        names = [name for name in self.metric_names if name not in ("epoch", "time")]
        rows = zip(self.epochs, self.values, strict=True)
        return [{"epoch": epoch, **dict(zip(names, row, strict=False))} for epoch, row in rows]

    def to_frame(self) -> Any:
        """The losses and metrics as a pandas `DataFrame`, a row for each epoch."""
        names = [name for name in self.metric_names if name not in ("epoch", "time")]
        return pd.DataFrame(self.history, columns=["epoch", *names]).set_index("epoch")

    def plot_loss(
        self, skip_start: int = 5, with_valid: bool = True, log: bool = False, show_epochs: bool = False, ax: Any = None
    ) -> None:
        """Plot the smooth training loss by batch, and the validation loss at the end of each epoch.

        Args:
            skip_start: Leave out the first batches.
            log: A logarithmic axis of losses.
            show_epochs: Mark where epochs begin.
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

    def plot_sched(self, keys: Any = None, figsize: tuple[float, float] | None = None) -> None:
        """Plot what a scheduled fit set, batch by batch: the hypers named in `keys`, or all.

        Raises:
            UnknownName: For a hyper that no schedule has set.
        """
        names = list(self.hps) if keys is None else [keys] if isinstance(keys, str) else list(keys)
        for name in names:
            if name not in self.hps:
                raise unknown_name("scheduled hyper-parameter", name, self.hps, fix="fit with a schedule first")
        _plots({name: {"": (range(len(self.hps[name])), self.hps[name])} for name in names}, "batch", figsize)

    def plot_metrics(self, figsize: tuple[float, float] | None = None) -> None:
        """Plot the losses and each metric by epoch, training and validation together."""
        frame, plots = self.to_frame(), dict[str, Any]()
        for column in frame.columns:
            kind, name = column.split("_", 1) if column.startswith(("train_", "valid_")) else ("valid", column)
            points = frame[column].dropna()
            plots.setdefault(name, {})[kind] = points.index, points
        _plots(plots, "epoch", figsize)


def _plots(plots: dict[str, dict[str, tuple[Any, Any]]], xlabel: str, figsize: tuple[float, float] | None) -> None:
    """Draw a figure with a plot for each name, of one line for each label."""
    count = max(len(plots), 1)
    _, axes = plt.subplots(1, count, figsize=figsize or (5 * count, 4), squeeze=False, layout="constrained")
    for (name, lines), ax in zip(plots.items(), axes[0], strict=False):
        for label, (x, y) in lines.items():
            ax.plot(x, y, label=label, marker="o" if len(x) == 1 else None)
        ax.set_xlabel(xlabel)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_ylabel(name)
        if len(lines) > 1:
            ax.legend()


def format_time(seconds: float) -> str:
    """Seconds as mm:ss, or h:mm:ss.

    Examples:
        >>> format_time(75), format_time(3700)
        ('01:15', '1:01:40')
    """
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes:02d}:{secs:02d}"
