"""`fit_auto`: training until held-out training items get no better, at a rate that it finds, with the best weights at the end."""

from __future__ import annotations

import copy
import hashlib
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from layered.callback import FitArgs, fit_one_cycle, lr_find, minimum, say, valley
from layered.data import HeldOut, Splitter, divide_items
from layered.foundation import (
    BadValue,
    CannotTrain,
    OutOfRange,
    checked,
    delegates,
    facts_html,
    facts_text,
    shard_like,
    unknown_name,
    whole_number,
)
from layered.loop import (
    AbstractLoop,
    Callback,
    CancelFitException,
    Count,
    Kinds,
    Loop,
    Rate,
    Recorder,
    bad_state,
    callbacks_of,
    interrupts_held,
    replaced,
    spread,
    unwrapped,
    use_current_opt,
    valid_of,
)
from layered.training.tuning import freeze_to, frozen_again

WORTH = 0.005  # by how much, of itself, a value has to get better for training to go on at the same rate
WARMUP = 50  # batches over which the rate rises
LEAST_BATCHES = 50  # without improvement before the rate is lowered, where that takes more than `patience` epochs
DROP, DROPS = 4.0, 3  # what the rate is divided by where nothing gets better, and at which time the fit ends instead
BODY = (
    100.0  # by how much smaller the rate of the first parameter group is than that of the head, once both are trained
)


@dataclass(frozen=True)
class AutoFit:
    """What `fit_auto` did. Its `repr` is a short report.

    Args:
        lr: The rate that the last parameter group began with.
        lr_found: Whether it was found, not given.
        epochs: How many epochs were trained, without those of the head alone.
        best_epoch: The epoch whose weights the model has, from 0; None if the fit ended before the first was judged.
        monitor: The value that was watched: "loss", or the name of a metric.
        best: That value of the held-out items in the best epoch.
        held_out: How many items were held out; None of a loader without length.
        items: How many training items there were with them; None if the held-out items were not taken from them.
        drops: How often the rate was lowered.
    """

    lr: float
    lr_found: bool
    epochs: int
    best_epoch: int | None
    monitor: str
    best: float | None
    held_out: int | None
    items: int | None
    drops: int

    def _facts(self) -> tuple[str, dict[str, object]]:
        best = "none was judged" if self.best is None else f"{self.best:.4g} in epoch {self.best_epoch}, which is kept"
        count = "items" if self.held_out is None else f"{self.held_out:,} items"
        share = "of a loader of their own" if self.items is None else f"of {self.items:,} training items"
        percent = f" ({self.held_out / self.items:.0%})" if self.items and self.held_out is not None else ""
        lowered = f", lowered {self.drops} times" if self.drops > 1 else ", lowered once" if self.drops else ""
        return f"fit_auto trained for {self.epochs} epochs", {
            f"held-out {self.monitor}": best,
            "rate": f"{self.lr:.2g}{', found' * self.lr_found}{lowered}",
            "held out": f"{count} {share}{percent}",
        }

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())


