"""Hyperparameters that change during a fit, and the fits that are known by their schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack

import numpy as np
from torch.optim.lr_scheduler import ReduceLROnPlateau

from layered.callback.logging import check_column, row_of
from layered.foundation import BadValue, CannotTrain, OutOfRange, StrPath, checked, delegates, unknown_name
from layered.loop import (
    Callback,
    Cbs,
    Checkpoint,
    Count,
    Duration,
    Loop,
    Optimizers,
    Rate,
    Recorder,
    Resuming,
    callbacks_of,
    length_of,
    spread,
    use_current_opt,
)
from layered.optim import SchedCos, combine_scheds, combined_cos

USUAL_HYPERS = {"lr", "mom", "sqr_mom", "eps", "wd"}
"""Hyperparameters that may be scheduled for any optimizer, even one that does not use them."""


class ParamScheduler(Callback):
    """Sets hyperparameters before each training batch, from the fraction of the fit that is done.

    After the fit `learn.recorder.hps` has the values by name, one for each batch.

    Args:
        scheds: For each hyperparameter, a function of `pct_train` in [0, 1) that returns a number or one for each group.

    Raises:
        UnknownName: When a fit begins: the optimizer has no such hyperparameter.
    """

    order = 60
    state_kinds = (("hps", dict[str, list[float]]),)

    def __init__(self, scheds: Mapping[str, Callable[[float], Any]]) -> None:
        self.scheds = dict(scheds)
        self.hps: dict[str, list[float]] = {}

    def before_fit(self) -> None:
        learn = self.learn
        if learn.fitting:
            known = {name for hyper in learn.opt.hypers for name in hyper} | USUAL_HYPERS
            for name in self.scheds:
                if name not in known:
                    raise unknown_name("hyperparameter", name, known)
            self.hps = {name: [] for name in self.scheds}
            learn.rates_are_set |= "lr" in self.scheds

    def before_batch(self) -> None:
        learn = self.learn
        if learn.training:
            for name, sched in self.scheds.items():
                learn.opt.set_hyper(name, sched(learn.pct_train))

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            for name, values in self.hps.items():
                values.append(learn.opt.hypers[-1][name])

    def after_fit(self) -> None:
        learn = self.learn
        if learn.fitting and learn.callbacks.get(Recorder) is not None:
            learn.recorder.hps = self.hps

    def __repr__(self) -> str:
        return f"ParamScheduler({{{', '.join(f'{name!r}: {_schedule_name(sched)}' for name, sched in self.scheds.items())}}})"


class TorchScheduler(Callback):
    """Steps one of torch's schedulers (`torch.optim.lr_scheduler`), or any object with the same interface.

    The scheduler is part of checkpoints. Momentum is called `mom` here: `OneCycleLR` needs `cycle_momentum=False`. Each of
    several optimizers has a scheduler of its own.

    Args:
        make: Called with the optimizer when a fit begins; returns the scheduler: `partial(CosineAnnealingLR, T_max=1000)`.
        each: "batch": step after each training batch; "step": after each step of its optimizer, which with
            `GradientAccumulation` takes several batches; "epoch": after each epoch.
        monitor: The column of the table to pass to `step`, for torch's `ReduceLROnPlateau`. Epochs in which it has no value
            do not count.

    Raises:
        BadValue: `each` is unknown, or does not go with `monitor`; when a fit begins, the scheduler takes larger values of the
            column for worse, and they are better, or the reverse.
        UnknownName: When a fit begins: the table has no such column.
    """

    order = 60
    state_kinds = (("scheduler", dict[str, Any]), ("seen", Count), ("is_skipped", bool))

    def __init__(self, make: Callable[[Any], Any], each: str = "batch", monitor: str | None = None) -> None:
        if each not in ("batch", "step", "epoch") or (each != "epoch" and monitor is not None):
            raise BadValue(
                "invalid time for the scheduler to step",
                got=f"each={each!r}, monitor={monitor!r}",
                expected="'batch', 'step' or 'epoch'; with a monitor 'epoch'",
            )
        self.make, self.each, self.monitor = make, each, monitor
        self.scheduler: Any = None
        self.seen, self.is_skipped = 0, False

    def before_fit(self) -> None:
        learn = self.learn
        if not learn.fitting:
            return
        if self.monitor is not None:
            check_column(learn, self.monitor, "TorchScheduler")
        self._make()
        self.seen, learn.rates_are_set = 0, True
        made = self.scheduler.parts[0][1] if isinstance(self.scheduler, _Several) else self.scheduler
        if self.monitor is not None and isinstance(made, ReduceLROnPlateau):
            upwards = learn.recorder.higher_is_better(self.monitor)
            better = "max" if upwards else "min"
            if upwards is not None and better != made.mode:
                raise BadValue(
                    f"the scheduler takes '{self.monitor}' the wrong way round",
                    got=f"mode='{made.mode}'",
                    fix=f"TorchScheduler(partial(ReduceLROnPlateau, mode='{better}'), 'epoch', '{self.monitor}')",
                )

    def _make(self) -> None:
        for group in self.learn.opt.param_groups:
            group.pop("initial_lr", None)  # left by a scheduler of an earlier fit
        opt = self.learn.opt
        self.scheduler = _Several(self.make, opt) if isinstance(opt, Optimizers) else self.make(opt)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        is_begun = self.scheduler is not None or self._learn is None
        if not is_begun and "scheduler" in state:  # saved after a fit that will not begin again
            groups = self.learn.opt.param_groups
            restored = [dict(group) for group in groups]
            self._make()
            for group, values in zip(groups, restored, strict=True):  # making a scheduler resets the rates
                group.update(values)
        super().load_state_dict(state)

    def after_batch(self) -> None:
        if self.learn.training and self.each == "batch":
            self.scheduler.step()

    def after_cancel_step(self) -> None:
        self.is_skipped = True

    def after_step(self) -> None:
        if self.each == "step" and not self.is_skipped:
            if isinstance(self.scheduler, _Several):
                self.scheduler.after_step_of(self.learn.opt)
            else:
                self.scheduler.step()
        self.is_skipped = False

    def after_epoch(self) -> None:
        learn = self.learn
        if not learn.fitting or self.each != "epoch" or len(learn.recorder.values) == self.seen:
            return
        self.seen = len(learn.recorder.values)
        if self.monitor is None:
            self.scheduler.step()
        elif (value := row_of(learn)[self.monitor]) is not None:
            self.scheduler.step(value)


class _Several:
    """A scheduler for each of several optimizers, as one.

    Args:
        make: Makes one.
        opts: The optimizers.
    """

    def __init__(self, make: Callable[[Any], Any], opts: Optimizers) -> None:
        self.names = list(opts)
        self.parts = [(opts[name], make(opts[name])) for name in opts]

    def step(self, *values: float) -> None:
        for _, scheduler in self.parts:
            scheduler.step(*values)

    def after_step_of(self, opt: object) -> None:
        """Step the scheduler of the optimizer that was stepped; those of all, if it was all of them."""
        for own, scheduler in self.parts:
            if opt is own or isinstance(opt, Optimizers):
                scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: scheduler.state_dict() for name, (_, scheduler) in zip(self.names, self.parts, strict=True)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, (_, scheduler) in zip(self.names, self.parts, strict=True):
            scheduler.load_state_dict(state[name])


def _schedule_name(sched: object) -> str:
    """A schedule as text that is the same in every process: without addresses."""
    text = repr(sched)
    return getattr(sched, "__qualname__", type(sched).__name__) if " at 0x" in text else text


class FitArgs(TypedDict, total=False):
    """What every fit takes by keyword; meanings and defaults are those of `Loop.fit`."""

    wd: float | None
    cbs: Cbs
    reset_opt: bool
    start_epoch: int
    n_iter: int | None
    valid_every: int | str | Duration
    resume: Resuming
    checkpoint: Checkpoint | StrPath | None


class OneCycleArgs(FitArgs, total=False):
    """The keywords of `fit_one_cycle` that `fine_tune` uses for both of its fits."""

    div_final: float
    moms: tuple[float, float, float] | None


@checked
@delegates(Loop.fit, but=["lr"])
def fit_one_cycle(
    loop: Loop,
    n_epoch: int,
    lr_max: Rate | None = None,
    div: float = 25.0,
    div_final: float = 1e5,
    pct_start: float = 0.25,
    *,
    moms: tuple[float, float, float] | None = None,
    **fit_args: Unpack[FitArgs],
) -> None:
    """Fit with the one-cycle policy: the rate rises along a cosine to `lr_max`, then falls; momentum moves the other way.

    Args:
        loop: The learner to train.
        n_epoch: Number of epochs.
        lr_max: Largest rate, per step: a number, or a slice over the parameter groups; the loop's `lr` if None.
        div: The fit starts at `lr_max / div`.
        div_final: The fit ends at `lr_max / div_final`.
        pct_start: Fraction of the batches before the peak, in [0, 1].
        moms: Momentum at start, peak and end; the loop's `moms` if None.
        fit_args: See `Loop.fit`.

    Raises:
        OutOfRange: If `div` or `div_final` is not positive.
        CannotTrain: If the training loader has no length and `n_iter` is not given.

    Source: Smith & Topin 2017, arXiv:1708.07120; the cosine shape as fastai users know it.
    """
    _check_positive(div=div, div_final=div_final)
    peak = _rates(loop, lr_max)
    scheds = {"lr": combined_cos(pct_start, peak / div, peak, peak / div_final)}
    if (moms := loop.moms if moms is None else moms) is not None:
        scheds["mom"] = combined_cos(pct_start, *moms)
    _fit(loop, n_epoch, scheds, fit_args)


@checked
@delegates(Loop.fit, but=["lr"])
def fit_flat_cos(
    loop: Loop,
    n_epoch: int,
    lr: Rate | None = None,
    div_final: float = 1e5,
    pct_start: float = 0.75,
    **fit_args: Unpack[FitArgs],
) -> None:
    """Fit at a constant rate for `pct_start` of the batches, then along a cosine down to `lr / div_final`.

    Args:
        loop: The learner to train.
        n_epoch: Number of epochs.
        lr: The constant rate, per step: a number, or a slice over the parameter groups; the loop's `lr` if None.
        div_final: The fit ends at `lr / div_final`.
        pct_start: Fraction of the batches at the constant rate, in [0, 1].
        fit_args: See `Loop.fit`.

    Raises:
        OutOfRange: If `div_final` is not positive.
        CannotTrain: If the training loader has no length and `n_iter` is not given.
    """
    _check_positive(div_final=div_final)
    flat = _rates(loop, lr)
    scheds = {"lr": combined_cos(pct_start, flat, flat, flat / div_final)}
    _fit(loop, n_epoch, scheds, fit_args)


@checked
@delegates(Loop.fit, but=["lr"])
def fit_sgdr(
    loop: Loop,
    n_cycles: int,
    cycle_len: int,
    lr_max: Rate | None = None,
    cycle_mult: int = 2,
    **fit_args: Unpack[FitArgs],
) -> None:
    """Fit in cycles with warm restarts: in each, the rate falls along a cosine from `lr_max` to 0.

    Args:
        loop: The learner to train.
        n_cycles: Number of cycles.
        cycle_len: Epochs of the first cycle.
        lr_max: Rate at the start of a cycle, per step: a number, or a slice over the parameter groups; the loop's `lr` if None.
        cycle_mult: Each cycle is this many times as long as the one before.
        fit_args: See `Loop.fit`.

    Raises:
        BadValue: If that is less than one epoch.
        CannotTrain: If the training loader has no length and `n_iter` is not given.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983.
    """
    lengths = [cycle_len * cycle_mult**i for i in range(n_cycles)]
    n_epoch = sum(lengths)
    if n_cycles < 1 or n_epoch < 1:
        raise BadValue(
            "there must be at least one cycle of one epoch", got=f"n_cycles={n_cycles}, cycle_len={cycle_len}"
        )
    pcts = [length / n_epoch for length in lengths]
    scheds = {"lr": combine_scheds(pcts, [SchedCos(_rates(loop, lr_max), 0.0)] * n_cycles)}
    _fit(loop, n_epoch, scheds, fit_args)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise OutOfRange(f"{name} must be positive", got=value, expected="more than 0")


def _rates(loop: Loop, lr: Rate | None) -> Any:
    """One rate if it is the same for all parameter groups, else an array of one each."""
    use_current_opt(loop)
    rates = spread(loop.opt, loop.lr if lr is None else lr)
    return rates[0] if len(set(rates)) == 1 else np.array(rates)


def _fit(loop: Loop, n_epoch: int, scheds: Mapping[str, Callable[[float], Any]], fit_args: FitArgs) -> None:
    if fit_args.get("n_iter") is None and length_of(loop.dls.train) is None:
        raise CannotTrain(
            "a schedule needs to know how many batches an epoch has, and the training loader has no length",
            fix="pass n_iter=batches an epoch, or a loader with len()",
        )
    fit_args["cbs"] = [ParamScheduler(scheds), *callbacks_of(fit_args.get("cbs"))]
    loop.fit(n_epoch, **fit_args)
