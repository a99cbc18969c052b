"""The callbacks that every loop starts with, and the small ones that the loop itself makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from layered.foundation.tensors import plain_tree
from layered.loop.callback import Callback
from layered.loop.events import CancelEpochException


class TrainEvalCallback(Callback):
    """Sets the model's mode, counts batches, and puts model and loss on the loaders' device."""

    order = -10
    transient = ("modes",)

    def before_fit(self) -> None:
        learn = self.learn
        if learn.fitting:
            learn.epoch, learn.loss, learn.train_iter, learn.pct_train = 0, torch.tensor(0.0), 0, 0.0
        self.modes = modes_of(learn.model)
        device = getattr(learn.dls, "device", None)
        if device is not None:
            learn.model.to(device)
            if isinstance(learn.loss_func, nn.Module) or hasattr(learn.loss_func, "to"):
                learn.loss_func.to(device)
        if hasattr(learn.model, "reset"):
            learn.model.reset()

    def before_train(self) -> None:
        learn = self.learn
        learn.pct_train = learn.epoch / learn.n_epoch
        learn.model.train()

    def after_batch(self) -> None:
        learn = self.learn
        if learn.training:
            learn.train_iter += 1
            if learn.n_iter:
                learn.pct_train += 1.0 / (learn.n_iter * learn.n_epoch)

    def before_validate(self) -> None:
        self.learn.model.eval()

    def on_error(self) -> None:
        set_modes(self.modes)

    def on_end(self) -> None:
        self.modes = []


def modes_of(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Each module with its mode: True for training."""
    return [(module, module.training) for module in model.modules()]


def set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Put back what `modes_of` gave."""
    for module, training in modes:
        module.training = training


class CastToTensor(Callback):
    """Takes the meaning off inputs and targets, after the callbacks that use it and before the model."""

    order = 9

    def before_batch(self) -> None:
        learn = self.learn
        learn.xb, learn.yb = plain_tree(learn.xb), plain_tree(learn.yb)


class SkipToEpoch(Callback):
    """Cancels the epochs before `epoch`; they still count."""

    order = 70

    def __init__(self, epoch: int) -> None:
        self.skip_to = epoch

    def before_epoch(self) -> None:
        if self.learn.epoch < self.skip_to:
            raise CancelEpochException

    def __repr__(self) -> str:
        return f"SkipToEpoch({self.skip_to})"


class FunctionCallback(Callback):
    """Calls a plain function at one event, with the learner if it takes an argument."""

    def __init__(self, event: str, function: Callable[..., Any], *, every: int = 1, once: bool = False) -> None:
        self.function, self.every, self.once, self.heard = function, every, once, 0
        takes = inspect.signature(function).parameters.values()
        self.takes_learner = any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in takes)
        super().__init__(**{event: FunctionCallback.call})

    def call(self) -> None:
        """One more event: every `every`-th calls the function."""
        self.heard += 1
        if self.heard % self.every == 0:
            learn = self.learn
            if self.once:
                learn.remove_cb(self)
            self.function(*([learn] if self.takes_learner else []))