@checked
@delegates(Loop.fit, but=["lr"])
def fit_auto(
    loop: Loop,
    epochs: int = 100,
    lr: Rate | None = None,
    *,
    held_out: float | Splitter | Iterable[Any] = 0.1,
    monitor: str = "valid_loss",
    patience: int = 2,
    freeze_epochs: int = 1,
    **fit_args: Unpack[FitArgs],
) -> AutoFit:
    """Train until held-out training items get no better, and keep the weights that were best for them.

    A share of the training items is held out and judged after each epoch; the validation items are shown in the table as ever,
    and decide nothing. Where the held-out items have not got better by 0.5 % for `patience` epochs, training goes back to the
    best weights and goes on at a quarter of the rate; at the third time it ends. If the body of the model is frozen, as that of
    a pretrained one is, the head is trained alone first, then everything, the early groups at smaller rates.

    Which items are held out depends on the seed of the run alone. With `checkpoint=` and `resume=` it goes on bit for bit, and a
    fit with other held-out items is refused. `cbs=TimeLimit("10 min")` ends it earlier, with the best weights so far, and so
    does Ctrl-C; a fit that fails before the first epoch is judged leaves the weights as they were.

    Args:
        loop: The learner to train.
        epochs: The largest number of epochs.
        lr: The rate to begin with, per step: a number, or a slice over the parameter groups; None finds it by `lr_find`
            (the geometric mean of its rules `valley` and `minimum`).
        held_out: The share of the training items to hold out, of each class alike where they have one. Or a splitter, for
            items that are alike in groups: `GroupSplitter("patient", 0.1)`; or a loader of other items, where those of the
            training loader cannot be divided.
        monitor: What of the held-out items is watched: "valid_loss", or the name of a metric of the learner.
        patience: Epochs without improvement before the rate is lowered, at least 1; more where these are fewer than 50 batches.
        freeze_epochs: If parameter groups are frozen, the epochs of the last group alone, after which all are trained; 0 trains
            those that are trained now, and leaves the others frozen.
        fit_args: See `Loop.fit`.

    Returns:
        A short report: the rate, the epochs, the best value, and how many items were held out.

    Raises:
        BadValue: If a number is out of range, there are too few items, or it is not known which values of `monitor` are better.
        CannotTrain: If the items of the training loader cannot be divided (a stream, a loader of another library), or the
            held-out items have no finite value.
        UnknownName: If the learner has no such metric.
        CannotRestore: If the checkpoint is of a fit with other held-out items.

    Examples:
        >>> import torch; from torch import nn; from torch.utils.data import TensorDataset
        >>> from layered.data import DataLoaders; from layered.training import Learner
        >>> x = torch.randn(200, 3); data = TensorDataset(x, x.sum(1, keepdim=True))
        >>> learn = Learner(DataLoaders.from_dsets(data, data, bs=16), nn.Linear(3, 1), loss_func=nn.MSELoss())
        >>> with learn.no_bar(), learn.no_logging(): report = learn.fit_auto(lr=0.1)
        >>> report.held_out, report.items, report.best < 0.01
        (20, 200, True)
    """
    for name, number, least in (("epochs", epochs, 1), ("patience", patience, 1), ("freeze_epochs", freeze_epochs, 0)):
        if (whole := whole_number(number)) is None or whole < least:
            raise OutOfRange(
                f"{name} must be a number of epochs", got=repr(number), expected=f"a whole number from {least}"
            )
    parts = _parts(loop, held_out)
    judge = HeldOutCallback(parts, lr, monitor, patience)
    judge.check(loop)
    with frozen_again(loop), replaced(loop, "dls", _with_training(loop.dls, parts.train)):
        rate: Any = found_rate(loop) if lr is None else lr
        if loop.opt.frozen_idx and freeze_epochs:
            head = float(spread_of(loop, rate)[-1])
            freeze_to(loop, -1)
            fit_one_cycle(loop, freeze_epochs, slice(head), pct_start=0.99, **fit_args)
            freeze_to(loop, 0)
            rate = lr if isinstance(lr, (slice, Mapping)) else slice(head / 2 / BODY, head / 2)
        judge.rates = spread_of(loop, rate)
        fit_args["cbs"] = [judge, *callbacks_of(fit_args.get("cbs"))]
        loop.fit(epochs, **fit_args)
    return judge.report()


def _parts(loop: Loop, held_out: Any) -> HeldOut:
    """The training loader and that of the held-out items."""
    is_loader = isinstance(held_out, Iterable) and not callable(held_out) and not isinstance(held_out, (str, bytes))
    if is_loader:
        return HeldOut(loop.dls.train, held_out, np.arange(0), 0)
    return divide_items(loop.dls.train, valid_of(loop.dls), held_out)


def _with_training(dls: Any, train: Any) -> Any:
    """The loaders with another one for training."""
    res = copy.copy(dls)
    object.__setattr__(res, "loaders", [train, *dls.loaders[1:]])
    return res


def found_rate(loop: Loop) -> float:
    """The rate to begin with: the geometric mean of what the rules `valley` and `minimum` of `lr_find` suggest.

    The first is on the safe side, and the second at the limit; whatever is too high is lowered later.
    """
    suggested = lr_find(loop, show_plot=False, suggest_funcs=[valley, minimum])
    return math.sqrt(suggested.valley * suggested.minimum)


def spread_of(loop: Loop, rate: Rate) -> list[float]:
    """The rate of each parameter group of the optimizer that the next fit uses."""
    use_current_opt(loop)
    return spread(loop.opt, rate, "lr")


