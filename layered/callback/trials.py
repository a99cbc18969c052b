"""Quick trials before a long fit, which change nothing: one batch through everything, and one batch learnt by heart."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from layered.callback.progress import batch_bar
from layered.callback.rate_finder import restores_learner
from layered.data import as_loader, as_loaders
from layered.foundation import BadValue, CannotTrain, checked, describe, whole_number
from layered.loop import Callback, CancelValidException, Cbs, Checkpoint, Loop, Rate, callbacks_of, iter_once


class OverfitOneBatch(Callback):
    """Replaces every training batch of the fit by its first one: a model that cannot learn that has a bug somewhere."""

    order = -20
    run_valid = False
    state_kinds = (("kept", tuple | None),)

    def __init__(self) -> None:
        self.kept: Any = None

    def before_fit(self) -> None:
        self.kept = None

    def before_batch(self) -> None:
        learn = self.learn
        if self.kept is None:
            self.kept = learn.xb, learn.yb
        learn.xb, learn.yb = self.kept

    def after_fit(self) -> None:
        self.kept = None

    on_end = after_fit


@checked
def overfit(loop: Loop, num_it: int = 100, lr: Rate | None = None, cbs: Cbs = None) -> list[float]:
    """Train on one batch over and over, print how far the loss fell, and restore everything.

    If model, loss and rate fit together, the loss gets close to its minimum; if it stays high, check the loss function, the
    targets, the rate, and what is frozen.

    Args:
        loop: The learner.
        num_it: Number of steps on the batch.
        lr: Learning rate, a number or a slice; the loop's own if None.
        cbs: Callbacks of this run, as for `fit`.

    Returns:
        The loss at each step.

    Raises:
        BadValue: `num_it` is below 1.
        CannotTrain: The training data is a generator.

    Examples:
        >>> model = torch.nn.Linear(1, 1, bias=False); torch.nn.init.zeros_(model.weight).sum().item()
        0.0
        >>> loop = Loop(([(torch.ones(4, 1), torch.ones(4, 1))], None), model, torch.nn.MSELoss(), lr=0.1)
        >>> losses = overfit(loop, 30)  # doctest: +ELLIPSIS
        30 steps on one batch: loss 1 -> ...
    """
    steps = whole_number(num_it) or 0
    if steps < 1:
        raise BadValue("num_it must be a number of steps", got=repr(num_it), expected="a whole number from 1")
    _refuse_generator(loop.dls.train, "overfit")
    bar = batch_bar(loop, "Training on one batch", steps)
    values = losses_on_one_batch(loop, steps, lr, [*callbacks_of(cbs), *bar])
    print(f"{num_it} steps on one batch: loss {values[0]:.4g} -> {values[-1]:.4g}")
    return values


def losses_on_one_batch(loop: Loop, steps: int, lr: Rate | None = None, cbs: Cbs = None) -> list[float]:
    """The loss at each step of a silent fit on the first batch over and over, after which everything is restored.

    Args:
        loop: The learner.
        steps: Number of steps, unless a callback ends the fit before.
        lr: Learning rate; the loop's own if None.
        cbs: Callbacks of this run.
    """
    losses: list[Tensor] = []
    keep = Callback(after_batch=lambda cb: losses.append(cb.learn.loss.mean()))
    with restores_learner(loop), loop.no_logging(), loop.no_bar(), loop.removed_cbs(Checkpoint):
        old, train = loop.dls, loop.dls.train
        batch, n_inp = next(iter(train)), as_loader(train).n_inp or old.n_inp
        loop.dls = as_loaders(SimpleNamespace(train=[batch] * steps, valid=None, n_inp=n_inp, device=old.device))
        loop.fit(1, lr, cbs=[keep, *callbacks_of(cbs)])
    values: list[float] = torch.stack(losses).tolist() if losses else []
    return values


@checked
def dry_run(loop: Loop, cbs: Cbs = None) -> None:
    """Run one training and one validation batch through everything, print what passed by, and restore everything.

    Args:
        loop: The learner.
        cbs: Callbacks of this run, as for `fit`.

    Raises:
        CannotTrain: A stage failed, which is named; its error is chained.
    """
    _refuse_generator(loop.dls.train, "a dry run")
    stages = _Stages()
    with restores_learner(loop), loop.no_logging(), loop.no_bar(), loop.removed_cbs(Checkpoint):
        try:
            loop.fit(1, cbs=[*callbacks_of(cbs), stages], n_iter=1)
        except Exception as error:
            raise CannotTrain(
                f"the dry run failed at this stage: {stages.stage}",
                got=f"{type(error).__name__}: {error}",
                fix="see the error above, which names the batch",
            ) from error
    width = max(len(name) for name, _ in stages.passed)
    print("\n".join(f"{name:<{width}}  ok  {what}" for name, what in stages.passed))


def _refuse_generator(train: Iterable[Any], who: str) -> None:
    if iter_once(train):
        raise CannotTrain(f"{who} would use up a generator", fix="train on a list or a DataLoader")


class _Stages(Callback):
    """Tracks which stage the fit is in, and what came out of the completed ones."""

    order = 2000  # a stage begins after all callbacks of the event before it
    state_kinds = (("stage", str), ("passed", list[tuple[str, str]]))

    def __init__(self) -> None:
        self.stage = "beginning of the fit"
        self.passed: list[tuple[str, str]] = []

    def before_epoch(self) -> None:
        self.stage = "training batch"

    def after_train(self) -> None:
        self.stage = "validation batch"

    def before_batch(self) -> None:
        learn = self.learn
        self._next(f"inputs {describe(learn.xb)}, targets {describe(learn.yb)}", "model")

    def after_pred(self) -> None:
        self._next(describe(self.learn.pred), "loss")

    def after_loss(self) -> None:
        loss = self.learn.loss
        self._next("none" if loss is None else f"{float(loss.mean()):.4g}", "metrics")

    def before_backward(self) -> None:
        self.stage = "backward pass"

    def after_backward(self) -> None:
        without = [n for n, p in self.learn.model.named_parameters() if p.requires_grad and p.grad is None]
        self._next(f"no gradient for {', '.join(without)}" if without else "", "optimizer's step")

    def after_step(self) -> None:
        self._next("", "metrics")

    def after_batch(self) -> None:
        if not self.learn.training:
            raise CancelValidException

    def after_validate(self) -> None:
        self._next("", "end of the fit")

    def _next(self, what: str, stage: str) -> None:
        self.passed.append((self.stage, what))
        self.stage = stage if self.learn.training or stage == "end of the fit" else f"validation: {stage}"