class HeldOutCallback(Callback):
    """Judges held-out items after each training pass, lowers the rates by it, ends the fit, and restores the best weights.

    Args:
        parts: The loader of the held-out items, and which they are.
        lr: The rate that the user gave.
        monitor: What is watched.
        patience: Epochs without improvement before the rates are lowered.
    """

    order = 63
    transient: ClassVar[tuple[str, ...]] = ("is_judging",)
    state_kinds: ClassVar[Kinds] = (
        ("rates", list[float]),
        ("best", float | None),
        ("best_epoch", Count | None),
        ("weights", dict[str, Tensor]),
        ("mark", float | None),
        ("wait", Count),
        ("since", Count),
        ("drops", Count),
        ("done", Count),
    )

    def __init__(self, parts: HeldOut, lr: Rate | None, monitor: str, patience: int) -> None:
        self.parts, self.lr_given, self.patience = parts, lr is not None, patience
        self.watched = monitor.removeprefix("valid_")
        self.rates: list[float] = []
        self.best: float | None = None
        self.mark: float | None = None  # the value that the next one has to be better than by `WORTH`
        self.best_epoch: int | None = None
        self.weights: dict[str, Tensor] = {}
        self.wait = self.since = self.drops = self.done = 0
        self.is_judging = False

    def __repr__(self) -> str:
        positions = self.parts.positions
        which = hashlib.blake2b(positions.tobytes(), digest_size=4).hexdigest()
        return (
            f"HeldOutCallback({len(positions)} of {self.parts.total} items, {which}, {self.watched}, {self.patience})"
        )

    @property
    def _column(self) -> str:
        return f"held_out_{self.watched}"

    def check(self, loop: AbstractLoop) -> None:
        """Refuse a value that cannot be watched, before anything is trained.

        Args:
            loop: The learner.
        """
        if loop.callbacks.get(Recorder) is None:
            raise CannotTrain(
                "fit_auto needs a Recorder, which computes what it watches", fix="learn.add_cb(Recorder())"
            )
        self._comparison(loop)

    def _comparison(self, loop: AbstractLoop) -> tuple[int, Any]:
        """Where the watched value is in a record, and which of two is better."""
        metrics = loop.metric_set
        if self.watched == "loss":
            return 0, operator.lt
        if self.watched not in metrics.names:
            raise unknown_name("metric", self.watched, ["valid_loss", *metrics.names])
        i = metrics.names.index(self.watched)
        upwards = metrics.higher_is_better[i]
        if upwards is None:
            raise BadValue(
                f"cannot tell whether larger or smaller values of '{self.watched}' are better",
                expected="a metric that declares `higher_is_better`",
                fix="AccumMetric(f, higher_is_better=True), or monitor='valid_loss'",
            )
        return i + 1, operator.gt if upwards else operator.lt

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting or learn.peeking:
            self.run = False
            return
        learn.rates_are_set = True
        self.best = self.mark = self.best_epoch = None
        self.wait = self.since = self.drops = self.done = 0
        self.weights = {name: x.detach().clone() for name, x in _state(learn.model)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        own = {} if self._learn is None else dict(_state(self.learn.model))
        if self.weights.keys() != own.keys():
            raise bad_state(self, f"weights of {len(self.weights)} tensors, of {len(own)}")
        self.weights = {name: shard_like(x, own[name]) for name, x in self.weights.items()}

    def before_batch(self) -> None:
        learn = self.learn
        if learn.training:
            share = min(1.0, (learn.train_iter + 1) / WARMUP) / DROP**self.drops
            learn.opt.set_hyper("lr", np.array(self.rates) * share)

    def after_train(self) -> None:
        learn: Any = self.learn
        self.is_judging = True
        try:
            learn.validate(dl=self.parts.held)
        finally:
            self.is_judging = False

    def after_validate(self) -> None:
        if not self.is_judging:
            return
        learn: Any = self.learn
        i, is_better = self._comparison(learn)
        value = learn.final_record[i]
        if not isinstance(value, (int, float)):
            raise CannotTrain(
                f"the held-out items have no {self.watched} that is one number",
                got=repr(value),
                fix="monitor= names a metric that is, or give the learner a loss",
            )
        learn.recorder.note({self._column: value})
        self.done, self.wait = learn.epoch + 1, self.wait + 1
        if not math.isfinite(value):
            return
        if self.mark is None or (is_better(value, self.mark) and abs(value - self.mark) > WORTH * abs(self.mark)):
            self.mark, self.wait, self.since = value, 0, learn.train_iter
        if self.best is None or is_better(value, self.best):
            self.best, self.best_epoch = value, learn.epoch
            self._keep()

    def after_epoch(self) -> None:
        if self.wait < self.patience or self.learn.train_iter - self.since < LEAST_BATCHES:
            return
        if self.best is None:
            raise CannotTrain(
                f"the held-out {self.watched} was not finite from the start",
                got=f"rates {self.rates}",
                fix="a smaller lr; learn.doctor() looks for causes",
            )
        self.wait, self.since, self.drops = 0, self.learn.train_iter, self.drops + 1
        since = f"The held-out {self.watched} gets no better, best in epoch {self.best_epoch}"
        if self.drops == DROPS:
            say(self.learn, f"{since}: ending the fit")
            raise CancelFitException
        say(self.learn, f"{since}: going on from there at {self.rates[-1] / DROP**self.drops:.2g}")
        self._restore()

    def after_fit(self) -> None:
        if self.learn.fitting:
            self._restore()

    def on_end(self) -> None:
        if self.learn.error is not None:
            self._restore()
        self.weights = {}

    @torch.no_grad()
    def _keep(self) -> None:
        for name, x in _state(self.learn.model):
            self.weights[name].copy_(x)

    @torch.no_grad()
    def _restore(self) -> None:
        own = dict(_state(self.learn.model))
        with interrupts_held():
            for name, kept in self.weights.items():
                own[name].copy_(kept)

    def report(self) -> AutoFit:
        """What was done."""
        held = self.parts.held
        count = len(self.parts.positions) if self.parts.total else getattr(held, "n", None)
        return AutoFit(
            lr=self.rates[-1],
            lr_found=not self.lr_given,
            epochs=self.done,
            best_epoch=self.best_epoch,
            monitor=self.watched,
            best=self.best,
            held_out=count,
            items=self.parts.total or None,
            drops=min(self.drops, DROPS - 1),
        )


def _state(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    model = unwrapped(model)
    return [*model.named_parameters(), *model.named_buffers()]
